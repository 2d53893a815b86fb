"""Claims about one fit, from its settings to its metrics."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bcdx._recipes import load_recipe
from bcdx.config import Fit, Network, Optimizer, Report
from bcdx.errors import TrainingError
from bcdx.fit import fit_model
from bcdx.learning import job
from bcdx.learning.learner import Learner

CANARIES = (b"CANARY", b"19010203", b"19310405", b"1.2.77777")
"""Identifiers planted in the small collection."""
REPOSITORY = Path(__file__).parents[1]


def cheap_fit(records: Path, out: Path, **optimizer: float) -> Fit:
    """Only the head is trained, for an epoch, and not again."""
    return Fit(
        records=str(records),
        out=str(out),
        network=Network(depth="mixed0/mixed0"),
        refit="train",
        optimizer=Optimizer(**{"epochs": 1, "precision": "float32", **optimizer}),
        report=Report(images_every=0, examples=0),
    )


def test_selected_fit_of_a_search_can_be_fitted_again(finished_run: Path, collection: Path) -> None:
    """`best.toml` gives the search's own model: the same predictions, and all that a run folder holds but trials."""
    again = collection / "again"
    changes = {"out": str(again), "report": Report(images_every=0, examples=0)}
    fit_model(load_recipe(finished_run / "best.toml", Fit).model_copy(update=changes))
    kept = {path.name for path in finished_run.iterdir()} - {"trials"}
    assert kept == {path.name for path in again.iterdir()}
    expected, actual = ((folder / "predictions.csv").read_text() for folder in (finished_run, again))
    assert expected == actual
    for path in again.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [canary for canary in CANARIES if canary in content], path.name


def test_diverged_fit_is_one_error_that_says_what_to_lower(records: Path, tmp_path: Path) -> None:
    """No traceback, and no folder left behind."""
    with pytest.raises(TrainingError, match=r"training diverged: .*; lower optimizer.learning_rate"):
        fit_model(cheap_fit(records, tmp_path / "run", learning_rate=1e38))
    assert not (tmp_path / "run").exists()


def test_fit_killed_after_its_test_is_finished(records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The metrics come before the tidying: nothing is trained, and the test not opened, a second time."""
    with monkeypatch.context() as patch:
        patch.setattr(job, "shutil", SimpleNamespace(rmtree=_interrupt))
        with pytest.raises(KeyboardInterrupt):
            fit_model(cheap_fit(records, tmp_path / "run"))
    monkeypatch.setattr(Learner, "prepare", _interrupt)
    monkeypatch.setattr(job, "_test_once", _interrupt)
    outcome = fit_model(cheap_fit(records, tmp_path / "run"))
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == outcome.metrics


def _interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.real_data
def test_ultrasound_of_three_classes_runs_end_to_end(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PNG folders without patients: every result says so, and what three classes leave undefined has its reason."""
    monkeypatch.setenv("BCDX_DATA", str(shared_data))
    metrics = _shard_fit_evaluate("busi", REPOSITORY / "tuning" / "busi.toml", tmp_path)
    assert "every file was taken for a patient" in metrics["warning"]


@pytest.mark.slow
@pytest.mark.real_data
def test_mammograms_of_three_classes_run_end_to_end(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PGM films with a label table that is no CSV; a pair of films is a patient."""
    monkeypatch.setenv("BCDX_DATA", str(shared_data))
    recipe = tmp_path / "films.toml"
    recipe.write_text(
        f'dataset = "{REPOSITORY / "tfrecords" / "mini_mias.toml"}"\n'
        '[network]\ndepth = "none/mixed0"\nimage_size = 96\n[optimizer]\nepochs = 2\n'
    )
    metrics = _shard_fit_evaluate("mini_mias", recipe, tmp_path)
    assert "warning" not in metrics


def _shard_fit_evaluate(dataset: str, recipe: Path, home: Path) -> dict[str, object]:
    """Run the three verbs as a user would; return what evaluate wrote."""
    records, run, out = (str(home / name) for name in ("records", "run", "out"))
    for words in (
        ("shard", str(REPOSITORY / "tfrecords" / f"{dataset}.toml"), "--out", records),
        ("fit", str(recipe), "--records", records, "--out", run),
        ("evaluate", run, "--out", out),
    ):
        _run(*words)
    rows = list(csv.DictReader((home / "run" / "predictions.csv").open()))
    assert all(1.0 == pytest.approx(_sum_classes(row), abs=1e-5) for row in rows)
    metrics: dict[str, object] = json.loads((home / "out" / "metrics.json").read_text())
    for name in ("sensitivity", "specificity"):
        entry = metrics["slice"][name]  # type: ignore[index]
        assert entry["value"] is None
        assert entry["reason"]
    return metrics


def _run(verb: str, *words: str) -> None:
    command = [sys.executable, "-m", f"bcdx.{verb}", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert 0 == done.returncode, done.stderr


def _sum_classes(row: dict[str, str]) -> float:
    return sum(float(value) for name, value in row.items() if name.startswith("probability_"))
