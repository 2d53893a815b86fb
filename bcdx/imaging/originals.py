"""Files of source images in; what new objects of their studies must repeat of their headers, in memory alone, out.

Patient and study are repeated as far as the standard asks for them (types 1 and 2, and whether identity was removed)
and nothing else of them: no age, institution, device, description or private element. A type 2 value that is missing,
not valid, or not certain to be read as it was meant (its character set is unknown) is left empty; nothing is guessed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pydicom
from pydicom.charset import python_encoding
from pydicom.config import RAISE
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.uid import UID, generate_uid
from pydicom.valuerep import DA, TM, validate_value

from bcdx import __version__
from bcdx.errors import DicomError
from bcdx.imaging.damage import translate_damage
from bcdx.imaging.dicom import frame_item, is_dicom

logging.getLogger("highdicom").setLevel(logging.ERROR)  # it would log names that it finds odd

UTF_8 = "ISO_IR 192"
TEXTS = ("LO", "LT", "PN", "SH", "ST", "UC", "UT")
"""Value representations that a character set concerns."""
NO_CHARACTER_SET = ("", "ISO_IR 6", "ISO 2022 IR 6")
"""Text is ASCII under these, and under none; anything else in it is a guess."""
MANDATORY = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
STUDY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
    "StudyDate", "StudyTime", "AccessionNumber", "StudyID", "ReferringPhysicianName",
)  # fmt: skip
"""Type 2 of the modules Patient and General Study: always there, perhaps empty."""
KEPT = ("IssuerOfPatientID", "PatientIdentityRemoved", "DeidentificationMethod", "QualityControlSubject", "Modality")
LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
PLACE = (
    "FrameOfReferenceUID", "ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "PatientOrientation",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
SIZE = ("Rows", "Columns", "NumberOfFrames")
SEXES = ("M", "F", "O")
DIRECTION_ERROR = 1e-3
"""Direction cosines may be this far from length 1 and from a right angle; beyond, a header says no place."""


@dataclass(frozen=True)
class Maker:
    """Who makes an object, and when.

    Attributes:
        model: Fingerprint of the run, hexadecimal.
        moment: Goes into the dates that the standard wants. It is part of what UIDs derive from: the same inputs at the
            same moment give the same objects, and no two objects that differ share a UID.
        version: Of bcdx.
    """

    model: str
    moment: datetime
    version: str = __version__

    def make_uid(self, *parts: str) -> UID:
        """Return a UID that is a function of the maker and `parts`."""
        return generate_uid(entropy_srcs=["bcdx", self.version, self.model, self.moment.isoformat(), *parts])

    @property
    def device_uid(self) -> UID:
        """Of the model as an observer: the same at any moment, so that all that it reported can be found."""
        return generate_uid(entropy_srcs=["bcdx", self.version, self.model, "device"])

    @property
    def short_model(self) -> str:
        """The first 16 digits of the fingerprint."""
        return self.model[:16]


@dataclass(frozen=True)
class ImageReference:
    """A source image: SOPInstanceUID, and the frame's index from 0 as in `Frame.index`."""

    instance: str
    index: int = 0


@dataclass(frozen=True)
class Plane:
    """Where an image lies: ImageOrientationPatient, ImagePositionPatient and PixelSpacing, mm."""

    orientation: tuple[float, ...]
    position_mm: tuple[float, ...]
    spacing_mm: tuple[float, ...]


def read_originals(paths: Iterable[Path | str]) -> dict[str, Dataset]:
    """Return path -> header of each file.

    Raises:
        DicomError: See `read_original`.
    """
    return {str(path): read_original(Path(path)) for path in paths}


def read_original(path: Path) -> Dataset:
    """Return what objects of the same study need of a file's header; text is decoded, to be written as UTF-8.

    Raises:
        DicomError: It is no DICOM file, lacks one of the UIDs by which it is referred to, is of a class that the
            standard does not know, or its PatientID cannot be read for certain.
    """
    if not is_dicom(path):
        raise DicomError("not a DICOM file: nothing of a study is known")
    with translate_damage(path, "damaged DICOM header"):
        tags = [*MANDATORY, *STUDY, *KEPT, *LOSSY, *PLACE, *SIZE]
        ds = pydicom.dcmread(path, force=True, stop_before_pixels=True, specific_tags=list(tags))
        return clean_header(ds)


def clean_header(ds: Dataset) -> Dataset:
    """Return a data set of what is kept of a header.

    Raises:
        DicomError: See `read_original`.
    """
    found = Dataset()
    for keyword in MANDATORY:
        setattr(found, keyword, _read_uid(ds, keyword))
    _check_class(found.SOPClassUID)
    for keyword in STUDY:
        setattr(found, keyword, _read_text(ds, keyword) or "")
    if found.PatientID == "" and str(ds.get("PatientID") or "").strip():
        raise DicomError("a PatientID that is not valid or not certain")
    for keyword in (*KEPT, *LOSSY):
        value = _read_text(ds, keyword)
        if value:
            setattr(found, keyword, value)
    if found.get("PatientIdentityRemoved") == "YES" and "DeidentificationMethod" not in found:
        del found.PatientIdentityRemoved  # the standard wants both or neither
    _keep_place(ds, found)
    return found


def check_study(originals: Sequence[Dataset]) -> None:
    """Check that headers are of one study and one patient.

    Raises:
        DicomError: They are not.
    """
    if not originals:
        raise DicomError("no source images")
    for keyword, what in (("StudyInstanceUID", "study"), ("PatientID", "patient")):
        if len({str(header[keyword].value) for header in originals}) > 1:
            raise DicomError(f"source images of more than one {what}")


