"""Claims about exporting a finished run: the files say what the run says, or they are not there."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

from bcdx import config, export
from bcdx._cli import main
from bcdx.errors import RecordsError, RunError
from bcdx.evidence.familiarity import fit_reference, read_reference
from bcdx.learning.export_facts import describe_familiarity


@pytest.fixture(scope="module")
def exported(calibrated_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of the calibrated run in both formats."""
    out = tmp_path_factory.mktemp("exports") / "both"
    export.export_run(config.Export(run=str(calibrated_run), out=str(out), samples=8))
    return out


def test_export_writes_both_formats_and_the_parity_that_it_measured(exported: Path, calibrated_run: Path) -> None:
    """`export.json` names files, inputs, classes, thresholds, and how far each file is from the run."""
    facts = json.loads((exported / "export.json").read_text())
    run = json.loads((calibrated_run / "run.json").read_text())
    calibration = json.loads((calibrated_run / "calibration.json").read_text())
    assert {"savedmodel", "model.onnx", "export.json"} == {path.name for path in exported.iterdir()}
    assert {"savedmodel": "savedmodel", "onnx": "model.onnx"} == facts["files"]
    assert (run["classes"], run["positive"]) == (facts["classes"], facts["positive"])
    assert calibration["levels"]["slice"]["operating_points"] == facts["operating_points"]
    assert ["pixels", "low", "high"] == list(facts["inputs"])
    assert "research use only" in facts["notice"].lower()
    assert {"savedmodel", "onnx"} == set(facts["parity"]["max_difference"])
    assert max(facts["parity"]["max_difference"].values()) <= 1e-4
    assert 8 == facts["parity"]["slices"]
    assert ["probability", "score", "probabilities", "distance"] == facts["parity"]["outputs"]


def test_export_says_when_to_abstain_and_for_which_share_probabilities_hold(
    exported: Path, calibrated_run: Path
) -> None:
    """Nothing in the file does it for its user: the limit is the run's, and the advice is in the ONNX file, too."""
    import onnx

    facts = json.loads((exported / "export.json").read_text())
    reference = read_reference(calibrated_run / "reference.npz")
    assert (reference.limit, reference.patients) == (facts["familiarity"]["limit"], facts["familiarity"]["patients"])
    assert "does not abstain by itself" in facts["familiarity"]["advice"]
    assert "`distance`" in facts["familiarity"]["advice"]
    assert "distance" in facts["outputs"]
    assert "positive" in facts["calibrated_for"]
    told = {one.key: one.value for one in onnx.load(exported / "model.onnx").metadata_props}
    assert facts["familiarity"] == json.loads(told["familiarity"])
    assert facts["calibrated_for"] == told["calibrated_for"]


def test_export_of_a_run_without_reference_says_that_nothing_abstains(calibrated_run: Path, tmp_path: Path) -> None:
    """There is no distance then, and no limit of it; the share of positives of its calibration is known here."""
    run = tmp_path / "run"
    shutil.copytree(calibrated_run, run)
    (run / "reference.npz").unlink()
    content = json.loads((run / "calibration.json").read_text())
    content["levels"]["slice"]["calibrator"]["positive_share"] = 0.3125
    (run / "calibration.json").write_text(json.dumps(content))
    records = calibrated_run / json.loads((run / "run.json").read_text())["records"]
    settings = config.Export(run=str(run), records=str(records), samples=2, format="savedmodel")
    result = export.export_run(settings)
    assert result.content["familiarity"]["limit"] is None
    assert "no reference of its training images" in result.content["familiarity"]["advice"]
    assert "distance" not in {**result.content["outputs"], **dict.fromkeys(result.content["parity"]["outputs"])}
    assert "31.2% of the slices are positive, as on validation" in result.content["calibrated_for"]
    for text in (result.content["familiarity"]["advice"], result.content["calibrated_for"]):
        assert text in result.summary()


def test_export_of_a_run_with_too_few_patients_has_no_limit() -> None:
    """The distance is there, but infinity is no number of JSON's."""
    reference = fit_reference(np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32), np.arange(5).astype(str))
    found = describe_familiarity(reference)
    assert (None, 5) == (found["limit"], found["patients"])
    assert "Too few training patients" in found["advice"]


