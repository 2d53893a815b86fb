"""DICOM SEG objects in; the lesions among their segments, slice by slice, out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array

from bcdx.errors import DicomError, LabelError
from bcdx.imaging.damage import translate_damage
from bcdx.imaging.dicom import Origin, describe_frame, frame_item, is_dicom
from bcdx.imaging.drawn import EMPTY, Lesion, Mask, Patch, Place, crop
from bcdx.imaging.frames import MAX_PIXELS, Frame
from bcdx.imaging.identity import Pseudonyms

SEG_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Segmentation Storage and Label Map Segmentation Storage."""

DAMAGED = "a damaged segmentation of the patient"
HALF = 0.5
"""A voxel belongs to a segment of a fractional object from this share of MaximumFractionalValue on."""


@dataclass(frozen=True)
class _Header:
    """What is read of an object before its segments."""

    path: Path
    patient: str = ""
    instance: str = ""


def list_segmentations(source: Path) -> list[Path]:
    """Return the DICOM SEG objects that `source` is or holds, and what of DICOM in it cannot be read."""
    paths = sorted(source.rglob("*")) if source.is_dir() else [source]
    hidden = (any(part.startswith(".") for part in path.relative_to(source).parts) for path in paths)
    return [path for path, skip in zip(paths, hidden, strict=True) if path.is_file() and not skip and _may_be_seg(path)]


def read_segmentations(paths: Sequence[Path], segments: Sequence[str], pseudonyms: Pseudonyms) -> tuple[Lesion, ...]:
    """Return a lesion for each segment, of each object, that one of `segments` names.

    A name is a SegmentLabel or the meaning of a segment's property type, whatever its case. Objects without such a
    segment give none; a damaged one gives a lesion with a reason.

    Raises:
        LabelError: `segments` is empty or has a name that no object knows; the message lists those there are.
    """
    wanted = {name.strip().casefold() for name in segments}
    known: dict[str, str] = {}
    lesions: list[Lesion] = []
    for path in sorted(paths):
        lesions += _read_object(path, wanted, known, pseudonyms)
    unknown = [name for name in segments if name.strip().casefold() not in known]
    if unknown or not wanted:
        fault = f"no segment is called {unknown[0]!r}" if unknown else "name those segments that are lesions"
        names = ", ".join(repr(known[name]) for name in sorted(known)) or "none that can be read"
        where = f"{len(paths)} DICOM SEG objects" if len(paths) > 1 else str(*paths)
        raise LabelError(f"labels.segments: {fault}; {where}: {names}")
    return tuple(lesions)


def _may_be_seg(path: Path) -> bool:
    try:
        if not is_dicom(path):
            return False
        with translate_damage(path, DAMAGED):
            return pydicom.dcmread(path, force=True, specific_tags=["SOPClassUID"]).get("SOPClassUID") in SEG_CLASSES
    except (OSError, DicomError):
        return True  # reading it says that it is damaged


def _read_object(path: Path, wanted: set[str], known: dict[str, str], pseudonyms: Pseudonyms) -> list[Lesion]:
    header = _Header(path)
    try:
        with translate_damage(path, DAMAGED):
            header = _read_header(path)
            seg = pydicom.dcmread(path, force=True)
            chosen = _choose_segments(seg, wanted, known)
            return [_read_lesion(seg, number, header, pseudonyms) for number in chosen]
    except DicomError as error:
        key = pseudonyms.code("lesion", header.instance or f"file {path.name}")
        patient = pseudonyms.code("PatientID", header.patient) if header.patient else ""
        return [Lesion(key, patient, (), error.reason, path)]


def _read_header(path: Path) -> _Header:
    ds = pydicom.dcmread(path, force=True, specific_tags=["PatientID", "SOPInstanceUID", "Rows", "Columns"])
    if int(ds.Rows) * int(ds.Columns) > MAX_PIXELS:
        raise DicomError(DAMAGED)
    patient = str(ds.get("PatientID") or "").strip()
    if not patient:
        raise DicomError("a segmentation without PatientID")
    return _Header(path, patient, str(ds.SOPInstanceUID))


