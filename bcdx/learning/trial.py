"""One monitored training on the training split, scored on validation: what a trial of the search is."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from bcdx.config import Fit
from bcdx.errors import StoreFullError
from bcdx.evidence.cases import Cases
from bcdx.evidence.statistics import roc_auc
from bcdx.learning import monitoring
from bcdx.learning.data import Data
from bcdx.learning.learner import Learner
from bcdx.learning.portraits import Portraits
from bcdx.learning.progress import State
from bcdx.learning.reuse import open_learner, report_reuse
from bcdx.learning.trainee import Trainee
from bcdx.learning.training import Plan, train

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Selected:
    """The fit that goes on to be the run's model.

    Attributes:
        trial: Its name.
        fit: Its settings.
        state: What it reached.
        progress: Folder of its best weights.
        learner: That it was trained by; None as long as only its records are known.
    """

    trial: str
    fit: Fit
    state: State
    progress: Path
    learner: Learner | None = None


def fit_alone(fit: Fit, data: Data, level: str, folder: Path) -> Selected:
    """Train the one set of hyperparameters that `fit` holds."""
    progress = folder / "progress"
    learner = open_learner(fit, data, ("train",), folder)
    state = train_trial(fit, learner, level, (progress, folder / "logs" / "fit"))
    report_reuse(learner, folder)
    return Selected("fit", fit, state, progress, learner)


def train_trial(fit: Fit, learner: Learner, level: str, folders: tuple[Path, Path], epochs: int | None = None) -> State:
    """Train on the training split, watched by TensorBoard; return what was reached.

    Args:
        fit: All hyperparameters.
        learner: Of the training split.
        level: Of the validation AUC.
        folders: For the progress and for TensorBoard's log.
        epochs: Epochs of the schedule to run; None: all.
    """
    progress, logs = folders
    plan = Plan(fit, epochs or fit.optimizer.epochs, score=partial(score_validation, level=level))
    _, state = train(plan, learner, progress, _watch(fit, learner, logs))
    values = varied(fit)
    monitoring.record_hyperparameters(logs, logs.name, values, state.best)
    logger.info(
        "%s: %s -> validation AUC %.4f (%s level), epoch %d",
        logs.name,
        _spell(values),
        state.best,
        level,
        state.best_epoch,
    )
    return state


def _watch(fit: Fit, learner: Learner, logs: Path) -> list[keras.callbacks.Callback]:
    """Return what writes to TensorBoard while a fit runs."""
    callbacks = [monitoring.watch_training(logs)]
    if fit.report.images_every:
        with suppress(StoreFullError):  # training will meet it too: it goes on from images, without pictures
            callbacks.append(Portraits(learner.prepare(fit), logs))
    return callbacks


def score_validation(trainee: Trainee, level: str) -> float:
    """Return the validation ROC AUC at `level`, of the views that testing averages; NaN where there is none."""
    fit, manifest = trainee.fit, trainee.data.manifest
    table, positive = trainee.data.table(("validation",)), manifest.classes.index(manifest.positive)
    scores = trainee.predict("validation")
    cases = Cases(scores, table.label, table.patient, table.laterality, positive, fit.objective.top_slices)
    found = cases.at_level(level)
    return float("nan") if found is None else roc_auc(found.probabilities, found.labels, positive)


def show_augmentation(fit: Fit, data: Data, logs: Path) -> None:
    """Write one batch of augmented training samples, as the network will see them, to TensorBoard."""
    epoch = min(1, fit.stream.views - 1)
    batch, _ = next(iter(data.training(fit, ("train",), epochs=range(epoch, epoch + 1))))
    monitoring.show_images(logs, {"augmented_training_samples": monitoring.tile_images(np.asarray(batch))})


def varied(fit: Fit) -> dict[str, Any]:
    """Return the hyperparameters that a search may vary."""
    return {
        "depth": fit.network.depth,
        "learning_rate": fit.optimizer.learning_rate,
        "dropout": fit.network.dropout,
        "weight_decay": fit.optimizer.weight_decay,
        "strength": fit.augment.strength,
    }


def _spell(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )
