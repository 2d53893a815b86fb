"""Claims about damaged files: whatever a library makes of them, one reason comes out."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from bcdx.errors import DicomError
from bcdx.imaging.damage import translate_damage
from bcdx.imaging.decode import read_slice
from bcdx.imaging.dicom import Origin, is_dicom, read_dicom_frames
from bcdx.imaging.identity import Pseudonyms
from bcdx.imaging.plain import read_plain_frames

MUTATIONS = 150
"""Of each kind of file; the seed is fixed."""

PIXELS = np.random.default_rng(0).integers(0, 4096, (64, 40)).astype(np.uint16)
SYNTAXES = (RLELossless, DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless)


class PanicException(BaseException):  # so are those of decoders written in Rust named
    """Not an Exception, as in pyo3."""


@pytest.mark.parametrize("error", [ValueError("x"), MemoryError(), PanicException("index out of bounds")])
def test_damage_becomes_a_reason(tmp_path: Path, error: BaseException) -> None:
    """Also where a decoder panics."""
    with pytest.raises(DicomError, match="fixed phrase") as caught, translate_damage(tmp_path, "fixed phrase"):
        raise error
    assert error is caught.value.__cause__


def test_a_reason_that_is_known_stays(tmp_path: Path) -> None:
    """The inner one says more."""
    with pytest.raises(DicomError, match="inner"), translate_damage(tmp_path, "outer"):
        raise DicomError("inner")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_a_wish_to_stop_is_no_damage(tmp_path: Path, stop: type[BaseException]) -> None:
    """Ctrl-C while a file is read ends the run."""
    with pytest.raises(stop), translate_damage(tmp_path, "fixed phrase"):
        raise stop


def read_all(path: Path) -> None:
    origin = Origin(path, path.name, "someone", Pseudonyms(b"k"), "salt")
    for frame in (read_dicom_frames if is_dicom(path) else read_plain_frames)(origin)[:2]:
        read_slice(frame)


def mutate(whole: bytes, chance: random.Random) -> bytes:
    """Cut a file short, or change some of its bytes, most of them in the header."""
    if chance.random() < 0.3:
        return whole[: chance.randrange(1, len(whole))]
    content = bytearray(whole)
    for _ in range(chance.randrange(1, 6)):
        content[chance.randrange(len(content))] = chance.randrange(256)
    return bytes(content)


def assert_only_dicom_errors(whole: bytes, path: Path) -> None:
    chance = random.Random(1)
    refused = 0
    for _ in range(MUTATIONS):
        path.write_bytes(mutate(whole, chance))
        try:
            read_all(path)
        except DicomError:
            refused += 1
    assert refused


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("syntax", [None, *SYNTAXES], ids=lambda uid: getattr(uid, "name", "plain"))
def test_damaged_dicom_raises_nothing_but_dicom_errors(
    write_dicom: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str], syntax: Any
) -> None:
    """Bytes changed or cut off at random, headers and pixels, plain and compressed; no backtrace on the terminal."""
    path = write_dicom("whole.dcm", PIXELS, BitsStored=12, HighBit=11, RescaleSlope=2, RescaleIntercept=-1)
    if syntax is not None:
        ds = pydicom.dcmread(path)
        if syntax.is_encapsulated:
            ds.compress(syntax)
        else:
            ds.file_meta.TransferSyntaxUID = syntax
        ds.save_as(path)
    read_all(path)
    assert_only_dicom_errors(path.read_bytes(), tmp_path / "damaged.dcm")
    assert "panicked" not in capfd.readouterr().err


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.pgm", "a.tif"])
def test_damaged_plain_images_raise_nothing_but_dicom_errors(tmp_path: Path, name: str) -> None:
    """Pillow's plugins raise many things."""
    Image.fromarray(PIXELS.astype(np.uint8)).save(tmp_path / name)
    read_all(tmp_path / name)
    assert_only_dicom_errors((tmp_path / name).read_bytes(), tmp_path / f"damaged-{name}")
