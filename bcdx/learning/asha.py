"""Successive halving without waiting: begin many trials briefly, train the best of them on.

Source: Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", MLSys, algorithm 2 (ASHA).
"""

from __future__ import annotations

import math
from typing import Any

from bcdx.learning.watched import Watched

EPOCHS, FIRST, RUNG, EARLIER = "tuner/epochs", "tuner/initial_epoch", "tuner/round", "tuner/trial_id"
"""What a trial holds beside its values, under the names of Keras Tuner's Hyperband."""


def rung_epochs(epochs: int, *, factor: int, least: int) -> list[int]:
    """Return the epochs after which trials are compared: E, E / factor, ... down to `least`, in rising order."""
    rungs, divisor = [epochs], factor
    while epochs >= least * divisor:
        rungs.insert(0, -(-epochs // divisor))
        divisor *= factor
    return rungs


class Asha(Watched):
    """Trains a trial on when it is among the best 1/factor of the finished ones of its rung, else begins a new one.

    A trial that goes on is a new trial of Keras Tuner with the same values that starts from the earlier one's progress.
    Failed trials count as finished and never go on; of equal scores the earlier trial is better. When all have begun
    and nothing runs, every rung sends at least its best on, and if none was trained to the end because those that went
    on diverged, the next best follow. A closed search (its time is up) begins nothing: unless some trial has been
    trained to the end, the best of the highest rung still is, for a model that was only begun is no result.

    Args:
        epochs: Of the whole schedule.
        least: Epochs of the lowest rung, at least.
        factor: One in so many goes on, for so many times as long.
        begin: Trials that begin; those that go on are not counted.
        combinations: Different ones in the space; infinity where a range is drawn from.
    """

    def __init__(self, *, epochs: int, least: int, factor: int, begin: int, combinations: float, **shared: Any) -> None:
        self.rungs = rung_epochs(epochs, factor=factor, least=least)
        super().__init__(max_trials=begin * len(self.rungs), **shared)  # more than there can be
        self.factor = factor
        self._most_begun = begin
        self._closed = False
        self._max_collisions = 50 * combinations if math.isfinite(combinations) else 1000  # draws until it is exhausted

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Return what is trained next: a trial that goes on, a new one, or nothing (yet)."""
        earlier = self._find_promotable()
        if earlier is None and len(self._at(0)) < self._most_begun:
            values = self._random_values()
            if values is not None:
                return self._start(values, rung=0, first=0)
            self._most_begun = len(self._at(0))  # every combination has begun
        if earlier is None and self.ongoing_trials:
            return {"status": "IDLE"}
        earlier = earlier or self._find_last()
        if earlier is None:
            return {"status": "STOPPED"}
        rung = _rung(earlier)
        values = {**earlier.hyperparameters.values, EARLIER: earlier.trial_id}
        return self._start(values, rung=rung + 1, first=self.rungs[rung])

    def close(self) -> None:
        """Begin no further trial, and end as soon as one is trained to the end."""
        self._closed = True
        self._most_begun = len(self._at(0))

    def may_continue(self, name: str) -> bool:
        """Return whether a trial that has ended may yet be trained on."""
        trial = self.trials[name]
        if _rung(trial) == len(self.rungs) - 1 or name in self._promoted() or trial.status != "COMPLETED":
            return False
        if not self._ranked(-1):
            return True
        return not self._closed and trial in self._within_reach(_rung(trial))

    def _start(self, values: dict[str, Any], *, rung: int, first: int) -> dict[str, Any]:
        return {"status": "RUNNING", "values": {**values, EPOCHS: self.rungs[rung], FIRST: first, RUNG: rung}}

    def _find_promotable(self) -> Any | None:
        """Return the best trial that may go on now, of the highest rung that has one."""
        if self._closed:
            return None
        promoted = self._promoted()
        for rung in reversed(range(len(self.rungs) - 1)):
            best = self._ranked(rung)[: len(self._finished(rung)) // self.factor]
            for trial in best:
                if trial.trial_id not in promoted:
                    return trial
        return None

    def _find_last(self) -> Any | None:
        """Return what goes on when nothing else can."""
        promoted, below = self._promoted(), range(len(self.rungs) - 1)
        if not self._closed:
            for rung in below:
                for trial in self._ranked(rung)[:1]:
                    if trial.trial_id not in promoted:
                        return trial
        if self._ranked(-1):
            return None
        left = [trial for rung in reversed(below) for trial in self._ranked(rung) if trial.trial_id not in promoted]
        return left[0] if left else None

    def _within_reach(self, rung: int) -> list[Any]:
        """Return the trials that are among the best even if all that can still come to their rung are worse."""
        return self._ranked(rung)[: max(1, self._most_at(rung) // self.factor)]

    def _most_at(self, rung: int) -> int:
        """Return how many trials can ever come to a rung."""
        if rung == 0:
            return self._most_begun
        below, promoted = rung - 1, self._promoted()
        gone = sum(trial.trial_id in promoted for trial in self._at(below))
        waiting = sum(trial.trial_id not in promoted for trial in self._within_reach(below))
        return gone + waiting + self._most_at(below) - len(self._finished(below))

    def _at(self, rung: int) -> list[Any]:
        wanted = range(len(self.rungs))[rung]
        return [trial for trial in self.trials.values() if _rung(trial) == wanted]

    def _finished(self, rung: int) -> list[Any]:
        return [trial for trial in self._at(rung) if trial.status in {"COMPLETED", "FAILED"}]

    def _ranked(self, rung: int) -> list[Any]:
        """Return the trials of a rung that have a score, best first."""
        scored = [trial for trial in self._at(rung) if trial.status == "COMPLETED"]
        return sorted(scored, key=lambda trial: (-trial.score, trial.trial_id))

    def _promoted(self) -> set[str]:
        return {trial.hyperparameters.values.get(EARLIER) for trial in self.trials.values()} - {None}

    def _compute_values_hash(self, values: dict[str, Any]) -> str:
        """Tell combinations apart, however long they are trained."""
        own = {name: value for name, value in values.items() if not name.startswith("tuner/")}
        digest: str = super()._compute_values_hash(own)
        return digest


def _rung(trial: Any) -> int:
    return int(trial.hyperparameters.values[RUNG])
