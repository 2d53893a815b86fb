"""Claims about plane and laterality from patient coordinates."""

from __future__ import annotations

import pytest

from bcdx.imaging.geometry import find_laterality, find_plane

SAGITTAL, AXIAL, CORONAL = (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0, -1)


@pytest.mark.parametrize(
    ("orientation", "plane"),
    [
        (SAGITTAL, "sagittal"),
        (AXIAL, "axial"),
        (CORONAL, "coronal"),
        ((0.2, 0.98, 0, 0, 0, -1), "sagittal"),  # oblique: the nearest axis
        ((0.70710678, 0.70710678, 0, 0, 0, -1), "unknown"),  # halfway between two
        (None, "unknown"),
    ],
)
def test_find_plane_is_the_axis_nearest_to_the_normal(orientation: tuple[float, ...] | None, plane: str) -> None:
    """A tie is unknown."""
    assert plane == find_plane(orientation)


@pytest.mark.parametrize(
    ("orientation", "position", "side"),
    [
        (SAGITTAL, (80.0, -50.0, 60.0), "L"),  # +x is the patient's left
        (SAGITTAL, (-80.0, -50.0, 60.0), "R"),
        (SAGITTAL, (19.0, -50.0, 60.0), "unknown"),  # within 20 mm of the midline
        (AXIAL, (30.0, -50.0, 0.0), "L"),  # 64 mm of one breast
        (AXIAL, (-100.0, -50.0, 0.0), "R"),
        (AXIAL, (-32.0, -50.0, 0.0), "unknown"),  # centred on the midline
        (None, (80.0, 0.0, 0.0), "unknown"),
    ],
)
def test_find_laterality_goes_by_the_slice_centre(
    orientation: tuple[float, ...] | None, position: tuple[float, ...], side: str
) -> None:
    """64 x 64 pixels of 1 mm."""
    assert side == find_laterality(orientation, position, (1.0, 1.0), (64, 64))[0]


def test_find_laterality_of_both_breasts_is_unknown_with_the_reason() -> None:
    """An axial image of both sides belongs to neither, wherever its centre is."""
    found = find_laterality(AXIAL, (-100.0, -50.0, 0.0), (1.0, 1.0), (64, 300))
    assert found == ("unknown", "the image spans both sides")
