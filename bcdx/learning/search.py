"""Search hyperparameters with Keras Tuner: one trial after another, and a killed search played again from its records.

Keras Tuner's own saved state does not bring a search back: its grid forgets which combinations follow, its Bayesian
oracle where its random numbers stood, and a kill between two of its files loses a trial. But all of its oracles are
functions of the seed and the scores so far: a search that goes on starts anew and is told the recorded scores again. Of
several processes (`bcdx.learning.workers`) the chief, whose oracle also depends on who came first, plays its journal.
"""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras_tuner

from bcdx._files import staged_folder
from bcdx.config import Tune
from bcdx.errors import BcdxError, RunError, TrainingError
from bcdx.learning.asha import EARLIER, EPOCHS
from bcdx.learning.data import Data
from bcdx.learning.keeper import Keeper, Record, explain_failure, open_record, read_record, write_record
from bcdx.learning.monitoring import METRIC, declare_hyperparameters
from bcdx.learning.oracle import apply_values, candidates, make_oracle
from bcdx.learning.progress import State, read_state
from bcdx.learning.reuse import open_search_learner, report_reuse
from bcdx.learning.trial import Selected, train_trial
from bcdx.learning.watched import Journal
from bcdx.learning.workers import PAUSE_S, PatientStub, SearchLeftError, is_chief, is_worker, serve

logger = logging.getLogger(__name__)

RunTrial = Callable[[Tune, int, Path, str], State]
"""(settings with the trial's values, epochs, folder for its progress, its name) -> what it reached."""


def search_winner(settings: Tune, data: Data, level: str, folder: Path) -> Selected:
    """Search as the settings say, training on the training split and scoring on validation alone."""
    logs, learner = folder / "logs", open_search_learner(settings, data, folder)
    declare_hyperparameters(logs, candidates(settings.space))

    def run_trial(fit: Tune, epochs: int, progress: Path, name: str) -> State:
        return train_trial(fit, learner, level, (progress, logs / f"trial-{name}"), epochs)

    try:
        selected = run_search(settings, run_trial, folder / "trials")
    finally:
        report_reuse(learner, folder)
    return replace(selected, learner=learner)


