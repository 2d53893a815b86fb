"""Claims about scoring a finished run on shards."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from bcdx import config
from bcdx._recipes import load_recipe
from bcdx.errors import RecordsError, RunError
from bcdx.evaluate import evaluate_run
from bcdx.fit import fit_model
from bcdx.shard import write_records


@pytest.fixture(scope="module")
def again(calibrated_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The calibrated run, evaluated on its own test."""
    out = tmp_path_factory.mktemp("evaluated") / "again"
    evaluate_run(config.Evaluate(run=str(calibrated_run), out=str(out), examples=1))
    return out


def test_evaluate_repeats_the_runs_own_test(again: Path, calibrated_run: Path) -> None:
    """The saved model on the run's own shards gives the run's own figures, those that a calibrator does not change."""
    expected = json.loads((calibrated_run / "metrics.json").read_text())
    actual = json.loads((again / "metrics.json").read_text())
    for level in ("slice", "breast", "patient"):
        assert 0.0 < expected[level]["auc"]["value"] < 1.0
        for name in ("auc", "brier_uncalibrated"):
            assert expected[level][name]["value"] == pytest.approx(actual[level][name]["value"], abs=1e-6)
        assert abs(expected[level]["brier"]["value"] - actual[level]["brier"]["value"]) > 1e-3
    assert "overlap_warning" not in actual


def test_evaluate_calibrates_each_score_once(again: Path, calibrated_run: Path) -> None:
    """Probability and score are those that belong to the run."""
    expected, actual = (list(csv.DictReader((folder / "predictions.csv").open())) for folder in (calibrated_run, again))
    assert [row["sample"] for row in expected] == [row["sample"] for row in actual]
    for name in ("probability", "score"):
        wanted, found = ([float(row[name]) for row in rows] for rows in (expected, actual))
        np.testing.assert_allclose(wanted, found, rtol=0.0, atol=1e-5)


def test_evaluate_scores_an_external_set_and_names_patients_it_learned_from(
    finished_run: Path, collection: Path, tmp_path: Path
) -> None:
    """A collection that is all test is legal; patients known from training are counted in the metrics."""
    split = config.Split(test=1.0, validation=0.0)
    dataset = load_recipe(collection / "small.toml", config.Dataset)
    dataset = dataset.model_copy(update={"out": str(tmp_path / "external"), "split": split, "workers": 1})
    manifest = write_records(dataset)
    assert manifest.splits["train"].samples == manifest.splits["validation"].samples == 0

    records, out = str(tmp_path / "external"), str(tmp_path / "out")
    evaluate_run(config.Evaluate(run=str(finished_run), records=records, out=out, examples=0))

    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["slice"]["auc"]["n"] == 72
    known = len(json.loads((finished_run / "run.json").read_text())["learned_patients"])
    assert metrics["overlap_warning"].startswith(f"{known} of 36 patients")


def test_evaluate_refuses_images_of_another_shape(finished_run: Path, records: Path, tmp_path: Path) -> None:
    """Shards of another size do not fit the model, and the message says what to do."""
    out = tmp_path / "records"
    write_records(config.Dataset(out=str(out), size=80, phantom=config.Phantom(patients=12, size=75), workers=1))
    with pytest.raises(RecordsError, match="shard again with the run's size"):
        evaluate_run(config.Evaluate(run=str(finished_run), records=str(out), out=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_evaluate_never_replaces_the_run_itself(finished_run: Path, tmp_path: Path) -> None:
    """`--overwrite` is for an earlier evaluation's folder, not for whatever stands there."""
    before = sorted(path.name for path in finished_run.iterdir())
    with pytest.raises(RunError, match="which this verb does not write"):
        evaluate_run(config.Evaluate(run=str(finished_run), out=str(finished_run), overwrite=True))
    assert before == sorted(path.name for path in finished_run.iterdir())


def test_evaluate_marks_an_external_set_in_which_every_file_is_a_patient(
    finished_run: Path, collection: Path, tmp_path: Path
) -> None:
    """The mark of such shards stands in the metrics, whatever the run itself learned from."""
    from PIL import Image

    for index in range(4):
        (tmp_path / "in" / f"{'ab'[index % 2]}").mkdir(parents=True, exist_ok=True)
        image = np.random.default_rng(index).integers(0, 255, (80, 80), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / "in" / f"{'ab'[index % 2]}" / f"{index}.png")
    (tmp_path / "in" / "a").rename(tmp_path / "in" / "no_tumour")
    (tmp_path / "in" / "b").rename(tmp_path / "in" / "tumour")
    split = config.Split(test=1.0, validation=0.0)
    dataset = config.Dataset(
        source=str(tmp_path / "in"), out=str(tmp_path / "r"), patient="file", size=75, split=split, workers=1
    )
    write_records(dataset)
    metrics = evaluate_run(
        config.Evaluate(run=str(finished_run), records=str(tmp_path / "r"), out=str(tmp_path / "out"), examples=0)
    ).metrics
    assert "every file was taken for a patient" in metrics["warning"]


def test_evaluate_leaves_no_identifier_in_its_files(again: Path) -> None:
    """Planted names, dates, UIDs and paths are in none of them."""
    text = "".join(path.read_text() for path in again.iterdir())
    assert not [canary for canary in ("CANARY", "1.2.77777", "19310405", "19010203") if canary in text]


def test_evaluate_refuses_a_folder_that_is_no_run(tmp_path: Path) -> None:
    """One line names the folder and what was expected."""
    with pytest.raises(RunError, match="no run folder"):
        evaluate_run(config.Evaluate(run=str(tmp_path), out=str(tmp_path / "out")))


def test_a_run_split_by_image_is_marked_wherever_its_figures_stand(
    finished_run: Path, collection: Path, tmp_path: Path
) -> None:
    """Manifest, metrics, and the table that lays it beside an honest run."""
    (collection / "by_image.toml").write_text((collection / "small.toml").read_text() + '[split]\nunit = "image"\n')
    dataset = load_recipe(collection / "by_image.toml", config.Dataset)
    manifest = write_records(dataset.model_copy(update={"out": str(tmp_path / "records"), "workers": 1}))
    assert manifest.leaking
    cheap = config.Network(depth="mixed0/mixed0"), config.Optimizer(epochs=1)
    outcome = fit_model(
        config.Fit(
            dataset=str(collection / "by_image.toml"), records=str(tmp_path / "records"), out=str(tmp_path / "run"),
            network=cheap[0], optimizer=cheap[1], report=config.Report(images_every=0, examples=0),
        )
    )  # fmt: skip
    assert outcome.metrics["leak_warning"].startswith("LEAKING")
    settings = config.Evaluate(
        run=str(finished_run), beside=str(tmp_path / "run"), out=str(tmp_path / "out"), examples=0
    )
    text = evaluate_run(settings).summary()
    assert "WARNING (beside): LEAKING" in text
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert outcome.metrics == metrics["beside"]
    assert "leak_warning" not in metrics
