"""Claims about stacks: which images make one, and which one a lesion was drawn on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from bcdx.imaging.drawn import Lesion, Patch, Place
from bcdx.imaging.frames import Frame
from bcdx.imaging.stacks import AMBIGUOUS, NO_STACK, find_slices, group_stacks

SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def make_series(series: str, places: Sequence[float], *, first: int = 1, **known: Any) -> list[Frame]:
    """A sagittal series with slices at these x, numbered in order."""
    base: dict[str, Any] = {
        "path": "/p", "index": 0, "patient": "P", "study": "S", "series": series, "split_digest": "", "shape": (8, 8),
        "spacing_mm": (1.0, 1.0), "orientation": SAGITTAL, "frame_of_reference": "F",
    }  # fmt: skip
    return [
        Frame(**{**base, "instance": f"{series}{number}", "sample": f"{series}{number}", "instance_number": number,
                 "position_mm": (place, -4.0, 4.0), **known})
        for number, place in enumerate(places, start=first)
    ]  # fmt: skip


def numbered(*numbers: int, row: int = 0, column: int = 0) -> Lesion:
    """A lesion on slices with these numbers."""
    return Lesion("K", "P", tuple(Patch(row, column, np.ones((2, 2), bool), number=number) for number in numbers))


def placed(*places: float, **changed: Any) -> Lesion:
    """A lesion on sagittal slices at these x."""
    where = {"frame_of_reference": "F", "orientation": SAGITTAL, "spacing_mm": (1.0, 1.0)}
    shape = changed.pop("shape", (8, 8))
    patches = [
        Patch(
            0, 0, np.ones((2, 2), bool), place=Place(**{**where, "position_mm": (x, -4.0, 4.0), **changed}), shape=shape
        )
        for x in places
    ]
    return Lesion("K", "P", tuple(patches))


def find(lesion: Lesion, *series: Sequence[Frame]) -> set[tuple[str, ...]] | str:
    """The samples on each slice of the lesion, or why there are none; the order of frames makes no difference."""
    frames = [frame for one in series for frame in one]
    answers = []
    for seed in range(3):
        random.Random(seed).shuffle(frames)
        found = find_slices(lesion, group_stacks(frames))
        answers.append(found if isinstance(found, str) else samples(found))
    assert answers == [answers[0]] * 3
    return answers[0]


def samples(found: Any) -> set[tuple[str, ...]]:
    stack, positions = found
    return {tuple(frame.sample for frame in stack.frames[position]) for position in positions}


SLICES = [40.0, 43.0, 46.0, 49.0]


def test_phases_of_a_position_share_a_lesion() -> None:
    """Whatever the series they are in."""
    assert {("a2", "b2"), ("a3", "b3")} == find(numbered(2, 3), make_series("a", SLICES), make_series("b", SLICES))


@pytest.mark.parametrize("name", ["study", "frame_of_reference", "shape", "spacing_mm", "orientation"])
def test_images_on_another_grid_are_another_stack(name: str) -> None:
    """Study, frame of reference, orientation, shape and spacing make a stack; a lesion then fits two."""
    other = {"shape": (16, 16), "spacing_mm": (1.0, 2.0), "orientation": (0.0, 0.0, -1.0, 0.0, 1.0, 0.0)}
    two = make_series("a", SLICES), make_series("b", SLICES, **{name: other.get(name, "other")})
    assert 2 == len(group_stacks([*two[0], *two[1]]))
    assert AMBIGUOUS == find(numbered(2, 3), *two)


def test_stack_with_phases_is_the_one_that_readers_drew_on() -> None:
    """If there is exactly one; a copy of a file is no phase."""
    flat = make_series("a", SLICES, shape=(16, 16))
    dynamic = make_series("b", SLICES), make_series("c", SLICES)
    assert {("b2", "c2"), ("b3", "c3")} == find(numbered(2, 3), flat, *dynamic)
    more = make_series("d", SLICES, shape=(9, 9)), make_series("e", SLICES, shape=(9, 9))
    assert AMBIGUOUS == find(numbered(2, 3), flat, *dynamic, *more)
    copies = (
        make_series("b", SLICES, index=0),
        [Frame(**{**vars(one), "sample": f"{one.sample}-1"}) for one in dynamic[0]],
    )
    assert AMBIGUOUS == find(numbered(2, 3), flat, *copies)


@pytest.mark.parametrize(
    "lesion",
    [
        numbered(4, 5),
        numbered(9),
        numbered(2, row=7),
        numbered(2, column=7),
        placed(40.0, 52.0),
        placed(41.0),
        placed(40.0, shape=(16, 16)),
    ],
)
def test_lesion_beyond_the_images_fits_none(lesion: Lesion) -> None:
    """A slice that is missing, or pixels that are."""
    assert NO_STACK == find(lesion, make_series("a", SLICES))


def test_series_of_one_pass_says_where_numbers_lie() -> None:
    """One that holds several passes, a position at a time, numbers them otherwise."""
    passes = [place for place in SLICES for _ in range(3)]
    one, all_passes = make_series("a", SLICES), make_series("b", passes)
    assert {("a3", "b7", "b8", "b9")} == find(numbered(3), one, all_passes)
    assert {("a3", "b7", "b8", "b9"), ("a4", "b10", "b11", "b12")} == find(numbered(3, 4), one, all_passes)


def test_series_that_stacks_passes_is_believed_where_there_is_no_other() -> None:
    """A lesion on its second pass lies on the same slices."""
    assert {("a2", "a6"), ("a3", "a7")} == find(numbered(6, 7), make_series("a", SLICES * 2))


@pytest.mark.parametrize("numbers", [(4, 5), (3, 4, 5, 6)])
def test_numbers_that_run_over_into_the_next_pass_make_no_lesion(numbers: tuple[int, ...]) -> None:
    """Its slices would lie at both ends of the breast."""
    assert NO_STACK == find(numbered(*numbers), make_series("a", SLICES * 2))


def test_numbers_of_one_position_make_no_lesion() -> None:
    """A series that holds a position's phases one after another."""
    assert NO_STACK == find(numbered(1, 2), make_series("a", [40.0, 40.0, 43.0, 43.0]))


