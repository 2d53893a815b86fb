"""Claims about the main job, on a run that the command itself made."""

from __future__ import annotations

import csv
import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bcdx import config
from bcdx._recipes import load_recipe
from bcdx.errors import RecordsError, RunError
from bcdx.imaging.phantom import write_phantom
from bcdx.learning.data import Data
from bcdx.learning.search import search_winner
from bcdx.records.manifest import read_manifest
from bcdx.tune import search_models

CANARIES = ("CANARY", "19010203", "19310405", "1.2.77777")


def test_run_folder_is_whole_and_holds_exactly_one_metrics_file(finished_run: Path) -> None:
    """What ARCHITECTURE.md lists is there, once."""
    expected = {
        "run.json", "trials", "logs", "best.toml", "model.keras", "calibration.json", "predictions.csv", "metrics.json",
        "reuse.json", "validation.csv", "reference.npz", "report.html", "model_card.md",
    }  # fmt: skip
    assert expected == {path.name for path in finished_run.iterdir()}
    assert [finished_run / "metrics.json"] == list(finished_run.rglob("metrics.json"))


def test_metrics_have_value_interval_and_n_at_each_level(finished_run: Path) -> None:
    """Each figure stands with its interval, or null with a reason."""
    metrics = json.loads((finished_run / "metrics.json").read_text())
    assert metrics["split"] == "test"
    for level in ("slice", "breast", "patient"):
        for entry in (one for one in metrics[level].values() if isinstance(one, dict) and "value" in one):
            assert {"low", "high", "n"} <= set(entry)
            assert (entry["value"] is None) == ("reason" in entry)
    assert 0.0 <= metrics["patient"]["auc"]["low"] <= metrics["patient"]["auc"]["high"] <= 1.0


def test_predictions_cover_the_test_split_and_nothing_else(finished_run: Path, collection: Path) -> None:
    """One row a test sample, with a probability."""
    rows = list(csv.DictReader((finished_run / "predictions.csv").open()))
    manifest = read_manifest(collection / "small")
    assert len(rows) == manifest.splits["test"].samples
    assert all(0.0 <= float(row["probability"]) <= 1.0 for row in rows)
    learned = set(json.loads((finished_run / "run.json").read_text())["learned_patients"])
    assert not learned & {row["patient"] for row in rows}


def test_best_recipe_is_valid_for_fit_and_holds_the_winner(finished_run: Path) -> None:
    """`best.toml` can be given to `fit` as it is."""
    fit = load_recipe(finished_run / "best.toml", config.Fit)
    selection = json.loads((finished_run / "run.json").read_text())["selection"]
    assert fit.optimizer.learning_rate == selection["learning_rate"]
    assert fit.network.depth == selection["depth"]


def test_finished_run_is_left_alone(finished_run: Path, collection: Path) -> None:
    """The same command again reads what is there and writes nothing."""
    before = {path: path.stat().st_mtime_ns for path in finished_run.rglob("*")}
    outcome = search_models(load_recipe(collection / "search.toml", config.Tune))
    assert before == {path: path.stat().st_mtime_ns for path in finished_run.rglob("*")}
    assert outcome.metrics == json.loads((finished_run / "metrics.json").read_text())


def test_folder_of_another_configuration_is_refused(finished_run: Path, collection: Path) -> None:
    """Another seed is another run: nothing is resumed silently."""
    settings = load_recipe(collection / "search.toml", config.Tune).model_copy(update={"seed": 7})
    with pytest.raises(RunError, match="other settings or data"):
        search_models(settings)


def test_no_identifier_in_any_file_of_shards_or_run(finished_run: Path, collection: Path) -> None:
    """Planted names, dates, UIDs and paths are in no file that `shard` and `tune` wrote."""
    for folder in (collection / "small", finished_run):
        for path in folder.rglob("*"):
            if path.is_file():
                content = path.read_bytes()
                assert not [canary for canary in CANARIES if canary.encode() in content], path.name


def test_run_keeps_variables_unexpanded_and_paths_relative(finished_run: Path) -> None:
    """A run folder can be moved and published: it names its data as the recipe did."""
    run = json.loads((finished_run / "run.json").read_text())
    assert (run["settings"]["dataset"], run["records"]) == ("../small.toml", "../small")


