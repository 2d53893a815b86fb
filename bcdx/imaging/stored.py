"""A file's header in; where its pixels lie, and arrays of stored values that know what they mean, out.

Stored values stay as narrow as they are in the file until they are needed in real units: that is what makes reading a
study twice, once for its percentiles and once for its images, cheap.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

Array = NDArray[Any]
Pixels = NDArray[np.float32]
Mask = NDArray[np.bool_]
Counts = NDArray[np.int64]

PLAIN_SYNTAXES = {
    "1.2.840.10008.1.2",  # Implicit VR Little Endian
    "1.2.840.10008.1.2.1",  # Explicit VR Little Endian
}
TYPES = {(8, 0): "<u1", (8, 1): "<i1", (16, 0): "<u2", (16, 1): "<i2"}
"""(BitsAllocated, PixelRepresentation) -> NumPy's name."""
PADDING = ("PixelPaddingValue", "PixelPaddingRangeLimit")
UNDEFINED_LENGTH = 0xFFFFFFFF


class Rule(NamedTuple):
    """How stored values become real units: `slope * value + intercept`, negated for MONOCHROME1."""

    slope: float = 1.0
    intercept: float = 0.0
    negated: bool = False

    def apply(self, values: Array) -> Pixels:
        """Return real units; the sum is made in double precision."""
        if self.slope == 1.0 and self.intercept == 0.0:
            pixels: Pixels = values.astype(np.float32)
        else:
            pixels = (values.astype(np.float64) * self.slope + self.intercept).astype(np.float32)
        return np.negative(pixels, out=pixels) if self.negated else pixels


IDENTITY = Rule()


@dataclass(frozen=True, eq=False)
class Stored:
    """One image as its file stores it.

    Attributes:
        values: Integers of 8 or 16 bits with a rule, or float32 real units without; this machine's byte order, shape
            (rows, columns).
        rule: What integers mean; None: `values` are real units.
        padded: First and last integer that stand for padding; None: there is none.
        mask: Where real units are padding; None: nowhere.
    """

    values: Array = field(repr=False)
    rule: Rule | None = None
    padded: tuple[int, int] | None = None
    mask: Mask | None = field(default=None, repr=False)

    @property
    def padding(self) -> Mask | None:
        """Where the scanner padded, shape (rows, columns); None: nowhere."""
        if self.padded is None:
            return self.mask
        mask: Mask = (self.values >= self.padded[0]) & (self.values <= self.padded[1])
        return mask if mask.any() else None

    def to_real(self) -> Pixels:
        """Return real units, a new array."""
        return self.values.astype(np.float32) if self.rule is None else self.rule.apply(self.values)

    @property
    def is_flat(self) -> bool:
        """Whether all pixels that are not padding are equal."""
        padding = self.padding
        shown = self.values if padding is None else self.values[~padding]
        if not shown.size:
            return True
        low, high = shown.min(), shown.max()
        if low != high and self.rule is not None:
            low, high = self.rule.apply(np.array([low, high]))
        return bool(low == high)

    def count_bins(self) -> Counts:
        """Return how often each integer occurs outside padding, in the order of its bits read as unsigned."""
        counts: Counts = np.bincount(self.values.view(f"u{self.values.itemsize}").ravel())
        if self.padded is not None:
            values = bin_values(np.arange(counts.size), self.values.dtype)
            counts[(values >= self.padded[0]) & (values <= self.padded[1])] = 0
        return counts

    def list_levels(self) -> tuple[Pixels, Counts]:
        """Return the real values that occur outside padding, and how often each does; not sorted, may repeat."""
        if self.rule is None:
            shown: Pixels = self.values.ravel() if self.mask is None else self.values[~self.mask]
            return shown, np.ones(shown.size, np.int64)
        counts = self.count_bins()
        bins = np.flatnonzero(counts)
        return self.rule.apply(bin_values(bins, self.values.dtype)), counts[bins]

    def hash_source(self) -> str:
        """Return SHA-256 of shape and real values: the same for the same image however it is stored.

        Whole numbers of up to 16 bits are hashed as such, at half the cost; the rest as float32.
        """
        rows, columns = self.values.shape
        digest = hashlib.sha256(f"{rows}x{columns}:".encode())
        values = self._as_integers()
        digest.update(np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).data)
        return digest.hexdigest()

    def _as_integers(self) -> Array:
        """Return real values as 16 bits modulo 2**16 if all are whole and fit, else as float32."""
        if self.rule == IDENTITY and self.values.itemsize == 2:
            return self.values
        pixels = self.to_real()
        if not pixels.size or not (pixels.min() >= -(2.0**15) and pixels.max() < 2.0**16):
            return pixels
        whole = pixels.astype(np.int32)
        return whole.astype(np.uint16) if (whole == pixels).all() else pixels


