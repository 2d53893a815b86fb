"""Claims about one fit: what it starts from, its schedule, and that an interrupted one goes on exactly."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from bcdx.config import Augment, Fit, Network, Optimizer, Stream
from bcdx.learning import training
from bcdx.learning.data import Data
from bcdx.learning.progress import restore
from bcdx.learning.training import Plan, build_compiled, class_weights, load_best, make_optimizer, train
from bcdx.records.manifest import read_manifest


@pytest.fixture(scope="module")
def data(records: Path) -> Data:
    """Shards of the small phantom."""
    return Data(records, read_manifest(records))


def small_fit(*, precision: str = "float32", **changes: object) -> Fit:
    """Settings under which an epoch takes a second."""
    return Fit(
        network=Network(dropout=0.3),
        optimizer=Optimizer(epochs=4, learning_rate=1e-3, precision=precision),
        stream=Stream(batch_size=16, views=3),
        augment=Augment(),
        **changes,
    )


def test_train_goes_on_exactly_where_it_was_interrupted(data: Data, tmp_path: Path) -> None:
    """Two epochs, a new process's worth of fresh objects, two more: the same losses and weights as four in one go."""
    whole, whole_state = train(Plan(small_fit(), ("train",), epochs=4), data, tmp_path / "whole")
    train(Plan(small_fit(), ("train",), epochs=2), data, tmp_path / "halves")
    resumed, resumed_state = train(Plan(small_fit(), ("train",), epochs=4), data, tmp_path / "halves")

    losses = [[epoch["loss"] for epoch in state.history] for state in (whole_state, resumed_state)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    for expected, actual in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(expected, actual, atol=1e-5)


def test_float16_trains_with_a_scaled_loss_and_the_others_without(data: Data) -> None:
    """Keras would not wrap it by itself: the model's own policy is float32, its body's is not."""
    built = {
        precision: build_compiled(small_fit(precision=precision), data, ("validation",)).optimizer
        for precision in ("float32", "mixed_bfloat16", "mixed_float16")
    }
    scaled = {name for name, one in built.items() if isinstance(one, keras.optimizers.LossScaleOptimizer)}
    assert {"mixed_float16"} == scaled
    assert float(built["float32"].learning_rate) == float(built["mixed_float16"].learning_rate)


def test_float16_fit_goes_on_with_its_loss_scale_and_its_moments(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scale, step counter and AdamW's slots come back, and the log has the inner optimizer's rate."""
    build = training.build_model  # a CPU takes a minute for float16 convolutions: the loss alone is as under float16
    monkeypatch.setattr(
        training, "build_model", lambda *given, **named: build(*given, **{**named, "policy": "float32"})
    )
    fit = small_fit(precision="mixed_float16").model_copy(update={"network": Network(depth="mixed0/mixed0")})
    plan = Plan(fit, ("train",), epochs=1)
    model, state = train(plan, data, tmp_path / "fit")
    model.optimizer.dynamic_scale.assign(2.0**11)
    model.save_weights(tmp_path / "fit" / state.weights)

    fresh = build_compiled(plan.fit, data, ("train",))
    restore(fresh, tmp_path / "fit")

    assert 2.0**11 == float(fresh.optimizer.dynamic_scale)
    assert 0 < int(fresh.optimizer.iterations) == int(model.optimizer.iterations)
    for expected, actual in zip(model.optimizer.variables, fresh.optimizer.variables, strict=True):
        np.testing.assert_array_equal(np.asarray(expected), np.asarray(actual))
    assert 0.0 < state.history[0]["learning_rate"] <= 1.01e-3


def test_train_keeps_the_best_weights_rather_than_the_last(data: Data, tmp_path: Path) -> None:
    """A score that falls after the second epoch leaves the second epoch's weights in the model."""
    seen: list[np.ndarray] = []
    scores = iter([0.6, 0.9, 0.5])

    def score(model: object) -> float:
        seen.append(model.get_layer("head").get_weights()[0])  # type: ignore[attr-defined]
        return next(scores)

    model, state = train(Plan(small_fit(), ("train",), epochs=3, score=score), data, tmp_path / "fit")

    assert (state.best_epoch, state.best) == (2, 0.9)
    np.testing.assert_array_equal(seen[1], model.get_layer("head").get_weights()[0])
    loaded = load_best(small_fit(), data, tmp_path / "fit")
    np.testing.assert_array_equal(seen[1], loaded.get_layer("head").get_weights()[0])


def test_train_stops_when_the_score_gets_no_better(data: Data, tmp_path: Path) -> None:
    """Patience counts epochs since the best one."""
    fit = small_fit().model_copy(update={"optimizer": Optimizer(epochs=6, patience=2, precision="float32")})
    scores = iter([0.8, 0.7, 0.8, 0.9, 0.9, 0.9])

    _, state = train(Plan(fit, ("train",), epochs=6, score=lambda _: next(scores)), data, tmp_path / "fit")

    assert (state.epochs, state.best_epoch, state.stopped) == (3, 1, True)


def test_build_starts_the_head_at_the_classes_log_odds(data: Data) -> None:
    """With features at their mean the first probability is the share of the positive class."""
    model = build_compiled(small_fit(), data, ("train",))
    negative, positive = data.class_counts(("train",))
    assert model.get_layer("head").get_weights()[1][0] == pytest.approx(np.log(positive / negative), rel=1e-5)


def test_class_weights_make_classes_count_alike() -> None:
    """Count times weight is the same for all classes, and a mean sample weighs 1."""
    weights = class_weights([90, 10])
    assert 90 * weights[0] == pytest.approx(10 * weights[1])
    assert (90 * weights[0] + 10 * weights[1]) / 100 == pytest.approx(1.0)


def test_schedule_warms_up_to_the_peak_and_decays_to_nothing() -> None:
    """The rate is highest after the warm-up and zero at the end of the whole schedule."""
    optimizer = make_optimizer(Optimizer(learning_rate=1e-2, epochs=10, warmup=0.2), steps_per_epoch=5)
    schedule = optimizer._learning_rate
    rates = [float(schedule(step)) for step in range(51)]
    assert max(rates) == pytest.approx(1e-2, rel=1e-6)
    assert rates.index(max(rates)) == 10
    assert rates[0] < rates[5] < rates[10] > rates[30] > rates[50] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("epochs", [1, 2])
def test_schedule_of_a_single_step_is_usable(epochs: int) -> None:
    """A split of one batch and an epoch or two still trains at a positive rate."""
    optimizer = make_optimizer(Optimizer(learning_rate=1e-2, epochs=epochs), steps_per_epoch=1)
    schedule = optimizer._learning_rate
    first = float(schedule(0)) if callable(schedule) else float(schedule)
    assert first > 0
