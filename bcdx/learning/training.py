"""Fit one model: settings and data in, the best weights and how they were reached out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from bcdx.config import Fit, Optimizer
from bcdx.learning.augment import all_views
from bcdx.learning.data import Data
from bcdx.learning.monitoring import InputWait, TrainingFacts
from bcdx.learning.network import build_model
from bcdx.learning.precision import JIT_COMPILE, resolve_policy
from bcdx.learning.probe import start_head
from bcdx.learning.progress import Progress, State, read_state, restore
from bcdx.learning.statistics import adapt

logger = logging.getLogger(__name__)

Score = Callable[[keras.Model], float]


@dataclass(frozen=True)
class Plan:
    """What one fit learns from and how long.

    Attributes:
        fit: All hyperparameters.
        splits: Splits to learn from.
        epochs: Epochs to train; the schedule always spans `fit.optimizer.epochs`.
        score: Model -> validation figure, higher is better; None: train to the end.
    """

    fit: Fit
    splits: tuple[str, ...]
    epochs: int
    score: Score | None = None


def train(plan: Plan, data: Data, folder: Path, callbacks: Sequence[Any] = ()) -> tuple[keras.Model, State]:
    """Train as planned, keeping progress in `folder` and going on from what it already holds.

    Returns:
        The model with its best weights (the last ones where there is no score), and the fit's state.
    """
    folder.mkdir(parents=True, exist_ok=True)
    forget_earlier_models()
    model = build_compiled(plan.fit, data, plan.splits)
    state = restore(model, folder)
    if state.epochs < plan.epochs and not state.stopped:
        state = _run_epochs(model, plan, data, folder, callbacks)
    model.load_weights(folder / state.best_weights)
    return model, state


def load_best(fit: Fit, data: Data, folder: Path) -> keras.Model:
    """Return the model of a finished fit with its best weights, as they lie in its progress folder."""
    model = _build(fit, data)
    model.load_weights(folder / read_state(folder).best_weights)
    return model


def forget_earlier_models() -> None:
    """Start Keras's counters of layer names anew, keeping the dtype policy.

    Names decide the order in which TensorFlow adds up gradients: with them a second fit in one process differs from the
    first by rounding, which training then amplifies. It also frees what earlier trials left behind.
    """
    policy = keras.config.dtype_policy()
    keras.backend.clear_session()
    keras.config.set_dtype_policy(policy)


def build_compiled(fit: Fit, data: Data, splits: tuple[str, ...]) -> keras.Model:
    """Return a model ready to train: statistics adapted to the splits, head biased to their classes."""
    model = _build(fit, data)
    adapt(model, data.plain_images(splits, fit.stream.batch_size), weights=fit.network.weights)
    if fit.network.head == "probe":
        start_head(model, probe_batches(fit, data, splits), c=fit.network.probe_c, balanced=_balances_by_weight(fit))
    elif fit.optimizer.balance == "bias":
        set_head_bias(model, data.class_counts(splits))
    steps = data.steps(splits, fit.stream.batch_size)
    model.compile(
        optimizer=_scale_loss(make_optimizer(fit.optimizer, steps), resolve_policy(fit.optimizer.precision)),
        loss=_make_loss(len(data.manifest.classes)),
        jit_compile=JIT_COMPILE,
    )
    return model


def probe_batches(fit: Fit, data: Data, splits: tuple[str, ...]) -> tf.data.Dataset:
    """Return the images that the probe learns from: those views that testing averages, else all training views."""
    if fit.test_views == 8:
        return all_views(data.plain_batches(splits, fit.stream.batch_size), fit.test_views)
    return data.training(fit, splits, epochs=range(fit.stream.views))


def make_optimizer(settings: Optimizer, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Return AdamW whose rate warms up linearly and decays along a cosine over the whole schedule."""
    total = settings.epochs * steps_per_epoch
    warmup = min(max(1, round(settings.warmup * total)), total - 1) if total > 1 else 0
    schedule: Any = settings.learning_rate
    if warmup:
        schedule = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=settings.learning_rate / warmup,
            decay_steps=max(total - warmup, 1),
            warmup_target=settings.learning_rate,
            warmup_steps=warmup,
        )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=settings.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def set_head_bias(model: keras.Model, counts: Sequence[int]) -> None:
    """Start the head at the classes' log odds, so that the first steps do not go into learning them."""
    shares = np.maximum(np.asarray(counts, np.float64), 1.0) / max(sum(counts), 1)
    head = model.get_layer("head")
    logits = np.log(shares)
    bias = logits if head.units == len(counts) else logits[1:] - logits[:1]
    kernel = head.get_weights()[0]
    head.set_weights([kernel, bias.astype(np.float32)])


def class_weights(counts: Sequence[int]) -> dict[int, float]:
    """Return weights under which all classes count alike and the mean sample counts 1."""
    present = [count for count in counts if count]
    return {index: sum(counts) / (len(present) * max(count, 1)) for index, count in enumerate(counts)}


def _build(fit: Fit, data: Data) -> keras.Model:
    return build_model(
        fit.network,
        input_shape=data.manifest.image_shape,
        classes=len(data.manifest.classes),
        policy=resolve_policy(fit.optimizer.precision),
        seed=fit.seed,
    )


def _scale_loss(optimizer: keras.optimizers.Optimizer, policy: str) -> keras.optimizers.Optimizer:
    """Keep small float16 gradients from vanishing; Keras does so only where the whole model has that policy."""
    return keras.optimizers.LossScaleOptimizer(optimizer) if policy == "mixed_float16" else optimizer


def _balances_by_weight(fit: Fit) -> bool:
    return fit.optimizer.balance == "weights"


def _make_loss(classes: int) -> keras.losses.Loss:
    if classes == 2:
        return keras.losses.BinaryCrossentropy()
    return keras.losses.SparseCategoricalCrossentropy()


def _run_epochs(model: keras.Model, plan: Plan, data: Data, folder: Path, callbacks: Sequence[Any]) -> State:
    fit = plan.fit
    last = plan.epochs if plan.score is None or fit.optimizer.keep == "last" else None
    progress = Progress(folder, plan.score, fit.optimizer.patience, last=last)
    first, wait = progress.state.epochs, InputWait()
    batches = wait.watch(data.training(fit, plan.splits, epochs=range(first, plan.epochs)))
    weights = class_weights(data.class_counts(plan.splits)) if _balances_by_weight(fit) else None
    model.fit(
        batches,
        initial_epoch=first,
        epochs=plan.epochs,
        steps_per_epoch=data.steps(plan.splits, fit.stream.batch_size),
        callbacks=[TrainingFacts(wait), progress, *callbacks],  # each reads what those before it wrote
        class_weight=weights,
        shuffle=False,  # the stream has its own order
        verbose=0,
    )
    return progress.state
