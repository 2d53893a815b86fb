"""Search hyperparameters with Keras Tuner: the space, the oracle, and one trial after another."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras_tuner

from bcdx.config import Search, Space, Tune
from bcdx.errors import BcdxError, RunError
from bcdx.learning.data import Data
from bcdx.learning.monitoring import METRIC, declare_hyperparameters
from bcdx.learning.progress import State, discard_weights, read_state
from bcdx.learning.trial import Selected, train_trial

logger = logging.getLogger(__name__)

RunTrial = Callable[[Tune, int, Path, str], State]
"""(settings with the trial's values, epochs, folder for its progress, its name) -> what it reached."""

_HOMES = {
    "depth": "network",
    "dropout": "network",
    "learning_rate": "optimizer",
    "weight_decay": "optimizer",
    "strength": "augment",
}


def search_winner(settings: Tune, data: Data, level: str, folder: Path) -> Selected:
    """Search as the settings say, training on the training split and scoring on validation alone."""
    logs = folder / "logs"
    declare_hyperparameters(logs, candidates(settings.space))

    def run_trial(fit: Tune, epochs: int, progress: Path, name: str) -> State:
        return train_trial(fit, data, level, (progress, logs / f"trial-{name}"), epochs)

    return run_search(settings, run_trial, folder / "trials")


def candidates(space: Space) -> dict[str, list[Any]]:
    """Return what is searched: name -> candidate values (lowest and highest of a range)."""
    named = {name: list(getattr(space, name)) for name in _HOMES}
    if space.learning_rate_range is not None:
        named["learning_rate"] = list(space.learning_rate_range)
    return {name: values for name, values in named.items() if values}


def apply_values(settings: Tune, values: dict[str, Any]) -> Tune:
    """Return the settings with a trial's values put where they belong."""
    parts = {name: getattr(settings, name) for name in set(_HOMES.values())}
    for name, value in values.items():
        if name in _HOMES:
            parts[_HOMES[name]] = parts[_HOMES[name]].model_copy(update={name: value})
    return settings.model_copy(update=parts)


def run_search(settings: Tune, run_trial: RunTrial, folder: Path) -> Selected:
    """Run, or go on with, the search that keeps its state in `folder`; return the best trial.

    Raises:
        RunError: No trial succeeded.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # Keras Tuner prints that it reloads
        tuner = TrialRunner(settings, run_trial, folder)
    try:
        tuner.search(verbose=0)
    except (keras_tuner.errors.FatalError, RuntimeError) as error:
        if isinstance(error.__cause__, BcdxError):
            raise error.__cause__ from error
        raise RunError(f"the search stopped: {tuner.last_failure}") from error
    finished = [trial for trial in tuner.oracle.get_best_trials(1) if trial.score is not None]
    if not finished:
        raise RunError(f"no trial succeeded: {tuner.last_failure}")
    return tuner.winner(finished[0])


class TrialRunner(keras_tuner.Tuner):
    """Keras Tuner's loop around a function that trains one set of hyperparameters."""

    def __init__(self, settings: Tune, run_trial: RunTrial, folder: Path) -> None:
        self._settings = settings
        self._run = run_trial
        self._folder = folder
        self._began = time.monotonic()
        self.last_failure = "none was started"
        super().__init__(
            oracle=make_oracle(settings.search, settings.space, settings),
            directory=str(folder.parent),
            project_name=folder.name,
        )

    def pre_create_trial(self) -> None:
        """Close the search when its time is up; a trial under way is always finished."""
        seconds = self._settings.search.seconds
        if seconds is not None and self.oracle.trials and time.monotonic() - self._began > seconds:
            self.oracle.max_trials = len(self.oracle.trials)

    def run_trial(self, trial: Any, *_args: Any, **_kwargs: Any) -> dict[str, float]:
        """Train one trial and return its best validation figure."""
        values = trial.hyperparameters.values
        folder = self._progress_folder(trial.trial_id)
        self._continue_from(values.get("tuner/trial_id"), folder)
        epochs = values.get("tuner/epochs", self._settings.optimizer.epochs)
        try:
            state = self._run(apply_values(self._settings, values), epochs, folder, trial.trial_id)
        except BcdxError as error:
            raise keras_tuner.errors.FatalValueError(str(error)) from error
        return {METRIC: state.best}

    def on_trial_end(self, trial: Any) -> None:
        """Report a failure, and let go of the weights of trials that can no longer win."""
        if trial.message:
            self.last_failure = trial.message.strip().splitlines()[-1]
            logger.warning("trial %s failed: %s", trial.trial_id, self.last_failure)
        super().on_trial_end(trial)
        if self._settings.search.oracle == "hyperband":
            return  # later rounds go on from earlier ones
        best = {one.trial_id for one in self.oracle.get_best_trials(1)}
        for name in self.oracle.end_order:
            discard_weights(self._progress_folder(name), keep_best=name in best)

    def winner(self, trial: Any) -> Selected:
        """Return what is known of the best trial."""
        folder = self._progress_folder(trial.trial_id)
        settings = apply_values(self._settings, trial.hyperparameters.values)
        return Selected(trial.trial_id, settings, read_state(folder), folder)

    def _progress_folder(self, name: str) -> Path:
        return Path(self.get_trial_dir(name)) / "progress"

    def _continue_from(self, earlier: str | None, folder: Path) -> None:
        if earlier is not None and not folder.exists():
            shutil.copytree(self._progress_folder(earlier), folder)


def make_oracle(search: Search, space: Space, settings: Tune) -> Any:
    """Return the Keras Tuner oracle that the settings name, over the declared space only."""
    shared: dict[str, Any] = {
        "objective": keras_tuner.Objective(METRIC, "max"),
        "hyperparameters": declare_space(space, ordered=search.oracle == "grid"),
        "seed": settings.seed + 1,  # Keras Tuner takes 0 for "draw one"
        "max_consecutive_failed_trials": 3,
    }
    oracles = keras_tuner.oracles
    if search.oracle == "hyperband":
        return oracles.HyperbandOracle(max_epochs=settings.optimizer.epochs, **shared)
    kinds = {
        "random": oracles.RandomSearchOracle,
        "bayesian": oracles.BayesianOptimizationOracle,
        "grid": oracles.GridSearchOracle,
    }
    return kinds[search.oracle](max_trials=search.trials, **shared)


def declare_space(space: Space, *, ordered: bool) -> Any:
    """Return the space as Keras Tuner's hyperparameters."""
    declared = keras_tuner.HyperParameters()
    for name, values in candidates(space).items():
        if name == "learning_rate" and space.learning_rate_range is not None and not ordered:
            declared.Float(name, *space.learning_rate_range, sampling="log")
        else:
            declared.Choice(name, values)
    return declared
