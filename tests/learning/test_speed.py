"""Claims about how long work is taken to last."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import keras
import pytest

from bcdx.learning.costs import Costs, measure_costs
from bcdx.learning.speed import (
    LAYER_SECONDS,
    STEP_SECONDS,
    Machine,
    Work,
    measure_machine,
    predict_seconds,
    prefix_work,
    scoring_work,
    training_work,
)

MACHINE = Machine(147e9, 24e9)


@pytest.fixture(scope="module")
def costs() -> Costs:
    return measure_costs(keras.applications.InceptionV3(include_top=False, weights=None, input_shape=(256, 256, 3)))


def ratio(costs: Costs, depth: str, batch_size: int) -> float:
    plain, reusing = (
        predict_seconds(training_work(costs, first, depth, "mixed10", batch_size), MACHINE) for first in ("none", depth)
    )
    return plain / reusing


@pytest.mark.parametrize(
    ("depth", "batch_size", "measured"),
    [
        ("mixed6", 16, 1.90),
        ("mixed7", 16, 2.56),
        ("mixed8", 16, 3.35),
        ("mixed9", 16, 5.61),  # a third more with batches of 32: the optimizer's share
        ("mixed6", 32, 1.95),
        ("mixed7", 32, 2.69),
        ("mixed8", 32, 3.89),
        ("mixed9", 32, 6.76),
    ],
)
def test_predicted_step_ratio_is_close_to_the_measured_one(
    costs: Costs, depth: str, batch_size: int, measured: float
) -> None:
    """CPU-seconds at 256 px, float32, pooled at mixed10, on the machine that the constants come from."""
    assert measured == pytest.approx(ratio(costs, depth, batch_size), rel=0.15)


def test_prefix_and_suffix_make_up_the_whole(costs: Costs) -> None:
    """Forward, wherever it is cut."""
    whole = scoring_work(costs, "none", "mixed10", 8)
    front, back = prefix_work(costs, "mixed4", 8), scoring_work(costs, "mixed4", "mixed10", 8)
    assert whole.multiply_adds == front.multiply_adds + back.multiply_adds
    assert whole.activation_bytes == front.activation_bytes + back.activation_bytes


def test_training_nothing_but_the_head_is_a_forward_pass(costs: Costs) -> None:
    """Frozen up to the last pooled block."""
    work = training_work(costs, "none", "mixed10", "mixed10", 8)
    assert replace(scoring_work(costs, "none", "mixed10", 8), steps=2.0) == work


def test_way_back_costs_twice_but_for_the_input_of_the_boundary(costs: Costs) -> None:
    """Behind mixed9."""
    forward = scoring_work(costs, "mixed9", "mixed10", 1).multiply_adds
    work = training_work(costs, "mixed9", "mixed9", "mixed10", 1)
    assert 3 * forward - costs.entry_multiply_adds["mixed9"] == work.multiply_adds


def test_step_that_does_nothing_still_takes_time() -> None:
    """Something for each layer and each step."""
    assert 3 * LAYER_SECONDS + 2 * STEP_SECONDS == predict_seconds(Work(0.0, 0.0, layers=3.0, steps=2.0), MACHINE)


def test_machine_is_measured_with_its_disk_and_leaves_nothing_there(tmp_path: Path) -> None:
    """The folder need not exist."""
    machine = measure_machine(tmp_path / "kept" / "here")
    assert min(machine.multiply_adds_per_s, machine.bytes_per_s) > 0
    assert min(machine.disk_write_bytes_per_s, machine.disk_read_bytes_per_s) > 0
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("folder", [None, Path("/proc/1")])
def test_machine_without_a_disk_to_write_to_has_memory_alone(folder: Path | None) -> None:
    """No folder, or one that takes no files."""
    machine = measure_machine(folder)
    assert (0.0, 0.0) == (machine.disk_write_bytes_per_s, machine.disk_read_bytes_per_s)
