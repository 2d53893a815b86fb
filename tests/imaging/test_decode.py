"""Claims about pixels: they equal what an independent reading of the file gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from bcdx.errors import DicomError
from bcdx.imaging import decode as decode_module
from bcdx.imaging.decode import read_slice
from bcdx.imaging.dicom import Origin, read_dicom_frames
from bcdx.imaging.frames import Frame, Slice
from bcdx.imaging.identity import Pseudonyms


def frames_of(path: Path) -> list[Frame]:
    return read_dicom_frames(Origin(path, path.name, "", Pseudonyms(b"k"), "salt"))


def slice_of(path: Path, **options: Any) -> Slice:
    return read_slice(frames_of(path)[0], **options)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bits=st.sampled_from([8, 10, 12, 16]),
    signed=st.booleans(),
    slope=st.sampled_from([1.0, 0.5, 2.0]),
    intercept=st.sampled_from([0.0, -1024.0]),
    photometric=st.sampled_from(["MONOCHROME1", "MONOCHROME2"]),
    seed=st.integers(0, 2**16),
)
def test_read_slice_gives_rescaled_stored_values(  # type: ignore[no-untyped-def]
    write_dicom, bits, signed, slope, intercept, photometric, seed
) -> None:
    """For any width, sign and rescale; MONOCHROME1 is negated."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    stored = np.random.default_rng(seed).integers(low, high, (7, 5))
    kind = ("int" if signed else "uint") + ("8" if bits == 8 else "16")
    path = write_dicom(
        f"{seed}.dcm",
        stored.astype(kind),
        BitsStored=bits,
        HighBit=bits - 1,
        RescaleSlope=slope,
        RescaleIntercept=intercept,
        PhotometricInterpretation=photometric,
    )
    expected = (stored * slope + intercept).astype(np.float32)
    np.testing.assert_array_equal(-expected if photometric == "MONOCHROME1" else expected, slice_of(path).pixels)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bits=st.sampled_from([1, 8, 11, 16]),
    kind=st.sampled_from([np.uint8, np.int8, np.uint16, np.int16]),
    padded=st.sampled_from([None, 0, 5, 120]),
    seed=st.integers(0, 2**16),
)
def test_pixels_read_from_their_place_equal_those_that_pydicom_decodes(  # type: ignore[no-untyped-def]
    write_dicom, bits, kind, padded, seed
) -> None:
    """Two frames, any bits, whatever stands in the unused ones."""
    width = np.dtype(kind).itemsize * 8
    bits = min(bits, width)
    pixels = np.random.default_rng(seed).integers(0, 2**width, (2, 6, 5)).astype(f"u{width // 8}").view(kind)
    elements = {} if padded is None else {"PixelPaddingValue": padded}
    path = write_dicom("p.dcm", pixels, NumberOfFrames=2, BitsStored=bits, HighBit=bits - 1, **elements)
    for frame in frames_of(path):
        found = read_slice(frame)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(decode_module, "_read_layout", lambda *_: None)
            expected = read_slice(frame)
        np.testing.assert_array_equal(expected.pixels, found.pixels)
        assert (expected.padding is None) == (found.padding is None)
        if expected.padding is not None and found.padding is not None:
            np.testing.assert_array_equal(expected.padding, found.padding)


def test_file_that_has_changed_since_its_header_was_read_is_read_anew(write_dicom: Any) -> None:
    """Its pixels lie elsewhere now."""
    pixels = np.arange(64, dtype=np.uint16).reshape(8, 8)
    frame = frames_of(write_dicom("c.dcm", pixels))[0]
    write_dicom("c.dcm", pixels[::-1], SeriesDescription="a header of another length")
    np.testing.assert_array_equal(pixels[::-1], read_slice(frame).pixels)


def test_decoder_of_another_size_is_an_error(write_dicom: Any) -> None:
    """Nothing is cut or padded to fit."""
    frame = frames_of(write_dicom("d.dcm", np.ones((8, 8), np.uint16)))[0]
    with pytest.raises(DicomError, match="disagree on the size"):
        read_slice(frame, decode=lambda *_: np.ones((8, 9), np.uint16))


def compress(plain: Path, syntax: UID) -> Path:
    """Write a compressed copy: with GDCM for JPEG lossless, which pydicom cannot encode."""
    packed = plain.with_name("packed.dcm")
    if syntax != JPEGLosslessSV1:
        ds = pydicom.dcmread(plain)
        ds.compress(syntax)
        ds.save_as(packed)
        return packed
    import gdcm

    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(plain))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(packed))
    assert writer.Write()
    return packed