def test_terminal_gives_patients_first_and_says_research_use(finished_run: Path, collection: Path) -> None:
    """The table names its level beside the figures, and what the software is not for."""
    said = (collection / "said.txt").read_text()
    assert said.index("per patient") < said.index("per sample")
    assert "research use only" in said


@pytest.mark.slow
def test_killed_job_ends_like_one_that_was_not(finished_run: Path, collection: Path) -> None:
    """SIGKILL in the first trial; the same command then gives the same winner and, byte for byte, the same scores."""
    killed = collection / "killed"
    command = [sys.executable, "-m", "bcdx.tune", str(collection / "search.toml"), "--out", str(killed)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for_file(killed / "trials" / "trial_0" / "progress" / "progress.json", process)  # after its first epoch
    finally:
        process.kill()
        process.wait()
    assert not (killed / "metrics.json").exists()

    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)

    assert 0 == done.returncode, done.stderr
    assert "going on after epoch 1" in done.stderr
    _assert_same_outcome(finished_run, killed)


@pytest.mark.slow
def test_same_seed_gives_the_same_winner_and_scores(finished_run: Path, collection: Path) -> None:
    """In another folder and another process."""
    settings = load_recipe(collection / "search.toml", config.Tune)
    search_models(settings.model_copy(update={"out": str(collection / "same")}))
    _assert_same_outcome(finished_run, collection / "same")


def _wait_for_file(path: Path, process: subprocess.Popen[bytes]) -> None:
    for _ in range(4000):
        if path.exists():
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise TimeoutError(f"{path.name} did not come")


def _assert_same_outcome(one: Path, other: Path) -> None:
    runs = [json.loads((folder / "run.json").read_text()) for folder in (one, other)]
    assert runs[0]["selection"] == runs[1]["selection"]
    assert (one / "predictions.csv").read_text() == (other / "predictions.csv").read_text()


def test_search_never_opens_the_test_split(records: Path, tmp_path: Path) -> None:
    """With test shards of nothing but noise it trains and selects as if they were whole."""
    shutil.copytree(records, tmp_path / "records")
    for path in (tmp_path / "records").glob("test-*.tfrecord"):
        path.write_bytes(b"\xff" * path.stat().st_size)
    data = Data(tmp_path / "records", read_manifest(tmp_path / "records"))
    with pytest.raises(RecordsError, match="is damaged"):
        data.table(("test",))

    settings = _cheap_search(space=config.Space(depth=(), learning_rate=(1e-3,)))
    selected = search_winner(settings, data, "slice", tmp_path)

    assert 0.0 <= selected.state.best <= 1.0
    assert not any("test" in splits for splits in data._tables)


def _cheap_search(**changes: Any) -> config.Tune:
    """Only the head is trained, for an epoch, once."""
    return config.Tune(
        network=config.Network(depth="mixed0/mixed0"),
        optimizer=config.Optimizer(epochs=1),
        search=config.Search(trials=1),
        report=config.Report(images_every=0, examples=0),
        **changes,
    )


@pytest.mark.slow
def test_random_labels_give_chance(tmp_path: Path) -> None:
    """Labels dealt anew among the patients: the test's AUC is 0.5 within its interval, but for one deal in twenty."""
    write_phantom(tmp_path / "dicom", config.Phantom(patients=60, slices_per_breast=1, size=75))
    results = [_search_with_dealt_labels(tmp_path, seed) for seed in range(5)]
    for level in ("slice", "patient"):
        aucs = [metrics[level]["auc"] for metrics in results]
        outside = [auc for auc in aucs if not auc["low"] <= 0.5 <= auc["high"]]
        assert len(outside) <= 1, (level, outside)


def _search_with_dealt_labels(home: Path, seed: int) -> dict[str, Any]:
    """Give each patient the labels of another, search, and return the test's metrics."""
    rows = list(csv.DictReader((home / "dicom" / "labels.csv").open()))
    label = {row["path"]: row["label"] for row in rows}
    patients = sorted({path.partition("/")[0] for path in label})
    dealt = dict(zip(patients, np.random.default_rng(seed).permutation(patients), strict=True))
    lines = ["path,label"]
    for path in label:
        patient, _, rest = path.partition("/")
        lines.append(f"{path},{label[f'{dealt[patient]}/{rest}']}")
    (home / f"{seed}.csv").write_text("\n".join(lines))
    recipe = home / f"dealt{seed}.toml"
    recipe.write_text(f'source = "dicom"\nsize = 75\nworkers = 1\n[labels]\nfile = "../{seed}.csv"\n')
    return search_models(_cheap_search(dataset=str(recipe), out=str(home / f"run{seed}"))).metrics


