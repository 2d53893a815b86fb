"""Fit one model: a plan and a learner in; the best weights and how they were reached out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bcdx.config import Fit
from bcdx.errors import StoreFullError
from bcdx.learning.learner import Learner
from bcdx.learning.monitoring import InputWait, TrainingFacts
from bcdx.learning.progress import Progress, State, read_state, restore
from bcdx.learning.snapshot import put_back, read_snapshot, weights_of
from bcdx.learning.trainee import Trainee

logger = logging.getLogger(__name__)

Score = Callable[[Trainee], float]
T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """What one fit does and for how long.

    Attributes:
        fit: All hyperparameters.
        epochs: Epochs to train; the schedule always spans `fit.optimizer.epochs`.
        score: Trainee -> validation figure, higher is better; None: train to the end.
    """

    fit: Fit
    epochs: int
    score: Score | None = None


def train(plan: Plan, learner: Learner, folder: Path, callbacks: Sequence[Any] = ()) -> tuple[Trainee, State]:
    """Train as planned, keeping progress in `folder` and going on from what it already holds.

    Returns:
        The trainee with its best weights (the last ones where there is no score), and the fit's state.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return _from_images_if_full(learner, plan.fit, lambda: _train(plan, learner, folder, callbacks))


def _from_images_if_full(learner: Learner, fit: Fit, act: Callable[[], T]) -> T:
    """Do something with a fit's trainee, from images where what its frozen part gives has no room."""
    try:
        return act()
    except StoreFullError as error:
        if not learner.stop_reusing(fit.network.depth):
            raise
        logger.warning("%s; %s goes on from images instead", error, fit.network.depth)
        return act()


def _train(plan: Plan, learner: Learner, folder: Path, callbacks: Sequence[Any]) -> tuple[Trainee, State]:
    trainee, state = learner.prepare(plan.fit), read_state(folder)
    if state.epochs < plan.epochs and not state.stopped:
        restore(trainee.model, folder, state, learner.recent)
        return trainee, _run_epochs(trainee, plan, folder, learner, callbacks)
    put_back(trainee.model, weights_of(read_snapshot(folder / state.best_weights)))
    return trainee, state


def load_best(fit: Fit, learner: Learner, folder: Path) -> Trainee:
    """Return the trainee of a finished fit with its best weights, as they lie in its progress folder."""
    trainee = learner.prepare(fit)
    put_back(trainee.model, weights_of(read_snapshot(folder / read_state(folder).best_weights)))
    return trainee


def score_best(fit: Fit, learner: Learner, folder: Path, split: str) -> tuple[Trainee, NDArray[np.float64]]:
    """Return the same and its class probabilities for a split's samples."""

    def score() -> tuple[Trainee, NDArray[np.float64]]:
        trainee = load_best(fit, learner, folder)
        return trainee, trainee.predict(split)

    return _from_images_if_full(learner, fit, score)


def class_weights(counts: Sequence[int]) -> dict[int, float]:
    """Return weights under which all classes count alike and the mean sample counts 1."""
    present = [count for count in counts if count]
    return {index: sum(counts) / (len(present) * max(count, 1)) for index, count in enumerate(counts)}


def _run_epochs(trainee: Trainee, plan: Plan, folder: Path, learner: Learner, callbacks: Sequence[Any]) -> State:
    optimizer, data, splits = plan.fit.optimizer, trainee.data, trainee.splits
    progress = Progress(
        folder,
        None if plan.score is None else partial(plan.score, trainee),
        optimizer.patience,
        ends=(plan.epochs, optimizer.epochs),
        last=plan.score is None or optimizer.keep == "last",
        recent=learner.recent,
    )
    first, wait = progress.state.epochs, InputWait()
    weights = class_weights(data.class_counts(splits)) if optimizer.balance == "weights" else None
    trainee.model.fit(
        wait.watch(trainee.batches(range(first, plan.epochs))),
        initial_epoch=first,
        epochs=plan.epochs,
        steps_per_epoch=data.steps(splits, plan.fit.stream.batch_size),
        callbacks=[TrainingFacts(wait), progress, *callbacks],  # each reads what those before it wrote
        class_weight=weights,
        shuffle=False,  # the stream has its own order
        verbose=0,
    )
    measured = [epoch["step_seconds"] for epoch in progress.state.history[first:]]
    learner.step_seconds.setdefault(plan.fit.network.depth, []).extend(measured)
    return progress.state
