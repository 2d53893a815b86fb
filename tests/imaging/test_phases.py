"""Claims about which frames are one position, and their order in time."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from bcdx.imaging.frames import Frame, TimeKeys
from bcdx.imaging.phases import (
    NO_ORDER,
    NO_POSITION,
    choose_phases,
    count_phases,
    group_phases,
    is_against_time,
    needed_phases,
)


def frame(name: str, **known: Any) -> Frame:
    base: dict[str, Any] = {
        "path": name, "index": 0, "patient": "p", "study": "s", "series": "r", "instance": name, "sample": name,
        "split_digest": "d", "orientation": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), "position_mm": (0.0, 0.0, 0.0),
        "shape": (4, 4), "spacing_mm": (1.0, 1.0),
    }  # fmt: skip
    return Frame(**{**base, **known})


def names(frames: Any) -> list[list[str]]:
    return [[one.sample for one in group] for group in group_phases(frames)[0]]


def refusals(frames: Any) -> set[tuple[str, str]]:
    return {(one.sample, reason) for one, reason in group_phases(frames)[1]}


TIMES = [
    ({"temporal_position": 1}, {"temporal_position": 2}),
    ({"trigger_time": 10}, {"trigger_time": 20}),
    # equal identifiers: the number decides
    ({"temporal_position": 1, "acquisition_number": 3}, {"temporal_position": 1, "acquisition_number": 4}),
    ({"acquisition_number": 1, "acquisition_time": 100}, {"acquisition_number": 1, "acquisition_time": 200}),
    # both passes acquired at one time: content time decides, however the first is written
    ({"acquisition_time": 100, "content_time": 100}, {"acquisition_time": 100, "content_time": 200}),
    ({"acquisition_time": 100, "content_time": 100}, {"content_time": 200}),
    # the surest key wins over a later one that says otherwise
    ({"temporal_position": 1, "content_time": 200}, {"temporal_position": 2, "content_time": 100}),
]


@pytest.mark.parametrize(("early", "late"), TIMES)
def test_phases_follow_the_first_key_that_tells_them_apart(early: Any, late: Any) -> None:
    """Across series as well, whatever the order of the files."""
    frames = [frame("b", time_keys=TimeKeys(**early), series="z"), frame("a", time_keys=TimeKeys(**late), series="y")]
    for order in itertools.permutations(frames):
        assert [["b", "a"]] == names(order)


@pytest.mark.parametrize("codes", [("y", "z"), ("z", "y")])  # under another key the codes sort the other way
@pytest.mark.parametrize(
    ("early", "late"),
    [
        ({"series_number": 1, "instance_number": 9}, {"series_number": 2, "instance_number": 1}),
        ({"instance_number": 1}, {"instance_number": 2}),
        ({"index": 0}, {"index": 1}),
    ],
)
def test_phases_without_times_follow_series_and_instance_number(codes: Any, early: Any, late: Any) -> None:
    """The last resort is the order of repetition, never a code."""
    frames = [frame(codes[0], series=codes[0], **early), frame(codes[1], series=codes[1], **late)]
    assert [[codes[0], codes[1]]] == names(frames)


def test_phases_that_nothing_orders_are_refused() -> None:
    """A code would order them differently under every key."""
    frames = [frame("a", series="r1"), frame("b", series="r2"), frame("c", position_mm=(9.0, 0.0, 0.0))]
    assert [["c"]] == names(frames)
    assert {("a", NO_ORDER), ("b", NO_ORDER)} == refusals(frames)


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
    assert 2 == len(names([frame("a"), frame("b", **change)]))


def test_rounding_in_the_header_does_not_part_phases() -> None:
    """A thousandth of a millimetre is no other place, nor is a negative zero."""
    frames = [frame("a", instance_number=1), frame("b", instance_number=2, position_mm=(0.001, -0.0, -0.001))]
    assert [["a", "b"]] == names(frames)


def test_frames_without_position_are_phases_only_by_temporal_position() -> None:
    """Slices of a stack have times and numbers of their own as well; the standard's identifier is for phases alone."""
    phases = [frame(f"p{n}", position_mm=None, time_keys=TimeKeys(temporal_position=n)) for n in (2, 1)]
    stack = [
        frame(f"s{n}", position_mm=None, series="stack", instance_number=n, time_keys=TimeKeys(content_time=n))
        for n in (1, 2)
    ]
    assert [["p1", "p2"]] == names(phases + stack)
    assert {("s1", NO_POSITION), ("s2", NO_POSITION)} == refusals(phases + stack)


def test_count_phases_is_what_most_positions_have() -> None:
    """At most three; of equally frequent counts the larger."""
    assert 3 == count_phases([[1] * 5, [1] * 3, [1]])
    assert 2 == count_phases([[1] * 2, [1]])


@pytest.mark.parametrize(
    ("channels", "needed", "used"),
    [
        ("phases", 3, [0, 1, 2]),
        (("pre",), 1, [0]),
        (("early",), 2, [0, 1]),
        (("late",), 2, [0, 4]),
        (("pre", "early", "early-pre"), 2, [0, 1]),
        (("early-pre", "late-early"), 3, [0, 1, 4]),
        (("wash-in",), 2, [0, 1]),
    ],
)
def test_channels_take_the_phases_that_they_are_made_of(channels: Any, needed: int, used: list[int]) -> None:
    """Of five passes; pre always takes part, so that order alone tells which is which."""
    group = tuple(frame(str(number)) for number in range(5))
    assert needed == needed_phases(channels, 3)
    chosen, rest = choose_phases(group, channels, needed)
    assert used == [int(one.sample) for one in chosen]
    assert set(group) == {*chosen, *rest}


def test_positions_without_phases_do_not_decide_how_many_a_sample_has() -> None:
    """A study has many series that were imaged once."""
    single, triple = [(frame(str(n)),) for n in range(20)], [(frame("a"), frame("b"), frame("c"))]
    assert 3 == count_phases([*single, *triple])


def test_phases_ordered_against_their_times_are_noticed() -> None:
    """AcquisitionNumber comes first, but a clock that says otherwise is worth a look."""
    keys = [TimeKeys(acquisition_number=number, acquisition_time=time) for number, time in ((1, 20.0), (2, 10.0))]
    group = [frame(str(number), time_keys=key) for number, key in enumerate(keys)]
    assert is_against_time(group)
    assert not is_against_time(group[::-1])
    assert not is_against_time([frame("a"), *group])
