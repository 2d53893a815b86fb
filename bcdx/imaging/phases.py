"""Dynamic phases: frames of one study in, one group per slice position out, its phases in order of time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from bcdx.imaging.frames import Frame

Key = tuple[object, ...]


def group_phases(frames: Iterable[Frame]) -> list[tuple[Frame, ...]]:
    """Return the frames of each slice position, ordered in time; positions in a fixed order.

    Frames share a position when study, FrameOfReferenceUID, orientation, position and grid agree, whatever their
    series; frames without a position are grouped by series. The order is that of the first of
    TemporalPositionIdentifier, TriggerTime, AcquisitionNumber and acquisition or content time that differs for each
    frame of the position, else that of series and instance.
    """
    groups: dict[Key, list[Frame]] = {}
    for frame in frames:
        groups.setdefault(position_key(frame), []).append(frame)
    return [order_phases(groups[key]) for key in sorted(groups, key=repr)]


def position_key(frame: Frame) -> Key:
    """Return what frames of one slice position have in common."""
    if frame.position_mm is None or frame.orientation is None:
        return frame.study, frame.series, frame.shape
    return (
        frame.study,
        frame.frame_of_reference,
        tuple(round(value, 4) + 0.0 for value in frame.orientation),  # + 0.0: no negative zero
        tuple(round(value, 2) + 0.0 for value in frame.position_mm),
        frame.shape,
        tuple(round(value, 4) for value in frame.spacing_mm),
    )


def order_phases(frames: Sequence[Frame]) -> tuple[Frame, ...]:
    """Return the frames of one position in order of time."""
    for index in range(4):
        times = [frame.time_keys[index] for frame in frames]
        if None not in times and len(set(times)) == len(times):
            return tuple(sorted(frames, key=lambda frame: frame.time_keys[index] or 0.0))
    return tuple(sorted(frames, key=lambda frame: (frame.series, frame.instance_number, frame.index, frame.sample)))


def count_phases(groups: Iterable[Sequence[Frame]], *, most: int = 3) -> int:
    """Return how many phases most positions have, at most `most`; of equally frequent counts the larger."""
    counts = Counter(min(len(group), most) for group in groups)
    return max(counts, key=lambda count: (counts[count], count), default=0)
