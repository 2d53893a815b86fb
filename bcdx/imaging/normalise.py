"""Real units to stored values: one pair of percentiles per unit, then a square of the stored size."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bcdx.imaging.frames import Slice

Pixels = NDArray[np.float32]


def percentile_range(slices: Iterable[Slice], low: float, high: float) -> tuple[float, float]:
    """Return the percentiles `low` and `high` (0 to 100, linear interpolation) of all pixels not padded."""
    kept = [one.shown for one in slices]
    pixels = np.concatenate(kept) if kept else np.empty(0, np.float32)
    if not pixels.size:
        return 0.0, 0.0
    lower, upper = np.percentile(pixels, (low, high))
    return float(lower), float(upper)


def to_unit_range(one: Slice, low: float, high: float) -> Pixels:
    """Return pixels in [0, 1]: `low` becomes 0, `high` 1, what lies beyond is cut, padding is 0."""
    scaled: Pixels = np.clip((one.pixels - np.float32(low)) / np.float32(high - low), 0.0, 1.0).astype(np.float32)
    if one.padding is not None:
        scaled[one.padding] = 0.0
    return scaled


def fit_square(pixels: Pixels, size: int) -> tuple[Pixels, float]:
    """Return the image as large as it fits into a square, centred, padded with 0, and the scale applied.

    Args:
        pixels: float32, shape (rows, columns), in [0, 1].
        size: Side of the square, pixels. Interpolation is Pillow's bilinear filter, which averages when shrinking.
    """
    rows, columns = pixels.shape
    scale = size / max(rows, columns)
    height, width = max(1, round(rows * scale)), max(1, round(columns * scale))
    if (height, width) != (rows, columns):
        image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
        pixels = np.asarray(image, np.float32)
    square = np.zeros((size, size), np.float32)
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = pixels
    return square, scale


def quantise(pixels: Pixels) -> NDArray[np.uint16]:
    """Return [0, 1] as 0 to 65535, rounded half to even."""
    stored: NDArray[np.uint16] = np.rint(np.clip(pixels, 0.0, 1.0) * np.float32(65535.0)).astype(np.uint16)
    return stored
