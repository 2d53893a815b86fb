"""Decide, before a search, which frozen prefixes are worth keeping the outputs of, and where: a closed form.

What a search will ask of each depth, the body's costs and the machine's timings in; a `ReusePlan` out. Nothing is
measured or written here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bcdx.learning.costs import Costs, measure_costs
from bcdx.learning.demand import (
    Demand,
    block_order,
    count_bytes_per_image,
    count_images_seen,
    demand_multiply_adds,
    demand_seconds,
    prefix_seconds,
    step_seconds,
)
from bcdx.learning.speed import Machine, measure_machine

__all__ = ["Choice", "Costs", "Demand", "Machine", "ReusePlan", "measure_costs", "measure_machine", "plan_reuse"]

Place = Literal["memory", "disk", "none"]
Keep = Literal["auto", "memory", "disk", "none"]

DISK_ALLOWANCE = 1.1
"""`auto` takes the disk, which outlives the process, where all in all it is at most so many times as slow as memory."""
CHECKSUM_BYTES_PER_S = 1e9


@dataclass(frozen=True)
class Choice:
    """Where the outputs of one depth's prefix are kept.

    Attributes:
        depth: As in its demand.
        place: memory, disk, or none.
        nbytes: What is kept; settings of one frozen depth share it.
        step_ratio: Time of a plain training step over that of a reusing one, also where nothing is reused.
    """

    depth: str
    place: Place
    nbytes: int
    step_ratio: float


@dataclass(frozen=True)
class ReusePlan:
    """What is kept where, and what that should save.

    Attributes:
        choices: One per demand, in their order.
        nbytes: All that is kept.
        pass_seconds: Of the one forward pass that serves all depths.
        plain_seconds: Of the search without reuse: its training steps and validation passes.
        reuse_seconds: The same with reuse, what writing and reading take included, the forward pass not.
        speed_up: Plain over reusing, the forward pass included.
        limit: The same by multiply-adds alone, without set-up and without the forward pass.
    """

    choices: tuple[Choice, ...]
    nbytes: int
    pass_seconds: float
    plain_seconds: float
    reuse_seconds: float
    speed_up: float
    limit: float

    def describe(self) -> str:
        """Return a few aligned lines for the log."""
        width = max([len("all"), *(len(choice.depth) for choice in self.choices)])
        lines = [
            f"{choice.depth:<{width}}  {choice.place:<6}  {choice.nbytes / 2**20:9.1f} MiB  "
            f"step {choice.step_ratio:.2f}x as quick"
            for choice in self.choices
        ]
        total = (
            f"{'all':<{width}}  {'':<6}  {self.nbytes / 2**20:9.1f} MiB  forward pass {self.pass_seconds:.0f} s, then "
            f"{self.reuse_seconds:.0f} s instead of {self.plain_seconds:.0f} s: {self.speed_up:.2f}x as quick "
            f"(limit {self.limit:.2f}x)"
        )
        return "\n".join([*lines, total])


@dataclass(frozen=True)
class _Group:
    """All demands of one frozen depth, which share what is kept."""

    frozen: str
    nbytes: int
    pass_seconds: float
    saved_seconds: float
    reuse_seconds: float
    io_seconds: Mapping[Place, float]

    def gain(self, place: Place) -> float:
        return self.saved_seconds - self.io_seconds[place]


def plan_reuse(
    demands: Sequence[Demand], costs: Costs, machine: Machine, *, keep: Keep, memory_bytes: int, disk_bytes: int
) -> ReusePlan:
    """Choose a place for each frozen depth.

    One forward pass, up to the deepest depth kept, serves all of them. `auto` keeps what pays for it: on disk where
    that is hardly slower than in memory, else in memory. What the budgets cannot hold is left out, least seconds saved
    per byte first. `memory` and `disk` keep all that fits, whether or not it pays.

    Args:
        demands: What the search will ask.
        costs: Of the body, up to the deepest block that any demand pools.
        machine: Its speed.
        keep: `config.Reuse.keep`.
        memory_bytes: Memory that may be used; also what the system is taken to cache of what lies on disk.
        disk_bytes: Disk space that may be used.
    """
    groups = [
        _make_group([demand for demand in demands if demand.frozen == frozen], costs, machine, memory_bytes)
        for frozen in dict.fromkeys(demand.frozen for demand in demands)
        if frozen != "none"
    ]
    budgets: dict[Place, int] = {"memory": memory_bytes, "disk": disk_bytes if machine.disk_write_bytes_per_s else 0}
    places = _choose_best(groups, budgets) if keep == "auto" else _fill(groups, budgets, keep)
    return _summarise(demands, groups, places, costs, machine)


def _choose_best(groups: Sequence[_Group], budgets: Mapping[Place, int]) -> dict[str, Place]:
    """Return the places that save most, the forward pass to the deepest of them deducted; none if that is nothing.

    A deep boundary makes the pass longer for all, so each depth in turn is tried as the deepest.
    """
    best, most = dict[str, Place](), 0.0
    for deepest in groups:
        limit = block_order(deepest.frozen)
        places = _fill([group for group in groups if block_order(group.frozen) <= limit], budgets, "auto")
        kept = [group for group in groups if group.frozen in places]
        longest = max((group.pass_seconds for group in kept), default=0.0)
        net = sum(group.gain(places[group.frozen]) for group in kept) - longest
        if net > most:
            best, most = places, net
    return best


def _fill(groups: Sequence[_Group], budgets: Mapping[Place, int], keep: Keep) -> dict[str, Place]:
    """Return the places of those that fit, most seconds saved per byte first."""
    left, places = dict(budgets), dict[str, Place]()
    for group in sorted(groups, key=lambda group: -group.gain("memory") / max(group.nbytes, 1)):
        for place in _prefer(group, keep):
            if group.nbytes <= left[place]:
                places[group.frozen] = place
                left[place] -= group.nbytes
                break
    return places


def _prefer(group: _Group, keep: Keep) -> tuple[Place, ...]:
    """Return the places to try, in this order."""
    if keep == "none":
        return ()
    if keep != "auto":
        return (keep,)
    alone = group.pass_seconds + group.reuse_seconds
    memory, disk = (alone + group.io_seconds[place] for place in ("memory", "disk"))
    order: tuple[Place, ...] = ("disk", "memory") if disk <= DISK_ALLOWANCE * memory else ("memory", "disk")
    return tuple(place for place in order if group.gain(place) > 0.0)


def _make_group(demands: Sequence[Demand], costs: Costs, machine: Machine, memory_bytes: int) -> _Group:
    plain = sum(demand_seconds(demand, costs, machine, reuse=False) for demand in demands)
    reuse = sum(demand_seconds(demand, costs, machine, reuse=True) for demand in demands)
    nbytes = max(demand.images for demand in demands) * count_bytes_per_image(demands, costs)
    return _Group(
        frozen=demands[0].frozen,
        nbytes=nbytes,
        pass_seconds=max(prefix_seconds(demand, costs, machine) for demand in demands),
        saved_seconds=plain - reuse,
        reuse_seconds=reuse,
        io_seconds={
            "memory": nbytes / machine.bytes_per_s,
            "disk": _disk_seconds(demands, nbytes, machine, memory_bytes),
        },
    )


def _disk_seconds(demands: Sequence[Demand], nbytes: int, machine: Machine, memory_bytes: int) -> float:
    """Return what writing, the checksum, and reading back take; the last only if the system cannot cache it all."""
    if not machine.disk_write_bytes_per_s:
        return math.inf
    once = nbytes / machine.disk_write_bytes_per_s + nbytes / CHECKSUM_BYTES_PER_S
    if nbytes <= memory_bytes:
        return once
    images = sum(count_images_seen(demand) for demand in demands)
    share = images / max(demand.images for demand in demands)
    return once + share * nbytes / machine.disk_read_bytes_per_s


def _summarise(
    demands: Sequence[Demand],
    groups: Sequence[_Group],
    places: Mapping[str, Place],
    costs: Costs,
    machine: Machine,
) -> ReusePlan:
    kept = {group.frozen: group for group in groups if group.frozen in places}
    plain = sum(demand_seconds(demand, costs, machine, reuse=False) for demand in demands)
    reuse = sum(demand_seconds(demand, costs, machine, reuse=demand.frozen in kept) for demand in demands)
    reuse += sum(group.io_seconds[places[group.frozen]] for group in kept.values())
    passing = max((group.pass_seconds for group in kept.values()), default=0.0)
    plain_adds = sum(demand_multiply_adds(demand, costs, reuse=False) for demand in demands)
    reuse_adds = sum(demand_multiply_adds(demand, costs, reuse=demand.frozen in kept) for demand in demands)
    return ReusePlan(
        choices=tuple(
            Choice(
                demand.depth,
                places.get(demand.frozen, "none"),
                kept[demand.frozen].nbytes if demand.frozen in kept else 0,
                _step_ratio(demand, costs, machine),
            )
            for demand in demands
        ),
        nbytes=sum(group.nbytes for group in kept.values()),
        pass_seconds=passing,
        plain_seconds=plain,
        reuse_seconds=reuse,
        speed_up=plain / (reuse + passing) if reuse + passing else 1.0,
        limit=plain_adds / reuse_adds if reuse_adds else 1.0,
    )


def _step_ratio(demand: Demand, costs: Costs, machine: Machine) -> float:
    plain, reuse = (step_seconds(demand, costs, machine, reuse=reuse) for reuse in (False, True))
    return plain / reuse
