"""Claims about computed channels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcdx.errors import DicomError
from bcdx.imaging.channels import describe_channels, fill_value, find_phases, make_channels

UNIT = st.floats(0, 1, width=32)


def one_pixel(value: float) -> np.ndarray:
    return np.array([[value]], np.float32)


@pytest.mark.parametrize(
    ("names", "count", "expected"),
    [
        ("grey", 1, (0,)),
        ("phases", 3, (0, 1, 2)),
        (("pre",), 1, (0,)),
        (("early", "early-pre"), 5, (0, 1)),
        (("late-early",), 5, (1, 4)),
        (("pre", "late"), 2, (0, 1)),  # of two phases the second is also the last
        (("wash-in",), 4, (0, 1)),
    ],
)
def test_only_phases_that_are_used_are_read(names: Any, count: int, expected: tuple[int, ...]) -> None:
    """By number in order of time."""
    assert expected == find_phases(names, count)


def test_a_single_phase_has_no_early_one() -> None:
    """Such a position is left out with a reason."""
    with pytest.raises(DicomError, match="fewer phases"):
        find_phases(("pre", "early"), 1)


@given(st.tuples(UNIT, UNIT, UNIT))
def test_channels_follow_their_formulas(values: tuple[float, float, float]) -> None:
    """Each stays in [0, 1]."""
    pre, early, late = (np.float32(value) for value in values)
    phases = {0: one_pixel(pre), 1: one_pixel(early), 4: one_pixel(late)}
    names = ("pre", "early-pre", "late")
    found = [float(one[0, 0]) for one in make_channels(names, phases, dict.fromkeys(phases))]
    assert [pre, (early - pre + 1) / 2, late] == pytest.approx(found, abs=1e-6)
    (wash_in,) = make_channels(("wash-in",), {0: phases[0], 1: phases[1]}, {0: None, 1: None})
    assert pytest.approx(float(wash_in[0, 0]), abs=1e-6) == min(max((early - pre) / max(pre, 0.05), 0), 3) / 3


def test_difference_of_equal_phases_is_the_middle_wherever_they_are_equal() -> None:
    """No change looks the same in every study."""
    phase = np.linspace(0, 1, 9, dtype=np.float32).reshape(3, 3)
    (found,) = make_channels(("late-pre",), {0: phase, 2: phase}, {0: None, 2: None})
    assert {0.5} == set(found.ravel().tolist())


def test_padding_of_either_phase_is_no_change() -> None:
    """The middle of a difference, 0 in wash-in."""
    pre, early = np.full((1, 3), 0.2, np.float32), np.full((1, 3), 0.8, np.float32)
    padding = {0: np.array([[True, False, False]]), 1: np.array([[False, True, False]])}
    found = make_channels(("early-pre", "wash-in"), {0: pre, 1: early}, padding)
    assert [[0.5, 0.5, pytest.approx(0.8)], [0, 0, 1]] == [one[0].tolist() for one in found]
    assert [0.5, 0] == [fill_value(("early-pre", "wash-in"), channel) for channel in (0, 1)]


def test_phases_pass_as_they_are() -> None:
    """In order of time."""
    phases = {2: one_pixel(0.3), 0: one_pixel(0.1)}
    assert [phases[0], phases[2]] == make_channels("phases", phases, {0: None, 2: None})
    assert 0 == fill_value("phases", 1)


def test_every_channel_is_described() -> None:
    """The manifest tells how to compute it."""
    assert {} == describe_channels("phases")
    names = ("pre", "late-early", "wash-in")
    described = describe_channels(names)
    assert list(names) == list(described)
    assert "(late - early + 1) / 2" in described["late-early"]
    assert "max(pre, 0.05)" in described["wash-in"]