def test_series_that_contradict_each_other_settle_nothing() -> None:
    """Two of one stack, numbered in opposite directions."""
    assert AMBIGUOUS == find(numbered(1, 2), make_series("a", SLICES), make_series("b", SLICES[::-1]))


def test_dynamic_positions_are_believed_before_others() -> None:
    """Another series on the same grid, at positions of its own, numbers its slices from 1, too."""
    other = make_series("t", [value + 1.5 for value in SLICES])
    dynamic = make_series("a", SLICES), make_series("b", SLICES)
    assert {("a2", "b2"), ("a3", "b3")} == find(numbered(2, 3), other, *dynamic)
    assert {("a2", "a6"), ("a3", "a7")} == find(numbered(2, 3), other, make_series("a", SLICES * 2))


def test_images_of_another_kind_share_a_lesion_but_are_no_phases() -> None:
    """On one grid what was drawn on one kind lies on the other; yet two kinds do not make a dynamic stack."""
    first, second = make_series("a", SLICES, kind="t1"), make_series("b", SLICES, kind="t2")
    assert {("a2", "b2")} == find(numbered(2), first, second)
    assert AMBIGUOUS == find(numbered(2), first, second, make_series("c", SLICES, shape=(16, 16)))


def test_slices_may_be_numbered_in_either_direction() -> None:
    """And need not be all there between those with a lesion."""
    assert {("a2",), ("a4",)} == find(numbered(2, 4), make_series("a", [*SLICES[::-1]]))


def test_frames_without_a_position_are_found_by_number() -> None:
    """Each stands for itself."""
    frames = make_series("a", SLICES, position_mm=None, orientation=None)
    assert {("a2",), ("a3",)} == find(numbered(2, 3), frames)


def test_numbers_do_not_reach_into_enhanced_objects() -> None:
    """All their frames have one InstanceNumber."""
    frames = [
        Frame(**{**vars(one), "instance": "a", "index": index, "instance_number": 2})
        for index, one in enumerate(make_series("a", SLICES))
    ]
    assert NO_STACK == find(numbered(2), frames)


def test_place_is_found_within_rounding() -> None:
    """Converters round positions, spacing and cosines."""
    rounded = placed(43.04, spacing_mm=(1.0005, 1.0), orientation=(0.0, 1.0, 2e-10, 0.0, 0.0, -1.0))
    assert {("a2",)} == find(rounded, make_series("a", SLICES))


@pytest.mark.parametrize(
    "changed",
    [
        {"frame_of_reference": "G"},
        {"spacing_mm": (0.9, 1.0)},
        {"orientation": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)},
        {"position_mm": (43.0, -3.0, 4.0)},  # a pixel aside
        {"shape": (16, 16)},
    ],
)
def test_place_on_another_grid_fits_none(changed: dict[str, Any]) -> None:
    """Pixels would not lie where they were drawn."""
    assert NO_STACK == find(placed(43.0, **changed), make_series("a", SLICES))


def test_images_that_were_drawn_on_are_found_without_a_place() -> None:
    """By instance and, in objects of many frames, by frame; several must be phases of one position."""
    mask = np.ones((2, 2), bool)
    two = make_series("a", SLICES), make_series("b", SLICES)
    named = [
        (("a2", None),), (("a2", 0),), (("a2", None), ("b2", None)), (("a2", 1),), (("a2", None), ("b3", None)), (),
    ]  # fmt: skip
    found = [find(Lesion("K", "P", (Patch(0, 0, mask, images=images),)), *two) for images in named]
    assert [{("a2", "b2")}] * 3 + [NO_STACK] * 3 == found


def test_images_give_way_to_a_place() -> None:
    """Some writers name all images of the series for every slice."""
    (patch,) = placed(43.0).patches
    lesion = Lesion("K", "P", (Patch(0, 0, patch.mask, place=patch.place, images=(("a3", None),), shape=(8, 8)),))
    assert {("a2",)} == find(lesion, make_series("a", SLICES))
    for unplaced in ({"frame_of_reference": ""}, {"orientation": None}, {"position_mm": None}):
        assert {("a3",)} == find(lesion, make_series("a", SLICES, **unplaced))


def test_dynamic_series_beats_one_of_another_kind_on_its_grid() -> None:
    """A T2 that numbers the same slices from the other end is not what was drawn on."""
    dynamic, t2 = make_series("a", SLICES * 2), make_series("b", SLICES[::-1], kind="t2")
    assert ("a2", "a6") == next(iter(find(numbered(2), dynamic, t2)))[:2]


def test_plain_series_that_contradicts_a_dynamic_one_settles_nothing() -> None:
    """Nobody can tell which of the two numberings the reader saw."""
    dynamic, plain = make_series("a", SLICES * 2), make_series("b", SLICES[::-1])
    assert AMBIGUOUS == find(numbered(1, 2), dynamic, plain)
