"""Frames of one patient in, stacks of slice positions out; a lesion in, the positions that it was drawn on out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from bcdx.imaging.drawn import Lesion, Patch, Place
from bcdx.imaging.frames import Frame
from bcdx.imaging.geometry import slice_normal
from bcdx.imaging.phases import NOT_DYNAMIC, position_key
from bcdx.imaging.placement import Key, grid_key, has_position

NO_STACK = "a lesion of the patient fits no stack of the images"
AMBIGUOUS = "the lesion fits several stacks; narrow `select`"

POSITION_MM = 0.1
"""Objects that were converted round positions; slices lie further apart than this."""
COSINE = 1e-3
"""By which the components of ImageOrientationPatient may differ."""
SPACING = 1e-3
"""By which spacings may differ, relative."""

Positions = tuple[Key, ...]


@dataclass(frozen=True, eq=False)
class Stack:
    """Images of one study on one grid: phases of a position and several series may share it.

    Attributes:
        frames: Slice position -> all images there.
        along_mm: Slice position -> where it lies on the slice normal; nothing where the images do not say.
        sides: Slice position -> the one breast that its images name, else "unknown".
    """

    frames: Mapping[Key, tuple[Frame, ...]] = field(repr=False)
    along_mm: Mapping[Key, float] = field(repr=False)
    sides: Mapping[Key, str] = field(repr=False)

    @property
    def sample(self) -> Frame:
        """One of the images; they share study, frame of reference, orientation, shape and spacing."""
        return next(iter(self.frames.values()))[0]

    def is_dynamic(self, positions: Iterable[Key]) -> bool:
        """Return whether each of the positions has phases: copies are none, nor are images of another kind."""
        return all(_count_phases(self.frames[position]) > 1 for position in positions)

    def list_series(self) -> Iterator[Mapping[Key, tuple[Frame, ...]]]:
        """Yield position -> images for each series in the stack."""
        series: dict[str, dict[Key, list[Frame]]] = {}
        for position, frames in self.frames.items():
            for frame in frames:
                series.setdefault(frame.series, {}).setdefault(position, []).append(frame)
        for found in series.values():
            yield {position: tuple(frames) for position, frames in found.items()}


def group_stacks(frames: Iterable[Frame]) -> list[Stack]:
    """Return the stacks that frames of one patient make, in an order that the frames' does not change."""
    stacks: dict[Key, dict[Key, list[Frame]]] = {}
    for frame in frames:
        stacks.setdefault(grid_key(frame), {}).setdefault(_slice_key(frame), []).append(frame)
    return [_make_stack(stacks[key]) for key in sorted(stacks, key=repr)]


def find_slices(lesion: Lesion, stacks: Sequence[Stack]) -> tuple[Stack, Positions] | str:
    """Return the stack that a lesion was drawn on and the position of each of its patches, or why there is none.

    Of several stacks that it fits the one with dynamic phases is taken, for they are what readers draw on.
    """
    fits = [(stack, positions) for stack in stacks for positions in _fit_stack(lesion, stack)]
    dynamic = [(stack, positions) for stack, positions in fits if stack.is_dynamic(positions)]
    for choice in (fits, dynamic):
        if len(choice) == 1:
            return choice[0]
    return AMBIGUOUS if fits else NO_STACK


def _count(frames: Iterable[Frame]) -> int:
    return len({(frame.instance, frame.index) for frame in frames})


def _count_phases(frames: Iterable[Frame]) -> int:
    kinds: dict[Key, list[Frame]] = {}
    for frame in frames:
        kinds.setdefault(position_key(frame), []).append(frame)
    return max(map(_count, kinds.values()), default=0)


def _slice_key(frame: Frame) -> Key:
    """Return where in its stack an image lies, whatever it shows; without a position each stands for itself."""
    if frame.position_mm is None or not has_position(frame):
        return frame.instance_number, frame.index
    return tuple(round(value, 2) + 0.0 for value in frame.position_mm)


def _make_stack(slices: Mapping[Key, Sequence[Frame]]) -> Stack:
    frames = {key: tuple(sorted(slices[key], key=lambda frame: frame.sample)) for key in sorted(slices, key=repr)}
    along = _measure(frames)
    order = sorted(frames, key=lambda key: along.get(key, 0.0))
    return Stack({key: frames[key] for key in order}, along, {key: _find_side(frames[key]) for key in order})


def _measure(slices: Mapping[Key, Sequence[Frame]]) -> dict[Key, float]:
    """Return where slices lie on their common normal, mm; nothing where they have no position."""
    orientation = next(iter(slices.values()))[0].orientation
    if orientation is None:
        return {}
    normal = slice_normal(orientation)
    places = {key: frames[0].position_mm for key, frames in slices.items()}
    return {key: float(normal @ np.asarray(place)) for key, place in places.items() if place is not None}


