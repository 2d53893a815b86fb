"""Claims about a finished run's word on new files."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pydicom
import pytest
from PIL import Image
from scipy.special import expit, logit

from bcdx import config
from bcdx.diagnose import Diagnosis, diagnose_studies
from bcdx.errors import BcdxError, RunError, SettingsError
from bcdx.evidence.diagnosis.caveats import LEARNED
from bcdx.evidence.familiarity import read_reference, write_reference
from bcdx.imaging.identity import Pseudonyms, load_key


@pytest.fixture(scope="module")
def trusting_run(calibrated_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The calibrated run without a limit of familiarity: it answers whatever it is asked."""
    folder = tmp_path_factory.mktemp("trusting") / "run"
    shutil.copytree(calibrated_run, folder)
    (folder / "reference.npz").unlink()
    return folder


@pytest.fixture(scope="module")
def patients(finished_run: Path, collection: Path) -> tuple[Path, ...]:
    """Folders of three test patients, one study of two breasts each."""
    tested = {row["patient"] for row in read_csv(finished_run / "predictions.csv")}
    code = Pseudonyms(load_key()).code
    folders = [path for path in sorted((collection / "dicom").iterdir()) if path.is_dir()]
    return tuple(path for path in folders if code("PatientID", f"CANARYID-{path.name}") in tested)[:3]


