"""Claims about which frames are one position, and their order in time."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from bcdx.imaging.frames import Frame
from bcdx.imaging.phases import count_phases, group_phases


def frame(name: str, **known: Any) -> Frame:
    base: dict[str, Any] = {
        "path": name, "index": 0, "patient": "p", "study": "s", "series": "r", "instance": name, "sample": name,
        "split_digest": "d", "orientation": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), "position_mm": (0.0, 0.0, 0.0),
        "shape": (4, 4), "spacing_mm": (1.0, 1.0),
    }  # fmt: skip
    return Frame(**{**base, **known})


def names(groups: list[tuple[Frame, ...]]) -> list[list[str]]:
    return [[one.sample for one in group] for group in groups]


TIMES = [
    ((1.0, None, None, None), (2.0, None, None, None)),  # TemporalPositionIdentifier
    ((None, 10.0, None, None), (None, 20.0, None, None)),  # TriggerTime
    ((1.0, None, 3.0, None), (1.0, None, 4.0, None)),  # equal identifiers: AcquisitionNumber decides
    ((None, None, 1.0, 100.0), (None, None, 1.0, 200.0)),  # equal numbers: time decides
]


@pytest.mark.parametrize(("early", "late"), TIMES)
def test_phases_follow_the_first_key_that_tells_them_apart(early: Any, late: Any) -> None:
    """Across series as well, whatever the order of the files."""
    frames = [frame("b", time_keys=early, series="z"), frame("a", time_keys=late, series="y")]
    for order in itertools.permutations(frames):
        assert [["b", "a"]] == names(group_phases(order))


def test_phases_without_times_follow_series_and_instance() -> None:
    """The last resort is the order of repetition."""
    frames = [frame("x", instance_number=2), frame("y", instance_number=1)]
    assert [["y", "x"]] == names(group_phases(frames))


@pytest.mark.parametrize(
    "change",
    [
        {"study": "other"},
        {"frame_of_reference": "other"},
        {"position_mm": (0.0, 0.0, 2.0)},
        {"orientation": (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)},
        {"shape": (4, 5)},
    ],
)
def test_frames_of_another_place_are_another_position(change: dict[str, Any]) -> None:
    """Study, frame of reference, position, orientation and grid must all agree."""
    assert 2 == len(group_phases([frame("a"), frame("b", **change)]))


def test_rounding_in_the_header_does_not_part_phases() -> None:
    """A thousandth of a millimetre is no other place, nor is a negative zero."""
    frames = [frame("a", time_keys=(1.0, None, None, None)), frame("b", position_mm=(0.001, -0.0, -0.001))]
    assert 1 == len(group_phases(frames))


def test_frames_without_position_are_grouped_by_series() -> None:
    """No geometry: the series is all there is."""
    frames = [frame(name, position_mm=None, series=series) for name, series in (("a", "1"), ("b", "1"), ("c", "2"))]
    assert [2, 1] == [len(group) for group in group_phases(frames)]


def test_count_phases_is_what_most_positions_have() -> None:
    """At most three; of equally frequent counts the larger."""
    assert 3 == count_phases([[1] * 5, [1] * 3, [1]])
    assert 2 == count_phases([[1] * 2, [1]])
