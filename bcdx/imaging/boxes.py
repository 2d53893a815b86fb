"""A table of lesion boxes in, such as that of Duke-Breast-Cancer-MRI; lesions out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from bcdx.config import Labels
from bcdx.errors import LabelError
from bcdx.imaging.drawn import MAX_SIDE, Lesion, Patch
from bcdx.imaging.identity import Pseudonyms
from bcdx.imaging.labels import Row, read_rows

PATIENT = "patientid"
NUMBERS = ("startrow", "endrow", "startcolumn", "endcolumn", "startslice", "endslice")
"""Columns, without blanks, underscores and capitals. All count from 1 and are inclusive; slices are InstanceNumbers."""

DAMAGED = "a box of the patient that is none"


def read_boxes(path: Path, labels: Labels, pseudonyms: Pseudonyms) -> tuple[Lesion, ...]:
    """Return a lesion for each row; a row whose numbers make no box becomes a lesion with a reason.

    Raises:
        LabelError: It cannot be read as a table, lacks a column, or a row names no patient.
    """
    rows = read_rows(path, labels)
    names = _find_columns(path, rows[0])
    return tuple(_read_lesions(path, rows, names, pseudonyms))


def _find_columns(path: Path, row: Row) -> Mapping[str, str]:
    """Return column as it is known here -> as the table writes it."""
    written = {re.sub(r"[^a-z]", "", name.lower()): name for name in row}
    missing = [name for name in (PATIENT, *NUMBERS) if name not in written]
    if missing:
        raise LabelError(
            f"{path}: a table of boxes needs the columns Patient ID, Start Row, End Row, Start Column, End Column, "
            f"Start Slice and End Slice; it has {', '.join(map(repr, row))}"
        )
    return written


def _read_lesions(path: Path, rows: list[Row], names: Mapping[str, str], pseudonyms: Pseudonyms) -> Iterator[Lesion]:
    for line, row in enumerate(rows, start=2):
        if not any(value.strip() for value in row.values()):
            continue  # spreadsheets end in lines of commas
        patient = row[names[PATIENT]].strip()
        if not patient:
            raise LabelError(f"{path}, row {line}: a box without Patient ID")
        values = [row[names[name]].strip() for name in NUMBERS]
        patches = _make_patches(values)
        key = pseudonyms.code("lesion", f"{patient}:{line}:{','.join(values)}")
        yield Lesion(key, pseudonyms.code("PatientID", patient), patches, "" if patches else DAMAGED, path)


def _make_patches(values: list[str]) -> tuple[Patch, ...]:
    """Return the slices of a box; none where the six values make no box."""
    numbers = [_read_number(value) for value in values]
    top, bottom, left, right, first, last = numbers
    if min(numbers) < 1 or max(numbers) > MAX_SIDE or top > bottom or left > right or first > last:
        return ()
    mask = np.broadcast_to(np.True_, (bottom - top + 1, right - left + 1))  # takes no memory
    return tuple(Patch(top - 1, left - 1, mask, number=number) for number in range(first, last + 1))


def _read_number(text: str) -> int:
    """Return a whole number, as spreadsheets write it, too (83.0); 0 for anything else."""
    match = re.fullmatch(r"(\d{1,9})(?:\.0*)?", text, re.ASCII)
    return int(match[1]) if match else 0
