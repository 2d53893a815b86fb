"""What readers drew: each lesion as the pixels it covers on each slice, and by what each slice is found again."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MAX_SIDE = 2**16
"""Rows, columns or slices beyond this are no image's; a number that says so is damaged."""

EMPTY = "a lesion of the patient covers no pixel"

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Place:
    """Where a drawn slice lies; it fits images on the same grid.

    Attributes:
        frame_of_reference: Code of FrameOfReferenceUID.
        orientation: ImageOrientationPatient.
        position_mm: ImagePositionPatient.
        spacing_mm: Row and column spacing.
    """

    frame_of_reference: str
    orientation: tuple[float, ...]
    position_mm: tuple[float, ...]
    spacing_mm: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Patch:
    """What a lesion covers on one slice, which `number` finds again, or else `place` or `images`.

    Attributes:
        row, column: Of the mask's first pixel in the image, from 0.
        mask: bool, shape (rows, columns), no larger than need be.
        number: InstanceNumber in some series of the patient; 0: not known.
        place: Position in space; None: not known.
        images: Codes of SOPInstanceUIDs and frames from 0 that show this slice; None for a frame: all of the object.
        shape: Rows and columns of the whole slice; None: not known.
    """

    row: int
    column: int
    mask: Mask = field(repr=False)
    number: int = 0
    place: Place | None = None
    images: tuple[tuple[str, int | None], ...] = ()
    shape: tuple[int, int] | None = None

    @property
    def end(self) -> tuple[int, int]:
        """One past the last row and column."""
        return self.row + self.mask.shape[0], self.column + self.mask.shape[1]


@dataclass(frozen=True, eq=False)
class Lesion:
    """One lesion of one patient.

    Attributes:
        key: Code of the file and what in it tells the lesion from others.
        patient: Code of PatientID; "" where the file does not say.
        patches: What it covers, a slice each.
        reason: Fixed phrase on why it cannot be used; "" where it can.
        path: The file it was read from, for the terminal and the private index only.
    """

    key: str
    patient: str
    patches: tuple[Patch, ...] = ()
    reason: str = ""
    path: Path = field(default_factory=Path, repr=False)


def crop(mask: Mask) -> tuple[int, int, Mask] | None:
    """Return first row, first column and the smallest part of a mask that holds all it covers; None: nothing."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    row, column = int(rows[0]), int(columns[0])
    return row, column, mask[row : rows[-1] + 1, column : columns[-1] + 1].copy()
