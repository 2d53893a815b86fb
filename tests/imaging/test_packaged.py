"""Claims about pydicom's packaged files: a grey image becomes its pixels, anything else a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRBigEndian

from bcdx.errors import DicomError
from bcdx.imaging.decode import read_slice
from bcdx.imaging.dicom import Origin, is_dicom, read_dicom_frames
from bcdx.imaging.frames import Slice
from bcdx.imaging.identity import Pseudonyms
from bcdx.imaging.plain import read_plain_frames

FOLDER = Path(pydicom.__file__).parent / "data" / "test_files"
FILES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file())

DAMAGED = {
    "MR_truncated.dcm": "pixel data cannot be decoded",
    "JPEG2000-embedded-sequence-delimiter.dcm": "pixel data cannot be decoded",
    "badVR.dcm": "damaged DICOM header",  # NumberOfFrames is "1A"
    "JPEG-lossy.dcm": "pixel data cannot be decoded",  # 12-bit JPEG Extended has no decoder under a free licence
    "JPGExtended.dcm": "pixel data cannot be decoded",
    "liver_1frame.dcm": "a segmentation, not an image",
    "liver_expb_1frame.dcm": "a segmentation, not an image",
}
"""Grey by their header, and yet no image that is read."""

PLAIN_TWINS = {"rtdose_rle.dcm": "rtdose.dcm", "rtdose_rle_1frame.dcm": "rtdose_1frame.dcm"}
"""The same pixels uncompressed; GDCM's reader ends the process on the second."""

UNSIGNED_CODESTREAM = "J2K_pixelrep_mismatch.dcm"
"""Its header says signed, its JPEG 2000 codestream unsigned, which GDCM believes: 13 bits, to be wrapped."""


def read(path: Path) -> list[Slice]:
    origin = Origin(path, path.name, "someone", Pseudonyms(b"k"), "salt")
    frames = read_dicom_frames(origin) if is_dicom(path) else read_plain_frames(origin)
    return [read_slice(frame) for frame in frames]


def is_grey(path: Path) -> bool:
    """Whether the header, read by pydicom, is that of a grey image."""
    if not is_dicom(path):
        return False
    header = pydicom.dcmread(path, force=True)
    return "PixelData" in header and str(header.get("PhotometricInterpretation")).startswith("MONOCHROME")


def read_stored(path: Path) -> np.ndarray:
    """Interpret an uncompressed file's bytes with NumPy: rescaled, shape (frames, rows, columns)."""
    ds = pydicom.dcmread(path, force=True)
    order = ">" if ds.file_meta.TransferSyntaxUID == ExplicitVRBigEndian else "<"
    kind = f"{order}{'iu'[ds.PixelRepresentation == 0]}{ds.BitsAllocated // 8}"
    size = int(ds.get("NumberOfFrames") or 1) * ds.Rows * ds.Columns
    stored = np.frombuffer(ds.PixelData, kind, count=size).reshape(-1, ds.Rows, ds.Columns).astype(np.float64)
    real = stored * float(ds.get("RescaleSlope", 1)) + float(ds.get("RescaleIntercept", 0))
    return (-real if ds.PhotometricInterpretation == "MONOCHROME1" else real).astype(np.float32)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
def test_packaged_file_is_read_as_another_decoder_reads_it_or_refused(decode_with_gdcm: Any, name: str) -> None:
    """Every frame; NumPy for uncompressed files, GDCM for the others, within 1 where compression was lossy."""
    path = FOLDER / name
    if not is_grey(path) or name in DAMAGED:
        with pytest.raises(DicomError, match=DAMAGED.get(name, ".")):
            read(path)
        return
    twin = FOLDER / PLAIN_TWINS.get(name, name)
    syntax = pydicom.dcmread(twin, force=True).file_meta.TransferSyntaxUID
    expected = decode_with_gdcm(path) if syntax.is_encapsulated else read_stored(twin)
    if name == UNSIGNED_CODESTREAM:
        expected = np.where(expected >= 2**12, expected - 2**13, expected)
    found = np.stack([one.pixels for one in read(path)])
    lossy = syntax.is_encapsulated and "Lossless" not in syntax.name
    np.testing.assert_allclose(expected, found, atol=1.0 if lossy else 0.0, rtol=0)
