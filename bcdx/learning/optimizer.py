"""AdamW whose peak rate can be set anew after its training step is compiled, and whose slots several models share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import keras

from bcdx.config import Optimizer


@dataclass
class Slots:
    """The optimizers' variables that belong to weights.

    No mapping of its own, for Keras would take a copy of that.

    Attributes:
        variables: (id of a weight, name of its slot) -> the weight, so that no other gets its id, and the slot.
    """

    variables: dict[tuple[int, str], tuple[Any, Any]] = field(default_factory=dict)


class ScaledSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule of peak 1, times a peak that is a variable: a compiled step reads whatever it holds by then."""

    def __init__(self, shape: Any, peak: float) -> None:
        self.shape = shape
        self.peak = keras.Variable(peak, dtype="float32", trainable=False, name="peak_learning_rate")

    def __call__(self, step: Any) -> Any:
        """Return the rate at a step."""
        return self.peak * self.shape(step)


class SharingAdamW(keras.optimizers.AdamW):
    """AdamW that takes the slots of a weight from those that an earlier optimizer made for the same weight.

    Only one of these optimizers may be in use at a time: models that share weights are trained one after another, and
    each starts from slots that were put back.
    """

    def __init__(self, *, slots: Slots, **settings: Any) -> None:
        super().__init__(**settings)
        self._slots = slots

    def add_variable_from_reference(
        self, reference_variable: Any, name: str | None = None, initializer: Any = "zeros"
    ) -> Any:
        """Return the slot of a weight, made at its first use."""
        key, known = (id(reference_variable), name or ""), self._slots.variables
        if key in known:
            self._track_variable(known[key][1])
        else:
            slot = super().add_variable_from_reference(reference_variable, name, initializer)
            known[key] = (reference_variable, slot)
        return known[key][1]


def make_optimizer(settings: Optimizer, steps_per_epoch: int, *, slots: Slots | None = None) -> Any:
    """Return AdamW whose rate warms up linearly and decays along a cosine over the whole schedule.

    Args:
        settings: Peak rate, weight decay, epochs and warm-up.
        steps_per_epoch: Training steps.
        slots: Of other optimizers for models on the same weights; unset: its own.
    """
    total = settings.epochs * steps_per_epoch
    warmup = min(max(1, round(settings.warmup * total)), total - 1) if total > 1 else 0
    shape: Any = _constant
    if warmup:
        shape = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=1.0 / warmup,
            decay_steps=max(total - warmup, 1),
            warmup_target=1.0,
            warmup_steps=warmup,
        )
    optimizer = SharingAdamW(
        slots=slots or Slots(),
        learning_rate=ScaledSchedule(shape, settings.learning_rate),
        weight_decay=settings.weight_decay,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def scale_loss(optimizer: Any, policy: str) -> Any:
    """Keep small float16 gradients from vanishing; Keras does so only where the whole model has that policy."""
    return keras.optimizers.LossScaleOptimizer(optimizer) if policy == "mixed_float16" else optimizer


def set_peak(optimizer: Any, learning_rate: float) -> None:
    """Set the peak rate of an optimizer that `make_optimizer` or `scale_loss` returned."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    inner._learning_rate.peak.assign(learning_rate)  # noqa: SLF001  Keras shows the current rate alone


def _constant(_: Any) -> float:
    return 1.0
