"""Claims about plain images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bcdx.errors import DicomError
from bcdx.imaging.decode import read_slice
from bcdx.imaging.dicom import Origin
from bcdx.imaging.identity import Pseudonyms
from bcdx.imaging.plain import read_plain_frames


def read(path: Path) -> np.ndarray:
    frames = read_plain_frames(Origin(path, path.name, "someone", Pseudonyms(b"k"), "salt"))
    return read_slice(frames[0]).pixels


@pytest.mark.parametrize(
    ("name", "kind"), [("a.png", np.uint8), ("a.png", np.uint16), ("a.pgm", np.uint8), ("a.tif", np.uint16)]
)
def test_grey_image_is_read_as_stored(tmp_path: Path, name: str, kind: Any) -> None:
    """Eight and sixteen bit, no scaling."""
    pixels = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (6, 7)).astype(kind)
    Image.fromarray(pixels).save(tmp_path / name)
    np.testing.assert_array_equal(pixels.astype(np.float32), read(tmp_path / name))


def test_format_is_told_by_content(tmp_path: Path) -> None:
    """A PNG called .jpg is a PNG."""
    pixels = np.arange(30, dtype=np.uint8).reshape(5, 6)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    np.testing.assert_array_equal(pixels, read(tmp_path / "a.jpg"))


def test_colour_becomes_luminance_and_alpha_is_dropped(tmp_path: Path) -> None:
    """Grey stored as colour is that grey."""
    grey = np.arange(30, dtype=np.uint8).reshape(5, 6)
    Image.fromarray(np.stack([grey] * 3 + [grey * 0 + 7], axis=-1)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(grey, read(tmp_path / "a.png"))


def test_image_cut_short_is_an_error(tmp_path: Path) -> None:
    """Half a PNG is no image."""
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90), dtype=np.uint8)).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DicomError, match="cannot be decoded"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("content", [b"BM" + bytes(100), b"GIF89a" + bytes(50), b"hello"])
def test_other_formats_are_refused(tmp_path: Path, content: bytes) -> None:
    """BMP, GIF and text are not read."""
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(DicomError, match="not an image of a kind that is read"):
        read(tmp_path / "a.jpg")
