"""Claims about heat maps as secondary captures: pixels, the burned-in words, the place, what they were made from."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from bcdx.errors import DicomError
from bcdx.imaging.heat_series import DESCRIPTION, MIN_WIDTH, HeatMap, draw_notice, write_heat_series
from bcdx.imaging.normalise import find_place
from bcdx.imaging.originals import ImageReference, Maker, read_original

MAKER = Maker(model="0123456789abcdef" * 4, moment=datetime(2024, 5, 6, 7, 8, 9))
PLACE = {
    "StudyInstanceUID": "1.2.3",
    "FrameOfReferenceUID": "1.2.3.9",
    "ImageOrientationPatient": [0, 1, 0, 0, 0, -1],
    "ImagePositionPatient": [60, -20, 15],
    "PixelSpacing": [0.5, 0.75],
}


def paint(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """A random picture."""
    return np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), np.uint8)


def capture(source: Dataset, picture: np.ndarray, folder: Path) -> Dataset:
    """The only object of a series, as it is read back from disk."""
    made = write_heat_series(
        [source], [HeatMap(picture, (ImageReference(source.SOPInstanceUID),))], series_number=5, maker=MAKER
    )
    made[0].save_as(folder / "heat.dcm", enforce_file_format=True)
    return pydicom.dcmread(folder / "heat.dcm")


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 300), columns=st.integers(1, 500))
def test_words_never_cover_the_picture(rows: int, columns: int) -> None:
    """They fit into a band above; the picture is there whole, each pixel a square of equal ones."""
    picture = paint(rows, columns)
    drawn, times, band = draw_notice(picture)
    assert (band + times * rows, times * columns, 3) == drawn.shape
    assert max(1, math.ceil(MIN_WIDTH / columns)) == times
    np.testing.assert_array_equal(picture, drawn[band::times, ::times])
    np.testing.assert_array_equal(picture.repeat(times, 0).repeat(times, 1), drawn[band:])
    ink = np.argwhere(drawn[:band].max(axis=2) > 128)
    assert ink.size and 0 < ink[:, 1].min() and ink[:, 1].max() < drawn.shape[1] - 1 and 0 < ink[:, 0].min()


@pytest.mark.parametrize(
    "picture",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), "u1")],
)
def test_other_arrays_are_refused(picture: np.ndarray) -> None:
    """Eight bits, three colours."""
    with pytest.raises(DicomError, match="wanted"):
        draw_notice(picture)


def test_what_is_stored_is_what_was_drawn(write_dicom: Any, tmp_path: Path) -> None:
    """Uncompressed, marked as derived and burned in."""
    source = read_original(write_dicom("a.dcm", np.ones((256, 256), np.uint16), **PLACE))
    picture = paint(256, 256)
    written = capture(source, picture, tmp_path)
    np.testing.assert_array_equal(draw_notice(picture)[0], written.pixel_array)
    assert ["DERIVED", "SECONDARY"] == list(written.ImageType)[:2]
    assert ("YES", DESCRIPTION, 5, 1) == (
        written.BurnedInAnnotation, written.SeriesDescription, written.SeriesNumber, written.InstanceNumber,
    )  # fmt: skip
    assert "Research use only" in written.DerivationDescription and MAKER.model[:16] in written.DerivationDescription


def locate(ds: Dataset, row: float, column: float) -> np.ndarray:
    """Patient coordinates of a place in an image, mm (PS3.3 C.7.6.2.1.1)."""
    orientation = np.array(ds.ImageOrientationPatient, float)
    spacing = [float(one) for one in ds.PixelSpacing]
    start = np.array(ds.ImagePositionPatient, float)
    return start + orientation[:3] * spacing[1] * column + orientation[3:] * spacing[0] * row


def test_a_picture_of_the_sources_size_lies_on_it(write_dicom: Any, tmp_path: Path) -> None:
    """Pixel on pixel, below the band."""
    source = read_original(write_dicom("a.dcm", np.ones((200, 300), np.uint16), **PLACE))
    written = capture(source, paint(200, 300), tmp_path)
    band = written.Rows - 200
    for row, column in ((0, 0), (199, 299), (10, 20)):
        np.testing.assert_allclose(locate(source, row, column), locate(written, row + band, column), atol=1e-6)
    assert ["P", "F"] == list(written.PatientOrientation)


@pytest.mark.parametrize(("shape", "size"), [((448, 448), 96), ((400, 200), 128), ((64, 64), 256), ((100, 300), 60)])
def test_a_fitted_picture_lies_on_its_source(
    write_dicom: Any, tmp_path: Path, shape: tuple[int, int], size: int
) -> None:
    """The edges of the image within the square are those of the source, to within half a pixel of rounding."""
    source = read_original(write_dicom("a.dcm", np.ones(shape, np.uint16), **PLACE))
    written = capture(source, paint(size, size), tmp_path)
    place, times = find_place(shape, size), written.Columns // size
    band = written.Rows - times * size
    tolerance = max(float(one) for one in written.PixelSpacing) * times
    for corner in ((0, 0), (1, 1)):
        there = locate(source, corner[0] * shape[0] - 0.5, corner[1] * shape[1] - 0.5)
        row = band + times * (place.top + corner[0] * place.height) - 0.5
        column = times * (place.left + corner[1] * place.width) - 0.5
        np.testing.assert_allclose(there, locate(written, row, column), atol=tolerance)


def test_a_source_without_a_place_gives_none(write_dicom: Any, tmp_path: Path) -> None:
    """Nothing is made up."""
    written = capture(read_original(write_dicom("a.dcm", np.ones((8, 8), np.uint16))), paint(8, 8), tmp_path)
    assert not {"FrameOfReferenceUID", "ImagePositionPatient", "PixelSpacing"} & {one.keyword for one in written}


def test_all_phases_are_referred_to(write_dicom: Any) -> None:
    """A map of several source images names each, by series; all maps of a call are one series."""
    sources = [
        read_original(write_dicom(f"{n}.dcm", np.ones((8, 8), np.uint16), **PLACE, SeriesInstanceUID=f"1.2.3.{n}"))
        for n in range(1, 4)
    ]
    images = tuple(ImageReference(one.SOPInstanceUID) for one in sources)
    maps = [HeatMap(paint(8, 8, seed), images) for seed in range(2)]
    made = write_heat_series(sources, maps, series_number=5, maker=MAKER)
    for number, one in enumerate(made, start=1):
        assert [item.instance for item in images] == [item.ReferencedSOPInstanceUID for item in one.SourceImageSequence]
        assert ["1.2.3.1", "1.2.3.2", "1.2.3.3"] == [item.SeriesInstanceUID for item in one.ReferencedSeriesSequence]
        assert number == one.InstanceNumber
    assert (1, 2) == (len({one.SeriesInstanceUID for one in made}), len({one.SOPInstanceUID for one in made}))


def test_equal_pictures_of_one_source_are_two_objects(write_dicom: Any) -> None:
    """Their numbers tell them apart."""
    source = read_original(write_dicom("a.dcm", np.ones((8, 8), np.uint16), **PLACE))
    one = HeatMap(paint(8, 8), (ImageReference(source.SOPInstanceUID),))
    made = write_heat_series([source], [one, one], series_number=5, maker=MAKER)
    assert made[0].SOPInstanceUID != made[1].SOPInstanceUID


def test_once_lossy_always_lossy(write_dicom: Any, tmp_path: Path) -> None:
    """What the source says of its compression goes on."""
    lossy = {
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": [10, 2],
        "LossyImageCompressionMethod": "ISO_10918_1",
    }
    path = write_dicom("a.dcm", np.ones((8, 8), np.uint16), **lossy)
    written = capture(read_original(path), paint(8, 8), tmp_path)
    assert ("01", [10.0, 2.0], "ISO_10918_1") == (
        written.LossyImageCompression, list(written.LossyImageCompressionRatio), written.LossyImageCompressionMethod,
    )  # fmt: skip


def test_maps_without_a_known_source_are_refused(write_dicom: Any) -> None:
    """As are those that name none."""
    source = read_original(write_dicom("a.dcm", np.ones((8, 8), np.uint16)))
    for images, reason in (((), "without a source image"), ((ImageReference("1.2.9"),), "not among the source images")):
        with pytest.raises(DicomError, match=reason):
            write_heat_series([source], [HeatMap(paint(8, 8), images)], series_number=1, maker=MAKER)
