"""Claims about which prefixes are worth keeping, where, and what that is said to save."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import keras
import pytest

from bcdx.learning.planner import Costs, Demand, Machine, ReusePlan, measure_costs, plan_reuse

QUICK_DISK = Machine(140e9, 21e9, 1e9, 2e9)
NO_DISK = replace(QUICK_DISK, disk_write_bytes_per_s=0.0, disk_read_bytes_per_s=0.0)
SLOW_DISK = replace(QUICK_DISK, disk_write_bytes_per_s=2e6, disk_read_bytes_per_s=2e6)
PLENTY = 2**50


@pytest.fixture(scope="module")
def costs() -> Costs:
    return measure_costs(keras.applications.InceptionV3(include_top=False, weights=None, input_shape=(256, 256, 3)))


def demand(depth: str = "mixed9/mixed10", **changes: Any) -> Demand:
    usual = Demand(
        depth,
        trials=2.0,
        epochs=10,
        views=1,
        scorings=10.0,
        training=1000,
        validation=200,
        test_views=1,
        batch_size=16,
    )
    return replace(usual, **changes)


def plan(demands: list[Demand], costs: Costs, machine: Machine = QUICK_DISK, **changes: Any) -> ReusePlan:
    return plan_reuse(
        demands, costs, machine, **{"keep": "auto", "memory_bytes": PLENTY, "disk_bytes": PLENTY, **changes}
    )


def places(found: ReusePlan) -> list[str]:
    return [choice.place for choice in found.choices]


@pytest.mark.parametrize(
    ("machine", "keep", "expected"),
    [
        (QUICK_DISK, "auto", "disk"),
        (SLOW_DISK, "auto", "memory"),
        (NO_DISK, "auto", "memory"),
        (QUICK_DISK, "memory", "memory"),
        (SLOW_DISK, "disk", "disk"),
        (NO_DISK, "disk", "none"),
        (QUICK_DISK, "none", "none"),
    ],
)
def test_place_follows_the_setting_and_the_disk(costs: Costs, machine: Machine, keep: str, expected: str) -> None:
    """Where both budgets are ample."""
    assert [expected] == places(plan([demand()], costs, machine, keep=keep))


def test_depth_none_is_never_reused(costs: Costs) -> None:
    """It has no prefix."""
    found = plan([demand("none/mixed3")], costs, keep="memory")
    assert ("none", 0, 1.0) == (found.choices[0].place, found.choices[0].nbytes, found.choices[0].step_ratio)
    assert (1.0, 1.0, 0.0) == (found.speed_up, found.limit, found.pass_seconds)


def test_nothing_is_kept_where_the_forward_pass_would_not_pay(costs: Costs) -> None:
    """One epoch of one trial sees each image once; an explicit place is obeyed all the same."""
    once = demand(trials=1.0, epochs=1, scorings=1.0)
    assert ["none"] == places(plan([once], costs))
    assert ["memory"] == places(plan([once], costs, keep="memory"))


def test_deep_depth_that_would_not_pay_for_the_longer_pass_is_left_out(costs: Costs) -> None:
    """mixed10 is asked for a hundredth of what mixed0 is."""
    shallow, deep = demand("mixed0/mixed3", trials=10.0), demand("mixed10/mixed10", trials=0.01)
    assert ["disk", "none"] == places(plan([shallow, deep], costs))


def test_bytes_are_those_of_maps_and_pooled_vectors_of_all_views(costs: Costs) -> None:
    """Two vectors of mixed3 before the boundary; mixed5 lies behind it; eight views scored, three trained on."""
    asked = demand("mixed4/mixed3+mixed5", vectors=2, epochs=3, views=8, test_views=8)
    images = 3 * 1000 + 8 * 200
    assert images * (588 * 1024 + 2 * 4 * 768) == plan([asked], costs).nbytes


def test_boundary_that_is_pooled_last_keeps_no_map(costs: Costs) -> None:
    """Its vectors are all that the head reads."""
    assert 1200 * 4 * 2048 == plan([demand("mixed10/mixed10")], costs).nbytes


def test_settings_of_one_frozen_depth_share_what_is_kept(costs: Costs) -> None:
    """One map, and the vectors that either needs."""
    found = plan([demand("mixed3/mixed3"), demand("mixed3/mixed3+mixed5")], costs)
    assert {1200 * (588 * 1024 + 4 * 768)} == {found.nbytes, *(choice.nbytes for choice in found.choices)}
    assert found.choices[0].step_ratio > found.choices[1].step_ratio


def test_budget_goes_to_what_saves_most_per_byte(costs: Costs) -> None:
    """mixed8's map is a third of mixed7's and saves more."""
    depths = [demand("mixed7/mixed10"), demand("mixed8/mixed10"), demand("mixed10/mixed10")]
    small = plan(depths, costs, NO_DISK, memory_bytes=300 * 2**20)
    assert ["none", "memory", "memory"] == places(small)
    assert small.nbytes <= 300 * 2**20
    assert ["memory", "disk", "disk"] == places(plan(depths, costs, disk_bytes=300 * 2**20))
    assert ["none"] * 3 == places(plan(depths, costs, memory_bytes=0, disk_bytes=0))


def test_reading_back_counts_where_the_system_cannot_cache_it(costs: Costs) -> None:
    """Of two plans on disk, the one with less memory takes longer."""
    asked = [demand()]
    roomy, tight = (plan(asked, costs, keep="disk", memory_bytes=memory) for memory in (PLENTY, 2**20))
    read = 2 * (10 * 1000 + 10 * 200) * 288 * 1024 / QUICK_DISK.disk_read_bytes_per_s
    assert tight.reuse_seconds == pytest.approx(roomy.reuse_seconds + read)


def test_one_forward_pass_serves_all_depths(costs: Costs) -> None:
    """It is that to the deepest."""
    both = plan([demand("mixed8/mixed10"), demand("mixed10/mixed10")], costs)
    assert plan([demand("mixed10/mixed10")], costs).pass_seconds == both.pass_seconds


def test_speed_up_counts_the_forward_pass_and_nears_the_limit_with_more_trials(costs: Costs) -> None:
    """Five depths, two learning rates, two epochs: the limit is that of multiply-adds alone."""
    depths = [f"mixed{frozen}/mixed10" for frozen in (10, 9, 8, 7, 6)]
    few, many = (
        plan([demand(depth, trials=trials, epochs=2, scorings=2.0) for depth in depths], costs) for trials in (2, 200)
    )
    assert few.speed_up == few.plain_seconds / (few.reuse_seconds + few.pass_seconds)
    assert few.speed_up < many.speed_up < many.limit
    assert few.limit == pytest.approx(many.limit)


def test_limit_without_validation_is_the_ratio_of_the_steps_multiply_adds(costs: Costs) -> None:
    """Behind mixed9: all forward and the suffix's way back, over the latter with the suffix forward."""
    whole, suffix = costs.multiply_adds["mixed10"], costs.multiply_adds["mixed10"] - costs.multiply_adds["mixed9"]
    back = 2 * suffix - costs.entry_multiply_adds["mixed9"]
    assert (whole + back) / (suffix + back) == pytest.approx(plan([demand(scorings=0.0)], costs).limit, rel=1e-3)


def test_head_alone_has_a_finite_limit(costs: Costs) -> None:
    """It, too, multiplies and adds."""
    assert math.isfinite(plan([demand("mixed10/mixed10")], costs).limit)


def test_description_has_a_line_per_depth_and_one_of_all(costs: Costs) -> None:
    """Aligned: the bytes stand below each other."""
    lines = plan([demand("mixed9/mixed10"), demand("none/mixed3")], costs).describe().splitlines()
    assert ["mixed9/mixed10", "none/mixed3", "all"] == [line.split()[0] for line in lines]
    assert 1 == len({line.index(" MiB ") for line in lines})
    assert "forward pass" in lines[-1]


def test_views_that_only_some_trials_look_at_are_counted(costs: Costs) -> None:
    """Halving trains most trials briefly, the best one through all views; strengths of augmentation differ in all."""
    usual, more = (plan([demand(epochs=3, views=8, kept_views=views)], costs, keep="disk") for views in (None, 15))
    images = [3 * 1000 + 200, 15 * 1000 + 200]
    assert images[0] * more.nbytes == images[1] * usual.nbytes
    assert more.pass_seconds > 4 * usual.pass_seconds