def run_search(settings: Tune, run_trial: RunTrial, folder: Path) -> Selected:
    """Run, or go on with, the search that keeps its records in `folder`; return the best trial.

    With Keras Tuner's variables in the environment (see `bcdx.learning.workers`) the chief alone returns.

    Raises:
        RunError: No trial succeeded.
        BcdxError: One met an error that every other would meet too.
        SearchLeftError: This process is a worker, and the search is over.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # Keras Tuner prints that it reloads
        tuner = TrialRunner(settings, run_trial, folder)
    try:
        tuner.run()
    except keras_tuner.errors.FatalError as error:
        tuner.give_up()
        if isinstance(error.__cause__, BcdxError):
            raise error.__cause__ from error
        raise
    return tuner.winner()


class TrialRunner(keras_tuner.Tuner):
    """Keras Tuner's loop around a function that trains one set of hyperparameters."""

    def __init__(self, settings: Tune, run_trial: RunTrial, folder: Path) -> None:
        self._settings = settings
        self._run = run_trial
        self._worker = is_worker()  # first: it explains what is wrong with the environment
        self._journal = Journal(folder)
        self._under_way: Any = None
        self._asked = False
        oracle = make_oracle(settings)
        self.keeper = Keeper(oracle, folder, settings.search.seconds)
        super().__init__(oracle=oracle, directory=str(folder.parent), project_name=folder.name)
        if self._worker:
            self.oracle.stub = PatientStub(self.oracle.stub, self._journal.is_over)
        else:
            oracle.watcher = self.keeper

    def reload(self) -> None:
        """Start from nothing instead: finished trials give their recorded scores."""

    def run(self) -> None:
        """Search to the end.

        Raises:
            SearchLeftError: This process is a worker.
            BcdxError: A worker met an error that every other would meet too.
        """
        if is_chief():
            self._serve()
            return
        if not self._worker:
            self._journal.path.unlink(missing_ok=True)  # one process needs none and would leave it stale
        self.search(verbose=0)
        if self._worker:
            raise SearchLeftError

    def winner(self) -> Selected:
        """Return what is known of the best trial, whose weights alone remain.

        Raises:
            RunError: No trial succeeded.
        """
        best = self.keeper.conclude()
        if best is None:
            raise RunError(f"no trial succeeded: {self.keeper.last_failure}")
        folder = self._progress_folder(best.trial_id)
        settings = apply_values(self._settings, best.hyperparameters.values)
        return Selected(best.trial_id, settings, read_state(folder), folder)

    def give_up(self) -> None:
        """Tell the chief of an error that every other trial would meet too: it closes the search."""
        if self._worker:
            self._under_way.status = "FAILED"
            self.oracle.end_trial(self._under_way)
            self.oracle.create_trial(self.tuner_id)

    def pre_create_trial(self) -> None:
        """Pause before a chief is asked again that had nothing to do."""
        if self._asked:
            time.sleep(PAUSE_S)
        self._asked = True

    def on_trial_begin(self, trial: Any) -> None:
        """Remember it."""
        self._asked, self._under_way = False, trial
        super().on_trial_begin(trial)

    def run_trial(self, trial: Any, *_args: Any, **_kwargs: Any) -> dict[str, float]:
        """Train one trial, unless that is done, and return its best validation figure."""
        folder = self.keeper.trial_folder(trial.trial_id)
        folder.mkdir(exist_ok=True)
        record = open_record(folder, trial.hyperparameters.values)
        if record.score is None and not record.failure:
            record = self._train(trial.trial_id, record, folder)
        if record.score is None:
            raise keras_tuner.errors.FailedTrialError(record.failure)
        return {METRIC: record.score}

    def on_trial_end(self, trial: Any) -> None:
        """Tell the oracle, unless a call to the chief failed and not the trial: its record will answer later."""
        if self._worker and trial.status != "COMPLETED":
            record = read_record(self.keeper.trial_folder(trial.trial_id))
            if record.score is not None:
                logger.warning("trial %s: the chief did not take its score; asking again", trial.trial_id)
                return
            logger.warning("trial %s failed: %s", trial.trial_id, explain_failure(trial, record))
        super().on_trial_end(trial)

    def _serve(self) -> None:
        self.oracle.verbose = 0
        self.keeper.replay(self._journal)
        serve(self.oracle)
        if self.keeper.fatal:
            raise BcdxError(self.keeper.fatal)
        self._journal.write(event="over")

    def _train(self, name: str, record: Record, folder: Path) -> Record:
        values, progress, whole = record.values, self._progress_folder(name), self._settings.optimizer.epochs
        self._continue_from(values.get(EARLIER), progress)
        epochs = values.get(EPOCHS, whole)
        began = time.monotonic()
        try:
            state = self._run(apply_values(self._settings, values), epochs, progress, name)
            record = replace(record, score=state.best, whole=state.stopped or epochs >= whole)
        except TrainingError as error:
            record = replace(record, failure=str(error))
        except BcdxError as error:
            record = replace(record, failure=str(error), fatal=True)
            raise keras_tuner.errors.FatalValueError(str(error)) from error
        finally:
            record = replace(record, seconds=record.seconds + time.monotonic() - began)
            write_record(folder, record)
        return record

    def _progress_folder(self, name: str) -> Path:
        return self.keeper.trial_folder(name) / "progress"

    def _continue_from(self, earlier: str | None, folder: Path) -> None:
        """Start from an earlier trial's progress; where its weights are gone, from the beginning."""
        if earlier is None or folder.exists():
            return
        source = self._progress_folder(earlier)
        if (source / read_state(source).weights).is_file():
            with staged_folder(folder) as stage:
                shutil.copytree(source, stage, dirs_exist_ok=True)
