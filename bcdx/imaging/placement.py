"""Frames in; stacks of parallel slices, where each slice stands in its stack, and what is odd about it, out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from bcdx.imaging.frames import Frame
from bcdx.imaging.geometry import slice_normal

Key = tuple[object, ...]

MIXED_ORIENTATIONS = "its series mixes orientations"
MIXED_GRIDS = "its series mixes pixel spacings or sizes"
UNEVEN = "uneven slice spacing: a position is missing or moved"
PARALLEL = 0.97
"""Cosine (14 degrees) above which two slice normals count as one orientation."""
GAP_TOLERANCE = 0.1
"""Of the stack's median gap; a neighbour farther off or nearer means a slice that is missing or moved."""


def has_position(frame: Frame) -> bool:
    """Return whether it is known where the frame lies."""
    return frame.position_mm is not None and frame.orientation is not None


def grid_key(frame: Frame) -> Key:
    """Return what frames on one pixel grid of one study have in common, wherever they stand along it.

    A frame without a position belongs to its series.
    """
    orientation = frame.orientation
    if orientation is None or not has_position(frame):
        return frame.study, frame.series, frame.shape
    return (
        frame.study,
        frame.frame_of_reference,
        tuple(round(value, 4) + 0.0 for value in orientation),  # + 0.0: no negative zero
        frame.shape,
        tuple(round(value, 4) for value in frame.spacing_mm),
    )


def stack_key(frame: Frame) -> Key:
    """Return what the slices of one stack have in common: the grid, and the breast, so that bilateral stacks split."""
    return (*grid_key(frame), frame.laterality)


def depth_mm(frame: Frame) -> float:
    """Return how far along its slice normal a frame stands, mm; without a position its InstanceNumber and index."""
    if frame.orientation is None or frame.position_mm is None:
        return frame.instance_number + frame.index / 1e5
    return float(slice_normal(frame.orientation) @ np.asarray(frame.position_mm))


def rank_slices(frames: Iterable[Frame]) -> dict[str, int]:
    """Return sample -> rank of its position within its stack, from 0; phases of one position share a rank."""
    ranks: dict[str, int] = {}
    for members in group_by(frames, stack_key).values():
        depths = sorted({_rounded(frame) for frame in members})
        place = {depth: rank for rank, depth in enumerate(depths)}
        ranks.update({frame.sample: place[_rounded(frame)] for frame in members})
    return ranks


def find_edges(frames: Sequence[Frame], count: int) -> set[str]:
    """Return the samples at the outermost `count` positions of either end of each stack."""
    edges: set[str] = set()
    if not count:
        return edges
    ranks = rank_slices(frames)
    for members in group_by(frames, stack_key).values():
        last = max(ranks[frame.sample] for frame in members)
        edges |= {one.sample for one in members if min(ranks[one.sample], last - ranks[one.sample]) < count}
    return edges


def find_mixed(frames: Iterable[Frame]) -> set[str]:
    """Return the series whose frames do not share one orientation, as those of a three-plane localizer."""
    mixed = set()
    for series, members in group_by(frames, lambda frame: (frame.series,)).items():
        normals = np.array([slice_normal(one.orientation) for one in members if one.orientation is not None])
        if len(normals) > 1 and np.abs(normals @ normals[0]).min() < PARALLEL:
            mixed.add(str(series[0]))
    return mixed


def remark_geometry(frames: Sequence[Frame]) -> dict[str, str]:
    """Return sample -> remark for frames of series on several grids and of stacks with uneven gaps."""
    remarks: dict[str, str] = {}
    for members in group_by(frames, lambda frame: (frame.series,)).values():
        if len({(frame.shape, *(round(one, 4) for one in frame.spacing_mm)) for frame in members}) > 1:
            remarks.update({frame.sample: MIXED_GRIDS for frame in members})
    for members in group_by(frames, lambda frame: (*stack_key(frame), frame.series)).values():
        if members[0].position_mm is not None and _is_uneven(members):
            remarks.update({frame.sample: UNEVEN for frame in members})
    return remarks


def _is_uneven(members: Sequence[Frame]) -> bool:
    depths = sorted({_rounded(frame) for frame in members})
    gaps = np.array([after - before for before, after in pairwise(depths)])
    if len(gaps) < 3:
        return False
    typical = float(np.median(gaps))
    return bool((np.abs(gaps - typical) > GAP_TOLERANCE * typical).any())


def _rounded(frame: Frame) -> float:
    return round(depth_mm(frame), 2) if frame.position_mm is not None else depth_mm(frame)


def group_by(frames: Iterable[Frame], key: Callable[[Frame], Key]) -> Mapping[Key, list[Frame]]:
    """Return key -> frames, in the order of first appearance."""
    groups: dict[Key, list[Frame]] = {}
    for frame in frames:
        groups.setdefault(key(frame), []).append(frame)
    return groups
