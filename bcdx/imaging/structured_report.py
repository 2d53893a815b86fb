"""What a model found in a study, and the headers of its images, in; a DICOM report of the same study out.

A Comprehensive 3D SR of template TID 1500: who observed (bcdx, its version and the model's fingerprint), the source
images, one measurement group (TID 1501) for the patient, each breast and each slice, and what a reader must know beside
them, which stands in the patient's group, too, before hundreds of slices. Names are codes of DCM, SNOMED CT (SCT) and
UCUM. For what these do not name there is the private scheme 99BCDX:

| code | meaning |
|---|---|
| ASSESSMENT | Assessment by the model; one of the four that follow |
| ABOVE, BELOW | At or above, or below the operating point: probability against Threshold Value |
| ABSTAINED | Abstained: unlike training |
| UNDECIDED | No operating point: no threshold could be chosen |
| OPERATING_POINT | Operating point; its value is a code of its own: its name in `calibration.json` |
| CLASS-xxxxxxxx | The class that the probability is of, such as tumour; eight digits of SHA-256 of its name |
| CALIBRATION, LIMITS | Texts: how probabilities were calibrated; what the model's evidence does not cover |
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from highdicom import sr
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from bcdx.errors import DicomError
from bcdx.imaging.originals import (
    ImageReference,
    Maker,
    check_study,
    find_frame_number,
    find_original,
    index_originals,
    stamp,
)

SCHEME = "99BCDX"
NOTICE = "Research use only. Not for clinical diagnosis."
DESCRIPTION = "bcdx report - research use only"
DIGITS = 6
"""After the point, of probabilities and thresholds, as in bcdx's other outputs; assessments come before rounding."""
MAX_MEANING = 64
"""Characters that CodeMeaning may have."""
PROCEDURES = {"MR": codes.SCT.MRIOfBreast, "MG": codes.SCT.Mammography, "US": codes.SCT.UltrasonographyOfBreast}
MODALITIES = {"MR": codes.DCM.MagneticResonance, "MG": codes.DCM.Mammography, "US": codes.DCM.Ultrasound}
SIDES = {"L": codes.SCT.Left, "R": codes.SCT.Right}
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
ASSESSMENTS = {
    "ABOVE": "At or above the operating point",
    "BELOW": "Below the operating point",
    "ABSTAINED": "Abstained: unlike training",
    "UNDECIDED": "No operating point",
}


@dataclass(frozen=True)
class Finding:
    """What the model says of a patient, a breast or a slice.

    Attributes:
        probability: Of the positive class, calibrated, in [0, 1]; None where the model abstains.
        threshold: On it, at the operating point; None where none could be chosen.
        images: Of a slice, its source images; of a breast or patient, those that decided: its highest slices.
        laterality: "L" or "R"; anything else: not known, or both.
        abstained: Why the model abstains, a fixed phrase; "" where it does not.
    """

    probability: float | None
    threshold: float | None
    images: tuple[ImageReference, ...]
    laterality: str = ""
    abstained: str = ""

    @property
    def assessment(self) -> str:
        """A key of `ASSESSMENTS`."""
        if self.probability is None:
            return "ABSTAINED"
        if self.threshold is None:
            return "UNDECIDED"
        return "ABOVE" if self.probability >= self.threshold else "BELOW"


@dataclass(frozen=True)
class Findings:
    """What the model says of one study of one patient.

    Attributes:
        patient: Of the whole.
        breasts: One for each breast that is known by side.
        slices: As many as there are.
        positive: Name of the positive class.
        operating_point: Its name in `calibration.json`.
        operating_point_meaning: The same for a reader, such as "98 % specificity".
        calibration: A sentence on how probabilities were calibrated and on what.
        limits: Sentences on what the model's evidence does not cover, and on what was left out of or is odd about this
            study; empty ones are passed over.
    """

    patient: Finding
    breasts: tuple[Finding, ...]
    slices: tuple[Finding, ...]
    positive: str
    operating_point: str
    operating_point_meaning: str
    calibration: str
    limits: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Finding]:
        return iter((self.patient, *self.breasts, *self.slices))