def describe_study(header: Dataset) -> dict[str, Any]:
    """Return keyword -> value of all that an object of the same study repeats."""
    kept = ("StudyInstanceUID", *STUDY, *(keyword for keyword in KEPT if keyword != "Modality"))
    return {keyword: header[keyword].value for keyword in kept if keyword in header}


def stamp(ds: Dataset, maker: Maker) -> None:
    """Date an object by its maker's moment alone, and declare UTF-8 where its text is not ASCII."""
    for event in ("InstanceCreation", "Content"):
        setattr(ds, f"{event}Date", maker.moment.strftime("%Y%m%d"))
        setattr(ds, f"{event}Time", maker.moment.strftime("%H%M%S"))
    ds.pop("ContributingEquipmentSequence", None)  # the library's own, with the time of day; the file's header names it
    ds.pop("SpecificCharacterSet", None)
    if any(not str(element.value).isascii() for element in ds.iterall() if element.VR in TEXTS):
        ds.SpecificCharacterSet = UTF_8


def index_originals(originals: Iterable[Dataset]) -> dict[str, Dataset]:
    """Return SOPInstanceUID -> header, in order."""
    return {str(header.SOPInstanceUID): header for header in originals}


def find_original(originals: Mapping[str, Dataset], image: ImageReference) -> Dataset:
    """Return the header of a source image.

    Raises:
        DicomError: It is not among the source images, or has no such frame.
    """
    header = originals.get(image.instance)
    if header is None:
        raise DicomError("a finding on an image that is not among the source images")
    if not 0 <= image.index < int(header.get("NumberOfFrames") or 1):
        raise DicomError("a finding on a frame that its source image does not have")
    return header


def find_frame_number(header: Dataset, image: ImageReference) -> int | None:
    """Return the number, from 1, by which a frame is referred to; None for objects of one image."""
    return image.index + 1 if int(header.get("NumberOfFrames") or 1) > 1 else None


def find_plane(header: Dataset, index: int) -> Plane | None:
    """Return where a frame, from 0, lies; None where the header does not say."""
    orientation = _read_floats(header, index, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
    position = _read_floats(header, index, "PlanePositionSequence", "ImagePositionPatient", 3)
    spacing = _read_floats(header, index, "PixelMeasuresSequence", "PixelSpacing", 2)
    if not header.get("FrameOfReferenceUID") or orientation is None or position is None or spacing is None:
        return None
    if min(spacing) <= 0 or not _is_orthonormal(orientation[:3], orientation[3:]):
        return None
    return Plane(orientation, position, spacing)


def _is_orthonormal(across: Sequence[float], down: Sequence[float]) -> bool:
    product = sum(one * other for one, other in zip(across, down, strict=True))
    return abs(product) < DIRECTION_ERROR and all(
        abs(math.hypot(*one) - 1.0) < DIRECTION_ERROR for one in (across, down)
    )


def _keep_place(ds: Dataset, found: Dataset) -> None:
    for keyword in (*PLACE, *SIZE):
        if ds.get(keyword) not in (None, ""):
            found[keyword] = ds[keyword]
    if "FrameOfReferenceUID" in found and not UID(str(found.FrameOfReferenceUID)).is_valid:
        del found.FrameOfReferenceUID


def _read_uid(ds: Dataset, keyword: str) -> UID:
    value = UID(str(ds.get(keyword) or "").strip())
    if not value:
        raise DicomError(f"no {keyword}")
    if not value.is_valid:
        raise DicomError(f"a {keyword} that is not valid")
    return value


def _check_class(uid: UID) -> None:
    if uid.type != "SOP Class" or "Retired" in uid.info:
        raise DicomError("a SOP class that the standard does not know or has retired")


def _read_text(ds: Dataset, keyword: str) -> Any:
    """Return an element's value, None where it is missing, not valid or not certain."""
    value = ds.get(keyword)
    if value is None or not str(value).strip():
        return None
    parts = list(value) if isinstance(value, pydicom.multival.MultiValue) else [value]
    if (len(parts) > 1 and keyword not in LOSSY) or not all(_is_valid(keyword, str(part)) for part in parts):
        return None
    if not str(value).isascii() and not _is_certain(ds, str(value)):
        return None
    return str(value) if len(parts) == 1 else [str(part) for part in parts]


def _is_valid(keyword: str, text: str) -> bool:
    kind = dictionary_VR(keyword)
    try:
        validate_value(kind, text, RAISE)
        if kind in {"DA", "TM"}:
            (DA if kind == "DA" else TM)(text)
    except ValueError:
        return False
    return text.isprintable() and (keyword != "PatientSex" or text in SEXES)


def _is_certain(ds: Dataset, text: str) -> bool:
    """Return whether the text is not ASCII under a character set that is declared and known."""
    declared = ds.get("SpecificCharacterSet") or ""
    names = [declared] if isinstance(declared, str) else [str(name) for name in declared]
    known = all(name in python_encoding for name in names)
    return known and any(name not in NO_CHARACTER_SET for name in names) and "\ufffd" not in text


def _read_floats(header: Dataset, index: int, sequence: str, keyword: str, count: int) -> tuple[float, ...] | None:
    try:
        value = (frame_item(header, index, sequence) or header).get(keyword)
        found = tuple(float(one) for one in value or ())
    except (TypeError, ValueError):
        return None
    return found if len(found) == count and all(math.isfinite(one) for one in found) else None
