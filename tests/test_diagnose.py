"""Claims about a finished run's word on new files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pydicom
import pytest
from PIL import Image

from bcdx import config
from bcdx.diagnose import diagnose_studies
from bcdx.errors import BcdxError, RunError, SettingsError
from bcdx.imaging.identity import Pseudonyms, load_key


@pytest.fixture(scope="module")
def diagnosis(finished_run: Path, collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The diagnosis of three test patients' folders."""
    out = tmp_path_factory.mktemp("diagnosis") / "out"
    tested = {row.split(",")[1] for row in (finished_run / "predictions.csv").read_text().splitlines()[1:]}
    code = Pseudonyms(load_key()).code
    folders = [path for path in sorted((collection / "dicom").iterdir()) if path.is_dir()]
    paths = tuple(str(path) for path in folders if code("PatientID", f"CANARYID-{path.name}") in tested)[:3]
    result = diagnose_studies(config.Diagnose(run=str(finished_run), paths=paths, out=str(out)))
    return json.loads((out / "diagnosis.json").read_text()), result, (out / "diagnosis.json").read_text()


def score(one: dict[str, Any]) -> float:
    """A unit's raw score, whether or not the model stands by it."""
    return float(one["score_not_for_use"] if one["abstained"] else one["score"])


def test_diagnosis_gives_each_slice_breast_and_patient_a_verdict(diagnosis: Any) -> None:
    """Three patients, two breasts and two slices each; a probability or an abstention."""
    content, _, _ = diagnosis
    assert [len(patient["breasts"]) for patient in content["patients"]] == [2, 2, 2]
    assert [len(patient["slices"]) for patient in content["patients"]] == [2, 2, 2]
    for patient in content["patients"]:
        for one in (patient, *patient["breasts"], *patient["slices"]):
            assert one["abstained"] or 0.0 <= one["probability"] <= 1.0


def test_diagnosis_averages_the_highest_slices(diagnosis: Any) -> None:
    """With two slices and three asked for, a patient's score is the mean of both."""
    content, _, _ = diagnosis
    for patient in content["patients"]:
        assert np.mean([score(one) for one in patient["slices"]]) == pytest.approx(score(patient), abs=2e-6)
        assert patient["slices_averaged"] == 2


def test_diagnosis_equals_what_the_test_said_of_the_same_images(diagnosis: Any, finished_run: Path) -> None:
    """A file goes the same way to the model whether it comes as a shard or as it is."""
    content, _, _ = diagnosis
    lines = (finished_run / "predictions.csv").read_text().splitlines()[1:]
    tested = {line.split(",")[0]: float(line.split(",")[4]) for line in lines}
    seen = {one["sample"]: score(one) for patient in content["patients"] for one in patient["slices"]}
    assert set(seen) <= set(tested)
    for sample, found in seen.items():
        assert tested[sample] == pytest.approx(found, abs=1e-3)


def test_diagnosis_follows_the_schema_beside_it(diagnosis: Any) -> None:
    """Whoever gets the folder can check the file without bcdx."""
    content, result, _ = diagnosis
    schema = json.loads((result.folder / content["$schema"]).read_text())
    jsonschema.Draft202012Validator(schema).validate(content)


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


def test_diagnosis_writes_dicom_into_the_same_study_for_its_owner_alone(diagnosis: Any) -> None:
    """A report and heat maps that name the patient, as the study does; nobody else may read them."""
    content, result, _ = diagnosis
    assert len(content["dicom"]) == 3
    assert (result.folder / "dicom").stat().st_mode & 0o777 == 0o700
    for study in content["dicom"]:
        found = [result.folder / name for name in study["files"]]
        assert [path.stat().st_mode & 0o777 for path in found] == [0o600] * len(found)
        objects = [pydicom.dcmread(path) for path in found]
        assert {ds.Modality for ds in objects} == {"SR", "OT"} or {"SR", "MR"} == {ds.Modality for ds in objects}
        assert all(ds.StudyInstanceUID.startswith("1.2.77777") for ds in objects)
        assert all(ds.PatientID.startswith("CANARYID") for ds in objects)


def test_diagnosis_has_no_identifier_outside_dicom(diagnosis: Any) -> None:
    """Neither in files nor in their names, pictures included."""
    _, result, _ = diagnosis
    for path in result.folder.rglob("*"):
        assert "CANARY" not in path.name
        if path.is_file() and "dicom" not in path.parts[-3:]:
            assert not [canary for canary in (b"CANARY", b"1.2.77777", b"19310405") if canary in path.read_bytes()]


def test_diagnosis_does_not_depend_on_the_batch_size(diagnosis: Any, finished_run: Path, collection: Path) -> None:
    """Nor on who else is asked about: one patient alone, one image at a time, gets the same score."""
    content, result, _ = diagnosis
    expected = content["patients"][0]
    file = Path(result.files[expected["slices"][0]["sample"]])
    out = str(collection / "alone")
    settings = config.Diagnose(run=str(finished_run), paths=(str(file.parents[1]),), out=out, batch_size=1)
    (actual,) = diagnose_studies(settings).content["patients"]
    assert expected["patient"] == actual["patient"]
    assert score(expected) == pytest.approx(score(actual), abs=1e-5)


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
    (tmp_path / "moved" / "run" / "run.json").write_text(json.dumps({**facts, "modalities": []}))
    settings = config.Diagnose(
        run=str(tmp_path / "moved" / "run"),
        paths=(write_plain(tmp_path / "one.png"),),
        out=str(tmp_path / "out"),
        overlays="none",
        thresholds=False,
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
