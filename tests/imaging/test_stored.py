"""Claims about stored values: what they mean, and where they lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import pydicom
import pytest

from bcdx.imaging.dicom import read_header
from bcdx.imaging.stored import Layout, Rule, Stored, find_layout, keep_stored_bits


@pytest.mark.parametrize(
    ("values", "padded", "expected"),
    [([3, 3], None, True), ([3, 4], None, False), ([3, 4], (4, 9), True), ([3, 4], (3, 4), True)],
)
def test_image_is_flat_where_nothing_differs_but_padding(
    values: list[int], padded: tuple[int, int] | None, expected: bool
) -> None:
    """Such an image shows nothing."""
    assert expected == Stored(np.array([values], np.int16), Rule(), padded).is_flat


def test_slope_of_zero_makes_an_image_flat() -> None:
    """Real units decide."""
    assert Stored(np.array([[1, 2]], np.uint8), Rule(0.0, 5.0)).is_flat


SAME = np.array([[-3, 0, 7], [100, 101, 102]])


@pytest.mark.parametrize(
    "image",
    [
        Stored(SAME.astype(np.int8), Rule()),
        Stored(SAME.astype(np.int16), Rule()),
        Stored(SAME.astype(np.float32)),
        Stored((SAME + 1024).astype(np.uint16), Rule(1.0, -1024.0)),
        Stored((-SAME).astype(np.int16), Rule(negated=True)),
        Stored((SAME * 2).astype(np.int16), Rule(0.5)),
    ],
)
def test_source_hash_is_that_of_the_real_values(image: Stored) -> None:
    """Copies of an image are known whatever types and rules their files have."""
    assert Stored(SAME.astype(np.int16), Rule()).hash_source() == image.hash_source()


@pytest.mark.parametrize(
    "image",
    [
        Stored(SAME.astype(np.int16).reshape(3, 2), Rule()),
        Stored(SAME.astype(np.int16), Rule(2.0)),
        Stored(SAME.astype(np.int16), Rule(1.0, 0.5)),
        Stored(SAME.astype(np.int16), Rule(negated=True)),
    ],
)
def test_source_hash_tells_other_images(image: Stored) -> None:
    """Another shape, scale or sign is another image."""
    assert Stored(SAME.astype(np.int16), Rule()).hash_source() != image.hash_source()


@pytest.mark.parametrize(
    ("kind", "stored", "bits", "high", "expected"),
    [
        ("u2", 0xF123, 12, 11, 0x123),
        ("i2", 0x0FFF, 12, 11, -1),  # the sign is that of the stored bits
        ("i2", -1, 12, 11, -1),
        ("u2", 0x1230, 12, 15, 0x123),
        ("u1", 0x9F, 4, 3, 0xF),
        ("u2", 0xF123, 16, 15, 0xF123),
    ],
)
def test_keep_stored_bits(kind: str, stored: int, bits: int, high: int, expected: int) -> None:
    """Overlays go, signs stay."""
    assert [expected] == keep_stored_bits(np.array([stored]).astype(kind), bits, high).tolist()


def layout_of(path: Any, index: int = 0) -> Layout | None:
    ds = read_header(path)
    return find_layout(ds, index, ds, path.stat().st_size)


def test_layout_says_where_each_frame_lies(write_dicom: Any) -> None:
    """Its bytes are those of the frame."""
    pixels = np.arange(2 * 50 * 60, dtype=np.uint16).reshape(2, 50, 60)
    path = write_dicom("m.dcm", pixels, NumberOfFrames=2, RescaleSlope=2, PixelPaddingValue=5)
    for index, frame in enumerate(pixels):
        found = layout_of(path, index)
        assert found is not None
        assert frame.astype("<u2").tobytes() == path.read_bytes()[found.offset : found.offset + frame.nbytes]
        assert ("<u2", 16, Rule(2.0), (5, 5)) == (found.kind, found.bits, found.rule, found.padded)
    assert layout_of(path, 2) is None


@pytest.mark.parametrize(
    "elements",
    [
        {"BitsStored": 12, "HighBit": 14},
        {"BitsStored": 17},
        {"BitsAllocated": 32},
        {"PixelRepresentation": 7},
    ],
)
def test_unusual_pixels_are_left_to_pydicom(write_dicom: Any, elements: dict[str, int]) -> None:
    """No layout is guessed."""
    assert layout_of(write_dicom("u.dcm", np.ones((4, 4), np.uint16), **elements)) is None


def test_compressed_and_truncated_pixels_have_no_layout(write_dicom: Any) -> None:
    """Neither lies in the file as it is."""
    path = write_dicom("a.dcm", np.ones((64, 64), np.uint16))
    ds = pydicom.dcmread(path)
    ds.compress(pydicom.uid.RLELossless)
    ds.save_as(path.with_name("b.dcm"))
    assert layout_of(path.with_name("b.dcm")) is None
    path.write_bytes(path.read_bytes()[:-10])
    assert layout_of(path) is None
