"""Read what a DICOM file says of its frames, without their pixels."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from bcdx.errors import DicomError
from bcdx.imaging.damage import translate_damage
from bcdx.imaging.descriptions import Description, parse_description
from bcdx.imaging.frames import MAX_PIXELS, Frame, TimeKeys
from bcdx.imaging.geometry import find_laterality, find_plane
from bcdx.imaging.header import read_usual_header
from bcdx.imaging.identity import Pseudonyms, split_digest
from bcdx.imaging.stored import Layout, find_layout

logger = logging.getLogger(__name__)

SEGMENTATION = "a segmentation, not an image"
NOT_IMAGES = {
    "1.2.840.10008.5.1.4.1.1.66.4": SEGMENTATION,
    "1.2.840.10008.5.1.4.1.1.66.7": SEGMENTATION,
    "1.2.840.10008.5.1.4.1.1.66.5": "a surface segmentation, not an image",
    "1.2.840.10008.1.3.10": "a directory of files, not an image",
}
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
"""Root of all classes of secondary captures."""
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
GREY = ("MONOCHROME1", "MONOCHROME2")
LATERALITIES = ("", "R", "L", "U", "B")
"""None, right, left, unpaired, both: what ImageLaterality and FrameLaterality may be (DICOM PS3.3 C.7.6.16.2.8)."""
MAX_FRAMES = 2**16
"""A file that claims more frames is left out."""
UNDEFINED_LENGTH = 0xFFFFFFFF
ITEM_HEADER_BYTES = 8
"""Each frame of compressed pixel data is an item at least."""


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
    with translate_damage(path, "damaged DICOM"):
        return read_usual_header(path) or pydicom.dcmread(path, force=True, defer_size="2 KB")


@dataclass(frozen=True)
class Origin:
    """Where a file lies and who it is of, before anything is coded.

    Attributes:
        path: The file.
        name: Its path within the collection.
        patient: PatientID; until the file is read one from outside it, for files that carry none; "": nobody's.
        patient_is_file: The file itself stands for a patient.
        pseudonyms: Turns identifiers into codes.
        salt: Of the split.
    """

    path: Path
    name: str
    patient: str
    pseudonyms: Pseudonyms
    salt: str
    patient_is_file: bool = False


def read_dicom_frames(origin: Origin) -> list[Frame]:
    """Return the frames of one DICOM file.

    Raises:
        DicomError: It holds no grey image that can be used; `reason` says why.
    """
    ds = read_header(origin.path)
    with translate_damage(origin.path, "damaged DICOM header"):
        _check_image(ds)
        origin = _settle_patient(ds, origin)
        count = _count_frames(ds, origin.path.stat().st_size)
        return [describe_frame(ds, origin, index) for index in range(count)]


def _settle_patient(ds: Dataset, origin: Origin) -> Origin:
    """Return the origin with the file's own PatientID, if it has one."""
    patient = str(ds.get("PatientID") or "").strip()
    if patient:
        return replace(origin, patient=patient, patient_is_file=False)
    if not origin.patient:
        raise DicomError("no PatientID")
    return origin


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


def _count_frames(ds: Dataset, file_bytes: int) -> int:
    """Return NumberOfFrames unless the pixel data cannot hold as many: a damaged number may go into the billions."""
    frames = max(int(ds.get("NumberOfFrames") or 1), 1)
    if frames == 1:
        return 1
    name = next(name for name in PIXELS if name in ds)
    element = ds.get_item(name, keep_deferred=True)
    length = element.length if isinstance(element, RawDataElement) else len(element.value or b"")
    if length == UNDEFINED_LENGTH:
        held = file_bytes // ITEM_HEADER_BYTES
    else:
        held = 8 * length // (int(ds.Rows) * int(ds.Columns) * int(ds.get("BitsAllocated") or 8))
    if frames > min(held, MAX_FRAMES):
        raise DicomError("more frames than its pixel data can hold")
    return frames