@pytest.mark.parametrize(("kind", "bits"), [(np.uint8, 8), (np.uint16, 12), (np.uint16, 16), (np.int16, 16)])
@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1])
def test_read_slice_of_a_lossless_file_equals_what_was_compressed(
    write_dicom: Any, syntax: UID, kind: Any, bits: int
) -> None:
    """Compression changes the file, not the pixels."""
    low = -(2 ** (bits - 1)) if kind is np.int16 else 0
    pixels = np.random.default_rng(0).integers(low, low + 2**bits, (80, 90)).astype(kind)
    packed = compress(write_dicom("plain.dcm", pixels, BitsStored=bits, HighBit=bits - 1), syntax)
    assert syntax == pydicom.dcmread(packed).file_meta.TransferSyntaxUID
    np.testing.assert_array_equal(pixels.astype(np.float32), slice_of(packed).pixels)


def test_read_slice_drops_overlays_in_the_high_bits(write_dicom: Any) -> None:
    """Bits above BitsStored are not image."""
    pixels = np.arange(12, dtype=np.uint16).reshape(3, 4)
    path = write_dicom("o.dcm", pixels | np.uint16(0xF000), BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(pixels, slice_of(path).pixels)


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"PixelPaddingValue": 3}, [3]),
        ({"PixelPaddingValue": 2, "PixelPaddingRangeLimit": 4}, [2, 3, 4]),
        ({"PixelPaddingValue": 99}, []),  # a value that does not occur
    ],
)
def test_read_slice_marks_padding_by_stored_value(
    write_dicom: Any, elements: dict[str, int], expected: list[int]
) -> None:
    """The mask is taken before rescaling."""
    pixels = np.arange(12, dtype=np.uint16).reshape(3, 4)
    found = slice_of(write_dicom("p.dcm", pixels, RescaleSlope=10, RescaleIntercept=1, **elements))
    marked = [] if found.padding is None else pixels[found.padding].tolist()
    assert expected == marked


def test_read_slice_applies_the_window_only_where_asked(write_dicom: Any) -> None:
    """VOI is the recipe's choice."""
    pixels = np.arange(100, dtype=np.uint16).reshape(10, 10)
    path = write_dicom("w.dcm", pixels, WindowCenter=50, WindowWidth=20)
    np.testing.assert_array_equal(pixels, slice_of(path).pixels)
    assert len(np.unique(slice_of(path, voi=True).pixels)) < 100


def test_enhanced_frames_have_their_own_rescale_and_place(write_dicom: Any) -> None:
    """Per-frame functional groups win over shared ones."""
    pixels = np.stack([np.full((4, 4), value, np.uint16) for value in (1, 2, 3)])
    pixels[:, 0, 0] = 0
    groups = []
    for index in range(3):
        group, rescale, place = Dataset(), Dataset(), Dataset()
        rescale.RescaleSlope, rescale.RescaleIntercept = index + 1, 10 * index
        place.ImagePositionPatient = [70.0, 0.0, 5.0 * index]
        group.PixelValueTransformationSequence = Sequence([rescale])
        group.PlanePositionSequence = Sequence([place])
        groups.append(group)
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient, measures.PixelSpacing = [1, 0, 0, 0, 1, 0], [0.5, 0.5]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = Sequence([orientation]), Sequence([measures])
    path = write_dicom(
        "e.dcm",
        pixels,
        NumberOfFrames=3,
        PerFrameFunctionalGroupsSequence=Sequence(groups),
        SharedFunctionalGroupsSequence=Sequence([shared]),
    )
    frames = frames_of(path)
    assert [(70.0, 0.0, 0.0), (70.0, 0.0, 5.0), (70.0, 0.0, 10.0)] == [frame.position_mm for frame in frames]
    assert {("axial", "L", (0.5, 0.5))} == {(one.plane, one.laterality, one.spacing_mm) for one in frames}
    assert [1.0, 14.0, 29.0] == [float(read_slice(frame).pixels[1, 1]) for frame in frames]


