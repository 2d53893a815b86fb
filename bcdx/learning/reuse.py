"""What a search or a fit reuses: settings and data in; a learner that follows the planner's choices out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import keras

from bcdx._files import write_json
from bcdx._recipes import expand_path
from bcdx.config import Fit, Tune
from bcdx.learning.asha import rung_epochs
from bcdx.learning.costs import measure_costs
from bcdx.learning.data import Data
from bcdx.learning.demand import Demand, step_seconds
from bcdx.learning.learner import Learner, Places
from bcdx.learning.network import pooled_kinds
from bcdx.learning.planner import ReusePlan, plan_reuse
from bcdx.learning.speed import measure_machine
from bcdx.learning.store import Store

logger = logging.getLogger(__name__)

REUSE, STORE = "reuse.json", ".prefix"
VECTOR_BYTES = 2**30
"""On top of `reuse.memory_gib`, for pooled vectors: every fit takes its start from them."""


class Planned:
    """Chooses places when the body is there to be measured, and keeps what it knew for the report.

    Args:
        fit: Settings.
        demands: What will be asked of each depth.
        folder: Where the store keeps its files; None: it has none.
    """

    def __init__(self, fit: Fit, demands: Sequence[Demand], folder: Path | None) -> None:
        self._fit, self._demands, self._folder = fit, demands, folder
        self.plan: ReusePlan | None = None
        self.step_seconds: dict[str, float] = {}

    def __call__(self, body: keras.Model) -> Places:
        """Return the place of every depth that is worth one, and log the plan."""
        reuse, costs = self._fit.reuse, measure_costs(body)
        machine = measure_machine(self._folder, dtype=body.output.dtype)
        self.plan = plan_reuse(
            self._demands,
            costs,
            machine,
            keep=reuse.keep,
            memory_bytes=_gib(reuse.memory_gib),
            disk_bytes=_gib(reuse.disk_gib) if self._folder else 0,
        )
        logger.info("what frozen layers give is kept as follows:\n%s", self.plan.describe())
        places: Places = {one.depth: one.place for one in self.plan.choices if one.place != "none"}
        self.step_seconds = {
            one.depth: step_seconds(one, costs, machine, reuse=one.depth in places) for one in self._demands
        }
        return places


def open_learner(
    fit: Fit,
    data: Data,
    splits: tuple[str, ...],
    folder: Path,
    *,
    epochs: int | None = None,
    store: Store | None = None,
) -> Learner:
    """Return a learner for one fit.

    Args:
        fit: Its settings.
        data: The shards.
        splits: Splits to learn from.
        folder: The run folder; the store stands beside it unless `reuse.folder` names another.
        epochs: Epochs that it trains; unset: its whole schedule.
        store: Of an earlier learner on the same data; unset: a new one.
    """
    demand = demand_of(fit, data, splits, depth=fit.network.depth, trials=1.0, epochs=epochs or fit.optimizer.epochs)
    return _open(fit, data, splits, [demand], folder, store)


def open_search_learner(settings: Tune, data: Data, folder: Path) -> Learner:
    """Return a learner for all trials of a search, on the training split."""
    depths = settings.space.depth or (settings.network.depth,)
    search, epochs, whole = settings.search, settings.optimizer.epochs, settings.optimizer.epochs
    if search.oracle == "asha":
        rungs = rung_epochs(epochs, factor=search.factor, least=search.min_epochs)
        parts = zip([0, *rungs], rungs, strict=False)  # one trial in `factor` goes on at each
        epochs = round(sum((end - begin) / search.factor**number for number, (begin, end) in enumerate(parts)))
    trials = search.trials / len(depths)
    demands = [demand_of(settings, data, ("train",), depth=one, trials=trials, epochs=epochs) for one in depths]
    views = min(settings.stream.views, whole)
    kept = 1 + (views - 1) * max(1, len(settings.space.strength))  # the plain view looks alike at every strength
    demands = [replace(demand, kept_views=kept) for demand in demands]
    return _open(settings, data, ("train",), demands, folder)


def demand_of(fit: Fit, data: Data, splits: tuple[str, ...], *, depth: str, trials: float, epochs: int) -> Demand:
    """Return how much will be asked of one depth."""
    validates = "validation" not in splits
    return Demand(
        depth=depth,
        trials=trials,
        epochs=epochs,
        views=fit.stream.views,
        scorings=(epochs if fit.optimizer.keep == "best" else 1) if validates else 0,
        training=data.samples(splits),
        validation=data.samples(("validation",)) if validates else 0,
        test_views=fit.test_views,
        batch_size=fit.stream.batch_size,
        vectors=len(pooled_kinds(fit.network.pooling)),
    )


def report_reuse(learner: Learner, folder: Path) -> None:
    """Log what was planned beside what was measured, and write both to `reuse.json`, if anything was trained."""
    planned = learner.choose
    if not isinstance(planned, Planned) or planned.plan is None:
        return
    plan, steps = planned.plan, {depth: min(found) for depth, found in learner.step_seconds.items()}
    memory, disk = learner.store.used_bytes()
    for depth, seconds in steps.items():
        logger.info("%s: a step took %.0f ms; planned: %.0f", depth, 1e3 * seconds, 1e3 * planned.step_seconds[depth])
    logger.info(
        "forward passes took %.1f s; planned: %.1f. Kept in memory %.0f MiB, on disk %.0f MiB",
        learner.pass_seconds,
        plan.pass_seconds,
        memory / 2**20,
        disk / 2**20,
    )
    measured = {
        "reused": learner.reused,
        "step_seconds": steps,
        "pass_seconds": learner.pass_seconds,
        "memory": memory,
        "disk": disk,
    }
    write_json(folder / REUSE, {**asdict(plan), "step_seconds": planned.step_seconds, "measured": measured})


def _open(
    fit: Fit,
    data: Data,
    splits: tuple[str, ...],
    demands: Sequence[Demand],
    folder: Path,
    store: Store | None = None,
) -> Learner:
    home = _store_folder(fit, folder)
    if store is None:
        memory_bytes = _gib(fit.reuse.memory_gib) + VECTOR_BYTES
        store = Store(home, memory_bytes=memory_bytes, disk_bytes=_gib(fit.reuse.disk_gib))
    depths = [demand.depth for demand in demands]
    return Learner(fit, data, splits, depths=depths, choose=Planned(fit, demands, home), store=store)


def _store_folder(fit: Fit, folder: Path) -> Path | None:
    if fit.reuse.keep not in {"auto", "disk"}:
        return None
    return expand_path(fit.reuse.folder) if fit.reuse.folder else folder.parent / STORE


def _gib(size: float) -> int:
    return int(size * 2**30)
