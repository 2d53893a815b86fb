"""Search hyperparameters with Keras Tuner: one trial after another, and a killed search played again from its records.

Keras Tuner's own saved state does not bring a search back: its grid forgets which combinations follow, its Bayesian
oracle where its random numbers stood, and a kill between two of its files loses a trial. But all of its oracles are
functions of the seed and the scores so far: a search that goes on starts anew and is told the recorded scores again.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras_tuner

from bcdx._files import staged_folder, write_json
from bcdx.config import Tune
from bcdx.errors import BcdxError, RunError, TrainingError
from bcdx.learning.data import Data
from bcdx.learning.monitoring import METRIC, declare_hyperparameters
from bcdx.learning.oracle import apply_values, candidates, make_oracle
from bcdx.learning.progress import State, discard_weights, read_state
from bcdx.learning.trial import Selected, train_trial

logger = logging.getLogger(__name__)

RECORD = "record.json"

RunTrial = Callable[[Tune, int, Path, str], State]
"""(settings with the trial's values, epochs, folder for its progress, its name) -> what it reached."""


def search_winner(settings: Tune, data: Data, level: str, folder: Path) -> Selected:
    """Search as the settings say, training on the training split and scoring on validation alone."""
    logs = folder / "logs"
    declare_hyperparameters(logs, candidates(settings.space))

    def run_trial(fit: Tune, epochs: int, progress: Path, name: str) -> State:
        return train_trial(fit, data, level, (progress, logs / f"trial-{name}"), epochs)

    return run_search(settings, run_trial, folder / "trials")


def run_search(settings: Tune, run_trial: RunTrial, folder: Path) -> Selected:
    """Run, or go on with, the search that keeps its records in `folder`; return the best trial.

    Raises:
        RunError: No trial succeeded.
        BcdxError: One met an error that every other would meet too.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # Keras Tuner prints that it reloads
        tuner = TrialRunner(settings, run_trial, folder)
    try:
        tuner.search(verbose=0)
    except keras_tuner.errors.FatalError as error:
        if isinstance(error.__cause__, BcdxError):
            raise error.__cause__ from error
        raise
    best = best_trial(tuner.oracle.trials.values())
    if best is None:
        raise RunError(f"no trial succeeded: {tuner.last_failure}")
    return tuner.winner(best)


def best_trial(trials: Iterable[Any]) -> Any | None:
    """Return the finished trial with the highest score, the earliest of equal ones; None where none has finished."""
    finished = [trial for trial in trials if trial.status == "COMPLETED"]
    return min(finished, key=lambda trial: (-trial.score, trial.trial_id), default=None)


@dataclass(frozen=True)
class Record:
    """What a search must know of a trial to be played again.

    Attributes:
        values: Hyperparameters.
        seconds: Time spent on it so far.
        score: Best validation figure; None: not finished, or failed.
        failure: Why training came to nothing; empty: it did not.
    """

    values: dict[str, Any]
    seconds: float = 0.0
    score: float | None = None
    failure: str = ""


class TrialRunner(keras_tuner.Tuner):
    """Keras Tuner's loop around a function that trains one set of hyperparameters."""

    def __init__(self, settings: Tune, run_trial: RunTrial, folder: Path) -> None:
        self._settings = settings
        self._run = run_trial
        self._spent_s = 0.0
        self.last_failure = "none was started"
        super().__init__(oracle=make_oracle(settings), directory=str(folder.parent), project_name=folder.name)

    def reload(self) -> None:
        """Start from nothing instead: finished trials give their recorded scores."""

    def pre_create_trial(self) -> None:
        """Close the search when its time is up; a trial under way is always finished."""
        seconds = self._settings.search.seconds
        if seconds is not None and self.oracle.trials and self._spent_s > seconds:
            self.oracle.max_trials = len(self.oracle.trials)

    def run_trial(self, trial: Any, *_args: Any, **_kwargs: Any) -> dict[str, float]:
        """Train one trial, unless that is done, and return its best validation figure."""
        folder = Path(self.get_trial_dir(trial.trial_id))
        record = _open_record(folder, trial.hyperparameters.values)
        if record.score is None and not record.failure:
            record = self._train(trial.trial_id, record, folder)
        self._spent_s += record.seconds
        if record.score is None:
            raise keras_tuner.errors.FailedTrialError(record.failure)
        return {METRIC: record.score}

    def on_trial_end(self, trial: Any) -> None:
        """Report a failure, and let go of the weights of trials that can no longer win."""
        if trial.message:
            self.last_failure = trial.message.strip().splitlines()[-1].rpartition("FailedTrialError: ")[2]
            logger.warning("trial %s failed: %s", trial.trial_id, self.last_failure)
        super().on_trial_end(trial)
        if self._settings.search.oracle == "hyperband":
            return  # later rounds go on from earlier ones
        best = best_trial(self.oracle.trials.values())
        for name in self.oracle.end_order:
            discard_weights(self._progress_folder(name), keep_best=best is not None and name == best.trial_id)

    def winner(self, trial: Any) -> Selected:
        """Return what is known of the best trial."""
        folder = self._progress_folder(trial.trial_id)
        settings = apply_values(self._settings, trial.hyperparameters.values)
        return Selected(trial.trial_id, settings, read_state(folder), folder)

    def _train(self, name: str, record: Record, folder: Path) -> Record:
        values, progress = record.values, self._progress_folder(name)
        self._continue_from(values.get("tuner/trial_id"), progress)
        epochs = values.get("tuner/epochs", self._settings.optimizer.epochs)
        began = time.monotonic()
        try:
            record = replace(record, score=self._run(apply_values(self._settings, values), epochs, progress, name).best)
        except TrainingError as error:
            record = replace(record, failure=str(error))
        except BcdxError as error:
            raise keras_tuner.errors.FatalValueError(str(error)) from error
        finally:
            record = replace(record, seconds=record.seconds + time.monotonic() - began)
            write_json(folder / RECORD, asdict(record))
        return record

    def _progress_folder(self, name: str) -> Path:
        return Path(self.get_trial_dir(name)) / "progress"

    def _continue_from(self, earlier: str | None, folder: Path) -> None:
        if earlier is not None and not folder.exists():
            with staged_folder(folder) as stage:
                shutil.copytree(self._progress_folder(earlier), stage, dirs_exist_ok=True)


def _open_record(folder: Path, values: dict[str, Any]) -> Record:
    """Return what is known of a trial; progress with other values is dropped, for another trial made it."""
    path = folder / RECORD
    if path.exists():
        record = Record(**json.loads(path.read_text()))
        if record.values == values:
            return record
    shutil.rmtree(folder / "progress", ignore_errors=True)
    record = Record(dict(values))
    write_json(path, asdict(record))
    return record
