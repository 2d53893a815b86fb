"""Turn one frame of a DICOM file into a `Slice`: pixels in real units and the padding mask.

Order: padding mask from stored values -> modality LUT or rescale -> VOI where asked -> MONOCHROME1 by negation.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array
from pydicom.uid import RLELossless

from bcdx.errors import DicomError
from bcdx.imaging.damage import translate_damage
from bcdx.imaging.dicom import frame_item
from bcdx.imaging.frames import Frame, Slice
from bcdx.imaging.plain import read_plain_slice

Stored = NDArray[Any]

PIXEL_FORMAT = ("PhotometricInterpretation", "PixelRepresentation", "BitsStored")
RESCALE = ("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept")
VOI = ("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction")


def read_slice(frame: Frame, *, voi: bool = False) -> Slice:
    """Decode one frame into real units.

    Args:
        frame: What `read_frames` said of it.
        voi: Apply the file's VOI LUT or window.

    Raises:
        DicomError: The pixels cannot be decoded, are cut short or are not finite.
    """
    found = read_plain_slice(frame) if frame.is_plain else _read_dicom_slice(frame, voi=voi)
    if not np.isfinite(found.shown).all():
        raise DicomError("pixels are not finite")
    return found


def _read_dicom_slice(frame: Frame, *, voi: bool) -> Slice:
    with translate_damage(frame.path, "pixel data cannot be decoded"):
        stat = Path(frame.path).stat()
        ds = _open(frame.path, (stat.st_mtime_ns, stat.st_size))
        stored = _decode(ds, frame.index)
        padding = find_padding(ds, stored)
        pixels = to_real_units(ds, frame.index, stored, voi=voi)
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
    syntax = ds.file_meta.TransferSyntaxUID
    # pylibjpeg-rle, asked second, answers damaged data with a backtrace on the terminal
    plugin = "pydicom" if syntax == RLELossless else ""
    stored: Stored = pixel_array(ds, index=index, raw=True, decoding_plugin=plugin)
    if stored.dtype.kind == "f" or syntax.is_compressed:
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
    """Return where PixelPaddingValue (up to PixelPaddingRangeLimit) stands, None where there is none.

    Floating-point pixels have elements of their own: FloatPixelPaddingValue or DoubleFloatPixelPaddingValue.
    """
    kind = {"f4": "Float", "f8": "DoubleFloat"}.get(stored.dtype.str[1:], "")
    value, limit = ds.get(f"{kind}PixelPaddingValue"), ds.get(f"{kind}PixelPaddingRangeLimit")
    if value is None or isinstance(value, (bytes, str)):
        return None
    ends = (value, value if limit is None else limit)
    low, high = sorted(float(one) if kind else _as_stored(int(one), stored) for one in ends)
    mask: NDArray[np.bool_] = np.isnan(stored) if np.isnan(low) else (stored >= low) & (stored <= high)
    return mask if mask.any() else None


def to_real_units(ds: Dataset, index: int, stored: Stored, *, voi: bool) -> NDArray[np.float32]:
    """Return float32 pixels after modality LUT or rescale, VOI where asked, and negation of MONOCHROME1."""
    rules = _frame_rules(ds, index)
    values = apply_modality_lut(stored, rules)
    if voi:
        values = apply_voi_lut(values, rules)
    pixels = np.asarray(values, np.float32)
    return -pixels if ds.PhotometricInterpretation == "MONOCHROME1" else pixels


def _frame_rules(ds: Dataset, index: int) -> Dataset:
    """Return the elements that turn a frame's stored values into what is shown, wherever they stand; no empty ones."""
    rules = Dataset()
    rules.file_meta = ds.file_meta  # tells the byte order of lookup tables
    for source, keywords in (
        (ds, PIXEL_FORMAT),
        (frame_item(ds, index, "PixelValueTransformationSequence") or ds, RESCALE),
        (frame_item(ds, index, "FrameVOILUTSequence") or ds, VOI),
    ):
        for keyword in keywords:
            if source.get(keyword) not in (None, ""):
                rules.add(source[keyword])
    if "RescaleSlope" in rules or "RescaleIntercept" in rules:
        rules.setdefault("RescaleSlope", 1)
        rules.setdefault("RescaleIntercept", 0)
    return rules


def _as_stored(value: int, stored: Stored) -> int:
    """Return a padding value as the pixels' own type writes it: files mix up US and SS."""
    bits = stored.dtype.itemsize * 8
    wrapped = value % (1 << bits)
    return wrapped - (1 << bits) if stored.dtype.kind == "i" and wrapped >= 1 << (bits - 1) else wrapped