@pytest.mark.slow
def test_defaults_find_the_phantoms_lesions_from_an_empty_folder(tmp_path: Path) -> None:
    """`search_models(Tune())` needs nothing and reaches AUC 0.9; its run can then be evaluated by its folder alone."""
    program = (
        "import bcdx, bcdx.config as c\n"
        "bcdx.search_models(c.Tune())\n"
        "bcdx.evaluate_run(c.Evaluate(run='tuning/phantom', out='again'))\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=1500)
    assert 0 == done.returncode, done.stderr
    metrics = [json.loads((tmp_path / f / "metrics.json").read_text()) for f in ("tuning/phantom", "again")]
    assert metrics[0]["patient"]["auc"]["value"] >= 0.9
    assert metrics[0]["patient"]["auc"]["value"] == pytest.approx(metrics[1]["patient"]["auc"]["value"], abs=1e-6)


@pytest.fixture(scope="module")
def board(finished_run: Path) -> Iterator[str]:
    """Address of a real TensorBoard over the run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(finished_run), "--port", str(port)]
    server = subprocess.Popen([*command, "--host", "127.0.0.1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}/data"
    try:
        _wait_for(address)
        yield address
    finally:
        server.kill()
        server.wait()


def _wait_for(address: str) -> None:
    for _ in range(240):
        try:
            if "logs/test" in " ".join(_ask(f"{address}/runs")):
                return
        except (urllib.error.URLError, ConnectionError):
            pass
        time.sleep(0.5)
    raise TimeoutError("TensorBoard did not list the runs")


def _ask(address: str, question: Any = None) -> Any:
    body = None if question is None else json.dumps(question).encode()
    request = urllib.request.Request(address, data=body, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def test_tensorboard_lists_scalars_per_trial(board: str) -> None:
    """Loss, learning rate and input wait on training; AUC on validation."""
    tags = _ask(f"{board}/plugin/scalars/tags")
    assert {"epoch_loss", "epoch_learning_rate", "epoch_input_wait_share"} <= set(tags["logs/trial-0/train"])
    assert {"epoch_auc"} <= set(tags["logs/trial-1/validation"])


def test_tensorboard_shows_samples_and_test_figures(board: str) -> None:
    """Augmented samples at the start, what validation says while training, the test's figures at the end."""
    tags = _ask(f"{board}/plugin/images/tags")
    assert set(tags["logs/samples"]) == {"augmented_training_samples"}
    figures = {"roc", "precision_recall", "reliability", "confusion"}
    assert set(tags["logs/test"]) == figures
    assert set(tags["logs/trial-0"]) == {f"validation/{name}" for name in (*figures, "grad_cam")}


def test_report_tells_the_same_patient_auc_as_the_metrics(finished_run: Path) -> None:
    """And needs nothing but itself: no picture and no style comes from elsewhere."""
    page = (finished_run / "report.html").read_text()
    auc = json.loads((finished_run / "metrics.json").read_text())["patient"]["auc"]
    assert f"{auc['value']:.3f}" in page
    assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", page)
    assert not [canary for canary in CANARIES if canary in page]


def test_metrics_say_what_shortcuts_reach_and_what_is_unfamiliar(finished_run: Path) -> None:
    """Beside the result, from the same test."""
    metrics = json.loads((finished_run / "metrics.json").read_text())
    assert {"slice_index", "mean_intensity", "shuffled_labels", "image_split"} <= set(metrics["probes"])
    assert 0 <= metrics["familiarity"]["unfamiliar"] <= metrics["familiarity"]["n"] == metrics["slice"]["auc"]["n"]


def test_tensorboard_has_a_session_group_per_trial(board: str) -> None:
    """HParams lists both trials with their learning rates and validation AUC."""
    question = {"experimentName": "", "allowedStatuses": ["STATUS_UNKNOWN"], "startIndex": 0, "sliceSize": 10}
    groups = _ask(f"{board}/plugin/hparams/session_groups", question)["sessionGroups"]
    assert {group["name"] for group in groups} == {"trial-0", "trial-1"}
    assert {group["hparams"]["learning_rate"] for group in groups} == {0.001, 0.003}
    assert all(0.0 <= group["metricValues"][0]["value"] <= 1.0 for group in groups)