def _choose_segments(seg: Dataset, wanted: set[str], known: dict[str, str]) -> list[int]:
    """Return the numbers of the segments that are wanted; note the names of all in `known`."""
    chosen = []
    for segment in seg.SegmentSequence:
        meaning = segment.SegmentedPropertyTypeCodeSequence[0].get("CodeMeaning", "")
        names = {str(name).strip() for name in (segment.SegmentLabel, meaning)} - {""}
        known.update({name.casefold(): name for name in sorted(names)})
        if wanted & {name.casefold() for name in names}:
            chosen.append(int(segment.SegmentNumber))
    return chosen


def _read_lesion(seg: Dataset, number: int, header: _Header, pseudonyms: Pseudonyms) -> Lesion:
    origin = Origin(header.path, header.path.name, header.patient, pseudonyms, salt="")
    patches = []
    for index, stored in _read_frames(seg, number):
        part = crop(_threshold(seg, stored, number))
        if part is not None:
            frame = describe_frame(seg, origin, index)
            images = tuple(_list_images(seg, index, pseudonyms))
            patches.append(Patch(*part, place=_find_place(frame), images=images, shape=frame.shape))
    key = pseudonyms.code("lesion", f"{header.instance}#{number}")
    patient = pseudonyms.code("PatientID", header.patient)
    return Lesion(key, patient, tuple(patches), "" if patches else EMPTY, header.path)


def _read_frames(seg: Dataset, number: int) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the frames of a segment and their stored values, one at a time where pydicom can read them so.

    Frames of one bit a pixel may end within a byte; those it can only unpack together.
    """
    shape = int(seg.Rows), int(seg.Columns)
    within = shape[0] * shape[1] * int(seg.BitsAllocated) % 8 > 0
    together = pixel_array(seg).reshape(-1, *shape) if within else None
    for index in range(int(seg.get("NumberOfFrames") or 1)):
        if _shows(seg, index, number):
            yield index, pixel_array(seg, index=index) if together is None else together[index]


def _shows(seg: Dataset, index: int, number: int) -> bool:
    """Return whether a frame is of the segment; those of label maps are of all."""
    if seg.SegmentationType == "LABELMAP":
        return True
    item = frame_item(seg, index, "SegmentIdentificationSequence")
    if item is None:
        raise DicomError(DAMAGED)
    return int(item.ReferencedSegmentNumber) == number


def _threshold(seg: Dataset, stored: NDArray[Any], number: int) -> Mask:
    kind = str(seg.SegmentationType)
    if kind == "LABELMAP":
        return np.asarray(stored == number)
    if kind == "FRACTIONAL":
        return np.asarray(stored >= HALF * float(seg.MaximumFractionalValue))
    return np.asarray(stored != 0)


def _find_place(frame: Frame) -> Place | None:
    """Return where a frame of the object lies, None where it does not say."""
    if frame.orientation is None or frame.position_mm is None or not frame.frame_of_reference:
        return None
    if min(frame.spacing_mm) <= 0:
        return None
    return Place(frame.frame_of_reference, frame.orientation, frame.position_mm, frame.spacing_mm)


def _list_images(seg: Dataset, index: int, pseudonyms: Pseudonyms) -> Iterator[tuple[str, int | None]]:
    """Yield codes and frames (from 0) of the images that a frame was drawn on."""
    derivation = frame_item(seg, index, "DerivationImageSequence")
    for source in (derivation.get("SourceImageSequence") or []) if derivation is not None else []:
        code = pseudonyms.code("SOPInstanceUID", str(source.ReferencedSOPInstanceUID))
        numbers = source.get("ReferencedFrameNumber")
        if numbers is None:
            yield code, None
        else:
            yield from ((code, int(one) - 1) for one in np.atleast_1d(numbers))
