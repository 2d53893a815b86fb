"""What a fit has reached, kept so that a killed one goes on exactly where it stopped.

Keras's own EarlyStopping, ModelCheckpoint and BackupAndRestore each forget their state when the process
dies and none of them is atomic; one callback that owns the whole state replaces the three.
"""

from __future__ import annotations

import json
import logging
import math
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras

from bcdx._files import write_json
from bcdx.errors import TrainingError
from bcdx.learning.snapshot import (
    Recent,
    Snapshot,
    put_back,
    read_snapshot,
    take_state,
    take_weights,
    weights_of,
    write_snapshot,
)

logger = logging.getLogger(__name__)

STATE, SUFFIX = "progress.json", ".npz"
WORTH = 20.0
"""So many times as long as saving takes, training goes on before the next time."""
BYTES_PER_S = 2e8
"""Of saving, until it has been measured."""


@dataclass
class State:
    """Where a fit stands after `epochs` whole epochs.

    Attributes:
        epochs: Epochs done.
        best_epoch: Epochs done when the score was best (0: not scored yet).
        best: Best score; minus infinity: not scored.
        history: One mapping of metric to value per epoch.
        weights: File with the latest state: weights, optimizer, seeds.
        best_weights: File with the best weights.
        stopped: No further epoch is wanted.
    """

    epochs: int = 0
    best_epoch: int = 0
    best: float = -math.inf
    history: list[dict[str, float]] = field(default_factory=list)
    weights: str = ""
    best_weights: str = ""
    stopped: bool = False


def read_state(folder: Path) -> State:
    """Return the state kept in `folder`, a fresh one where there is none."""
    path = folder / STATE
    if not path.exists():
        return State()
    values = json.loads(path.read_text())
    return State(**{**values, "best": -math.inf if values["best"] is None else values["best"]})


def restore(model: keras.Model, folder: Path, state: State, recent: Recent) -> None:
    """Bring a compiled model at its start to a state kept in memory or in `folder`: weights, optimizer slots, seeds."""
    if state.epochs:
        put_back(model, _recall(folder, state.weights, recent))
        logger.info("going on after epoch %d", state.epochs)


class Progress(keras.callbacks.Callback):
    """Score after each epoch, keep the best weights, stop when they get no better, and save the state.

    It is saved at the end of the fit, and before wherever training since the last time took `WORTH` times as long as
    saving: what a killed process loses stays small, and so does what saving costs.

    Args:
        folder: Where weights and state are kept.
        score: Gives the figure of merit of the moment, higher is better; None: there is none.
        patience: Epochs without a better score before training stops.
        ends: Last epoch of this fit, and of its schedule; only a fit that ends before its schedule goes on later.
        last: Keep the weights of the last epoch of this fit, scored then alone, instead of the best one's.
        recent: Keeps the state in memory too, for a fit that goes on in this process.
    """

    def __init__(
        self,
        folder: Path,
        score: Callable[[], float] | None,
        patience: int,
        *,
        ends: tuple[int, int],
        last: bool = False,
        recent: Recent | None = None,
    ) -> None:
        super().__init__()
        self.folder, self.score, self.patience, self.ends, self.last = folder, score, patience, ends, last
        self.state = read_state(folder)
        self._recent = Recent() if recent is None else recent
        self._best: Snapshot = {}
        self._best_on_disk = self.state.best_epoch
        self._saved_at, self._cost_s = 0.0, 0.0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Take up the best weights of before."""
        if self.state.best_weights:
            self._best = _recall(self.folder, self.state.best_weights, self._recent)
        state_bytes = 3 * sum(4 * math.prod(variable.shape) for variable in self.model.trainable_variables)
        self._saved_at, self._cost_s = time.monotonic(), state_bytes / BYTES_PER_S

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Score, save, and decide whether to stop.

        Raises:
            TrainingError: Loss or score is not a number; what was saved before stays.
        """
        logs = {} if logs is None else logs
        state = self.state
        _check_finite(logs.get("loss", 0.0), "loss", epoch)
        if self.score is not None and (not self.last or epoch + 1 == self.ends[0]):
            logs["val_auc"] = _check_finite(self.score(), "validation AUC", epoch)
        state.epochs = epoch + 1
        value = logs.get("val_auc", -math.inf)
        if self.last or value > state.best:
            state.best, state.best_epoch = value, state.epochs
            self._best = {} if self.last else take_weights(self.model)
        state.history.append({name: float(figure) for name, figure in logs.items()})
        state.stopped = state.epochs - state.best_epoch >= self.patience
        self.model.stop_training = state.stopped
        self._save_if_worth(ended=state.stopped or state.epochs == self.ends[0])

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Leave the model with its best weights."""
        if self.state.best_epoch != self.state.epochs:
            put_back(self.model, weights_of(self._best))

    def _save_if_worth(self, *, ended: bool) -> None:
        if ended or time.monotonic() - self._saved_at > WORTH * self._cost_s:
            began = time.monotonic()
            goes_on = not self.state.stopped and self.state.epochs < self.ends[1]
            snapshot = self._save(goes_on=goes_on)
            if ended and goes_on:
                self._recent.keep(self.state.weights, snapshot)
            self._saved_at = time.monotonic()
            self._cost_s = self._saved_at - began

    def _save(self, *, goes_on: bool) -> Snapshot:
        state, old = self.state, {self.state.weights, self.state.best_weights}
        snapshot = take_state(self.model) if goes_on else take_weights(self.model)
        if goes_on or state.best_epoch == state.epochs:
            state.weights = self._write(f"epoch-{state.epochs:04d}", snapshot)
        if state.best_epoch == state.epochs:
            state.best_weights = state.weights
        elif state.best_epoch != self._best_on_disk:
            state.best_weights = self._write(f"best-{state.best_epoch:04d}", weights_of(self._best))
        self._best_on_disk = state.best_epoch
        state.weights = state.weights if goes_on else state.best_weights
        best = state.best if math.isfinite(state.best) else None
        write_json(self.folder / STATE, {**asdict(state), "best": best})
        for name in old - {"", state.weights, state.best_weights}:
            (self.folder / name).unlink(missing_ok=True)
        return snapshot

    def _write(self, stem: str, snapshot: Snapshot) -> str:
        name = f"{stem}-{uuid.uuid4().hex[:8]}{SUFFIX}"  # no other fit's state has it: memory finds it by its name
        write_snapshot(self.folder / name, snapshot)
        return name


def _recall(folder: Path, name: str, recent: Recent) -> Snapshot:
    return recent.find(name) or read_snapshot(folder / name)


def discard_weights(folder: Path, *, keep_best: bool) -> None:
    """Delete the weights of a finished fit, but for the best ones where they are still wanted."""
    kept = read_state(folder).best_weights if keep_best else ""
    for path in folder.glob(f"*{SUFFIX}"):
        if path.name != kept:
            path.unlink()


def _check_finite(value: float, name: str, epoch: int) -> float:
    if not math.isfinite(value):
        raise TrainingError(
            f"training diverged: {name} is {value} in epoch {epoch + 1}; lower optimizer.learning_rate (in a search, "
            "space.learning_rate)"
        )
    return value
