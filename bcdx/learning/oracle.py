"""What a search may vary, and which values it tries next: settings in, a Keras Tuner oracle out."""

from __future__ import annotations

import itertools
import logging
import math
from typing import Any

import keras_tuner

from bcdx.config import Space, Tune
from bcdx.errors import SettingsError
from bcdx.learning.asha import Asha
from bcdx.learning.monitoring import METRIC
from bcdx.learning.watched import Watched

logger = logging.getLogger(__name__)


class Random(Watched, keras_tuner.oracles.RandomSearchOracle):
    """Keras Tuner's random search."""


class Bayesian(Watched, keras_tuner.oracles.BayesianOptimizationOracle):
    """Keras Tuner's Bayesian optimisation."""


class Grid(Watched, keras_tuner.oracles.GridSearchOracle):
    """Keras Tuner's grid, which several workers can walk at once."""

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Return the next combination; Keras Tuner would wait for the end of the one before it."""
        found: dict[str, Any] = super().populate_space(trial_id)
        if found["status"] == "RUNNING":
            self._populate_next.append(trial_id)
        return found


class Hyperband(Watched, keras_tuner.oracles.HyperbandOracle):
    """Keras Tuner's Hyperband with a budget: it stops after `max_trials`, wherever its schedule stands.

    Its first bracket must fit into the budget and into the space; else it would end with models that were only begun.
    """

    def __init__(self, *, max_trials: int, combinations: float, **shared: Any) -> None:
        super().__init__(**shared)
        self.max_trials = max_trials
        self._max_collisions = 1000  # draws before a space counts as exhausted; 20 can miss one of few combinations
        rounds = range(self._get_num_rounds(self._current_bracket))
        sizes = [self._get_size(self._current_bracket, one) for one in rounds]
        if combinations < sizes[0]:
            raise SettingsError(
                f"search.oracle = hyperband begins with {sizes[0]} different trials, but `space` holds {combinations} "
                "combinations; add candidates, give space.learning_rate_range, or use the grid oracle"
            )
        if max_trials < sum(sizes):
            raise SettingsError(
                f"search.oracle = hyperband trains none to the end in fewer than {sum(sizes)} trials, received "
                f"search.trials = {max_trials}; raise it, or lower optimizer.epochs"
            )

    def may_continue(self, name: str) -> bool:
        """Return whether a trial that has ended may yet be trained on: its next round has room and lacks it."""
        if len(self.trials) >= self.max_trials or self.trials[name].status != "COMPLETED":
            return False
        for bracket in self._brackets:
            for number, (earlier, later) in enumerate(itertools.pairwise(bracket["rounds"]), start=1):
                if name in {one["id"] for one in earlier}:
                    room = len(later) < self._get_size(bracket["bracket_num"], number)
                    return room and name not in {one["past_id"] for one in later}
        return False


def make_oracle(settings: Tune) -> Watched:
    """Return the Keras Tuner oracle that the settings name, over the declared space only.

    Raises:
        SettingsError: Budget or space are too small for Hyperband.
    """
    search, space = settings.search, settings.space
    if search.oracle == "grid" and count_combinations(space) > search.trials:
        logger.warning(
            "search.trials = %d tries that many of %d combinations; the rest of the grid is left out",
            search.trials,
            count_combinations(space),
        )
    shared: dict[str, Any] = {
        "objective": keras_tuner.Objective(METRIC, "max"),
        "hyperparameters": declare_space(space, ordered=search.oracle == "grid"),
        "seed": settings.seed + 1,  # Keras Tuner takes 0 for "draw one"
        "max_trials": search.trials,
        "max_consecutive_failed_trials": search.trials + 1,  # neighbours in a grid may well diverge together
    }
    epochs, combinations = settings.optimizer.epochs, count_combinations(space)
    if search.oracle == "hyperband":
        return Hyperband(max_epochs=epochs, factor=search.factor, combinations=combinations, **shared)
    if search.oracle == "asha":
        begin = shared.pop("max_trials")
        rungs = {"epochs": epochs, "least": search.min_epochs, "factor": search.factor}
        return Asha(begin=begin, combinations=combinations, **rungs, **shared)
    kinds = {"random": Random, "bayesian": Bayesian, "grid": Grid}
    return kinds[search.oracle](**shared)


def declare_space(space: Space, *, ordered: bool) -> Any:
    """Return the space as Keras Tuner's hyperparameters."""
    declared = keras_tuner.HyperParameters()
    for name, values in candidates(space).items():
        if name == "learning_rate" and space.learning_rate_range is not None and not ordered:
            declared.Float(name, *space.learning_rate_range, sampling="log")
        else:
            declared.Choice(name, values)
    return declared


def candidates(space: Space) -> dict[str, list[Any]]:
    """Return what is searched: name -> candidate values (lowest and highest of a range)."""
    named = {name: list(getattr(space, name)) for name in space.homes}
    if space.learning_rate_range is not None:
        named["learning_rate"] = list(space.learning_rate_range)
    return {name: values for name, values in named.items() if values}


def count_combinations(space: Space) -> float:
    """Return how many different trials the space holds; infinity where a range is drawn from."""
    if space.learning_rate_range is not None:
        return math.inf
    return math.prod(len(values) for values in candidates(space).values())


def apply_values(settings: Tune, values: dict[str, Any]) -> Tune:
    """Return the settings with a trial's values put where they belong."""
    homes = settings.space.homes
    parts = {name: getattr(settings, name) for name in set(homes.values())}
    for name, value in values.items():
        if name in homes:  # Hyperband and asha add entries of their own
            parts[homes[name]] = parts[homes[name]].model_copy(update={name: value})
    return settings.model_copy(update=parts)
