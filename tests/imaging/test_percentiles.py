"""Claims about percentiles of many images: those of numpy.percentile, to the last bit, whatever the images are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcdx.imaging.percentiles import MOST_RULES, WHOLE_IMAGES, Tally
from bcdx.imaging.stored import Rule, Stored


def percentiles_of(images: Sequence[Stored], low: float, high: float, *, looks: int = 2) -> tuple[float, float]:
    tally = Tally(low, high)
    for image in images:
        tally.add(image)
    for _ in range(looks):
        if not tally.settled:
            tally.new_look()
            for image in images:
                tally.look_again(image)
    assert tally.settled
    return tally.percentiles()


def expected_of(images: Sequence[Stored], low: float, high: float) -> tuple[float, float]:
    shown = [image.to_real()[np.ones(image.values.shape, bool) if image.padding is None else ~image.padding]
             for image in images]  # fmt: skip
    lower, upper = np.percentile(np.concatenate(shown), (low, high))
    return float(lower), float(upper)


def draw_image(
    rng: np.random.Generator, kind: Any, rule: Rule | None, *, padded: tuple[int, int] | None = None
) -> Stored:
    centre, spread = rng.uniform(0, 100), rng.uniform(0, 60)
    drawn = rng.normal(centre, spread, (9, 11))
    if rule is None:
        return Stored(drawn.astype(np.float32), None, mask=rng.random(drawn.shape) < 0.1)
    return Stored(np.clip(drawn, np.iinfo(kind).min, np.iinfo(kind).max).astype(kind), rule, padded)


KINDS = (np.uint8, np.int8, np.uint16, np.int16)
RULES = st.one_of(
    st.none(), st.builds(Rule, st.sampled_from([1.0, 0.5, -2.25, 0.0]), st.sampled_from([0.0, -1024.0]), st.booleans())
)


@settings(deadline=None, max_examples=60)
@given(
    images=st.lists(
        st.tuples(st.sampled_from(KINDS), RULES, st.sampled_from([None, (0, 9)]), st.integers(0, 9)),
        min_size=1,
        max_size=14,
    ),
    low=st.sampled_from([0.0, 0.5, 10.0]),
    high=st.sampled_from([60.0, 99.5, 100.0]),
)
def test_percentiles_equal_those_of_all_pixels_at_once(
    images: list[tuple[Any, Rule | None, tuple[int, int] | None, int]], low: float, high: float
) -> None:
    """Integers of all widths and rules, real units, padding: mixed as studies never mix them."""
    drawn = [
        draw_image(np.random.default_rng(seed), kind, rule, padded=None if rule is None else padded)
        for kind, rule, padded, seed in images
    ]
    if any(image.list_levels()[0].size for image in drawn):
        assert expected_of(drawn, low, high) == percentiles_of(drawn, low, high)


def test_many_images_are_counted_in_their_tails_alone() -> None:
    """And no second look is needed where they are alike."""
    rng = np.random.default_rng(0)
    images = [Stored(rng.gamma(2, 50, (40, 50)).astype(np.uint16), Rule(2.0, 5.0)) for _ in range(40)]
    assert expected_of(images, 0.5, 99.5) == percentiles_of(images, 0.5, 99.5, looks=0)


@pytest.mark.parametrize("negated", [False, True])
def test_images_unlike_the_first_ones_are_looked_at_again(negated: bool) -> None:
    """The percentiles lie where the first images had no tail."""
    rng = np.random.default_rng(0)
    dark = [Stored(rng.integers(0, 100, (9, 9)).astype(np.int16), Rule(negated=negated)) for _ in range(WHOLE_IMAGES)]
    bright = [Stored(rng.integers(40, 60, (99, 99)).astype(np.int16), Rule(negated=negated)) for _ in range(9)]
    images = [*dark, *bright]
    tally = Tally(0.5, 99.5)
    for image in images:
        tally.add(image)
    assert not tally.settled
    assert expected_of(images, 0.5, 99.5) == percentiles_of(images, 0.5, 99.5)


def test_more_rules_than_are_counted_one_by_one_change_nothing() -> None:
    """As where every slice has a slope of its own."""
    images = [draw_image(np.random.default_rng(seed), np.uint16, Rule(1.0 + seed)) for seed in range(3 * MOST_RULES)]
    assert expected_of(images, 0.5, 99.5) == percentiles_of(images, 0.5, 99.5)


def test_nothing_but_padding_has_no_range() -> None:
    """An empty range is what leaves a sample out."""
    assert (0.0, 0.0) == percentiles_of([Stored(np.ones((2, 2), np.uint8), Rule(), (1, 1))], 0.5, 99.5)
    assert (0.0, 0.0) == Tally(0.5, 99.5).percentiles()
