"""One frame of a file in; its stored values and what they mean, or a `Slice` in real units, out.

Order: padding from stored values -> modality LUT or rescale -> VOI where asked -> MONOCHROME1 by negation.

Uncompressed pixels are read from where the header says they lie; pydicom decodes all others. The two ways agree.
"""

from __future__ import annotations

import os
from collections.abc import Callable
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
from bcdx.imaging.header import read_usual_header
from bcdx.imaging.plain import read_plain_slice
from bcdx.imaging.stored import (
    IDENTITY,
    Array,
    Layout,
    Mask,
    Pixels,
    Stored,
    find_padded,
    find_rule,
    keep_stored_bits,
)

Decode = Callable[[Path, Dataset], Any]
"""(file, its header) -> stored values of all its frames, or None where another decoder is to read it."""

PIXEL_FORMAT = ("PhotometricInterpretation", "PixelRepresentation", "BitsStored")
RESCALE = ("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept")
VOI = ("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction")
NARROW = {"u1", "i1", "u2", "i2"}
UNREADABLE = "pixel data cannot be decoded"
WRONG_SIZE = "pixel data and header disagree on the size"


def read_slice(frame: Frame, *, voi: bool = False, decode: Decode | None = None) -> Slice:
    """Decode one frame into real units; arguments and errors are those of `read_stored`."""
    found = read_stored(frame, voi=voi, decode=decode)
    return Slice(frame, found.to_real(), found.padding)


def read_stored(frame: Frame, *, voi: bool = False, decode: Decode | None = None) -> Stored:
    """Decode one frame.

    Args:
        frame: What `read_frames` said of it.
        voi: Apply the file's VOI LUT or window.
        decode: Asked before pydicom.

    Raises:
        DicomError: The pixels cannot be decoded, are cut short or are not finite.
    """
    if frame.is_plain:
        found = _narrow(read_plain_slice(frame).pixels, None)
    else:
        found = _read_dicom(frame, voi=voi, decode=decode)
    _check_finite(found)
    return found


def _check_finite(found: Stored) -> None:
    if found.rule == IDENTITY:
        return
    if found.rule is not None:  # a straight line is finite where its ends are
        ends = np.array([found.values.min(), found.values.max()])
        if np.isfinite(found.rule.apply(ends)).all():
            return
    finite, padding = np.isfinite(found.to_real()), found.padding
    if not (finite if padding is None else finite | padding).all():
        raise DicomError("pixels are not finite")


def _narrow(pixels: Pixels, mask: Mask | None) -> Stored:
    """Return real units as integers where they are whole numbers that fit into 16 bits, as most are."""
    if mask is None and pixels.size:
        low, high = pixels.min(), pixels.max()
        kind = np.uint16 if low >= 0 else np.int16
        if low >= np.iinfo(kind).min and high <= np.iinfo(kind).max:
            whole = pixels.astype(kind)
            if (whole == pixels).all():
                return Stored(whole, IDENTITY)
    return Stored(pixels, None, mask=mask)


def _read_dicom(frame: Frame, *, voi: bool, decode: Decode | None) -> Stored:
    known = frame.layout
    with translate_damage(frame.path, UNREADABLE):
        if known is not None and not voi and decode is None:
            found = _read_layout(frame, known)
            if found is not None:
                return found
        stat = Path(frame.path).stat()
        ds = _open(frame.path, (stat.st_mtime_ns, stat.st_size))
    values = None if decode is None else decode(Path(frame.path), ds)  # whatever it raises is no damage of the file
    with translate_damage(frame.path, UNREADABLE):
        if values is not None:
            return _interpret(ds, frame, _pick_frame(np.asarray(values), frame), voi=voi)
        return _interpret(ds, frame, _decode(ds, frame.index), voi=voi)


def _read_layout(frame: Frame, layout: Layout) -> Stored | None:
    """Return uncompressed pixels, None where the file is not the one whose header was read."""
    values = np.empty(frame.shape, layout.kind)
    with Path(frame.path).open("rb", buffering=0) as file:
        if os.fstat(file.fileno()).st_size != layout.file_bytes:
            return None
        file.seek(layout.offset)
        if file.readinto(values.data) != values.nbytes:
            return None
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    return Stored(keep_stored_bits(values, layout.bits, layout.bits - 1), layout.rule, layout.padded)


def _interpret(ds: Dataset, frame: Frame, values: Array, *, voi: bool) -> Stored:
    """Return decoded values with what the header says of them."""
    if values.shape != frame.shape:
        raise DicomError(WRONG_SIZE)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    rescale = frame_item(ds, frame.index, "PixelValueTransformationSequence") or ds
    if not voi and values.dtype.str[1:] in NARROW:
        rule = find_rule(ds, rescale)
        if rule is not None:
            return Stored(values, rule, find_padded(ds, values.dtype))
    mask = _find_padding(ds, values)
    return _narrow(_to_real_units(ds, frame.index, values, voi=voi), mask)


def _pick_frame(values: Array, frame: Frame) -> Array:
    """Return one frame of what a decoder gave: of one frame, or of all."""
    return values[frame.index] if values.ndim == 3 else values


@lru_cache(maxsize=2)  # the frames of one file are read one after another; a changed file has another stamp
def _open(path: str, _stamp: tuple[int, int]) -> Dataset:
    ds: Dataset = read_usual_header(Path(path)) or pydicom.dcmread(path, force=True, defer_size="2 KB")
    if "TransferSyntaxUID" not in ds.file_meta:
        implicit, little = ds.original_encoding
        kinds = {(True, True): "ImplicitVRLittleEndian", (False, True): "ExplicitVRLittleEndian"}
        ds.file_meta.TransferSyntaxUID = getattr(
            pydicom.uid, kinds.get((bool(implicit), bool(little)), "ExplicitVRBigEndian")
        )
    if "PixelRepresentation" not in ds:
        ds.PixelRepresentation = 0
    return ds


def _decode(ds: Dataset, index: int) -> Array:
    syntax = ds.file_meta.TransferSyntaxUID
    # pylibjpeg-rle, asked second, answers damaged data with a backtrace on the terminal
    plugin = "pydicom" if syntax == RLELossless else ""
    stored: Array = pixel_array(ds, index=index, raw=True, decoding_plugin=plugin)
    if stored.dtype.kind == "f" or syntax.is_compressed:
        return stored
    bits = int(ds.get("BitsStored") or stored.dtype.itemsize * 8)
    return keep_stored_bits(stored, bits, int(ds.get("HighBit") or bits - 1))


def _find_padding(ds: Dataset, stored: Array) -> NDArray[np.bool_] | None:
    """Return where PixelPaddingValue (up to PixelPaddingRangeLimit) stands, None where there is none.

    Floating-point pixels have elements of their own: FloatPixelPaddingValue or DoubleFloatPixelPaddingValue.
    """
    kind = {"f4": "Float", "f8": "DoubleFloat"}.get(stored.dtype.str[1:], "")
    if not kind:
        padded: tuple[float, float] | None = find_padded(ds, stored.dtype)
    else:
        value, limit = ds.get(f"{kind}PixelPaddingValue"), ds.get(f"{kind}PixelPaddingRangeLimit")
        padded = None if value is None else (float(value), float(value if limit is None else limit))
    if padded is None:
        return None
    low, high = sorted(padded)
    mask: Mask = np.isnan(stored) if np.isnan(low) else (stored >= low) & (stored <= high)
    return mask if mask.any() else None


def _to_real_units(ds: Dataset, index: int, stored: Array, *, voi: bool) -> Pixels:
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
