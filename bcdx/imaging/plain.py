"""Read plain images: PNG of 8 or 16 bit, JPEG, PGM and TIFF, recognised by content, never by name."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from bcdx.errors import DicomError
from bcdx.imaging.damage import translate_damage
from bcdx.imaging.dicom import Origin
from bcdx.imaging.frames import MAX_PIXELS, Frame, Slice
from bcdx.imaging.identity import split_digest

FORMATS = ("PNG", "JPEG", "PPM", "TIFF")
NO_PATIENT = "no patient for a plain image"
NOT_READ = "not an image of a kind that is read"
GREY_MODES = {"1", "L", "I", "F", "I;16", "I;16B", "I;16L"}


def read_plain_frames(origin: Origin) -> list[Frame]:
    """Return the one frame of a plain image; its name stands in for the instance UID.

    Raises:
        DicomError: It is no image, one that cannot be used, or one of nobody.
    """
    with _opened(origin.path) as image:
        shape, kind = (image.height, image.width), str(image.format)
    if not origin.patient:
        raise DicomError(NO_PATIENT)
    patient, name, pseudonyms = origin.patient, origin.name, origin.pseudonyms
    return [
        Frame(
            path=str(origin.path),
            index=0,
            patient=pseudonyms.code("PatientID", patient),
            study=pseudonyms.code("StudyInstanceUID", f"study of {patient}"),
            series=pseudonyms.code("SeriesInstanceUID", f"series of {name}"),
            instance=pseudonyms.code("SOPInstanceUID", name),
            sample=pseudonyms.code("frame", f"{name}#0"),
            split_digest=split_digest(origin.salt, patient),
            laterality_reason="a plain image has no laterality",
            shape=shape,
            format=kind,
            is_plain=True,
            patient_is_file=origin.patient_is_file,
        )
    ]


def read_plain_slice(frame: Frame) -> Slice:
    """Decode a plain image; colour becomes luminance (ITU-R 601-2), an alpha channel is dropped.

    Raises:
        DicomError: The file is cut short or damaged.
    """
    with _opened(Path(frame.path)) as image, translate_damage(frame.path, "pixel data cannot be decoded"):
        grey = image if image.mode in GREY_MODES else image.convert("RGB").convert("L")
        return Slice(frame, np.asarray(grey).astype(np.float32))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    with translate_damage(path, NOT_READ), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is ours
        try:
            image = Image.open(path, formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise DicomError(f"more than {MAX_PIXELS} pixels") from error
    with image:
        if image.width * image.height > MAX_PIXELS:
            raise DicomError(f"more than {MAX_PIXELS} pixels")
        if min(image.size) < 2:
            raise DicomError("smaller than 2 x 2 pixels")
        yield image