def write_structured_report(
    sources: Sequence[Dataset], findings: Findings, *, series_number: int, maker: Maker
) -> Dataset:
    """Return the report, in a new series of the sources' study, to be saved by the caller.

    UIDs derive from the maker, the sources and the findings (see `Maker.moment`).

    Args:
        sources: Of one study, as `originals.read_original` gives them; all that the findings refer to.
        findings: What to report.
        series_number: Of the new series, from 1.
        maker: What found it, and when.

    Raises:
        DicomError: The sources are of several studies, a finding refers to none of them, or a probability is not one.
    """
    check_study(sources)
    headers = index_originals(sources)
    for finding in findings:
        _check_finding(finding, headers)
    uid = maker.make_uid("report", *headers, repr(findings))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote names
        report = sr.Comprehensive3DSR(
            evidence=list(headers.values()),
            content=_make_content(headers, findings, maker, uid)[0],
            series_instance_uid=maker.make_uid("report series", uid),
            series_number=series_number,
            sop_instance_uid=uid,
            instance_number=1,
            manufacturer="bcdx",
            manufacturer_model_name=f"bcdx model {maker.short_model}",
            software_versions=maker.version,
            series_description=DESCRIPTION,
            is_complete=True,
            coding_schemes=[CodingSchemeIdentificationItem(SCHEME, "bcdx private codes")],
        )
        stamp(report, maker)
    return report


def _check_finding(finding: Finding, headers: Mapping[str, Dataset]) -> None:
    for image in finding.images:
        find_original(headers, image)
    if finding.probability is not None and not 0.0 <= finding.probability <= 1.0:
        raise DicomError(f"a probability of {finding.probability}")
    if (finding.probability is None) != bool(finding.abstained):
        raise DicomError("either a probability or the reason why there is none")
    if finding.threshold is not None and not math.isfinite(finding.threshold):
        raise DicomError(f"a threshold of {finding.threshold}")


def _make_content(headers: Mapping[str, Dataset], findings: Findings, maker: Maker, uid: str) -> sr.MeasurementReport:
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=maker.device_uid,
        name="bcdx",
        manufacturer_name="bcdx",
        model_name=f"bcdx {maker.version}",
        serial_number=maker.short_model,
    )
    context = sr.ObservationContext(observer_device_context=sr.ObserverContext(codes.DCM.Device, device))
    context.append(
        sr.CodeContentItem(codes.DCM.SubjectClass, codes.DCM.Patient, sr.RelationshipTypeValues.HAS_OBS_CONTEXT)
    )
    modalities = {str(header.get("Modality", "")): None for header in headers.values()}
    procedures = {PROCEDURES.get(modality, codes.SCT.ImagingProcedure): None for modality in modalities}
    report = sr.MeasurementReport(context, list(procedures), _make_groups(headers, findings, maker, uid))
    children = report[0].ContentSequence
    children.insert(len(children) - 1, _make_library(headers))
    children.append(_make_remarks(findings))
    return report


def _make_groups(
    headers: Mapping[str, Dataset], findings: Findings, maker: Maker, uid: str
) -> list[sr.MeasurementsAndQualitativeEvaluations]:
    """Return the groups; the algorithm stands in the patient's, so that reports of hundreds of slices stay small."""
    named = [("Patient", findings.patient)]
    named += [(f"Breast {breast.laterality}", breast) for breast in findings.breasts]
    named += [(f"Slice {number}", one) for number, one in enumerate(findings.slices, start=1)]
    algorithm = sr.AlgorithmIdentification("bcdx", maker.version, [f"model {maker.short_model}"])
    groups: list[sr.MeasurementsAndQualitativeEvaluations] = []
    for name, finding in named:
        tracking = sr.TrackingIdentifier(maker.make_uid("tracking", uid, name), name)
        found = _make_group(headers, findings, finding, tracking, None if groups else algorithm)
        groups.append(found)
    groups[0][0].ContentSequence.extend(_list_limits((NOTICE, findings.calibration, *findings.limits)))
    return groups


