"""Claims about where slices stand in their stacks."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcdx.imaging.frames import Frame
from bcdx.imaging.placement import MIXED_GRIDS, UNEVEN, find_edges, find_mixed, rank_slices, remark_geometry

SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def make_slice(x_mm: float, **facts: Any) -> Frame:
    """A sagittal slice at x; the left breast is where x is above 0."""
    name = f"{facts.get('series', 's')}@{x_mm}#{facts.get('index', 0)}"
    base: dict[str, Any] = {
        "path": name, "index": 0, "patient": "p", "study": "t", "series": "s", "instance": name, "sample": name,
        "split_digest": "d", "modality": "MR", "plane": "sagittal", "laterality": "L" if x_mm > 0 else "R",
        "orientation": SAGITTAL, "position_mm": (x_mm, 0.0, 0.0), "shape": (8, 8), "spacing_mm": (1.0, 1.0),
    }  # fmt: skip
    return Frame(**{**base, **facts})


def make_stack(*x_mm: float, **facts: Any) -> list[Frame]:
    return [make_slice(x, **facts) for x in x_mm]


@given(st.permutations([-60.0, -57.0, -54.0, 54.0, 57.0, 60.0]))
def test_rank_counts_each_breast_of_a_bilateral_stack_on_its_own(order: list[float]) -> None:
    """Whatever the order of files, ranks go along x and start anew at the other breast."""
    frames = make_stack(*order)
    actual = [rank for _, rank in sorted((f.position_mm[0], rank_slices(frames)[f.sample]) for f in frames)]  # type: ignore[index]
    # the normal of this orientation points along -x
    assert actual in ([0, 1, 2, 0, 1, 2], [2, 1, 0, 2, 1, 0])


def test_phases_of_a_position_share_a_rank() -> None:
    """Three passes over four positions have four ranks, not twelve."""
    frames = [frame for series in "abc" for frame in make_stack(40, 43, 46, 49, series=series)]
    assert {0, 1, 2, 3} == set(rank_slices(frames).values())


def test_frames_without_a_position_rank_by_instance_number() -> None:
    """Mammograms and plain images have no place in space."""
    frames = [make_slice(float(n), position_mm=None, instance_number=n) for n in (7, 3, 5)]
    assert {"s@3.0#0": 0, "s@5.0#0": 1, "s@7.0#0": 2} == rank_slices(frames)


def test_edges_are_taken_at_both_ends_of_each_breast() -> None:
    """Two breasts of five slices each lose two times two."""
    left, right = [40.0, 43.0, 46.0, 49.0, 52.0], [-40.0, -43.0, -46.0, -49.0, -52.0]
    edges = find_edges(make_stack(*left, *right), 1)
    assert {f"s@{x}#0" for x in (40.0, 52.0, -40.0, -52.0)} == edges
    assert set() == find_edges(make_stack(*left), 0)


def test_edges_leave_nothing_of_a_short_stack() -> None:
    """Asked for more than a stack has, all of it is edge."""
    assert 3 == len(find_edges(make_stack(40, 43, 46), 2))


def test_series_of_several_planes_is_mixed() -> None:
    """A three-plane localizer without telling words is known by its orientations; a flipped normal is one plane."""
    flipped = (0.0, -1.0, 0.0, 0.0, 0.0, -1.0)
    frames = [
        *make_stack(1, 2, series="one"),
        make_slice(3, series="one", orientation=flipped),
        *make_stack(1, 2, series="three"),
        make_slice(3, series="three", orientation=AXIAL),
    ]
    assert {"three"} == find_mixed(frames)


@pytest.mark.parametrize(
    ("x_mm", "expected"),
    [
        ((40, 43, 46, 49, 52), set()),
        ((40, 43, 46, 52, 55), {UNEVEN}),  # one slice is missing
        ((40, 43.2, 46, 49.1, 52), set()),  # rounded headers
        ((40, 43, 44, 49, 52), {UNEVEN}),  # one has moved
        ((40, 52), set()),  # too few to tell
    ],
)
def test_uneven_gaps_are_remarked(x_mm: tuple[float, ...], expected: set[str]) -> None:
    """A missing or moved slice shows in the gaps of its stack."""
    assert expected == set(remark_geometry(make_stack(*x_mm)).values())


def test_series_on_two_grids_is_remarked() -> None:
    """Different pixel spacings in one series are worth a look."""
    frames = [*make_stack(40, 43), make_slice(46, spacing_mm=(0.5, 0.5))]
    assert {MIXED_GRIDS} == set(remark_geometry(frames).values())
