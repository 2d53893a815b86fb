"""Claims about the plan: where its store lies, what is asked of it, and that it is told beside what was measured."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from bcdx.config import Fit, Network, Optimizer, Reuse, Search, Space, Stream, Tune
from bcdx.learning.data import Data
from bcdx.learning.reuse import REUSE, demand_of, open_learner, open_search_learner, report_reuse
from bcdx.learning.training import Plan, train
from bcdx.records.manifest import read_manifest


@pytest.fixture(scope="module")
def data(records: Path) -> Data:
    """Shards of the small phantom."""
    return Data(records, read_manifest(records))


def head_alone(**reuse: Any) -> Fit:
    return Fit(
        network=Network(depth="mixed0/mixed0"),
        optimizer=Optimizer(epochs=8, precision="float32"),
        stream=Stream(batch_size=16, views=1),
        reuse=Reuse(**reuse),
    )


@pytest.mark.parametrize(
    ("reuse", "expected"),
    [
        ({}, "tuning/.prefix"),
        ({"keep": "disk"}, "tuning/.prefix"),
        ({"folder": "elsewhere"}, "elsewhere"),
        ({"keep": "memory", "folder": "elsewhere"}, None),
        ({"keep": "none"}, None),
    ],
)
def test_store_stands_beside_the_run_unless_told_otherwise(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reuse: dict[str, Any], expected: str | None
) -> None:
    """Runs share it; nothing is made before something is kept."""
    monkeypatch.chdir(tmp_path)
    learner = open_learner(head_alone(**reuse), data, ("train",), Path("tuning/run"))
    assert learner.store.folder == (None if expected is None else Path(expected))
    assert not [*tmp_path.iterdir()]


def test_plan_is_logged_before_and_reported_beside_what_was_measured_after(
    data: Data, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Places, bytes, speed-up and limit; then steps and passes; both in `reuse.json`."""
    fit = head_alone(keep="disk")
    run = tmp_path / "run"
    learner = open_learner(fit, data, ("train",), run)
    with caplog.at_level(logging.INFO):
        train(Plan(fit, epochs=2), learner, run / "progress")
        report_reuse(learner, run)
    said = "\n".join(caplog.messages)
    assert said.index("mixed0/mixed0  disk") < said.index("a step took")
    facts = json.loads((run / REUSE).read_text())
    assert [("mixed0/mixed0", "disk")] == [(one["depth"], one["place"]) for one in facts["choices"]]
    samples = data.samples(("train",)), data.samples(("train", "validation"))  # nothing has been scored
    assert facts["nbytes"] * samples[0] / samples[1] <= facts["measured"]["disk"] < 2 * facts["nbytes"]
    assert {"mixed0/mixed0"} == set(facts["step_seconds"]) == set(facts["measured"]["step_seconds"])
    assert ["mixed0/mixed0"] == facts["measured"]["reused"]
    assert 0.0 < facts["measured"]["pass_seconds"]


def test_nothing_is_reported_where_nothing_was_trained(data: Data, tmp_path: Path) -> None:
    """A search that only read its records leaves the report of before."""
    report_reuse(open_learner(head_alone(), data, ("train",), tmp_path), tmp_path)
    assert not (tmp_path / REUSE).exists()


def test_refit_is_asked_for_no_validation(data: Data) -> None:
    """It trains on both splits, as long as the fit that was selected."""
    demand = demand_of(head_alone(), data, ("train", "validation"), depth="mixed0/mixed0", trials=1.0, epochs=3)
    assert (0, 0, 3) == (demand.scorings, demand.validation, demand.epochs)
    assert data.samples(("train", "validation")) == demand.training


def test_search_asks_for_all_views_that_its_longest_trial_shows(data: Data, tmp_path: Path) -> None:
    """Of six trials one trains for twelve epochs; a second strength has views of its own but for the plain one."""
    settings = Tune(
        optimizer=Optimizer(epochs=12),
        stream=Stream(views=8),
        space=Space(depth=("mixed0/mixed0",), learning_rate=(1e-4, 1e-3, 1e-2), strength=(0.5, 1.0)),
        search=Search(oracle="asha", trials=6),
    )
    demands = open_search_learner(settings, data, tmp_path).choose._demands  # type: ignore[attr-defined]
    assert [(15, 6.0)] == [(demand.training_views, demand.trials) for demand in demands]
    assert demands[0].epochs < 12
