"""Claims about the optimizer: its schedule, and what models on the same weights share."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from bcdx.config import Optimizer
from bcdx.learning.optimizer import Slots, make_optimizer, scale_loss, set_peak


def rates(optimizer: object, steps: int) -> list[float]:
    return [float(optimizer._learning_rate(step)) for step in range(steps)]  # type: ignore[attr-defined]


def test_schedule_warms_up_to_the_peak_and_decays_to_nothing() -> None:
    """The rate is highest after the warm-up and zero at the end of the whole schedule."""
    found = rates(make_optimizer(Optimizer(learning_rate=1e-2, epochs=10, warmup=0.2), steps_per_epoch=5), 51)
    assert max(found) == pytest.approx(1e-2, rel=1e-6)
    assert found.index(max(found)) == 10
    assert found[0] < found[5] < found[10] > found[30] > found[50] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("epochs", [1, 2])
def test_schedule_of_a_single_step_is_usable(epochs: int) -> None:
    """A split of one batch and an epoch or two still trains at a positive rate."""
    assert rates(make_optimizer(Optimizer(learning_rate=1e-2, epochs=epochs), steps_per_epoch=1), 1)[0] > 0


def test_only_float16_scales_its_loss() -> None:
    """Keras would not wrap it by itself: the model's own policy is float32, its body's is not."""
    made = {
        policy: scale_loss(make_optimizer(Optimizer(learning_rate=1e-2), 5), policy)
        for policy in ("float32", "mixed_bfloat16", "mixed_float16")
    }
    scaled = {name for name, one in made.items() if isinstance(one, keras.optimizers.LossScaleOptimizer)}
    assert {"mixed_float16"} == scaled
    for optimizer in made.values():
        set_peak(optimizer, 5e-2)
        assert 5e-2 / 5 == pytest.approx(float(optimizer.learning_rate))


def dense(optimizer: object, layer: keras.layers.Layer) -> keras.Model:
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layer(inputs))
    model.compile(optimizer, "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def test_compiled_step_follows_a_peak_that_is_set_later() -> None:
    """Without being traced again: the first step of AdamW is as long as the rate."""
    model = dense(make_optimizer(Optimizer(learning_rate=1e-3, weight_decay=0.0, epochs=1), 1), keras.layers.Dense(1))
    start, images = model.get_weights(), np.ones((2, 3), np.float32)
    moved = []
    for peak in (1e-3, 5e-2):
        model.set_weights(start)
        for variable in model.optimizer.variables:
            variable.assign(np.zeros_like(variable))
        set_peak(model.optimizer, peak)
        model.train_on_batch(images, np.full((2, 1), 9.0, np.float32))
        moved.append(np.abs(model.get_weights()[0] - start[0]).max())
    assert moved == pytest.approx([1e-3, 5e-2], rel=1e-3)


def test_models_on_the_same_weights_share_slots_and_others_have_their_own() -> None:
    """However many are compiled, a weight has one momentum and one velocity."""
    slots = Slots()
    layer, other = keras.layers.Dense(1), keras.layers.Dense(1)
    first, second, third = (
        dense(make_optimizer(Optimizer(weight_decay=decay), 5, slots=slots), one)
        for decay, one in ((1e-4, layer), (1e-2, layer), (1e-4, other))
    )
    assert 2 * 2 * 2 == len(slots.variables)
    names = [[variable.name for variable in model.optimizer.variables] for model in (first, second)]
    assert names[0] == names[1]
    assert first.optimizer._momentums[0] is second.optimizer._momentums[0]
    assert first.optimizer._momentums[0] is not third.optimizer._momentums[0]
    assert first.optimizer.iterations is not second.optimizer.iterations