def _make_group(
    headers: Mapping[str, Dataset],
    findings: Findings,
    finding: Finding,
    tracking: sr.TrackingIdentifier,
    algorithm: sr.AlgorithmIdentification | None,
) -> sr.MeasurementsAndQualitativeEvaluations:
    measurements = []  # of what the model abstains from no number is handed on
    if finding.assessment != "ABSTAINED":
        measurements.append(_measure(codes.DCM.Probability, finding.probability or 0.0))
    evaluations = [
        _evaluate("ASSESSMENT", "Assessment by the model", finding.assessment, ASSESSMENTS[finding.assessment])
    ]
    if measurements and finding.threshold is not None:
        measurements.append(_measure(codes.DCM.ThresholdValue, finding.threshold))
        point = findings.operating_point, findings.operating_point_meaning
        evaluations.append(_evaluate("OPERATING_POINT", "Operating point", *point))
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking,
        finding_type=_code_class(findings.positive),
        algorithm_id=algorithm,
        finding_sites=[sr.FindingSite(codes.SCT.Breast, SIDES.get(finding.laterality))],
        measurements=measurements or None,
        qualitative_evaluations=evaluations,
        source_images=[_refer(headers, image) for image in finding.images],
    )
    if finding.abstained:
        group[0].ContentSequence.append(_say(codes.DCM.Comment, finding.abstained))
    return group


def _measure(name: Code, value: float) -> sr.Measurement:
    return sr.Measurement(name, round(float(value), DIGITS), codes.UCUM.NoUnits)


def _refer(headers: Mapping[str, Dataset], image: ImageReference) -> sr.SourceImageForMeasurementGroup:
    header = find_original(headers, image)
    number = find_frame_number(header, image)
    return sr.SourceImageForMeasurementGroup(
        header.SOPClassUID, header.SOPInstanceUID, None if number is None else [number]
    )


def _make_library(headers: Mapping[str, Dataset]) -> sr.ContainerContentItem:
    """Return the source images, grouped by frame of reference (TID 1600)."""
    groups: dict[tuple[str, str], list[Dataset]] = {}
    for header in headers.values():
        key = str(header.get("Modality", "")), str(header.get("FrameOfReferenceUID", ""))
        groups.setdefault(key, []).append(header)
    library = sr.ContainerContentItem(codes.DCM.ImageLibrary, relationship_type=sr.RelationshipTypeValues.CONTAINS)
    library.ContentSequence = sr.ContentSequence([_make_library_group(*key, group) for key, group in groups.items()])
    return library


def _make_library_group(modality: str, reference: str, headers: Sequence[Dataset]) -> sr.ContainerContentItem:
    acquired = sr.RelationshipTypeValues.HAS_ACQ_CONTEXT
    items: list[sr.ContentItem] = []
    if modality in MODALITIES:
        items.append(sr.CodeContentItem(codes.DCM.Modality, MODALITIES[modality], acquired))
    if reference:
        items.append(sr.UIDRefContentItem(codes.DCM.FrameOfReferenceUID, reference, acquired))
    items += [
        sr.ImageContentItem(
            Code("260753009", "SCT", "Source"),
            header.SOPClassUID,
            header.SOPInstanceUID,
            relationship_type=sr.RelationshipTypeValues.CONTAINS,
        )
        for header in headers
    ]
    group = sr.ContainerContentItem(codes.DCM.ImageLibraryGroup, relationship_type=sr.RelationshipTypeValues.CONTAINS)
    group.ContentSequence = sr.ContentSequence(items)
    return group


def _make_remarks(findings: Findings) -> sr.ContainerContentItem:
    """Return what a reader must know beside the numbers."""
    remarks = sr.ContainerContentItem(QUALITATIVE_EVALUATIONS, relationship_type=sr.RelationshipTypeValues.CONTAINS)
    texts = [_say(codes.DCM.Comment, NOTICE), _say(Code("CALIBRATION", SCHEME, "Calibration"), findings.calibration)]
    remarks.ContentSequence = sr.ContentSequence([*texts, *_list_limits(findings.limits)])
    return remarks


def _list_limits(texts: Sequence[str]) -> list[sr.TextContentItem]:
    return [_say(Code("LIMITS", SCHEME, "Limits of the evidence"), text) for text in texts if text]


def _say(name: Code, text: str) -> sr.TextContentItem:
    return sr.TextContentItem(name, text, sr.RelationshipTypeValues.CONTAINS)


def _evaluate(name: str, meaning: str, value: str, value_meaning: str) -> sr.QualitativeEvaluation:
    return sr.QualitativeEvaluation(Code(name, SCHEME, meaning), Code(value, SCHEME, _fit(value_meaning)))


def _code_class(name: str) -> Code:
    return Code(f"CLASS-{hashlib.sha256(name.encode()).hexdigest()[:8]}", SCHEME, _fit(name))


def _fit(meaning: str) -> str:
    """Return what CodeMeaning can hold of a text: one value of limited length."""
    return meaning.replace("\\", "/")[:MAX_MEANING]
