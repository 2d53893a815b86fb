"""Claims about what a fit keeps on disk, on a model of one weight."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest

from bcdx.errors import TrainingError
from bcdx.learning.progress import Progress, discard_weights, read_state, restore
from bcdx.learning.snapshot import Recent, Snapshot, read_snapshot


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
    ends: tuple[int, int] | None = None,
    last: bool = False,
    recent: Recent | None = None,
) -> Progress:
    score = None if scores is None else lambda: next(scores)
    folder.mkdir(exist_ok=True)
    progress = Progress(folder, score, patience=2, ends=ends or (epochs, epochs + 1), last=last, recent=recent)
    images = np.ones((4, 2), np.float32)
    model.fit(images, np.full(4, target), epochs=epochs, verbose=0, callbacks=[progress])
    return progress


def test_progress_keeps_only_the_best_and_the_latest_weights(model: keras.Model, tmp_path: Path) -> None:
    """However many epochs went by."""
    fit(model, tmp_path, iter([0.5, 0.9, 0.8]))
    state = read_state(tmp_path)
    assert {state.weights, state.best_weights} == {path.name for path in tmp_path.glob("*.npz")}
    assert (3, 2, 0.9) == (state.epochs, state.best_epoch, state.best)
    assert state.weights != state.best_weights


def test_progress_leaves_the_model_with_its_best_weights(model: keras.Model, tmp_path: Path) -> None:
    """Those that were scored best, not those of the last step."""
    seen: list[np.ndarray] = []
    scores = iter([0.5, 0.9, 0.8])

    def score() -> float:
        seen.append(model.get_weights()[0].copy())
        return next(scores)

    progress = Progress(tmp_path, score, patience=5, ends=(3, 3))
    model.fit(np.ones((4, 2), np.float32), np.ones(4), epochs=3, verbose=0, callbacks=[progress])
    np.testing.assert_array_equal(seen[1], model.get_weights()[0])
    kept = read_snapshot(tmp_path / progress.state.best_weights)
    np.testing.assert_array_equal(seen[1], next(kept[name] for name in kept if name.endswith("/kernel")))
    assert (seen[1] != seen[2]).any()


def test_finished_fit_keeps_its_best_weights_alone_and_one_that_may_go_on_its_state(
    model: keras.Model, tmp_path: Path
) -> None:
    """Moments and seeds are of no use behind the end of the schedule."""
    fit(model, tmp_path / "rung", iter([0.5]), epochs=1, ends=(1, 4))
    fit(model, tmp_path / "whole", iter([0.5]), epochs=1, ends=(1, 1))
    kinds = [
        {name.partition("/")[0] for name in read_snapshot(next((tmp_path / folder).glob("*.npz")))}
        for folder in ("rung", "whole")
    ]
    assert [{"weights", "seeds", "optimizer"}, {"weights"}] == kinds


def test_state_is_not_saved_where_saving_would_cost_more_than_it_is_worth(
    model: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first time where little is to be written, then after twenty times what that took, and at the end."""
    saved: list[int] = []

    class Slow(Progress):
        def _save(self, *, goes_on: bool) -> Snapshot:
            saved.append(self.state.epochs)
            now[0] += 1.0
            return super()._save(goes_on=goes_on)

        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            now[0] += 8.0

    now = [0.0]
    monkeypatch.setattr("bcdx.learning.progress.time.monotonic", lambda: now[0])
    progress = Slow(tmp_path, None, patience=9, ends=(8, 9), last=True)
    model.fit(np.ones((4, 2), np.float32), np.ones(4), epochs=8, verbose=0, callbacks=[progress])
    assert [1, 4, 7, 8] == saved


def test_equal_score_leaves_the_earlier_epoch_the_best(model: keras.Model, tmp_path: Path) -> None:
    """The shorter training wins a tie."""
    fit(model, tmp_path, iter([0.9, 0.9]), epochs=2)
    assert 1 == read_state(tmp_path).best_epoch


def test_last_epoch_is_scored_alone_and_kept_whatever_its_score(model: keras.Model, tmp_path: Path) -> None:
    """No epoch is picked for its luck, and training goes on to the end, also in two parts."""
    fit(model, tmp_path, iter([]), epochs=2, ends=(4, 4), last=True)
    assert -math.inf == read_state(tmp_path).best
    progress = Progress(tmp_path, lambda: 0.3, patience=1, ends=(4, 4), last=True)
    model.fit(np.ones((4, 2)), np.ones(4), initial_epoch=2, epochs=4, verbose=0, callbacks=[progress])
    state = read_state(tmp_path)
    assert (4, 4, 0.3, state.weights) == (state.epochs, state.best_epoch, state.best, state.best_weights)


@pytest.mark.parametrize("killed", [True, False])
def test_restore_brings_back_weights_moments_and_seeds(model: keras.Model, tmp_path: Path, killed: bool) -> None:
    """All that the next step depends on, from disk after a kill, from memory otherwise."""
    recent = Recent()
    fit(model, tmp_path, None, last=True, recent=recent)
    if not killed:
        (tmp_path / read_state(tmp_path).weights).unlink()
    expected = [np.asarray(one).copy() for one in (*model.variables, *model.optimizer.variables)]
    model.set_weights([np.zeros_like(one) for one in model.get_weights()])
    for variable in model.optimizer.variables:
        variable.assign(np.zeros_like(np.asarray(variable)))

    restore(model, tmp_path, read_state(tmp_path), Recent() if killed else recent)

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
    assert [read_state(tmp_path).best_weights] == [path.name for path in tmp_path.glob("*.npz")]
    discard_weights(tmp_path, keep_best=False)
    assert not list(tmp_path.glob("*.npz"))
    assert 0.9 == read_state(tmp_path).best
