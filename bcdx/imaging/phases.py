"""Dynamic phases: frames of one study in, one group per slice position out, its phases in order of time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, get_args

from bcdx.config import Kind
from bcdx.config.dataset import list_phases
from bcdx.imaging.frames import Frame, TimeKeys
from bcdx.imaging.placement import Key, grid_key, has_position

NO_POSITION = "no slice position to group phases by"
NO_ORDER = "nothing tells the order of its phases"

NOT_DYNAMIC = frozenset(get_args(Kind)) - {"t1"}
"""Kinds of series that are no phase of a dynamic study, though they may lie on its grid."""
AGAINST_TIME = "phases ordered by number, against their acquisition times"

TIMES = tuple(attrgetter(f"time_keys.{name}") for name in TimeKeys._fields)
REPEAT = attrgetter("series_number", "instance_number", "index")


def group_phases(frames: Iterable[Frame]) -> tuple[list[tuple[Frame, ...]], list[tuple[Frame, str]]]:
    """Return the frames of each slice position in order of time, and (frame, reason) of those that have no order.

    Frames share a position when study, FrameOfReferenceUID, orientation, position and grid agree, whatever their
    series. Without a position TemporalPositionIdentifier alone tells the phases of a series from its slices.
    """
    groups: dict[Key, list[Frame]] = {}
    for frame in frames:
        groups.setdefault(position_key(frame), []).append(frame)
    ordered: list[tuple[Frame, ...]] = []
    refused: list[tuple[Frame, str]] = []
    for key in sorted(groups, key=repr):
        placed = has_position(groups[key][0])
        group = _order_phases(groups[key]) if placed else _sort_by(groups[key], TIMES[0])
        if group is None:
            refused += [(frame, NO_ORDER if placed else NO_POSITION) for frame in groups[key]]
        else:
            ordered.append(group)
    return ordered, refused


def position_key(frame: Frame) -> Key:
    """Return what frames of one slice position have in common."""
    place = (frame.position_mm or ()) if has_position(frame) else ()
    return (
        *grid_key(frame),
        tuple(round(value, 2) + 0.0 for value in place),
        _sort_of(frame),
    )


def _sort_of(frame: Frame) -> str:
    """Return the kind of a frame that is no phase; all that may be phases are of one sort."""
    return frame.kind if frame.kind in NOT_DYNAMIC else ""


def _order_phases(frames: Sequence[Frame]) -> tuple[Frame, ...] | None:
    """Return the frames of one position in order of time, None where nothing tells it.

    The order is that of the first of `TimeKeys` that differs for each frame, else that of SeriesNumber, InstanceNumber
    and frame number.
    """
    for key in (*TIMES, REPEAT):
        ordered = _sort_by(frames, key)
        if ordered is not None:
            return ordered
    return None


def _sort_by(frames: Sequence[Frame], key: Callable[[Frame], Any]) -> tuple[Frame, ...] | None:
    """Return the frames sorted, None unless the key is known and differs for each."""
    values = [key(frame) for frame in frames]
    return None if None in values or len(set(values)) < len(values) else tuple(sorted(frames, key=key))


def count_usual(groups: Iterable[Sequence[Frame]]) -> dict[Key, int]:
    """Return how many phases most positions of each grid have; of equally frequent counts the larger.

    Where a position has fewer it cannot be told which is missing, and the second of what is left may be the third.
    """
    counts: dict[Key, Counter[int]] = {}
    for group in groups:
        counts.setdefault(_dynamic_key(group[0]), Counter())[len(group)] += 1
    return {key: max(found, key=lambda count: (found[count], count)) for key, found in counts.items()}


def usual_phases(group: Sequence[Frame], usual: Mapping[Key, int]) -> int:
    """Return how many phases most positions of a group's grid have."""
    return usual[_dynamic_key(group[0])]


def _dynamic_key(frame: Frame) -> Key:
    return (*grid_key(frame), _sort_of(frame))


def is_against_time(group: Sequence[Frame]) -> bool:
    """Return whether phases that something else ordered contradict the acquisition times that all of them have."""
    times = [frame.time_keys.acquisition_time for frame in group]
    known = [time for time in times if time is not None]
    return len(known) == len(times) and known != sorted(known)


def count_phases(groups: Iterable[Sequence[Frame]], *, most: int = 3) -> int:
    """Return how many phases most positions with phases have, at most `most`; of equally frequent counts the larger."""
    counts = Counter(min(len(group), most) for group in groups if len(group) > 1)
    return max(counts, key=lambda count: (counts[count], count), default=0)


def needed_phases(channels: str | Sequence[str], count: int) -> int:
    """Return how many phases a position must have for its channels.

    Args:
        channels: `phases`, or names such as pre, early, late, early-pre, wash-in.
        count: Phases that a sample has where `channels` is `phases`.
    """
    if isinstance(channels, str):
        return count
    return len(_named(channels) | {"pre"})


def choose_phases(
    group: Sequence[Frame], channels: str | Sequence[str], count: int
) -> tuple[tuple[Frame, ...], tuple[Frame, ...]]:
    """Return the frames of a position that its channels are made of, in order of time, and the others.

    The first frame is pre, the second early, the last late; pre always takes part, so that the order tells which is
    which.
    """
    indices = set(range(count))
    if not isinstance(channels, str) and "late" in _named(channels):
        indices = {*range(count - 1), len(group) - 1}
    used = tuple(frame for index, frame in enumerate(group) if index in indices)
    return used, tuple(frame for index, frame in enumerate(group) if index not in indices)


def _named(channels: Sequence[str]) -> set[str]:
    """Return the phases that channels are made of."""
    return {phase for name in channels for phase in list_phases(name)}
