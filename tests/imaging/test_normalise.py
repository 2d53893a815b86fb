"""Claims about the way from real units to stored values."""

from __future__ import annotations

import numpy as np
import pytest

from bcdx.imaging.frames import Frame, Slice
from bcdx.imaging.normalise import percentile_range, quantise, to_unit_range

FRAME = Frame("p", 0, "p", "s", "r", "i", "x", "d")


def make_slice(values: list[float], padded: list[bool] | None = None) -> Slice:
    pixels = np.array([values], np.float32)
    return Slice(FRAME, pixels, None if padded is None else np.array([padded]))


def test_percentiles_are_those_of_all_slices_together() -> None:
    """Not the mean of each slice's own; padding does not count."""
    slices = [make_slice([0, 1, 2, -999], [False, False, False, True]), make_slice([3, 100])]
    assert pytest.approx(np.percentile([0, 1, 2, 3, 100], (10, 90))) == percentile_range(slices, 10, 90)


def test_nothing_but_padding_has_no_range() -> None:
    """An empty range is what leaves a sample out."""
    assert (0.0, 0.0) == percentile_range([make_slice([1, 2], [True, True])], 0.5, 99.5)


def test_unit_range_cuts_what_lies_beyond_and_blacks_out_padding() -> None:
    """Padding may even be no number."""
    found = to_unit_range(make_slice([-5, 0, 5, 10, 15, np.nan], [False] * 5 + [True]), 0, 10)
    assert [0, 0, 0.5, 1, 1, 0] == found[0].tolist()


def test_quantise_uses_the_full_range_and_rounds() -> None:
    """65535 steps; what lies outside is cut, not wrapped."""
    assert [0, 0, 32768, 65535, 65535] == quantise(np.array([-0.1, 0, 0.5, 1, 1.1], np.float32)).tolist()


@pytest.mark.parametrize(
    ("values", "padded", "expected"),
    [([3, 3], None, True), ([3, 4], None, False), ([3, 4], [False, True], True), ([3, 4], [True, True], True)],
)
def test_slice_is_flat_where_nothing_differs_but_padding(
    values: list[float], padded: list[bool] | None, expected: bool
) -> None:
    """Such a slice shows nothing."""
    assert expected == make_slice(values, padded).is_flat
