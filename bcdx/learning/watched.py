"""What every oracle of a search has beside Keras Tuner's own: it tells what happens, and can be closed.

An oracle stands in one process, alone or as the chief of several, and so do the time budget, the journal and the
decision whose weights are still wanted: all of them hang on it and not on the processes that train.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Protocol

import keras_tuner

from bcdx._files import write_bytes


class Watcher(Protocol):
    """Who is told what happens in an oracle."""

    def has_time(self) -> bool:
        """Return whether trials may still begin."""

    def began(self, worker: str, trial: Any) -> None:
        """Hear that a worker got a trial, or (status STOPPED) that there is none left for it."""

    def ended(self, trial: Any) -> None:
        """Hear that a trial has a score or has failed."""

    def recorded_score(self, name: str) -> float | None:
        """Return the score that a trial's record holds."""


class Watched(keras_tuner.Oracle):
    """An oracle that tells its watcher.

    Attributes:
        watcher: Who is told; None: nobody.
        is_over: A worker has been told that no trial is left; those under way may still end.
    """

    watcher: Watcher | None = None
    is_over = False

    def create_trial(self, tuner_id: str) -> Any:
        """Return the next trial, the one under way where this worker has one, or none when the search is over."""
        known = tuner_id in self.ongoing_trials
        if self.watcher is not None and self.trials and not self.watcher.has_time():
            self.close()
        trial = super().create_trial(tuner_id)
        self.is_over |= trial.status == "STOPPED"
        if self.watcher is not None and not known and trial.status != "IDLE":
            self.watcher.began(tuner_id, trial)
        return trial

    def end_trial(self, trial: Any) -> None:
        """Take what became of a trial, once: a worker that lost the answer says it again."""
        if trial.trial_id not in self.trials or trial.trial_id in self.end_order:
            return
        if self.watcher is not None and trial.status == "COMPLETED":
            self._add_score(trial, self.watcher.recorded_score(trial.trial_id))
        super().end_trial(trial)
        if self.watcher is not None:
            self.watcher.ended(self.trials[trial.trial_id])

    def _add_score(self, trial: Any, score: float | None) -> None:
        """Give a trial its score where the chief that was told it has been killed since."""
        name = self.objective.name
        if self.trials[trial.trial_id].metrics.exists(name):
            return
        if score is None:
            trial.status, trial.message = "FAILED", "its score is not on record"
        else:
            self.update_trial(trial.trial_id, {name: score})

    def close(self) -> None:
        """Begin no further trial."""
        self.max_trials = max(len(self.trials), 1)  # to Keras Tuner 0 means no limit

    def may_continue(self, name: str) -> bool:
        """Return whether a trial that has ended may yet be trained on."""
        return False


class Journal:
    """What a chief saw, in order, one JSON object a line: with it another chief can take its place.

    With several workers the order of events is chance, and what an oracle proposes depends on it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "events.jsonl"

    def read(self) -> list[dict[str, str]]:
        """Return all whole lines; the last one may have been cut short by a kill."""
        events: list[dict[str, str]] = []
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                try:
                    events.append(json.loads(line))
                except ValueError:
                    break
        return events

    def rewrite(self, events: list[dict[str, str]]) -> None:
        """Keep these alone."""
        write_bytes(self.path, "".join(f"{json.dumps(event)}\n" for event in events).encode())

    def write(self, **event: str) -> None:
        """Add one."""
        with self.path.open("a") as file:
            file.write(f"{json.dumps(event)}\n")
            file.flush()
            os.fsync(file.fileno())

    def is_over(self) -> bool:
        """Return whether the search has ended."""
        return {"event": "over"} in self.read()
