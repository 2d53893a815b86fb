"""Claims about one fit: that an interrupted one goes on exactly, what it keeps, and when it stops."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from bcdx.config import Augment, Fit, Network, Optimizer, Stream
from bcdx.learning.data import Data
from bcdx.learning.learner import Learner
from bcdx.learning.progress import read_state
from bcdx.learning.snapshot import put_back, read_snapshot, take_state, write_snapshot
from bcdx.learning.store import Store
from bcdx.learning.training import Plan, class_weights, load_best, train
from bcdx.records.manifest import read_manifest


@pytest.fixture(scope="module")
def data(records: Path) -> Data:
    """Shards of the small phantom."""
    return Data(records, read_manifest(records))


def small_fit(*, depth: str = "none/mixed0", precision: str = "float32", **changes: object) -> Fit:
    """Settings under which an epoch takes a second."""
    return Fit(
        network=Network(depth=depth, dropout=0.3),
        optimizer=Optimizer(epochs=4, learning_rate=1e-3, precision=precision),
        stream=Stream(batch_size=16, views=3),
        augment=Augment(),
        **changes,
    )


def learner_for(fit: Fit, data: Data) -> Learner:
    store = Store(None, memory_bytes=2**30, disk_bytes=0)
    return Learner(fit, data, ("train",), depths=[fit.network.depth], choose=lambda _: {}, store=store)


@pytest.fixture(scope="module")
def learner(data: Data) -> Learner:
    """Of fits that train everything."""
    return learner_for(small_fit(), data)


def test_train_goes_on_exactly_where_it_was_interrupted(data: Data, learner: Learner, tmp_path: Path) -> None:
    """Two epochs, a new process's worth of fresh objects, another: the same losses and weights as three in one go."""
    whole, whole_state = train(Plan(small_fit(), epochs=3), learner, tmp_path / "whole")
    expected = whole.joined.get_weights()
    train(Plan(small_fit(), epochs=2), learner, tmp_path / "parts")
    resumed, resumed_state = train(Plan(small_fit(), epochs=3), learner_for(small_fit(), data), tmp_path / "parts")

    losses = [[epoch["loss"] for epoch in state.history] for state in (whole_state, resumed_state)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    for one, other in zip(expected, resumed.joined.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_float16_fit_goes_on_with_its_loss_scale_and_its_moments(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scale, step counter and AdamW's slots come back, and the log has the inner optimizer's rate."""
    from bcdx.learning import learner as module

    build = module.build_body  # a CPU takes a minute for float16 convolutions: the optimizer alone is as under float16
    monkeypatch.setattr(module, "build_body", lambda *given, **named: build(*given, **{**named, "policy": "float32"}))
    fit = small_fit(depth="mixed0/mixed0", precision="mixed_float16")
    trainee, state = train(Plan(fit, epochs=1), learner_for(fit, data), tmp_path / "fit")
    trainee.model.optimizer.dynamic_scale.assign(2.0**11)
    expected = take_state(trainee.model)
    write_snapshot(tmp_path / "fit" / state.weights, expected)

    fresh = learner_for(fit, data).prepare(fit).model
    put_back(fresh, read_snapshot(tmp_path / "fit" / state.weights))

    assert 2.0**11 == float(fresh.optimizer.dynamic_scale)
    assert isinstance(fresh.optimizer, keras.optimizers.LossScaleOptimizer)
    actual = take_state(fresh)
    assert {name.partition("/")[0] for name in expected} == {"weights", "seeds", "optimizer"}
    for name, value in expected.items():
        np.testing.assert_array_equal(value, actual[name])
    assert 0 < int(fresh.optimizer.inner_optimizer.iterations)
    assert 0.0 < state.history[0]["learning_rate"] <= 1.01e-3


def test_train_keeps_the_best_weights_rather_than_the_last(learner: Learner, tmp_path: Path) -> None:
    """A score that falls after the second epoch leaves the second epoch's weights in the model, also when loaded."""
    seen: list[np.ndarray] = []
    scores = iter([0.6, 0.9, 0.5])

    def score(trainee: object) -> float:
        seen.append(head_of(trainee))
        return next(scores)

    trainee, state = train(Plan(small_fit(), epochs=3, score=score), learner, tmp_path / "fit")

    assert (state.best_epoch, state.best) == (2, 0.9)
    np.testing.assert_array_equal(seen[1], head_of(trainee))
    again, _ = train(Plan(small_fit(), epochs=3, score=score), learner, tmp_path / "fit")
    np.testing.assert_array_equal(seen[1], head_of(again))
    loaded = load_best(small_fit(), learner, tmp_path / "fit")
    np.testing.assert_array_equal(seen[1], head_of(loaded))


def head_of(trainee: object) -> np.ndarray:
    return trainee.joined.get_layer("head").get_weights()[0].copy()  # type: ignore[attr-defined]


def test_train_stops_when_the_score_gets_no_better(learner: Learner, tmp_path: Path) -> None:
    """Patience counts epochs since the best one."""
    fit = small_fit().model_copy(update={"optimizer": Optimizer(epochs=6, patience=2, precision="float32")})
    scores = iter([0.8, 0.7, 0.8, 0.9, 0.9, 0.9])

    train(Plan(fit, epochs=6, score=lambda _: next(scores)), learner, tmp_path / "fit")

    state = read_state(tmp_path / "fit")
    assert (state.epochs, state.best_epoch, state.stopped) == (3, 1, True)


def test_rung_goes_on_from_memory_as_it_would_from_disk(learner: Learner, tmp_path: Path) -> None:
    """With other fits in between, the same losses as in one go; its file is gone, its state is in memory."""
    fit = small_fit()
    _, whole = train(Plan(fit, epochs=4), learner, tmp_path / "whole")
    _, rung = train(Plan(fit, epochs=2), learner, tmp_path / "rung")
    other = fit.model_copy(update={"optimizer": fit.optimizer.model_copy(update={"learning_rate": 1e-2})})
    train(Plan(other, epochs=2), learner, tmp_path / "other")
    (tmp_path / "rung" / rung.weights).rename(tmp_path / "away.npz")

    _, gone_on = train(Plan(fit, epochs=4), learner, tmp_path / "rung")

    assert [epoch["loss"] for epoch in whole.history] == [epoch["loss"] for epoch in gone_on.history]


def test_class_weights_make_classes_count_alike() -> None:
    """Count times weight is the same for all classes, and a mean sample weighs 1."""
    weights = class_weights([90, 10])
    assert 90 * weights[0] == pytest.approx(10 * weights[1])
    assert (90 * weights[0] + 10 * weights[1]) / 100 == pytest.approx(1.0)
