"""What is known of a search's trials: their records, the best of them, the time they took, and whose weights may go."""

from __future__ import annotations

import copy
import itertools
import json
import logging
import shutil
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bcdx._files import write_json
from bcdx.learning.asha import EARLIER
from bcdx.learning.progress import discard_weights
from bcdx.learning.watched import Journal, Watched

logger = logging.getLogger(__name__)

RECORD = "record.json"


@dataclass(frozen=True)
class Record:
    """What a search must know of a trial to be played again.

    Attributes:
        values: Hyperparameters.
        seconds: Time spent on it so far.
        score: Best validation figure; None: not finished, or failed.
        failure: Why training came to nothing; empty: it did not.
        whole: Trained to the end of the schedule, or until it got no better.
        fatal: Every other trial would fail likewise; tried again when the search goes on.
    """

    values: dict[str, Any]
    seconds: float = 0.0
    score: float | None = None
    failure: str = ""
    whole: bool = True
    fatal: bool = False


def read_record(folder: Path) -> Record:
    """Return what is known of the trial in `folder`, an empty record where nothing is."""
    path = folder / RECORD
    return Record(**json.loads(path.read_text())) if path.exists() else Record({})


def write_record(folder: Path, record: Record) -> None:
    """Write `record.json`."""
    write_json(folder / RECORD, asdict(record))


def open_record(folder: Path, values: dict[str, Any]) -> Record:
    """Return what is known of a trial; progress with other values is dropped, for another trial made it."""
    record = read_record(folder)
    if record.values == values:
        return replace(record, failure="", fatal=False) if record.fatal else record
    if (folder / "progress").exists():
        logger.warning("%s holds a trial of other values; that is dropped, and this one starts anew", folder)
        shutil.rmtree(folder / "progress", ignore_errors=True)
    record = Record(dict(values))
    write_record(folder, record)
    return record


def best_trial(trials: Iterable[Any], whole: Collection[str] = ()) -> Any | None:
    """Return the trial with the highest score, the earliest of equal ones; None where none has finished.

    Args:
        trials: Of any status.
        whole: Names of those that were trained to the end; where there are any, the best is one of them.
    """
    finished = [trial for trial in trials if trial.status == "COMPLETED"]
    finished = [trial for trial in finished if trial.trial_id in whole] or finished
    return min(finished, key=lambda trial: (-trial.score, trial.trial_id), default=None)


class Keeper:
    """Watches the oracle in the one process that has it: alone, or as the chief of workers.

    Args:
        oracle: What it watches.
        folder: Of the trials.
        seconds: After which no trial begins; None: no limit.

    Attributes:
        fatal: The error that closed the search; empty: none did.
        last_failure: Why the last trial that failed did so.
    """

    def __init__(self, oracle: Watched, folder: Path, seconds: float | None) -> None:
        self._oracle = oracle
        self._folder = folder
        self._seconds = seconds
        self._spent_s = 0.0
        self._whole: set[str] = set()
        self._journal: Journal | None = None
        self.fatal = ""
        self.last_failure = "none was started"

    def has_time(self) -> bool:
        """Return whether trials may still begin; one under way is always finished."""
        return self._seconds is None or self._spent_s <= self._seconds

    def began(self, worker: str, trial: Any) -> None:
        """Write it down, for another chief."""
        if self._journal is not None:
            event = "left" if trial.status == "STOPPED" else "began"
            self._journal.write(event=event, worker=worker, trial=trial.trial_id)

    def ended(self, trial: Any) -> None:
        """Count its time, report a failure, and let go of the weights of trials that can no longer win."""
        record, name = read_record(self.trial_folder(trial.trial_id)), trial.trial_id
        if self._journal is not None and not record.fatal:
            self._journal.write(event="ended", trial=name, status=trial.status)
            logger.info("trial %s: %s", name, trial.status if record.score is None else f"{record.score:.4f}")
        self._spent_s += record.seconds
        if trial.status != "COMPLETED":
            self.last_failure = explain_failure(trial, record)
            logger.warning("trial %s failed: %s", name, self.last_failure)
        elif record.whole:
            self._whole.add(name)
        if record.fatal:
            self.fatal = record.failure
            Watched.close(self._oracle)
        self._discard_weights(self._oracle.may_continue)

    def recorded_score(self, name: str) -> float | None:
        """Return the score that a trial's record holds."""
        return read_record(self.trial_folder(name)).score

    def replay(self, journal: Journal) -> None:
        """Bring the oracle to where the last chief's stood, forget what does not fit, and write down what follows."""
        kept = list(itertools.takewhile(self._happens_again, journal.read()))
        journal.rewrite(kept)
        self._journal = journal
        if kept:
            logger.info("going on with %d trials", len(self._oracle.trials))

    def conclude(self) -> Any | None:
        """Return the best trial, whose weights alone remain; None where none has finished."""
        self._discard_weights(lambda _: False)
        return self._best()

    def trial_folder(self, name: str) -> Path:
        """Return where a trial keeps its record and its progress."""
        return self._folder / f"trial_{name}"

    def _best(self) -> Any | None:
        return best_trial(self._oracle.trials.values(), self._whole)

    def _happens_again(self, event: dict[str, str]) -> bool:
        """Do what the journal says; return whether the oracle and the trials' records agree."""
        oracle = self._oracle
        if event["event"] == "began":
            return bool(oracle.create_trial(event["worker"]).trial_id == event["trial"])
        if event["event"] == "left":
            oracle.is_over = True
            oracle.tuner_ids.discard(event["worker"])
        if event["event"] != "ended":
            return True
        trial = copy.copy(oracle.trials[event["trial"]])
        record = read_record(self.trial_folder(trial.trial_id))
        if record.fatal or record.values != trial.hyperparameters.values:
            return False
        trial.status = event["status"]
        oracle.end_trial(trial)
        return True

    def _discard_weights(self, is_wanted: Callable[[str], bool]) -> None:
        """Delete those of ended trials, but for the best one and for what may be, or is being, trained on."""
        best, oracle = self._best(), self._oracle
        sources = {trial.hyperparameters.values.get(EARLIER) for trial in oracle.ongoing_trials.values()}
        for name in oracle.end_order:
            if name not in sources and not is_wanted(name):
                keep_best = best is not None and name == best.trial_id
                discard_weights(self.trial_folder(name) / "progress", keep_best=keep_best)


def explain_failure(trial: Any, record: Record) -> str:
    """Return why a trial failed: as recorded, else the last line of the traceback, which stays with the worker."""
    if record.failure or not trial.message:
        return record.failure or "the log of its worker says why"
    return str(trial.message.strip().splitlines()[-1])
