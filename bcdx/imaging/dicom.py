"""Read what a DICOM file says of its frames, without their pixels."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from bcdx.errors import DicomError
from bcdx.imaging.frames import MAX_PIXELS, Frame, TimeKeys
from bcdx.imaging.geometry import find_laterality, find_plane
from bcdx.imaging.identity import Pseudonyms, split_digest

logger = logging.getLogger(__name__)

MALFORMED = (ValueError, TypeError, KeyError, AttributeError, IndexError, NotImplementedError, OverflowError, EOFError)
"""What pydicom raises on elements that do not hold what they should."""

NOT_IMAGES = {
    "1.2.840.10008.5.1.4.1.1.66.4": "a segmentation, not an image",
    "1.2.840.10008.5.1.4.1.1.66.5": "a surface segmentation, not an image",
    "1.2.840.10008.1.3.10": "a directory of files, not an image",
}
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
GREY = ("MONOCHROME1", "MONOCHROME2")


def is_dicom(path: Path) -> bool:
    """Return whether the file's first bytes are those of DICOM, with or without the preamble."""
    with path.open("rb") as file:
        head = file.read(132)
    if head[128:] == b"DICM":
        return True
    # without a preamble a file starts with a group 0002 or 0008 element, little or big endian
    return head[:4] in {b"\x08\x00\x05\x00", b"\x08\x00\x00\x00", b"\x08\x00\x08\x00", b"\x08\x00\x16\x00"} or (
        head[:2] in {b"\x02\x00", b"\x00\x08"} and len(head) == 132
    )


def read_header(path: Path) -> Dataset:
    """Return the file's elements, large values left on disk.

    Raises:
        DicomError: It cannot be read as DICOM.
    """
    try:
        return pydicom.dcmread(path, force=True, defer_size="2 KB", specific_tags=None, stop_before_pixels=False)
    except (InvalidDicomError, OSError, *MALFORMED) as error:
        logger.debug("%s: %s", path, error)
        raise DicomError("damaged DICOM") from error


@dataclass(frozen=True)
class Origin:
    """Where a file lies and who it is of, before anything is coded.

    Attributes:
        path: The file.
        name: Its path within the collection.
        patient: Identifier from outside the file, for files that carry no PatientID.
        pseudonyms: Turns identifiers into codes.
        salt: Of the split.
    """

    path: Path
    name: str
    patient: str | None
    pseudonyms: Pseudonyms
    salt: str


def read_dicom_frames(origin: Origin) -> list[Frame]:
    """Return the frames of one DICOM file.

    Raises:
        DicomError: It holds no grey image that can be used; `reason` says why.
    """
    ds = read_header(origin.path)
    _check_image(ds)
    try:
        patient = str(ds.get("PatientID") or "").strip() or origin.patient
        if patient is None:
            raise DicomError("no PatientID")
        frames = range(_count_frames(ds))
        return [_describe_frame(ds, origin, patient, index) for index in frames]
    except MALFORMED as error:
        logger.debug("%s: %s", origin.path, error)
        raise DicomError("damaged DICOM header") from error


def frame_item(ds: Dataset, index: int, sequence: str) -> Dataset | None:
    """Return the one item of a functional group: the frame's own, else the shared one, else None."""
    groups: list[Any] = []
    per_frame = ds.get("PerFrameFunctionalGroupsSequence")
    if per_frame and index < len(per_frame):
        groups.append(per_frame[index])
    groups += list(ds.get("SharedFunctionalGroupsSequence") or [])
    for group in groups:
        items = group.get(sequence)
        if items:
            item: Dataset = items[0]
            return item
    return None


def _check_image(ds: Dataset) -> None:
    reason = NOT_IMAGES.get(str(ds.get("SOPClassUID", "")))
    if reason is None and not any(name in ds for name in PIXELS):
        reason = "no pixel data"
    elif reason is None and (ds.get("SamplesPerPixel", 1) != 1 or ds.get("PhotometricInterpretation") not in GREY):
        reason = "not a grey image"
    elif reason is None:
        reason = _check_size(ds)
    if reason:
        raise DicomError(reason)


def _check_size(ds: Dataset) -> str | None:
    rows, columns = ds.get("Rows"), ds.get("Columns")
    if not isinstance(rows, int) or not isinstance(columns, int) or rows < 1 or columns < 1:
        return "no Rows or Columns"
    if rows * columns > MAX_PIXELS:
        return f"more than {MAX_PIXELS} pixels"
    if rows < 2 or columns < 2:
        return "smaller than 2 x 2 pixels"
    return None


def _count_frames(ds: Dataset) -> int:
    return max(int(ds.get("NumberOfFrames") or 1), 1)


