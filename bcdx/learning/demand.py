"""What a search asks of one depth: how many steps, how long they take plainly and from the boundary, how many bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bcdx.learning.costs import Costs
from bcdx.learning.speed import Machine, predict_seconds, prefix_work, scoring_work, training_work


@dataclass(frozen=True)
class Demand:
    """How much the search will ask of one depth.

    Attributes:
        depth: FROZEN/POOLED, such as mixed2/mixed0+mixed3.
        trials: How many trials take it; expected ones where chance decides.
        epochs: Of a trial.
        views: Of a training image, one an epoch, in turns.
        scorings: Validation passes of a trial.
        training: Training images.
        validation: Validation images.
        test_views: Views of a validation image.
        batch_size: Images per step.
        vectors: Pooled vectors of a block: 2 where both average and maximum are pooled.
        kept_views: Views of a training image in all, where trials differ in epochs or augmentation; None: as many as
            one trial looks at.
    """

    depth: str
    trials: float
    epochs: int
    views: int
    scorings: float
    training: int
    validation: int
    test_views: int
    batch_size: int
    vectors: int = 1
    kept_views: int | None = None

    @property
    def frozen(self) -> str:
        """The boundary: the last frozen block end, or none."""
        return self.depth.split("/")[0]

    @property
    def pools(self) -> tuple[str, ...]:
        """The pooled block ends."""
        return tuple(self.depth.split("/")[-1].split("+"))

    @property
    def last(self) -> str:
        """The deepest pooled block end, behind which nothing is built."""
        return max(self.pools, key=block_order)

    @property
    def training_views(self) -> int:
        """Views of a training image that are looked at."""
        return min(self.views, self.epochs) if self.kept_views is None else self.kept_views

    @property
    def images(self) -> int:
        """Images that the prefix is asked for."""
        return self.training * self.training_views + self.validation * self.test_views


def step_seconds(demand: Demand, costs: Costs, machine: Machine, *, reuse: bool) -> float:
    """Return how long one training step takes, from the images or from the boundary."""
    first = demand.frozen if reuse else "none"
    return predict_seconds(training_work(costs, first, demand.frozen, demand.last, demand.batch_size), machine)


def count_images_seen(demand: Demand) -> float:
    """Return how often all trials together ask for an image's outputs."""
    validation = demand.scorings * demand.validation * demand.test_views
    return demand.trials * (demand.epochs * demand.training + validation)


def demand_seconds(demand: Demand, costs: Costs, machine: Machine, *, reuse: bool) -> float:
    """Return the time of all training steps and validation passes."""
    training, scoring = _count_steps(demand)
    first = demand.frozen if reuse else "none"
    score = predict_seconds(scoring_work(costs, first, demand.last, demand.batch_size), machine)
    return training * step_seconds(demand, costs, machine, reuse=reuse) + scoring * score


def demand_multiply_adds(demand: Demand, costs: Costs, *, reuse: bool) -> float:
    """Return the multiply-adds of the same, those of the head included."""
    training, scoring = _count_steps(demand)
    first = demand.frozen if reuse else "none"
    head = demand.batch_size * demand.vectors * sum(costs.map_channels[pool] for pool in demand.pools)
    train = training_work(costs, first, demand.frozen, demand.last, demand.batch_size).multiply_adds + 2 * head
    score = scoring_work(costs, first, demand.last, demand.batch_size).multiply_adds + head
    return training * train + scoring * score


def _count_steps(demand: Demand) -> tuple[float, float]:
    """Return the training steps and the batches scored, over all trials."""
    training = demand.trials * demand.epochs * math.ceil(demand.training / demand.batch_size)
    return training, demand.trials * demand.scorings * demand.validation * demand.test_views / demand.batch_size


def prefix_seconds(demand: Demand, costs: Costs, machine: Machine) -> float:
    """Return the time of one forward pass over all views, up to the boundary."""
    batch = predict_seconds(prefix_work(costs, demand.frozen, demand.batch_size), machine)
    return batch * demand.images / demand.batch_size


def count_bytes_per_image(demands: Sequence[Demand], costs: Costs) -> int:
    """Return the bytes kept: the boundary's map where something is built behind it, and float32 pooled vectors."""
    frozen = demands[0].frozen
    behind = any(demand.last != frozen for demand in demands)
    vectors = {
        pool: max(demand.vectors for demand in demands if pool in demand.pools)
        for pool in {pool for demand in demands for pool in demand.pools}
        if block_order(pool) <= block_order(frozen)
    }
    return behind * costs.map_bytes[frozen] + sum(
        4 * costs.map_channels[pool] * count for pool, count in vectors.items()
    )


def block_order(block: str) -> int:
    """Return where a block end stands in the body."""
    return -1 if block == "none" else int(block.removeprefix("mixed"))
