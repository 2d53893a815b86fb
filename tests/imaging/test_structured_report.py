"""Claims about the DICOM report: another library reads back each number, its meaning and its images."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from highdicom.sr import srread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import EnhancedMRImageStorage

from bcdx.errors import DicomError
from bcdx.imaging.originals import ImageReference, Maker, read_original
from bcdx.imaging.structured_report import ASSESSMENTS, NOTICE, Finding, Findings, write_structured_report

MAKER = Maker(model="0123456789abcdef" * 4, moment=datetime(2024, 5, 6, 7, 8, 9), version="9.8.7")


@pytest.fixture
def sources(write_dicom: Any) -> list[Dataset]:
    """Three slices of one study, and an enhanced object of two frames."""
    pixels = np.ones((4, 4), np.uint16)
    made = [
        write_dicom(f"{index}.dcm", pixels, StudyInstanceUID="1.2.3", SeriesInstanceUID="1.2.3.1", InstanceNumber=index)
        for index in range(3)
    ]
    enhanced = {"NumberOfFrames": 2, "SOPClassUID": EnhancedMRImageStorage}
    made.append(write_dicom("e.dcm", np.stack([pixels] * 2), StudyInstanceUID="1.2.3", **enhanced))
    return [read_original(path) for path in made]


def make_findings(sources: list[Dataset]) -> Findings:
    """A positive left breast, a right one that the model abstains from, four slices."""
    images = [ImageReference(one.SOPInstanceUID) for one in sources]
    images[3] = replace(images[3], index=1)
    return Findings(
        patient=Finding(0.875, 0.5, (images[0], images[3])),
        breasts=(
            Finding(0.875, 0.5, (images[0],), "L"),
            Finding(None, 0.6, (images[1],), "R", abstained="features unlike those of training"),
        ),
        slices=tuple(
            Finding(value, 0.7, (image,), "L") for value, image in zip((0.9, 0.7, 0.2, 0.1), images, strict=True)
        ),
        positive="tumour",
        operating_point="sensitivity_97_5",
        operating_point_meaning="97.5 % sensitivity",
        calibration="Temperature, fitted on 120 validation patients.",
        limits=("Every patient of the training data had cancer.",),
    )


def write(sources: list[Dataset], findings: Findings, folder: Path) -> Any:
    """The report as it is read back from disk."""
    write_structured_report(sources, findings, series_number=7, maker=MAKER).save_as(folder / "report.dcm")
    return srread(folder / "report.dcm")


def read_groups(report: Any) -> list[Any]:
    return report.content.get_image_measurement_groups()


def read_code(group: Any, name: str) -> Any:
    (found,) = [one.value for one in group.get_qualitative_evaluations() if one.name.value == name]
    return found


def test_each_unit_has_its_probability_threshold_and_images(sources: list[Dataset], tmp_path: Path) -> None:
    """The numbers are exact; frames are counted from 1 and only in objects of several frames.

    Of a unit that the model abstains from no number is handed on.
    """
    findings = make_findings(sources)
    groups = read_groups(write(sources, findings, tmp_path))
    for finding, group in zip(findings, groups, strict=True):
        if finding.abstained:
            assert [] == group.get_measurements()
            continue
        (probability,) = group.get_measurements(codes.DCM.Probability)
        (threshold,) = group.get_measurements(codes.DCM.ThresholdValue)
        assert (finding.probability, finding.threshold) == (probability.value, threshold.value)
        assert codes.UCUM.NoUnits == probability.unit
        told = [(one.referenced_sop_instance_uid, one.referenced_frame_numbers) for one in group.source_images]
        enhanced = sources[3].SOPInstanceUID
        assert [(one.instance, [2] if one.instance == enhanced else None) for one in finding.images] == told
        assert "tumour" == group.finding_type.meaning
        assert "sensitivity_97_5" == read_code(group, "OPERATING_POINT").value


def test_breasts_have_their_side(sources: list[Dataset], tmp_path: Path) -> None:
    """In SNOMED CT; the patient has none."""
    groups = read_groups(write(sources, make_findings(sources), tmp_path))
    sides = [group.finding_sites[0].laterality for group in groups[:3]]
    assert [None, codes.SCT.Left, codes.SCT.Right] == sides
    assert {"Breast"} == {group.finding_sites[0].value.meaning for group in groups}


@pytest.mark.parametrize(
    ("probability", "threshold", "abstained", "expected"),
    [
        (0.6, 0.5, "", "ABOVE"),
        # at the threshold is positive, as everywhere in bcdx
        (0.5, 0.5, "", "ABOVE"),
        (0.49999999, 0.5, "", "BELOW"),
        (0.6, None, "", "UNDECIDED"),
        (None, 0.5, "unlike training", "ABSTAINED"),
    ],
)
def test_the_assessment_follows_from_the_finding(
    sources: list[Dataset],
    tmp_path: Path,
    probability: float | None,
    threshold: float | None,
    abstained: str,
    expected: str,
) -> None:
    """An abstention comes first, with its reason beside it."""
    findings = make_findings(sources)
    patient = replace(findings.patient, probability=probability, threshold=threshold, abstained=abstained)
    group = read_groups(write(sources, replace(findings, patient=patient), tmp_path))[0]
    code = read_code(group, "ASSESSMENT")
    assert (expected, ASSESSMENTS[expected]) == (code.value, code.meaning)
    assert [abstained] * bool(abstained) == [
        one.value for one in group[0].ContentSequence if one.name == codes.DCM.Comment
    ]


def test_the_observer_is_the_model(sources: list[Dataset], tmp_path: Path) -> None:
    """A device: bcdx, its version, the fingerprint's first digits; the subject is the patient."""
    content = write(sources, make_findings(sources), tmp_path).content
    (context,) = content.get_observer_contexts()
    device = context.observer_identifying_attributes
    assert ("bcdx", "bcdx 9.8.7", MAKER.model[:16]) == (device.name, device.model_name, device.serial_number)
    algorithm = [
        one.value
        for one in content.get_image_measurement_groups()[0][0].ContentSequence
        if "Algorithm" in one.name.meaning
    ]
    assert ["bcdx", "9.8.7", f"model {MAKER.model[:16]}"] == algorithm
    assert codes.DCM.Patient in [one.value for one in content[0].ContentSequence if one.name == codes.DCM.SubjectClass]


