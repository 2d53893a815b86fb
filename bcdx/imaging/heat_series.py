"""Heat maps and the headers of their source images in; a secondary-capture series of the same study out.

One object a picture, single-frame, true colour, uncompressed: every viewer shows that. "RESEARCH USE ONLY" is burned
into a band above the picture, which stays as it was. Where the source says where it lies, so does the object.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from highdicom.enum import CoordinateSystemNames
from highdicom.sc import SCImage
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID, ExplicitVRLittleEndian
from pydicom.valuerep import DS

from bcdx.errors import DicomError
from bcdx.imaging.originals import (
    LOSSY,
    ImageReference,
    Maker,
    Plane,
    check_study,
    describe_study,
    find_frame_number,
    find_original,
    find_plane,
    index_originals,
    stamp,
)

Picture = NDArray[np.uint8]
"""Shape (rows, columns, 3)."""

NOTICE = "RESEARCH USE ONLY"
DESCRIPTION = "bcdx heat map - research use only"
MIN_WIDTH = 192
"""Pixels; narrower pictures are enlarged by a whole number, each pixel to a square, so that the words can be read."""
MARGIN = 4
AXES = (("L", "R"), ("P", "A"), ("H", "F"))
"""Towards which of the body each patient coordinate grows, and falls."""


@dataclass(frozen=True)
class HeatMap:
    """A picture to be written.

    Attributes:
        pixels: uint8, shape (rows, columns, 3): the whole field of its source image, scaled alike in both directions,
            centred in the picture, as `normalise.fit_square` does.
        images: What it was made from; it lies where the first of them lies.
    """

    pixels: Picture = field(repr=False)
    images: tuple[ImageReference, ...]


def write_heat_series(
    sources: Sequence[Dataset], maps: Sequence[HeatMap], *, series_number: int, maker: Maker
) -> list[Dataset]:
    """Return one Secondary Capture Image a heat map, in one new series, to be saved by the caller.

    UIDs derive from the maker, the source images and the pixels (see `Maker.moment`).

    Args:
        sources: Of one study, as `originals.read_original` gives them; all that the maps refer to.
        maps: At least one.
        series_number: Of the new series, from 1.
        maker: What made the maps, and when.

    Raises:
        DicomError: The sources are of several studies, or a map refers to none of them.
    """
    check_study(sources)
    headers = index_originals(sources)
    series = maker.make_uid("heat series", sources[0].StudyInstanceUID, *(_hash_map(one) for one in maps))
    return [
        _make_capture(headers, one, (series, series_number, number), maker) for number, one in enumerate(maps, start=1)
    ]


def draw_notice(pixels: Picture) -> tuple[Picture, int, int]:
    """Return the picture below a band with the notice, how often it was enlarged, and the band's height in pixels.

    Raises:
        DicomError: It is no picture of 8 bits and three colours.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise DicomError(
            f"a heat map of shape {pixels.shape} and type {pixels.dtype}; wanted (rows, columns, 3), uint8"
        )
    times = -(-MIN_WIDTH // pixels.shape[1])
    picture = pixels.repeat(times, axis=0).repeat(times, axis=1)
    width = picture.shape[1]
    font = ImageFont.load_default(size=max(14, width // 24))
    left, top, right, bottom = font.getbbox(NOTICE)
    height = int(bottom - top) + 2 * MARGIN
    band = Image.new("RGB", (width, height))
    place = ((width - (right - left)) / 2 - left, MARGIN - top)
    ImageDraw.Draw(band).text(place, NOTICE, font=font, fill=(255, 255, 255))
    return np.concatenate([np.asarray(band, np.uint8), picture]), times, height


def _hash_map(one: HeatMap) -> str:
    """Return SHA-256 of pixels, their shape and the source images."""
    references = ",".join(f"{image.instance}#{image.index}" for image in one.images)
    digest = hashlib.sha256(f"{one.pixels.shape} {references} ".encode())
    digest.update(np.ascontiguousarray(one.pixels).tobytes())
    return digest.hexdigest()


def _make_capture(headers: dict[str, Dataset], one: HeatMap, place: tuple[UID, int, int], maker: Maker) -> Dataset:
    if not one.images:
        raise DicomError("a heat map without a source image")
    originals = [find_original(headers, image) for image in one.images]
    series, series_number, number = place
    pixels, times, band = draw_notice(one.pixels)
    capture = SCImage(
        pixels,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system=CoordinateSystemNames.PATIENT,
        study_instance_uid=originals[0].StudyInstanceUID,
        series_instance_uid=series,
        series_number=series_number,
        sop_instance_uid=maker.make_uid("heat map", str(number), series, _hash_map(one)),
        instance_number=number,
        manufacturer="bcdx",
        manufacturer_model_name=f"bcdx model {maker.short_model}",
        software_versions=maker.version,
        series_description=DESCRIPTION,
        patient_orientation=("L", "P"),  # set below; this class wants some
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    _describe(capture, originals, one, maker)
    _place(capture, originals[0], one, (times, band))
    return capture


def _describe(capture: Dataset, originals: Sequence[Dataset], one: HeatMap, maker: Maker) -> None:
    """Say whose it is, when and from what it was made, and that words are burned in."""
    for keyword, value in describe_study(originals[0]).items():
        setattr(capture, keyword, value)
    stamp(capture, maker)
    capture.DateOfSecondaryCapture, capture.TimeOfSecondaryCapture = capture.ContentDate, capture.ContentTime
    capture.Laterality = ""  # the series may show both breasts
    capture.ConversionType = "WSD"
    capture.BurnedInAnnotation = "YES"
    capture.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    capture.DerivationDescription = (
        f"Heat map of a classifier over its source image, in colour; the words above it are not part of the image. "
        f"bcdx {maker.version}, model {maker.short_model}. Research use only. Not for clinical diagnosis."
    )
    capture.SourceImageSequence = [_refer(*pair) for pair in zip(originals, one.images, strict=True)]
    capture.ReferencedSeriesSequence = _refer_to_series(originals)
    for header in originals:
        if header.get("LossyImageCompression") == "01":  # once lossy, always lossy
            for keyword in LOSSY:
                if keyword in header:
                    setattr(capture, keyword, header[keyword].value)


def _refer(header: Dataset, image: ImageReference) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    number = find_frame_number(header, image)
    if number is not None:
        item.ReferencedFrameNumber = number
    item.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)]
    return item


def _refer_to_series(originals: Sequence[Dataset]) -> list[Dataset]:
    """Return items of the Common Instance Reference module, one a series."""
    series: dict[str, dict[str, Dataset]] = {}
    for header in originals:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
        series.setdefault(str(header.SeriesInstanceUID), {})[str(header.SOPInstanceUID)] = item
    found = []
    for uid, items in series.items():
        entry = Dataset()
        entry.SeriesInstanceUID, entry.ReferencedInstanceSequence = uid, list(items.values())
        found.append(entry)
    return found


def _place(capture: Dataset, header: Dataset, one: HeatMap, drawn: tuple[int, int]) -> None:
    """Say where the picture lies: its centre, without the band, is that of the source image."""
    plane = find_plane(header, one.images[0].index)
    capture.PatientOrientation = "" if plane is None else _name_directions(plane.orientation)
    if plane is None or not header.get("Rows") or not header.get("Columns"):
        return
    times, band = drawn
    rows, columns = one.pixels.shape[:2]
    scale = times * min(rows / header.Rows, columns / header.Columns)
    capture.FrameOfReferenceUID, capture.PositionReferenceIndicator = header.FrameOfReferenceUID, ""
    capture.ImageOrientationPatient = _to_decimals(plane.orientation)
    capture.PixelSpacing = _to_decimals([one / scale for one in plane.spacing_mm])
    capture.SliceThickness = None
    start = _find_start(plane, (header.Rows, header.Columns), (times * rows, times * columns, band), scale)
    capture.ImagePositionPatient = _to_decimals(start)


def _find_start(plane: Plane, shape: tuple[int, int], size: tuple[int, int, int], scale: float) -> list[float]:
    """Return the centre of the first pixel, mm.

    Args:
        plane: Of the source image.
        shape: Its rows and columns.
        size: Rows and columns of the picture, and rows of the band above it.
        scale: Picture's pixels per pixel of the source.
    """
    rows, columns, band = size
    down = (shape[0] - 1) / 2 - ((rows - 1) / 2 + band) / scale
    across = (shape[1] - 1) / 2 - (columns - 1) / 2 / scale
    steps = across * plane.spacing_mm[1], down * plane.spacing_mm[0]
    along = zip(plane.orientation[:3], plane.orientation[3:], plane.position_mm, strict=True)
    return [start + steps[0] * row + steps[1] * column for row, column, start in along]


def _name_directions(orientation: Sequence[float]) -> list[str]:
    """Return the letters towards which rows and columns run, of each direction the foremost."""
    letters = []
    for direction in (orientation[:3], orientation[3:]):
        axis = int(np.argmax(np.abs(direction)))
        letters.append(AXES[axis][0 if direction[axis] > 0 else 1])
    return letters


def _to_decimals(values: Sequence[float]) -> list[Any]:
    return [DS(float(value), auto_format=True) for value in values]
