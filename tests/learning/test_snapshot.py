"""Claims about snapshots: what they hold, and that a damaged one is told."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from bcdx.errors import RunError
from bcdx.learning.snapshot import (
    Recent,
    put_back,
    read_snapshot,
    reset,
    take_start,
    take_state,
    take_weights,
    weights_of,
    write_snapshot,
)


@pytest.fixture
def model() -> keras.Model:
    """One dense layer behind dropout, trained for a step."""
    inputs = keras.Input((2,))
    made = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Dropout(0.5, seed=1)(inputs)))
    made.compile(keras.optimizers.AdamW(0.1), "mse")
    made.optimizer.build(made.trainable_variables)
    return made


def step(model: keras.Model) -> float:
    return float(model.train_on_batch(np.ones((4, 2), np.float32), np.ones((4, 1), np.float32)))


def test_state_put_back_repeats_the_next_steps(model: keras.Model, tmp_path: Path) -> None:
    """Weights, moments, step counter and dropout's seed; through a file."""
    step(model)
    write_snapshot(tmp_path / "state.npz", take_state(model))
    losses = [step(model) for _ in range(3)]
    put_back(model, read_snapshot(tmp_path / "state.npz"))
    assert losses == [step(model) for _ in range(3)]
    assert ["state.npz"] == [path.name for path in tmp_path.iterdir()]


def test_reset_repeats_a_fit_from_its_start(model: keras.Model) -> None:
    """Though the optimizer's slots are not kept."""
    start = take_start(model)
    losses = [step(model) for _ in range(3)]
    reset(model, start)
    assert losses == [step(model) for _ in range(3)]
    assert not [name for name in start if "momentum" in name]


def test_weights_put_back_leave_the_optimizer_alone(model: keras.Model) -> None:
    """They are what a model is scored with."""
    before = take_weights(model)
    step(model)
    put_back(model, weights_of(before))
    assert 1 == int(model.optimizer.iterations)
    np.testing.assert_array_equal(next(iter(before.values())), model.get_weights()[0])


def test_snapshot_of_another_network_is_refused(model: keras.Model) -> None:
    """By the name of what it lacks."""
    with pytest.raises(RunError, match="kernel is missing from what was kept"):
        put_back(model, {"weights/other": np.zeros(1)})


@pytest.mark.parametrize("damage", ["cut", "flipped", "missing"])
def test_damaged_file_is_refused(model: keras.Model, tmp_path: Path, damage: str) -> None:
    """Never wrong weights."""
    path = tmp_path / "state.npz"
    write_snapshot(path, take_state(model))
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        place = content.index(np.float32(model.get_weights()[0][0, 0]).tobytes())
        content[place] ^= 1
        path.write_bytes(content)
    else:
        path.unlink()
    with pytest.raises(RunError, match="missing or damaged"):
        read_snapshot(path)


def test_recent_keeps_the_latest_within_its_bytes() -> None:
    """What was asked for last goes last."""
    recent = Recent(most_bytes=20)
    for name in ("a", "b"):
        recent.keep(name, {"weights/x": np.zeros(2, np.float32)})
    recent.find("a")
    recent.keep("c", {"weights/x": np.zeros(2, np.float32)})
    assert [True, False, True] == [recent.find(name) is not None for name in ("a", "b", "c")]
    recent.keep("large", {"weights/x": np.zeros(200, np.float32)})
    assert recent.find("large") is None