def test_the_observer_is_the_same_device_at_any_time(sources: list[Dataset], tmp_path: Path) -> None:
    """What finds reports of one model by their device finds all of them; another model or version is another."""

    def read_device(maker: Maker) -> str:
        report = write_structured_report(sources, make_findings(sources), series_number=7, maker=maker)
        report.save_as(tmp_path / "report.dcm")
        (context,) = srread(tmp_path / "report.dcm").content.get_observer_contexts()
        return str(context.observer_identifying_attributes.uid)

    later = replace(MAKER, moment=datetime(2025, 1, 2))
    assert read_device(MAKER) == read_device(later)
    others = {read_device(replace(MAKER, model="f" * 64)), read_device(replace(MAKER, version="0.0.1"))}
    assert 3 == len({read_device(MAKER), *others})


def test_numbers_have_the_digits_of_the_other_outputs(sources: list[Dataset], tmp_path: Path) -> None:
    """Six, as `diagnosis.json` has them; what is above or below is told before they are rounded."""
    patient = Finding(0.12345678901, 0.12345674, (ImageReference(sources[0].SOPInstanceUID),))
    group = read_groups(write(sources, replace(make_findings(sources), patient=patient), tmp_path))[0]
    assert [0.123457, 0.123457] == [one.value for one in group.get_measurements()]
    assert "ABOVE" == read_code(group, "ASSESSMENT").value


def test_limits_stand_beside_the_patients_number(sources: list[Dataset], tmp_path: Path) -> None:
    """So does how it was calibrated. Not only at the end, behind hundreds of slices; once, and of the patient alone."""
    findings = replace(make_findings(sources), limits=("12 slices left out.", "The sides disagree.", ""))
    groups = read_groups(write(sources, findings, tmp_path))
    told = [[one.value for one in group[0].ContentSequence if one.name.value == "LIMITS"] for group in groups]
    assert [NOTICE, findings.calibration, "12 slices left out.", "The sides disagree."] == told[0]
    assert [] == [texts for texts in told[1:] if texts]