def bin_values(bins: Counts, kind: np.dtype[Any]) -> Counts:
    """Return the integers of type `kind` that `Stored.count_bins` counts in these places."""
    width = 1 << (8 * kind.itemsize)
    return np.where(bins >= width // 2, bins - width, bins) if kind.kind == "i" else bins


def keep_stored_bits(values: Array, bits: int, high: int) -> Array:
    """Drop what lies outside the stored bits, such as overlays in the high ones, and extend the sign."""
    width = values.dtype.itemsize * 8
    if bits >= width or not bits - 1 <= high < width:
        return values
    if high == bits - 1 and _fits(values, bits):
        return values  # as most files do; looking is cheaper than shifting
    shifted: Array = np.left_shift(values, width - 1 - high)
    return np.right_shift(shifted, width - bits, out=shifted)  # arithmetic where the type is signed


def _fits(values: Array, bits: int) -> bool:
    if values.dtype.kind == "u":
        return bool(values.max(initial=0) < 1 << bits)
    return bool(values.min(initial=0) >= -(1 << (bits - 1)) and values.max(initial=0) < 1 << (bits - 1))


class Layout(NamedTuple):
    """Where one frame's uncompressed pixels lie, and what they mean: all that reading them needs besides the shape.

    Attributes:
        offset: Of the first pixel, bytes from the start of the file.
        kind: NumPy's name of the type.
        bits: BitsStored, the lowest ones.
        rule: To real units.
        padded: First and last integer that stand for padding; None: there is none.
        file_bytes: Size of the file when its header was read; one of another size has been changed since.
    """

    offset: int
    kind: str
    bits: int
    rule: Rule
    padded: tuple[int, int] | None
    file_bytes: int


def find_layout(ds: Dataset, index: int, rescale: Dataset, file_bytes: int) -> Layout | None:
    """Return where a frame's pixels lie, None where they are compressed or anything about them is unusual.

    Args:
        ds: Header, its pixel data left on disk.
        index: Frame within the file, from 0.
        rescale: What holds RescaleSlope and RescaleIntercept: `ds`, or a functional group's item.
        file_bytes: Size of the file.
    """
    kind = TYPES.get((ds.get("BitsAllocated", 0), ds.get("PixelRepresentation", 0)))
    start = _find_start(ds)
    rule = find_rule(ds, rescale)
    if kind is None or start is None or rule is None:
        return None
    bits, stored = ds.get("BitsStored"), np.dtype(kind)
    if not isinstance(bits, int) or not 1 <= bits <= 8 * stored.itemsize or ds.get("HighBit") != bits - 1:
        return None
    if not all(isinstance(ds.get(name, 0), int) for name in PADDING):
        return None
    offset, length = start
    frame_bytes = ds.Rows * ds.Columns * stored.itemsize
    if (index + 1) * frame_bytes > length or offset + length > file_bytes:
        return None
    return Layout(offset + index * frame_bytes, kind, bits, rule, find_padded(ds, stored), file_bytes)


def _find_start(ds: Dataset) -> tuple[int, int] | None:
    """Return offset and length of uncompressed pixel data."""
    element = ds.get_item("PixelData", keep_deferred=True) if "PixelData" in ds else None
    meta = getattr(ds, "file_meta", None)
    if meta is None or meta.get("TransferSyntaxUID") not in PLAIN_SYNTAXES:
        return None
    if not isinstance(element, RawDataElement) or element.length == UNDEFINED_LENGTH:
        return None
    return element.value_tell, element.length


def find_rule(ds: Dataset, rescale: Dataset) -> Rule | None:
    """Return what integers mean, None where it is no straight line or the elements hold no numbers."""
    if rescale.get("ModalityLUTSequence"):
        return None
    slope, intercept = (rescale.get(name) for name in ("RescaleSlope", "RescaleIntercept"))
    try:
        numbers = [default if value in (None, "") else float(value) for value, default in ((slope, 1), (intercept, 0))]
    except (TypeError, ValueError):
        return None
    return Rule(numbers[0], numbers[1], ds.get("PhotometricInterpretation") == "MONOCHROME1")


def find_padded(ds: Dataset, kind: np.dtype[Any]) -> tuple[int, int] | None:
    """Return the first and last integer of type `kind` that PixelPaddingValue and PixelPaddingRangeLimit name."""
    value, limit = ds.get("PixelPaddingValue"), ds.get("PixelPaddingRangeLimit")
    if value is None or isinstance(value, (bytes, str)):
        return None
    first, last = sorted(as_stored(int(one), kind) for one in (value, value if limit is None else limit))
    return first, last


def as_stored(value: int, kind: np.dtype[Any]) -> int:
    """Return a padding value as the pixels' own type writes it: files mix up US and SS."""
    bits = kind.itemsize * 8
    wrapped = value % (1 << bits)
    return wrapped - (1 << bits) if kind.kind == "i" and wrapped >= 1 << (bits - 1) else wrapped
