"""Lesion masks of TCGA-Breast-Radiogenomics in, a folder or the published zip of .les files; lesions out.

A .les file is six little-endian uint16, first row, column and slice, then last row, column and slice, all from 1 and
inclusive, and a byte for each voxel of that box, rows fastest, then columns, then slices. Slices are InstanceNumbers of
the series that was read. Descriptions that say row-major are wrong: such masks miss the published tumours.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
from numpy.typing import NDArray

from bcdx.errors import DicomError, LabelError
from bcdx.imaging.damage import translate_damage
from bcdx.imaging.drawn import EMPTY, Lesion, Patch, crop
from bcdx.imaging.identity import Pseudonyms

SUFFIX = ".les"
DAMAGED = "a damaged lesion mask of the patient"
HEADER_BYTES = 12
MAX_BYTES = 2**27
"""A mask that claims more is damaged; the largest breast at 0.5 mm needs half of it."""

_BARCODE = re.compile(r"TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}(?![A-Z0-9])", re.IGNORECASE)


def read_les(source: Path, pseudonyms: Pseudonyms) -> tuple[Lesion, ...]:
    """Return the lesions of a .les file, of all in a folder, or of all in a zip, which is not unpacked.

    A file that is damaged becomes a lesion with a reason.

    Raises:
        LabelError: There is none, or the zip cannot be read.
    """
    lesions = tuple(_read_zip(source, pseudonyms) if _is_zip(source) else _read_files(source, pseudonyms))
    if not lesions:
        raise LabelError(f"{source}: no .les file in it; a table of boxes must be saved as CSV")
    return lesions


def holds_les(source: Path) -> bool:
    """Return whether `source` is a .les file, a zip, or a folder with .les files somewhere below it."""
    return _is_zip(source) or bool(list_les(source))


def find_patient(name: str) -> str:
    """Return the PatientID in a file's name: the TCGA barcode that it starts with, else all but the suffix.

    Behind the barcode may stand the number of the lesion, and S with a number that no public page explains.
    """
    stem = PurePosixPath(name).stem
    match = _BARCODE.match(stem)
    return match[0].upper() if match else stem


def _is_zip(source: Path) -> bool:
    return source.is_file() and source.suffix.lower() != SUFFIX and zipfile.is_zipfile(source)


def _is_les(name: str) -> bool:
    """Return whether a path within the source is a mask: macOS adds ._NAME, and a folder __MACOSX, to a zip."""
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith((".", "__MACOSX")) for part in parts)
    return bool(parts) and not hidden and PurePosixPath(name).suffix.lower() == SUFFIX


def list_les(source: Path) -> list[Path]:
    """Return the .les files that `source` is or holds, in order of their paths."""
    paths = sorted(source.rglob("*")) if source.is_dir() else [source]
    base = source if source.is_dir() else source.parent
    return [path for path in paths if path.is_file() and _is_les(path.relative_to(base).as_posix())]


def _read_files(source: Path, pseudonyms: Pseudonyms) -> Iterator[Lesion]:
    base = source if source.is_dir() else source.parent
    for path in list_les(source):
        name = path.relative_to(base).as_posix()
        try:
            with translate_damage(path, DAMAGED), path.open("rb") as file:
                patches, reason = _parse(file, path.stat().st_size), ""
        except DicomError as error:
            patches, reason = (), error.reason
        yield _make_lesion(name, path, pseudonyms, (patches, reason))


def _read_zip(source: Path, pseudonyms: Pseudonyms) -> Iterator[Lesion]:
    try:
        with zipfile.ZipFile(source) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir() and _is_les(entry.filename)]
            for entry in sorted(entries, key=lambda one: one.filename):
                yield _make_lesion(entry.filename, source, pseudonyms, _read_entry(archive, entry))
    except (OSError, zipfile.BadZipFile) as error:
        raise LabelError(f"{source}: cannot be read as a zip; fetch it again") from error


def _read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> tuple[tuple[Patch, ...], str]:
    try:
        with translate_damage(entry.filename, DAMAGED), archive.open(entry) as file:
            return _parse(file, entry.file_size), ""
    except DicomError as error:
        return (), error.reason


def _make_lesion(name: str, path: Path, pseudonyms: Pseudonyms, read: tuple[tuple[Patch, ...], str]) -> Lesion:
    patches, reason = read
    if not patches and not reason:
        reason = EMPTY
    patient = pseudonyms.code("PatientID", find_patient(name))
    return Lesion(pseudonyms.code("lesion", name), patient, patches, reason, path)


def _parse(file: IO[bytes], size: int) -> tuple[Patch, ...]:
    """Return what the mask covers on each slice, slices that it leaves free left out.

    Args:
        size: Bytes that the file has, or that the zip says it has.
    """
    corners = np.frombuffer(file.read(HEADER_BYTES), "<u2").astype(np.int64)
    first, last = corners[:3], corners[3:]
    if corners.size != 6 or first.min() < 1 or (last < first).any():
        raise DicomError(DAMAGED)
    shape = last - first + 1
    voxels = int(shape.prod())  # below 2**48
    if voxels > MAX_BYTES or size != HEADER_BYTES + voxels:
        raise DicomError(DAMAGED)
    stored = np.frombuffer(file.read(voxels), np.uint8)
    return _cut(stored.reshape(shape, order="F"), first)


def _cut(mask: NDArray[np.uint8], first: NDArray[np.int64]) -> tuple[Patch, ...]:
    patches = []
    for index in range(mask.shape[2]):
        part = crop(mask[:, :, index] != 0)
        if part is not None:
            row, column = int(first[0]) - 1 + part[0], int(first[1]) - 1 + part[1]
            patches.append(Patch(row, column, part[2], number=int(first[2]) + index))
    return tuple(patches)