@pytest.fixture(scope="module")
def diagnosis(trusting_run: Path, patients: tuple[Path, ...], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Their diagnosis."""
    out = tmp_path_factory.mktemp("diagnosis") / "out"
    paths = tuple(map(str, patients))
    result = diagnose_studies(config.Diagnose(run=str(trusting_run), paths=paths, out=str(out)))
    return json.loads((out / "diagnosis.json").read_text()), result, (out / "diagnosis.json").read_text()


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a table."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def copy_study(folder: Path, place: Path, *, like: Path | None = None, **elements: Any) -> Path:
    """Write a folder's files as another study: with a root of UIDs of its own, and another's PatientID where asked."""
    place.mkdir(parents=True, exist_ok=True)
    owner = None if like is None else pydicom.dcmread(next(like.rglob("*.dcm"))).PatientID
    for number, path in enumerate(sorted(folder.rglob("*.dcm"))):
        ds = pydicom.dcmread(path)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            setattr(ds, keyword, f"{ds[keyword].value}.9")
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.PatientID = owner or ds.PatientID
        for keyword, value in elements.items():
            setattr(ds, keyword, value)
        ds.save_as(place / f"{number}.dcm")
    return place


def test_diagnosis_gives_each_slice_breast_and_patient_a_verdict(diagnosis: Any) -> None:
    """Three patients, two breasts and two slices each; a calibrated probability beside a threshold."""
    content, _, _ = diagnosis
    assert [len(patient["breasts"]) for patient in content["patients"]] == [2, 2, 2]
    assert [len(patient["slices"]) for patient in content["patients"]] == [2, 2, 2]
    for patient in content["patients"]:
        for one in (patient, *patient["breasts"], *patient["slices"]):
            assert not one["abstained"]
            assert one["calibrated"]
            assert expit(PLATT[1] + PLATT[0] * logit(one["score"])) == pytest.approx(one["probability"], abs=1e-4)
            assert one["call"] == ("above" if one["probability"] >= one["threshold"] else "below")


def test_diagnosis_averages_the_highest_slices(diagnosis: Any) -> None:
    """With two slices and three asked for, a patient's score is the mean of both."""
    content, _, _ = diagnosis
    for patient in content["patients"]:
        assert np.mean([one["score"] for one in patient["slices"]]) == pytest.approx(patient["score"], abs=2e-6)
        assert patient["slices_averaged"] == 2


def test_diagnosis_equals_what_the_test_said_of_the_same_images(diagnosis: Any, trusting_run: Path) -> None:
    """A file goes the same way to the model whether it comes as a shard or as it is: score and probability alike."""
    content, _, _ = diagnosis
    tested = {row["sample"]: row for row in read_csv(trusting_run / "predictions.csv")}
    for found in (one for patient in content["patients"] for one in patient["slices"]):
        for name in ("score", "probability"):
            assert float(tested[found["sample"]][name]) == pytest.approx(found[name], abs=2e-3)


def test_diagnosis_judges_each_study_of_a_patient_by_itself(
    diagnosis: Any, trusting_run: Path, patients: tuple[Path, ...], tmp_path: Path
) -> None:
    """Two studies of one PatientID: each gets what it got alone, and its report refers to its own images."""
    content, _, _ = diagnosis
    copy_study(patients[1], tmp_path / "later", like=patients[0])
    paths = (str(patients[0]), str(tmp_path / "later"))
    out = tmp_path / "out"
    found = diagnose_studies(config.Diagnose(run=str(trusting_run), paths=paths, out=str(out))).content
    assert len({one["patient"] for one in found["patients"]}) == 1
    alone = sorted(one["score"] for one in content["patients"] if one["patient"] in codes_of(patients[:2]))
    assert alone == pytest.approx(sorted(one["score"] for one in found["patients"]), abs=1e-5)
    for study in found["dicom"]:
        (report,) = [pydicom.dcmread(out / name) for name in study["files"] if name.endswith("report.dcm")]
        evidence = report.CurrentRequestedProcedureEvidenceSequence
        assert [report.StudyInstanceUID] == [one.StudyInstanceUID for one in evidence]
        (entry,) = [one for one in found["patients"] if one["study"] == study["study"]]
        assert entry["probability"] == pytest.approx(read_probability(report), abs=1e-6)


PLATT = (1.5, 1.0)
"""Slope and intercept of the calibrated run, as tests/conftest.py has them."""


def test_diagnosis_under_another_key_cannot_tell_whom_the_model_has_learned_from(
    finished_run: Path, collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Codes under two keys never agree: that is no proof that a patient is new."""
    monkeypatch.setenv("BCDX_PSEUDONYM_KEY", "another key")
    one = str(next((collection / "dicom").rglob("*.dcm")))
    settings = config.Diagnose(
        run=str(finished_run), paths=(one,), out=str(tmp_path / "out"), overlays="none", thresholds=0, dicom=False
    )
    content = diagnose_studies(settings).content
    assert [None] == [patient["learned"] for patient in content["patients"]]
    assert "pseudonym key" in content["warnings"]["learned_unknown_warning"]


def test_diagnosis_marks_patients_that_the_model_has_learned_from(
    trusting_run: Path, collection: Path, patients: tuple[Path, ...], tmp_path: Path
) -> None:
    """In the file, the table and that study's report alone: an answer on them is no test."""
    learned = json.loads((trusting_run / "run.json").read_text())["learned_patients"]
    folders = [path for path in sorted((collection / "dicom").iterdir()) if path.is_dir()]
    seen = next(path for path in folders if codes_of((path,)) <= set(learned))
    paths = (str(seen), str(patients[0]))
    result = ask(trusting_run, paths, tmp_path / "out", overlays="none", thresholds=0)
    marks = {one["study"]: one["learned"] for one in result.content["patients"]}
    assert [False, True] == sorted(marks.values())
    assert "learned_warning" in result.content["warnings"]
    assert f"  WARNING: {LEARNED}" in result.summary()
    for study in result.content["dicom"]:
        texts = read_texts(pydicom.dcmread(result.folder / study["files"][0]))
        assert marks[study["study"]] == (LEARNED in texts)


def test_diagnosis_tells_what_was_left_out_of_a_study_and_what_is_odd(
    trusting_run: Path, patients: tuple[Path, ...], tmp_path: Path
) -> None:
    """A breast that two tags name differently, and an image of another Modality: in each row and in the report."""
    copy_study(patients[0], tmp_path / "study")
    odd, other = sorted((tmp_path / "study").iterdir())
    ds = pydicom.dcmread(odd)
    ds.ImageLaterality = "R" if ds.ImagePositionPatient[0] > 0.0 else "L"  # +x is the patient's left
    ds.save_as(odd)
    ds = pydicom.dcmread(other)
    ds.Modality = "US"
    ds.save_as(other)
    (tmp_path / "study" / "cut.dcm").write_bytes(other.read_bytes()[:200])
    result = ask(trusting_run, (str(tmp_path / "study"),), tmp_path / "out", thresholds=0)
    (patient,) = result.content["patients"]
    assert [("Modality US: the model was made for MR", 1)] == [tuple(one.values()) for one in patient["left_out"]]
    assert any("laterality" in one["reason"] for one in patient["remarks"])
    assert {("1", "2")} == {
        (row["images_left_out"], row["remarks"]) for row in read_csv(result.folder / "diagnosis.csv")
    }
    assert "unread_warning" in result.content["warnings"]
    said = " ".join(read_texts(pydicom.dcmread(result.folder / result.content["dicom"][0]["files"][0])))
    for reason in ("Modality US", "laterality", "no readable image"):
        assert reason in said


def test_diagnosis_of_other_slices_than_the_runs_makes_no_call(
    trusting_run: Path, patients: tuple[Path, ...], tmp_path: Path
) -> None:
    """A threshold for the mean of three slices says nothing of the highest one."""
    result = ask(trusting_run, (str(patients[0]),), tmp_path / "out", top_slices=1, overlays="none", dicom=False)
    (patient,) = result.content["patients"]
    for one in (patient, *patient["breasts"]):
        assert (False, None, None) == (one["calibrated"], one["threshold"], one["call"])
        assert "as many slices" in one["reason"]
    assert all(one["call"] for one in patient["slices"])


def test_diagnose_refuses_planes_that_the_model_has_never_seen(
    trusting_run: Path, patients: tuple[Path, ...], tmp_path: Path
) -> None:
    """The recipe names no plane; the run has learned from sagittal slices alone."""
    assert ["sagittal"] == json.loads((trusting_run / "run.json").read_text())["planes"]
    copy_study(patients[0], tmp_path / "axial", ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    result = ask(trusting_run, (str(patients[1]), str(tmp_path / "axial")), tmp_path / "out", overlays="none")
    (refused,) = result.content["refused"]
    assert ["plane axial: the model was made for sagittal"] == [one["reason"] for one in refused["reasons"]]


def test_diagnose_leaves_its_own_results_alone(trusting_run: Path, patients: tuple[Path, ...], tmp_path: Path) -> None:
    """They may lie among the images: the next diagnosis of the same folder is the same."""
    copy_study(patients[0], tmp_path / "data" / "study")
    first = ask(trusting_run, (str(tmp_path / "data"),), tmp_path / "data" / "found")
    again = ask(trusting_run, (str(tmp_path / "data"),), tmp_path / "data" / "found", overwrite=True)
    assert first.content["patients"] == again.content["patients"]
    assert first.content["exclusions"] == again.content["exclusions"] == []
    with pytest.raises(BcdxError, match="earlier diagnosis"):
        ask(trusting_run, (str(first.folder / "overlays"),), tmp_path / "out")


def test_diagnose_of_a_missing_path_says_only_that(trusting_run: Path, tmp_path: Path) -> None:
    """What the model takes is no news to who mistyped a path."""
    with pytest.raises(BcdxError, match=r"no such file or folder$"):
        ask(trusting_run, (str(tmp_path / "nowhere"),), tmp_path / "out")


def test_diagnose_into_a_place_that_cannot_be_written_fails_before_the_work(trusting_run: Path, tmp_path: Path) -> None:
    """The images are not even looked for."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        ask(trusting_run, (str(tmp_path / "nowhere"),), tmp_path / "file" / "out")


def ask(run: Path, paths: tuple[str, ...], out: Path, **settings: Any) -> Diagnosis:
    """A diagnosis."""
    return diagnose_studies(config.Diagnose(run=str(run), paths=paths, out=str(out), **settings))


def read_texts(report: pydicom.Dataset) -> list[str]:
    """All texts of a report."""
    return [str(one.value) for one in report.iterall() if one.keyword == "TextValue"]


def codes_of(folders: tuple[Path, ...]) -> set[str]:
    """Codes of the patients of folders."""
    return {Pseudonyms(load_key()).code("PatientID", f"CANARYID-{path.name}") for path in folders}


def read_probability(report: pydicom.Dataset) -> float:
    """The first probability in a report: that of the patient."""
    values = [one for one in report.iterall() if one.keyword == "NumericValue"]
    return float(values[0].value)


def test_diagnosis_follows_the_schema_beside_it(diagnosis: Any) -> None:
    """Whoever gets the folder can check the file without bcdx."""
    content, result, _ = diagnosis
    schema = json.loads((result.folder / content["$schema"]).read_text())
    jsonschema.Draft202012Validator(schema).validate(content)


def test_diagnosis_draws_no_heat_for_what_it_abstains_from(
    calibrated_run: Path, patients: tuple[Path, ...], tmp_path: Path
) -> None:
    """Neither picture nor DICOM, nor any number: the model has not answered."""
    shutil.copytree(calibrated_run, tmp_path / "run")
    reference = read_reference(tmp_path / "run" / "reference.npz")
    write_reference(tmp_path / "run" / "reference.npz", replace(reference, limit=1e-6))
    settings = config.Diagnose(run=str(tmp_path / "run"), paths=(str(patients[0]),), out=str(tmp_path / "out"))
    result = diagnose_studies(settings)
    (patient,) = result.content["patients"]
    for one in (patient, *patient["breasts"], *patient["slices"]):
        assert (True, None, None) == (one["abstained"], one["probability"], one["score"])
        assert not {"overlay", "thresholds"} & set(one)
    assert [["dicom/study-1/report.dcm"]] == [one["files"] for one in result.content["dicom"]]
    assert not (result.folder / "overlays").exists()


def test_diagnosis_draws_what_decides_and_says_what_it_is_for(diagnosis: Any) -> None:
    """A heat map for each deciding slice, one figure of thresholds a patient."""
    content, result, _ = diagnosis
    for patient in content["patients"]:
        drawn = {one["sample"]: one["overlay"] for one in patient["slices"] if "overlay" in one}
        assert set(patient["deciding"]) <= set(drawn)
        assert len([one for one in patient["slices"] if "thresholds" in one]) == 1
        for name in drawn.values():
            assert "research-use-only" in name
            assert Image.open(result.folder / name).format == "PNG"
            assert (result.folder / name).stat().st_mode & 0o777 == 0o600
    assert (result.folder / "overlays").stat().st_mode & 0o777 == 0o700


def test_diagnosis_writes_dicom_into_the_same_study_for_its_owner_alone(diagnosis: Any) -> None:
    """A report and heat maps that name the patient, as the study does; nobody else may read them."""
    content, result, _ = diagnosis
    assert len(content["dicom"]) == 3
    assert (result.folder / "dicom").stat().st_mode & 0o777 == 0o700
    for study in content["dicom"]:
        found = [result.folder / name for name in study["files"]]
        assert [path.stat().st_mode & 0o777 for path in found] == [0o600] * len(found)
        objects = [pydicom.dcmread(path) for path in found]
        assert {"SR", "OT"} == {ds.Modality for ds in objects}
        assert all(ds.StudyInstanceUID.startswith("1.2.77777") for ds in objects)
        assert all(ds.PatientID.startswith("CANARYID") for ds in objects)


def test_diagnosis_has_no_identifier_outside_dicom(diagnosis: Any) -> None:
    """Neither in files nor in their names, pictures included."""
    _, result, _ = diagnosis
    for path in result.folder.rglob("*"):
        assert "CANARY" not in path.name
        if path.is_file() and "dicom" not in path.relative_to(result.folder).parts:
            assert not [canary for canary in (b"CANARY", b"1.2.77777", b"19310405") if canary in path.read_bytes()]


def test_diagnosis_does_not_depend_on_the_batch_size(diagnosis: Any, trusting_run: Path, tmp_path: Path) -> None:
    """Nor on who else is asked about: one patient alone, one image at a time, gets the same score."""
    content, result, _ = diagnosis
    expected = content["patients"][0]
    file = Path(result.files[expected["slices"][0]["sample"]])
    out = str(tmp_path / "alone")
    settings = config.Diagnose(run=str(trusting_run), paths=(str(file.parents[1]),), out=out, batch_size=1)
    (actual,) = diagnose_studies(settings).content["patients"]
    assert expected["patient"] == actual["patient"]
    assert expected["score"] == pytest.approx(actual["score"], abs=1e-5)


def test_diagnosis_holds_no_identifier_but_fingerprints(diagnosis: Any) -> None:
    """Names, UIDs, dates and paths stay out; model and data can be told again."""
    content, _, text = diagnosis
    assert not [canary for canary in ("CANARY", "1.2.77777", "19310405") if canary in text]
    assert len(content["model"]["sha256"]) == len(content["data"]["pixels_sha256"]) == 64


def test_diagnosis_table_names_files_and_says_research_use(diagnosis: Any) -> None:
    """The terminal, unlike the file, names what it speaks of."""
    _, result, _ = diagnosis
    assert "0001.dcm" in result.summary()
    assert "Research use only" in result.summary()


def test_diagnose_goes_on_past_files_that_it_cannot_read(finished_run: Path, collection: Path, tmp_path: Path) -> None:
    """A broken file is listed with its reason; the others are answered."""
    (tmp_path / "broken.dcm").write_bytes(b"")
    one = next((collection / "dicom").rglob("*.dcm"))
    settings = config.Diagnose(
        run=str(finished_run), paths=(str(one), str(tmp_path / "broken.dcm")), out=str(tmp_path / "out")
    )
    content = diagnose_studies(settings).content
    assert [left["reason"] for left in content["exclusions"]] == ["empty file"]
    assert len(content["patients"]) == 1


def test_diagnose_of_nothing_usable_is_one_error_and_no_folder(finished_run: Path, tmp_path: Path) -> None:
    """The message counts the reasons."""
    (tmp_path / "notes.txt").write_text("no image")
    settings = config.Diagnose(run=str(finished_run), paths=(str(tmp_path / "notes.txt"),), out=str(tmp_path / "out"))
    with pytest.raises(BcdxError, match="not an image of a kind that is read"):
        diagnose_studies(settings)
    assert not (tmp_path / "out").exists()


def write_plain(path: Path) -> str:
    """A PNG of noise."""
    image = np.random.default_rng(0).integers(0, 255, (90, 80), dtype=np.uint8)
    Image.fromarray(image).save(path)
    return str(path)


def test_diagnose_refuses_what_the_model_was_not_made_for(finished_run: Path, collection: Path, tmp_path: Path) -> None:
    """A photograph, and a picture of a screen, beside a study that is answered: refused by study, with the reason."""
    one = next((collection / "dicom").rglob("*.dcm"))
    ds = pydicom.dcmread(one)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(ds, keyword, f"{ds[keyword].value}.1")
    ds.save_as(tmp_path / "screen.dcm")
    paths = (str(one), write_plain(tmp_path / "photograph.png"), str(tmp_path / "screen.dcm"))
    settings = config.Diagnose(run=str(finished_run), paths=paths, out=str(tmp_path / "out"))
    result = diagnose_studies(settings)
    reasons = sorted(reason["reason"] for study in result.content["refused"] for reason in study["reasons"])
    assert [text.split(":")[0] for text in reasons] == ["plain image", "secondary capture"]
    assert "REFUSED" in result.summary()
    assert len(result.content["patients"]) == 1


def test_diagnose_of_wrong_images_alone_says_what_the_model_takes(finished_run: Path, tmp_path: Path) -> None:
    """One line, and nothing is written."""
    settings = config.Diagnose(
        run=str(finished_run), paths=(write_plain(tmp_path / "one.png"),), out=str(tmp_path / "out")
    )
    with pytest.raises(BcdxError, match=r"modality not selected.*this model takes MR"):
        diagnose_studies(settings)
    assert not (tmp_path / "out").exists()


def test_diagnose_takes_a_plain_image_as_a_patient_of_its_own(finished_run: Path, tmp_path: Path) -> None:
    """Where nothing says what the run was trained on: with a warning, and without DICOM, for it is of no study."""
    shutil.copytree(finished_run, tmp_path / "moved" / "run")
    facts = json.loads((tmp_path / "moved" / "run" / "run.json").read_text())
    (tmp_path / "moved" / "run" / "run.json").write_text(json.dumps({**facts, "modalities": [], "planes": []}))
    settings = config.Diagnose(
        run=str(tmp_path / "moved" / "run"),
        paths=(write_plain(tmp_path / "one.png"),),
        out=str(tmp_path / "out"),
        overlays="none",
        thresholds=0,
    )
    result = diagnose_studies(settings)
    assert result.content["patients"][0]["breasts"] == []
    assert {"modality_warning", "patient_warning"} <= set(result.content["warnings"])
    assert "WARNING: files that name no patient" in result.summary()
    assert ([], True) == (result.content["dicom"][0]["files"], "not a DICOM" in result.content["dicom"][0]["reason"])
    assert {path.name for path in result.folder.iterdir()} == {
        "diagnosis.json", "diagnosis.csv", "diagnosis.schema.json",
    }  # fmt: skip


def test_diagnose_overwrites_its_own_file_only(finished_run: Path, collection: Path, tmp_path: Path) -> None:
    """`--overwrite` replaces an earlier diagnosis; a folder that holds anything else is left alone."""
    one = str(next((collection / "dicom").rglob("*.dcm")))
    settings = config.Diagnose(run=str(finished_run), paths=(one,), out=str(tmp_path / "out"), overwrite=True)
    diagnose_studies(settings)
    diagnose_studies(settings)
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match=r"holds thesis\.txt"):
        diagnose_studies(settings)
    with pytest.raises(RunError, match="a file, not a folder"):
        diagnose_studies(settings.model_copy(update={"out": str(tmp_path / "out" / "thesis.txt")}))
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"


def test_diagnose_refuses_views_that_training_never_saw(finished_run: Path, collection: Path, tmp_path: Path) -> None:
    """A model trained without quarter turns is not asked about turned images."""
    settings = config.Diagnose(run=str(finished_run), paths=(str(collection / "dicom"),), out=str(tmp_path / "out"))
    with pytest.raises(SettingsError, match="training saw them"):
        diagnose_studies(settings.model_copy(update={"test_views": 8}))


def test_diagnose_refuses_a_folder_that_is_no_run(tmp_path: Path) -> None:
    """One line names the folder."""
    with pytest.raises(RunError, match="no run folder"):
        diagnose_studies(config.Diagnose(run=str(tmp_path), paths=(str(tmp_path),), out=str(tmp_path / "out")))
