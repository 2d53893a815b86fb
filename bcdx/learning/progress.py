"""What a fit has reached, kept so that a killed one goes on exactly where it stopped.

Keras's own EarlyStopping, ModelCheckpoint and BackupAndRestore each forget their state when the process
dies and none of them is atomic; one callback that owns the whole state replaces the three.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from bcdx._files import write_json
from bcdx.errors import TrainingError

logger = logging.getLogger(__name__)

STATE = "progress.json"


@dataclass
class State:
    """Where a fit stands after `epochs` whole epochs.

    Attributes:
        epochs: Epochs done.
        best_epoch: Epochs done when the score was best (0: not scored yet).
        best: Best score; minus infinity: not scored.
        history: One mapping of metric to value per epoch.
        weights: File with the latest weights and optimizer state.
        best_weights: File with the best weights.
        seeds: States of the model's seed generators, which a weights file leaves out.
        stopped: No further epoch is wanted.
    """

    epochs: int = 0
    best_epoch: int = 0
    best: float = -math.inf
    history: list[dict[str, float]] = field(default_factory=list)
    weights: str = ""
    best_weights: str = ""
    seeds: list[list[int]] = field(default_factory=list)
    stopped: bool = False


def read_state(folder: Path) -> State:
    """Return the state kept in `folder`, a fresh one where there is none."""
    path = folder / STATE
    if not path.exists():
        return State()
    values = json.loads(path.read_text())
    return State(**{**values, "best": -math.inf if values["best"] is None else values["best"]})


def restore(model: keras.Model, folder: Path) -> State:
    """Bring a freshly compiled model to the state kept in `folder`: weights, optimizer slots, seeds."""
    state = read_state(folder)
    if state.epochs:
        model.optimizer.build(model.trainable_variables)
        model.load_weights(folder / state.weights)
        for variable, value in zip(_seed_variables(model), state.seeds, strict=True):
            variable.assign(np.asarray(value, dtype=variable.dtype))
        logger.info("going on after epoch %d", state.epochs)
    return state


class Progress(keras.callbacks.Callback):
    """Score after each epoch, keep the best weights, stop when they get no better, and save the state.

    Args:
        folder: Where weights and state are kept.
        score: Model -> figure of merit, higher is better; None: there is none.
        patience: Epochs without a better score before training stops.
        last: The epoch at which training ends and whose weights are kept; scored then alone. None: the best one's.
    """

    def __init__(
        self, folder: Path, score: Callable[[keras.Model], float] | None, patience: int, *, last: int | None = None
    ) -> None:
        super().__init__()
        self.folder = folder
        self.score = score
        self.patience = patience
        self.last = last
        self.state = read_state(folder)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Score, save, and decide whether to stop.

        Raises:
            TrainingError: Loss or score is not a number; what was saved before stays.
        """
        logs = {} if logs is None else logs
        state, old = self.state, (self.state.weights, self.state.best_weights)
        _check_finite(logs.get("loss", 0.0), "loss", epoch)
        if self.score is not None and self.last in {None, epoch + 1}:
            logs["val_auc"] = _check_finite(self.score(self.model), "validation AUC", epoch)
        state.epochs = epoch + 1
        value = logs.get("val_auc", -math.inf)
        if self.last is not None or value > state.best:
            state.best, state.best_epoch = value, state.epochs
        state.history.append({name: float(figure) for name, figure in logs.items()})
        state.stopped = state.epochs - state.best_epoch >= self.patience
        self.model.stop_training = state.stopped
        self._save(old)

    def _save(self, old: tuple[str, str]) -> None:
        state = self.state
        state.weights = f"epoch-{state.epochs:04d}.weights.h5"
        self.model.save_weights(self.folder / state.weights)
        if state.best_epoch == state.epochs:
            state.best_weights = state.weights
        state.seeds = [np.asarray(variable).tolist() for variable in _seed_variables(self.model)]
        best = state.best if math.isfinite(state.best) else None
        write_json(self.folder / STATE, {**asdict(state), "best": best})
        for name in {*old} - {"", state.weights, state.best_weights}:
            (self.folder / name).unlink(missing_ok=True)


def discard_weights(folder: Path, *, keep_best: bool) -> None:
    """Delete the weights of a finished fit, but for the best ones where they are still wanted."""
    kept = read_state(folder).best_weights if keep_best else ""
    for path in folder.glob("*.weights.h5"):
        if path.name != kept:
            path.unlink()


def _check_finite(value: float, name: str, epoch: int) -> float:
    if not math.isfinite(value):
        raise TrainingError(
            f"training diverged: {name} is {value} in epoch {epoch + 1}; lower optimizer.learning_rate (in a search, "
            "space.learning_rate)"
        )
    return value


def _seed_variables(model: keras.Model) -> list[Any]:
    return [variable for variable in model.non_trainable_variables if "seed_generator" in variable.path]