def _describe_frame(ds: Dataset, origin: Origin, patient: str, index: int) -> Frame:
    shape = (int(ds.Rows), int(ds.Columns))
    orientation = _floats(ds, index, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
    position = _floats(ds, index, "PlanePositionSequence", "ImagePositionPatient", 3)
    spacing = _spacing(ds, index)
    laterality, reason = _tagged_laterality(ds, index)
    if laterality == "unknown":
        laterality, reason = find_laterality(orientation, position, spacing, shape)
    return Frame(
        path=str(origin.path),
        index=index,
        **_codes(ds, origin, patient, index),
        split_digest=split_digest(origin.salt, patient),
        modality=str(ds.get("Modality", "")),
        plane=find_plane(orientation),
        laterality=laterality,
        laterality_reason=reason,
        orientation=orientation,
        position_mm=position,
        shape=shape,
        spacing_mm=spacing,
        time_keys=_time_keys(ds, index),
        instance_number=int(_number(ds, "InstanceNumber") or 0),
        scanner=_scanner(ds),
    )


def _codes(ds: Dataset, origin: Origin, patient: str, index: int) -> dict[str, Any]:
    """Return the keyed codes; a missing study or series falls back to the patient and the folder."""
    pseudonyms = origin.pseudonyms
    study = str(ds.get("StudyInstanceUID") or f"study of {patient}")
    series = str(ds.get("SeriesInstanceUID") or f"series in {Path(origin.name).parent} of {study}")
    instance = str(ds.get("SOPInstanceUID") or f"file {origin.name}")
    reference, site = ds.get("FrameOfReferenceUID"), ds.get("InstitutionName")
    return {
        "patient": pseudonyms.code("PatientID", patient),
        "study": pseudonyms.code("StudyInstanceUID", study),
        "series": pseudonyms.code("SeriesInstanceUID", series),
        "instance": pseudonyms.code("SOPInstanceUID", instance),
        "sample": pseudonyms.code("frame", f"{instance}#{index}"),
        "frame_of_reference": pseudonyms.code("FrameOfReferenceUID", str(reference)) if reference else "",
        "site": pseudonyms.code("InstitutionName", str(site)) if site else "",
    }


def _floats(ds: Dataset, index: int, sequence: str, keyword: str, length: int) -> tuple[float, ...] | None:
    item = frame_item(ds, index, sequence)
    value = item.get(keyword) if item is not None else ds.get(keyword)
    if value is None or not isinstance(value, Sequence | pydicom.multival.MultiValue) or len(value) != length:
        return None
    return tuple(round(float(one), 6) for one in value)


def _spacing(ds: Dataset, index: int) -> tuple[float, float]:
    item = frame_item(ds, index, "PixelMeasuresSequence")
    for source, keyword in ((item, "PixelSpacing"), (ds, "PixelSpacing"), (ds, "ImagerPixelSpacing")):
        value = None if source is None else source.get(keyword)
        if value is not None and len(value) == 2 and min(float(one) for one in value) > 0:
            return float(value[0]), float(value[1])
    return 0.0, 0.0


def _tagged_laterality(ds: Dataset, index: int) -> tuple[str, str]:
    item = frame_item(ds, index, "FrameAnatomySequence")
    found = [("FrameLaterality", item)] if item is not None else []
    for keyword, source in (*found, ("ImageLaterality", ds), ("Laterality", ds)):
        value = str(source.get(keyword) or "").strip().upper()
        if value in {"L", "R"}:
            return value, keyword
    return "unknown", ""


def _time_keys(ds: Dataset, index: int) -> TimeKeys:
    content = frame_item(ds, index, "FrameContentSequence") or Dataset()
    temporal = _number(content, "TemporalPositionIndex")
    if temporal is None:
        temporal = _number(frame_item(ds, index, "TemporalPositionSequence") or ds, "TemporalPositionIdentifier")
    trigger = _number(frame_item(ds, index, "CardiacSynchronizationSequence") or ds, "TriggerTime")
    number = _number(content, "FrameAcquisitionNumber")
    if number is None:
        number = _number(ds, "AcquisitionNumber")
    clock = content.get("FrameAcquisitionDateTime") or ds.get("AcquisitionTime") or ds.get("ContentTime")
    return temporal, trigger, number, _seconds(clock)


def _number(ds: Dataset, keyword: str) -> float | None:
    """Return a numeric element, None where it is missing or does not hold a number."""
    try:
        value = ds.get(keyword)
        return None if value is None or value == "" else float(value)
    except MALFORMED:
        return None


def _seconds(value: Any) -> float | None:
    """Return a DICOM TM or DT value as seconds, for ordering within one study only."""
    match = re.fullmatch(r"(\d{8})?(\d{2})(\d{2})(\d{2}(?:\.\d*)?)?(?:[+-]\d{4})?", str(value or "").strip())
    if match is None:
        return None
    day = int(match[1] or 0)
    return day * 86400.0 + int(match[2]) * 3600.0 + int(match[3]) * 60.0 + float(match[4] or 0.0)


def _scanner(ds: Dataset) -> str:
    strength = _number(ds, "MagneticFieldStrength")
    parts = [str(ds.get("Manufacturer") or ""), str(ds.get("ManufacturerModelName") or "")]
    if strength:
        parts.append(f"{strength:g}T")
    text = " ".join(part.strip() for part in parts if part.strip())
    return re.sub(r"[^\x20-\x7e]", "?", text)[:64]