def test_onnx_says_of_dicom_files_what_the_run_predicted(
    exported: Path, calibrated_run: Path, collection: Path
) -> None:
    """pydicom, numpy and onnxruntime alone: from a study's files to scores and calibrated probabilities of the test.

    And to as many slices unlike training as the run counted there.
    """
    import onnxruntime

    from bcdx.imaging.identity import Pseudonyms, load_key

    files: dict[str, list[pydicom.FileDataset]] = {}
    for path in sorted((collection / "dicom").rglob("*.dcm")):
        ds = pydicom.dcmread(path)
        files.setdefault(Pseudonyms(load_key()).code("PatientID", ds.PatientID), []).append(ds)
    session = onnxruntime.InferenceSession(exported / "model.onnx", providers=["CPUExecutionProvider"])
    with (calibrated_run / "predictions.csv").open() as file:
        predicted = list(csv.DictReader(file))
    limit = json.loads((exported / "export.json").read_text())["familiarity"]["limit"]
    unlike = 0
    for patient in {row["patient"] for row in predicted}:
        study = np.stack([ds.pixel_array for ds in files[patient]]).astype(np.float32)[..., np.newaxis]
        low, high = np.percentile(study, (0.5, 99.5)).astype(np.float32)
        one = np.ones(len(study), np.float32)
        names = ["score", "probability", "distance"]
        scores, probabilities, distances = session.run(names, {"pixels": study, "low": low * one, "high": high * one})
        for name, actual in (("score", scores), ("probability", probabilities)):
            expected = sorted(float(row[name]) for row in predicted if row["patient"] == patient)
            np.testing.assert_allclose(np.sort(actual), expected, atol=1e-4)
        unlike += int((distances > limit).sum())
    metrics = json.loads((calibrated_run / "metrics.json").read_text())
    assert metrics["familiarity"]["unfamiliar"] == unlike
    assert max(abs(float(row["score"]) - float(row["probability"])) for row in predicted) > 0.01


def test_export_holds_no_identifier_and_no_path(exported: Path, finished_run: Path) -> None:
    """Planted names, patients' codes and places of files are in none of them."""
    codes = json.loads((finished_run / "run.json").read_text())["learned_patients"]
    wanted = [b"CANARY", b"1.2.77777", str(finished_run.parent).encode(), *(code.encode() for code in codes)]
    for path in exported.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert [] == [word for word in wanted if word in content], path


def test_model_that_differs_is_not_left_on_disk(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the difference."""
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    settings = config.Export(run=str(finished_run), out=str(tmp_path / "new" / "out"), samples=1, format="savedmodel")
    with pytest.raises(RunError, match=r"savedmodel: its outputs differ from the run's by up to \d"):
        export.export_run(settings)
    assert [] == list(tmp_path.iterdir())


def test_export_without_shards_says_what_they_are_for(finished_run: Path, records: Path, tmp_path: Path) -> None:
    """A run that was moved away from its shards exports with `--records`."""
    moved = tmp_path / "runs" / "moved"
    shutil.copytree(finished_run, moved)
    settings = config.Export(run=str(moved), samples=2, format="savedmodel")
    with pytest.raises(RecordsError, match=r"compared with the run on real slices: .*: no shards; .* --records"):
        export.export_run(settings)
    result = export.export_run(settings.model_copy(update={"records": str(records)}))
    assert tmp_path / "runs" / "moved-export" == result.folder
    assert ["export.json", "savedmodel"] == sorted(path.name for path in result.folder.iterdir())
    assert "compared on 2 slices" in result.summary()


def test_export_refuses_what_no_graph_can_do(finished_run: Path, tmp_path: Path) -> None:
    """Records that passed through JPEG have no counterpart outside Pillow."""
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    facts = json.loads((run / "run.json").read_text())
    facts["dataset"]["jpeg_quality"] = 90
    (run / "run.json").write_text(json.dumps(facts))
    with pytest.raises(RunError, match="jpeg_quality"):
        export.export_run(config.Export(run=str(run), out=str(tmp_path / "out")))


def test_export_replaces_its_own_files_only(exported: Path, finished_run: Path, tmp_path: Path) -> None:
    """`--overwrite` is for an earlier export's folder, not for the run or whatever else stands there."""
    with pytest.raises(RunError, match="not empty; choose another --out or give --overwrite"):
        export.export_run(config.Export(run=str(finished_run), out=str(exported)))
    with pytest.raises(RunError, match="which this verb does not write"):
        export.export_run(config.Export(run=str(finished_run), out=str(finished_run), overwrite=True))


def test_command_ends_with_one_line_where_there_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As every verb does."""
    assert 2 == main(["export", str(tmp_path / "nothing"), "--format", "savedmodel"])
    assert "nothing: no run folder" in capsys.readouterr().err.strip().splitlines()[-1]
