"""Turn one frame of a DICOM file into a `Slice`: pixels in real units and the padding mask.

Order: padding mask from stored values -> modality LUT or rescale -> VOI where asked -> MONOCHROME1 by negation.
"""

from __future__ import annotations

import logging
import struct
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array

from bcdx.errors import DicomError
from bcdx.imaging.dicom import MALFORMED, frame_item
from bcdx.imaging.frames import Frame, Slice
from bcdx.imaging.plain import read_plain_slice

logger = logging.getLogger(__name__)

UNDECODABLE = (RuntimeError, OSError, MemoryError, struct.error, *MALFORMED)
"""What pydicom and its decoder plugins raise on pixel data that they cannot decode."""

Stored = NDArray[Any]


def read_slice(frame: Frame, *, voi: bool = False) -> Slice:
    """Decode one frame into real units.

    Args:
        frame: What `read_frames` said of it.
        voi: Apply the file's VOI LUT or window.

    Raises:
        DicomError: The pixels cannot be decoded, are cut short or are not finite.
    """
    found = read_plain_slice(frame) if frame.is_plain else _read_dicom_slice(frame, voi=voi)
    if not np.isfinite(found.pixels).all():
        raise DicomError("pixels are not finite")
    return found


def _read_dicom_slice(frame: Frame, *, voi: bool) -> Slice:
    try:
        stat = Path(frame.path).stat()
        ds = _open(frame.path, (stat.st_mtime_ns, stat.st_size))
        stored = _decode(ds, frame.index)
        padding = find_padding(ds, stored)
        pixels = to_real_units(ds, frame.index, stored, voi=voi)
    except UNDECODABLE as error:
        logger.debug("%s: %s", frame.path, error)
        raise DicomError("pixel data cannot be decoded") from error
    if pixels.shape != frame.shape:
        raise DicomError("pixel data and header disagree on the size")
    return Slice(frame, pixels, padding)


@lru_cache(maxsize=2)  # the frames of one file are read one after another; a changed file has another stamp
def _open(path: str, _stamp: tuple[int, int]) -> Dataset:
    ds = pydicom.dcmread(path, force=True)
    if "TransferSyntaxUID" not in ds.file_meta:
        implicit, little = ds.original_encoding
        kinds = {(True, True): "ImplicitVRLittleEndian", (False, True): "ExplicitVRLittleEndian"}
        ds.file_meta.TransferSyntaxUID = getattr(
            pydicom.uid, kinds.get((bool(implicit), bool(little)), "ExplicitVRBigEndian")
        )
    if "PixelRepresentation" not in ds:
        ds.PixelRepresentation = 0
    return ds


def _decode(ds: Dataset, index: int) -> Stored:
    stored: Stored = pixel_array(ds, index=index, raw=True)
    if stored.dtype.kind == "f" or ds.file_meta.TransferSyntaxUID.is_compressed:
        return stored
    return _keep_stored_bits(ds, stored)


def _keep_stored_bits(ds: Dataset, stored: Stored) -> Stored:
    """Drop what lies outside the stored bits, such as overlays in the high ones, and extend the sign."""
    width = stored.dtype.itemsize * 8
    bits = int(ds.get("BitsStored") or width)
    high = int(ds.get("HighBit") or bits - 1)
    if bits >= width or not bits - 1 <= high < width:
        return stored
    shifted: Stored = np.left_shift(stored, width - 1 - high)
    return np.right_shift(shifted, width - bits)  # arithmetic where the type is signed


def find_padding(ds: Dataset, stored: Stored) -> NDArray[np.bool_] | None:
    """Return where PixelPaddingValue (up to PixelPaddingRangeLimit) stands, None where there is none."""
    value = ds.get("PixelPaddingValue")
    if value is None or isinstance(value, (bytes, str)):
        return None
    limit = ds.get("PixelPaddingRangeLimit", value)
    low, high = sorted(_as_stored(int(one), stored) for one in (value, limit))
    mask: NDArray[np.bool_] = (stored >= low) & (stored <= high)
    return mask if mask.any() else None


def to_real_units(ds: Dataset, index: int, stored: Stored, *, voi: bool) -> NDArray[np.float32]:
    """Return float32 pixels after modality LUT or rescale, VOI where asked, and negation of MONOCHROME1."""
    item = frame_item(ds, index, "PixelValueTransformationSequence")
    values = apply_modality_lut(stored, item if item is not None else ds)
    if voi:
        window = frame_item(ds, index, "FrameVOILUTSequence")
        values = apply_voi_lut(values, window if window is not None else ds)
    pixels = np.asarray(values, np.float32)
    return -pixels if ds.PhotometricInterpretation == "MONOCHROME1" else pixels


def _as_stored(value: int, stored: Stored) -> int:
    """Return a padding value as the pixels' own type writes it: files mix up US and SS."""
    if stored.dtype.kind == "f":
        return value
    bits = stored.dtype.itemsize * 8
    wrapped = value % (1 << bits)
    return wrapped - (1 << bits) if stored.dtype.kind == "i" and wrapped >= 1 << (bits - 1) else wrapped
