"""Claims about what a fit keeps on disk, on a model of one weight."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import pytest

from bcdx.errors import TrainingError
from bcdx.learning.progress import Progress, discard_weights, read_state, restore


@pytest.fixture
def model() -> keras.Model:
    """One dense layer behind dropout, compiled."""
    inputs = keras.Input((2,))
    made = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Dropout(0.5, seed=1)(inputs)))
    made.compile(keras.optimizers.AdamW(0.1), "mse")
    return made


def fit(
    model: keras.Model,
    folder: Path,
    scores: Iterator[float] | None,
    *,
    epochs: int = 3,
    target: float = 1.0,
    last: int | None = None,
) -> Progress:
    score: Callable[[keras.Model], float] | None = None if scores is None else lambda _: next(scores)
    progress = Progress(folder, score, patience=2, last=last)
    images = np.ones((4, 2), np.float32)
    model.fit(images, np.full(4, target), epochs=epochs, verbose=0, callbacks=[progress])
    return progress


def test_progress_keeps_only_the_best_and_the_latest_weights(model: keras.Model, tmp_path: Path) -> None:
    """However many epochs went by."""
    fit(model, tmp_path, iter([0.5, 0.9, 0.8]))
    assert {"epoch-0002.weights.h5", "epoch-0003.weights.h5"} == {path.name for path in tmp_path.glob("*.h5")}
    state = read_state(tmp_path)
    assert (3, 2, 0.9, "epoch-0002.weights.h5") == (state.epochs, state.best_epoch, state.best, state.best_weights)


def test_equal_score_leaves_the_earlier_epoch_the_best(model: keras.Model, tmp_path: Path) -> None:
    """The shorter training wins a tie."""
    fit(model, tmp_path, iter([0.9, 0.9]), epochs=2)
    assert 1 == read_state(tmp_path).best_epoch


def test_last_epoch_is_scored_alone_and_kept_whatever_its_score(model: keras.Model, tmp_path: Path) -> None:
    """No epoch is picked for its luck, and training goes on to the end, also in two parts."""
    fit(model, tmp_path, iter([]), epochs=2, last=4)
    assert -math.inf == read_state(tmp_path).best
    progress = Progress(tmp_path, lambda _: 0.3, patience=1, last=4)
    model.fit(np.ones((4, 2)), np.ones(4), initial_epoch=2, epochs=4, verbose=0, callbacks=[progress])
    state = read_state(tmp_path)
    assert (4, 4, 0.3, "epoch-0004.weights.h5") == (state.epochs, state.best_epoch, state.best, state.best_weights)


def test_restore_brings_back_weights_moments_and_seeds(model: keras.Model, tmp_path: Path) -> None:
    """All that the next step depends on."""
    fit(model, tmp_path, None, last=3)
    expected = [np.asarray(one).copy() for one in (*model.variables, *model.optimizer.variables)]
    model.set_weights([np.zeros_like(one) for one in model.get_weights()])
    for variable in model.optimizer.variables:
        variable.assign(np.zeros_like(np.asarray(variable)))

    assert 3 == restore(model, tmp_path).epochs

    for one, other in zip(expected, (*model.variables, *model.optimizer.variables), strict=True):
        np.testing.assert_array_equal(one, np.asarray(other))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_loss_that_is_no_number_ends_the_fit_with_advice(model: keras.Model, tmp_path: Path, bad: float) -> None:
    """And leaves the state of before."""
    fit(model, tmp_path, iter([0.9]), epochs=1)
    with pytest.raises(TrainingError, match=r"training diverged: loss is .* in epoch 1; lower optimizer.learning_rate"):
        fit(model, tmp_path, iter([0.9]), epochs=1, target=bad)
    assert (1, 0.9) == (read_state(tmp_path).epochs, read_state(tmp_path).best)


def test_score_that_is_no_number_ends_the_fit_with_advice(model: keras.Model, tmp_path: Path) -> None:
    """The loss is of the batches before the last step, the score of the model after it."""
    with pytest.raises(TrainingError, match="validation AUC is nan in epoch 2; lower"):
        fit(model, tmp_path, iter([0.9, math.nan]))


def test_discarded_weights_are_gone_but_for_the_best_where_wanted(model: keras.Model, tmp_path: Path) -> None:
    """The state itself stays readable."""
    fit(model, tmp_path, iter([0.9, 0.8]), epochs=2)
    discard_weights(tmp_path, keep_best=True)
    assert ["epoch-0001.weights.h5"] == [path.name for path in tmp_path.glob("*.h5")]
    discard_weights(tmp_path, keep_best=False)
    assert not list(tmp_path.glob("*.h5"))
    assert 0.9 == read_state(tmp_path).best