def test_the_report_says_what_it_is_for(sources: list[Dataset], tmp_path: Path) -> None:
    """Research use only, calibration and limits, as texts that every viewer shows."""
    report = write(sources, make_findings(sources), tmp_path)
    texts = [one.value for one in report.content[0].ContentSequence[-1].ContentSequence]
    findings = make_findings(sources)
    assert [NOTICE, findings.calibration, *findings.limits] == texts
    assert "research use only" in report.SeriesDescription
    assert ("COMPLETE", "UNVERIFIED", "PRELIMINARY") == (
        report.CompletionFlag, report.VerificationFlag, report.PreliminaryFlag,
    )  # fmt: skip


def test_all_sources_are_evidence_once(sources: list[Dataset], tmp_path: Path) -> None:
    """By series, also where a header is given twice."""
    report = write([*sources, *sources], make_findings(sources), tmp_path)
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    told = [
        item.ReferencedSOPInstanceUID for one in study.ReferencedSeriesSequence for item in one.ReferencedSOPSequence
    ]
    assert sorted(one.SOPInstanceUID for one in sources) == sorted(told)


def test_procedures_follow_from_the_modalities(write_dicom: Any, tmp_path: Path) -> None:
    """Each once."""
    kinds = {"MR": "MRI of breast", "MG": "Mammography", "OT": "Imaging procedure"}
    sources = [
        read_original(write_dicom(f"{kind}.dcm", np.ones((4, 4), np.uint16), StudyInstanceUID="1.2.3", Modality=kind))
        for kind in ("MR", "MG", "OT", "MR")
    ]
    finding = Finding(0.5, None, (ImageReference(sources[0].SOPInstanceUID),))
    report = write(sources, Findings(finding, (), (), "tumour", "youden", "Youden", "None."), tmp_path)
    told = [one.value.meaning for one in report.content[0].ContentSequence if one.name == codes.DCM.ProcedureReported]
    assert list(kinds.values()) == told


@pytest.mark.parametrize("name", ["tumour", "Karzinom-\xe4hnlich", "a\\b", "long " * 30])
def test_class_names_become_codes(sources: list[Dataset], tmp_path: Path, name: str) -> None:
    """Of 16 characters at most, another for each name; the meaning fits into its element."""
    code = read_groups(write(sources, replace(make_findings(sources), positive=name), tmp_path))[0].finding_type
    assert code.value.startswith("CLASS-") and len(code.value) <= 16
    assert name.replace("\\", "/")[:64].strip() == code.meaning.strip()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"images": (ImageReference("1.2.3.4"),)}, "not among the source images"),
        ({"probability": math.nan}, "a probability of nan"),
        ({"probability": 1.5}, "a probability of 1.5"),
        ({"threshold": math.inf}, "a threshold of inf"),
    ],
)
def test_findings_that_cannot_be_true_are_refused(sources: list[Dataset], change: dict[str, Any], reason: str) -> None:
    """Before anything is written."""
    findings = make_findings(sources)
    with pytest.raises(DicomError, match=reason):
        write_structured_report(
            sources, replace(findings, patient=replace(findings.patient, **change)), series_number=1, maker=MAKER
        )


def test_frames_that_a_source_lacks_are_refused(sources: list[Dataset]) -> None:
    """The object has two."""
    findings = make_findings(sources)
    images = (ImageReference(sources[3].SOPInstanceUID, 2),)
    with pytest.raises(DicomError, match="a frame that its source image does not have"):
        write_structured_report(
            sources, replace(findings, patient=replace(findings.patient, images=images)), series_number=1, maker=MAKER
        )


def test_dates_are_the_makers(sources: list[Dataset], tmp_path: Path) -> None:
    """No clock is read."""
    write(sources, make_findings(sources), tmp_path)
    report = pydicom.dcmread(tmp_path / "report.dcm")
    dates = {str(one.value) for one in report.iterall() if one.VR in {"DA", "DT"} and one.value}
    assert {"20240506"} == dates