def _find_side(frames: Iterable[Frame]) -> str:
    sides = {frame.laterality for frame in frames} - {"unknown"}
    return sides.pop() if len(sides) == 1 else "unknown"


def _fit_stack(lesion: Lesion, stack: Stack) -> set[Positions]:
    """Return the ways in which a lesion fits a stack; more than one where its series contradict each other."""
    rows, columns = stack.sample.shape
    if any(patch.end[0] > rows or patch.end[1] > columns for patch in lesion.patches):
        return set()
    if all(patch.number for patch in lesion.patches):
        return _fit_numbers(lesion.patches, stack)
    found = [_find_patch(patch, stack) for patch in lesion.patches]
    return set() if None in found else {tuple(key for key in found if key is not None)}


def _fit_numbers(patches: Sequence[Patch], stack: Stack) -> set[Positions]:
    """Return the positions of the patches' InstanceNumbers, as the series to be believed have them.

    Those are series of dynamic positions, of the kind that is drawn on, whose numbers go from slice to slice: one that
    holds the passes of a position one after another numbers images.
    """
    ways: dict[Positions, tuple[bool, bool, bool]] = {}
    for series in stack.list_series():
        positions = _look_up(patches, series, stack)
        if positions is not None:
            may_be_phase = any(frame.kind not in NOT_DYNAMIC for frames in series.values() for frame in frames)
            rank = stack.is_dynamic(positions), may_be_phase, _numbers_slices(series)
            ways[positions] = max(rank, ways.get(positions, rank))
    return {positions for positions, rank in ways.items() if rank == max(ways.values())}


def _numbers_slices(series: Mapping[Key, tuple[Frame, ...]]) -> bool:
    """Return whether images that follow each other by number lie on different positions."""
    numbered = {frame.instance_number: position for position, frames in series.items() for frame in frames}
    order = [numbered[number] for number in sorted(numbered)]
    return all(one != other for one, other in pairwise(order))


def _look_up(patches: Sequence[Patch], series: Mapping[Key, tuple[Frame, ...]], stack: Stack) -> Positions | None:
    """Return the position of each patch's InstanceNumber in a series; None unless they make one volume there."""
    numbers: dict[int, set[Key]] = {}
    for position, frames in series.items():
        for frame in frames:
            numbers.setdefault(frame.instance_number, set()).add(position)
    found = [numbers.get(patch.number, set()) for patch in patches]
    if any(len(positions) != 1 for positions in found):
        return None
    positions = tuple(next(iter(one)) for one in found)
    if stack.along_mm and not _is_volume([patch.number for patch in patches], _rank(positions, series)):
        return None
    return positions


def _rank(positions: Positions, series: Iterable[Key]) -> list[int]:
    order = {position: rank for rank, position in enumerate(series)}  # a stack holds its positions in order
    return [order[position] for position in positions]


def _is_volume(numbers: Sequence[int], ranks: Sequence[int]) -> bool:
    """Return whether neighbours by number are neighbours in space, all in one direction; passes and echoes are not."""
    steps = [(new[0] - old[0], new[1] - old[1]) for old, new in pairwise(sorted(zip(numbers, ranks, strict=True)))]
    along = all(0 < rank <= number for number, rank in steps)
    return along or all(0 < -rank <= number for number, rank in steps)


def _find_patch(patch: Patch, stack: Stack) -> Key | None:
    """Return the position that a patch was drawn on: by geometry, else by the images that it names."""
    frame = stack.sample
    if patch.shape not in {None, frame.shape}:
        return None
    if patch.place is None or not has_position(frame) or not frame.frame_of_reference:
        return _find_images(patch, stack)
    return _find_place(patch.place, stack)


def _find_images(patch: Patch, stack: Stack) -> Key | None:
    """Return the one position that the images show that a patch was drawn on."""
    wanted = set(patch.images)
    shown = [
        position
        for position, frames in stack.frames.items()
        if any({(frame.instance, frame.index), (frame.instance, None)} & wanted for frame in frames)
    ]
    return shown[0] if len(shown) == 1 else None


def _find_place(place: Place, stack: Stack) -> Key | None:
    """Return the position of a stack on the same grid that a place is, within `POSITION_MM`."""
    frame = stack.sample
    if frame.frame_of_reference != place.frame_of_reference:
        return None
    if not np.allclose(frame.orientation or (), place.orientation, rtol=0, atol=COSINE):
        return None
    if not np.allclose(frame.spacing_mm, place.spacing_mm, rtol=SPACING, atol=0):
        return None
    keys = list(stack.frames)
    origins = np.array([stack.frames[key][0].position_mm for key in keys], np.float64)
    distances = np.linalg.norm(origins - np.asarray(place.position_mm), axis=1)
    nearest = int(distances.argmin())
    return keys[nearest] if distances[nearest] <= POSITION_MM else None