def describe_frame(ds: Dataset, origin: Origin, index: int) -> Frame:
    """Return what a header says of one frame, from 0."""
    shape = (int(ds.Rows), int(ds.Columns))
    orientation = _floats(ds, index, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
    position = _floats(ds, index, "PlanePositionSequence", "ImagePositionPatient", 3)
    spacing = _spacing(ds, index)
    description = str(ds.get("SeriesDescription") or "")
    told = parse_description(description, _texts(ds, "ImageType")) if ds.get("Modality") == "MR" else Description()
    plane = find_plane(orientation)
    laterality, reason, remarks = _settle_laterality(
        ds, index, told.laterality, find_laterality(orientation, position, spacing, shape)
    )
    if "unknown" not in {plane, told.plane} and plane != told.plane:
        remarks.append(f"plane: description {told.plane}, geometry {plane}")
    return Frame(
        path=str(origin.path),
        index=index,
        **_codes(ds, origin, index),
        split_digest=split_digest(origin.salt, origin.patient),
        patient_is_file=origin.patient_is_file,
        modality=str(ds.get("Modality", "")),
        plane=told.plane if plane == "unknown" else plane,
        laterality=laterality,
        laterality_reason=reason,
        orientation=orientation,
        position_mm=position,
        shape=shape,
        spacing_mm=spacing,
        time_keys=_time_keys(ds, index),
        series_number=int(_read_number(ds, "SeriesNumber") or 0),
        instance_number=int(_read_number(ds, "InstanceNumber") or 0),
        scanner=_scanner(ds),
        description=description,
        kind=told.kind,
        contrast=told.contrast,
        burned_in=str(ds.get("BurnedInAnnotation") or "").strip().upper() == "YES",
        is_capture=str(ds.get("SOPClassUID", "")).startswith(SECONDARY_CAPTURE),
        remarks=tuple(remarks),
        format=_name_format(ds),
        layout=_find_layout(ds, origin, index),
    )


def _find_layout(ds: Dataset, origin: Origin, index: int) -> Layout | None:
    rescale = frame_item(ds, index, "PixelValueTransformationSequence") or ds
    return find_layout(ds, index, rescale, origin.path.stat().st_size)


def _name_format(ds: Dataset) -> str:
    syntax = ds.file_meta.get("TransferSyntaxUID") if hasattr(ds, "file_meta") else None
    return ", ".join(part for part in ("DICOM", str(ds.get("Modality") or ""), syntax.name if syntax else "") if part)


def _settle_laterality(ds: Dataset, index: int, told: str, found: tuple[str, str]) -> tuple[str, str, list[str]]:
    """Return laterality, its source, and a remark for each source that says otherwise or nothing that is known.

    A tag of the image comes first, then where it lies, then the tag of its series, for a series may hold both breasts,
    and the description at last.
    """
    of_image, of_series, remarks = _tagged_laterality(ds, index)
    sources = [of_image, found, of_series, (told, "description")]
    known = [(side, source) for side, source in sources if side in {"L", "R"}]
    if not known:
        return found[0], found[1], remarks
    side, source = known[0]
    remarks += [f"laterality: {other} {says}, {source} {side}" for says, other in known[1:] if says != side]
    return side, source, remarks


def _texts(ds: Dataset, keyword: str) -> tuple[str, ...]:
    value = ds.get(keyword) or ()
    return (value,) if isinstance(value, str) else tuple(str(one) for one in value)


def _codes(ds: Dataset, origin: Origin, index: int) -> dict[str, Any]:
    """Return the keyed codes; a missing study or series falls back to the patient and the folder."""
    pseudonyms, patient = origin.pseudonyms, origin.patient
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


def _tagged_laterality(ds: Dataset, index: int) -> tuple[tuple[str, str], tuple[str, str], list[str]]:
    """Return (laterality, keyword) of the image's own tag and of its series', and remarks; "unknown" where missing."""
    item = frame_item(ds, index, "FrameAnatomySequence")
    found, remarks = [], []
    for keyword, source in (("FrameLaterality", item), ("ImageLaterality", ds), ("Laterality", ds)):
        value = "" if source is None else str(source.get(keyword) or "").strip().upper()
        found.append((value if value in {"L", "R"} else "unknown", keyword))
        if value not in LATERALITIES:
            remarks.append(f"laterality: {keyword} holds a code that DICOM does not know")  # which may be anything
    return found[0] if found[0][0] != "unknown" else found[1], found[2], remarks


def _time_keys(ds: Dataset, index: int) -> TimeKeys:
    content = frame_item(ds, index, "FrameContentSequence") or Dataset()
    position = frame_item(ds, index, "TemporalPositionSequence") or ds
    trigger = frame_item(ds, index, "CardiacSynchronizationSequence") or ds
    acquired = content.get("FrameAcquisitionDateTime") or ds.get("AcquisitionDateTime")
    return TimeKeys(
        temporal_position=_first(
            _read_number(content, "TemporalPositionIndex"), _read_number(position, "TemporalPositionIdentifier")
        ),
        trigger_time=_read_number(trigger, "TriggerTime"),
        acquisition_number=_first(
            _read_number(content, "FrameAcquisitionNumber"), _read_number(ds, "AcquisitionNumber")
        ),
        acquisition_time=_first(_seconds(acquired), _clock(ds, "Acquisition")),
        content_time=_clock(ds, "Content"),
    )


def _first(value: float | None, other: float | None) -> float | None:
    return other if value is None else value


def _read_number(ds: Dataset, keyword: str) -> float | None:
    """Return a numeric element, None where it is missing, empty or does not hold a finite number."""
    try:
        value = float(ds.get(keyword))  # None is a TypeError, as a list of numbers is
    except (ValueError, TypeError, NotImplementedError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def _clock(ds: Dataset, kind: str) -> float | None:
    """Return AcquisitionTime or ContentTime as seconds, with its date where there is one: nights are passed."""
    date, time = str(ds.get(f"{kind}Date") or "").strip(), str(ds.get(f"{kind}Time") or "").strip()
    return _seconds(date + time if re.fullmatch(r"\d{8}", date) else time)


def _seconds(value: Any) -> float | None:
    """Return a DICOM TM or DT value as seconds, for ordering within one study only."""
    match = re.fullmatch(r"(\d{8})?(\d{2})(\d{2})(\d{2}(?:\.\d*)?)?(?:[+-]\d{4})?", str(value or "").strip())
    if match is None:
        return None
    day = int(match[1] or 0)
    return day * 86400.0 + int(match[2]) * 3600.0 + int(match[3]) * 60.0 + float(match[4] or 0.0)


def _scanner(ds: Dataset) -> str:
    strength = _read_number(ds, "MagneticFieldStrength")
    parts = [str(ds.get("Manufacturer") or ""), str(ds.get("ManufacturerModelName") or "")]
    if strength:
        parts.append(f"{strength:g}T")
    text = " ".join(part.strip() for part in parts if part.strip())
    return re.sub(r"[^\x20-\x7e]", "?", text)[:64]
