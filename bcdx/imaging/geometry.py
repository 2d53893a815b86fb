"""Plane and laterality from the patient coordinate system (LPS, mm: +x is the patient's left)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

PLANES = ("sagittal", "coronal", "axial")
MIDLINE_MM = 20.0
"""A slice centre nearer to the midline than this belongs to no breast in particular."""

Vector = NDArray[np.float64]


def slice_normal(orientation: Sequence[float]) -> Vector:
    """Return the unit normal of ImageOrientationPatient, shape (3,); not to be written to."""
    return _find_normal(tuple(orientation))


@lru_cache(maxsize=1024)  # all slices of a stack have the same
def _find_normal(orientation: tuple[float, ...]) -> Vector:
    row, column = np.asarray(orientation[:3], np.float64), np.asarray(orientation[3:], np.float64)
    normal: Vector = np.cross(row, column)
    length = float(np.linalg.norm(normal))
    return normal / length if length > 0 else normal


def find_plane(orientation: Sequence[float] | None) -> str:
    """Return the plane whose axis is nearest to the slice normal, "unknown" for want of one or at a tie."""
    if orientation is None:
        return "unknown"
    sizes = np.abs(slice_normal(orientation))
    order = np.argsort(sizes)
    if sizes[order[2]] - sizes[order[1]] < 1e-3:
        return "unknown"
    return PLANES[int(order[2])]


def find_laterality(
    orientation: Sequence[float] | None,
    position_mm: Sequence[float] | None,
    spacing_mm: tuple[float, float],
    shape: tuple[int, int],
) -> tuple[str, str]:
    """Return ("L" | "R" | "unknown", reason) from where the slice lies.

    Args:
        orientation: ImageOrientationPatient, 6 direction cosines.
        position_mm: ImagePositionPatient, the centre of the first pixel.
        spacing_mm: Row and column spacing.
        shape: Rows and columns.
    """
    if orientation is None or position_mm is None or min(spacing_mm) <= 0:
        return "unknown", "no laterality tag and no geometry"
    corners = _corners_x(orientation, position_mm, spacing_mm, shape)
    centre, low, high = float(corners.mean()), float(corners.min()), float(corners.max())
    if low < -MIDLINE_MM and high > MIDLINE_MM:
        return "unknown", "the image spans both sides"
    if abs(centre) < MIDLINE_MM:
        return "unknown", f"slice centre within {MIDLINE_MM:g} mm of the midline"
    return ("L" if centre > 0 else "R"), "geometry"


def _corners_x(
    orientation: Sequence[float],
    position_mm: Sequence[float],
    spacing_mm: tuple[float, float],
    shape: tuple[int, int],
) -> Vector:
    # the first three cosines run along a row (columns count), the last three down a column (rows count)
    along = orientation[0] * spacing_mm[1] * (shape[1] - 1)
    down = orientation[3] * spacing_mm[0] * (shape[0] - 1)
    return position_mm[0] + np.array([0.0, along, down, along + down])