def enhanced(write_dicom: Any, name: str, pixels: np.ndarray, **groups: Dataset) -> Path:
    """A file of several frames with shared functional groups."""
    shared = Dataset()
    for keyword, item in groups.items():
        setattr(shared, keyword, Sequence([item]))
    return write_dicom(
        name,
        pixels,
        NumberOfFrames=len(pixels),
        SharedFunctionalGroupsSequence=Sequence([shared]),
        PixelRepresentation=0,
    )


def test_enhanced_frames_take_their_window_from_the_functional_group(write_dicom: Any) -> None:
    """As a plain file with the same window does."""
    pixels = np.arange(200, dtype=np.uint16).reshape(2, 10, 10)
    window = Dataset()
    window.WindowCenter, window.WindowWidth = 50, 20
    several = frames_of(enhanced(write_dicom, "several.dcm", pixels, FrameVOILUTSequence=window))
    plain = write_dicom("plain.dcm", pixels[0], WindowCenter=50, WindowWidth=20)
    np.testing.assert_array_equal(slice_of(plain, voi=True).pixels, read_slice(several[0], voi=True).pixels)


@pytest.mark.parametrize(
    ("slope", "intercept", "expected"),
    [("", -5, lambda x: x - 5.0), (2, "", lambda x: x * 2.0), ("", "", lambda x: x), (2, None, lambda x: x * 2.0)],
)
def test_empty_rescale_counts_as_none(write_dicom: Any, slope: Any, intercept: Any, expected: Any) -> None:
    """Slope 1 and intercept 0 where the element holds nothing."""
    pixels = np.arange(12, dtype=np.uint16).reshape(3, 4)
    elements = {"RescaleSlope": slope, "RescaleIntercept": intercept}
    path = write_dicom("r.dcm", pixels, **{name: value for name, value in elements.items() if value is not None})
    np.testing.assert_array_equal(expected(pixels.astype(np.float32)), slice_of(path).pixels)


def write_float(write_dicom: Any, pixels: np.ndarray, **elements: Any) -> Path:
    """A file with FloatPixelData."""
    path = write_dicom("f.dcm", pixels, PixelData=None, BitsAllocated=32, BitsStored=None, HighBit=None)
    ds = pydicom.dcmread(path)
    ds.FloatPixelData = pixels.tobytes()
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    ds.save_as(path)
    return path


@pytest.mark.parametrize("value", [-7.5, float("nan")])
def test_padding_of_float_pixels_has_elements_of_its_own(write_dicom: Any, value: float) -> None:
    """Padding may even be no number; what is not padded must be one."""
    pixels = np.arange(12, dtype=np.float32).reshape(3, 4)
    pixels[0, :2] = value
    found = slice_of(write_float(write_dicom, pixels, FloatPixelPaddingValue=value))
    assert found.padding is not None
    assert [[0, 0], [0, 1]] == np.argwhere(found.padding).tolist()


def test_truncated_pixels_are_an_error_not_a_padded_image(write_dicom: Any) -> None:
    """A file cut short is left out with a reason."""
    path = write_dicom("t.dcm", np.ones((64, 64), np.uint16))
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DicomError, match="cannot be decoded"):
        slice_of(path)


def test_pixels_that_are_not_finite_are_an_error(write_dicom: Any) -> None:
    """A NaN would spread over the whole study's percentiles."""
    pixels = np.ones((4, 4), np.float32)
    pixels[1, 1] = np.nan
    path = write_float(write_dicom, pixels)
    with pytest.raises(DicomError, match="not finite"):
        slice_of(path)


REAL = ("tcga_brca", "duke_breast_mri_153", "dicom_syntaxes")


@pytest.mark.real_data
@pytest.mark.parametrize("folder", REAL)
def test_real_files_equal_an_independent_decoder(shared_data: Path, decode_with_gdcm: Any, folder: str) -> None:
    """GDCM's own reader and a rescale by hand give the same pixels (within 1 where compression was lossy)."""
    compared = 0
    for path in sorted((shared_data / folder).rglob("*.dcm")):
        try:
            frame = frames_of(path)[0]
            found = read_slice(frame)
        except DicomError as error:
            assert error.reason in {"pixel data cannot be decoded", "a segmentation, not an image"}, path
            assert "JPLY" in path.name or "seg" in str(path)
            continue
        np.testing.assert_allclose(decode_with_gdcm(path)[0], found.pixels, atol=1.0 if "J2KI" in path.name else 0.0)
        compared += 1
    assert compared >= 5
