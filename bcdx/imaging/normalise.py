"""Stored values to a record's image: the normalised range, a square of the stored size, 16 bits; its likeness."""

from __future__ import annotations

import io
from typing import NamedTuple

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bcdx.imaging.stored import IDENTITY, Pixels, Stored

Stack = NDArray[np.uint16]

BYTE_STEP = 257
"""16-bit values between two of 8 bits: 255 becomes 65535."""
LIKENESS_SIDE = 64


def to_unit_range(image: Stored, low: float, high: float) -> Pixels:
    """Return pixels in [0, 1]: `low` becomes 0, `high` 1, what lies beyond is cut, padding is 0."""
    if image.rule == IDENTITY:
        pixels: Pixels = np.subtract(image.values, np.float32(low), dtype=np.float32)  # converts as it goes
    else:
        pixels = image.to_real()
        pixels -= np.float32(low)
    pixels /= np.float32(high - low)
    np.clip(pixels, 0.0, 1.0, out=pixels)
    padding = image.padding
    if padding is not None:
        pixels[padding] = 0.0
    return pixels


class Place(NamedTuple):
    """Where an image lies within its square, in pixels; `scale` is stored over source pixels."""

    scale: float
    top: int
    left: int
    height: int
    width: int


def find_place(shape: tuple[int, int], size: int) -> Place:
    """Return where an image goes that is as large as it fits into a square of side `size`, centred."""
    rows, columns = shape
    scale = size / max(rows, columns)
    height, width = max(1, round(rows * scale)), max(1, round(columns * scale))
    return Place(scale, (size - height) // 2, (size - width) // 2, height, width)


def fit_square(pixels: Pixels, size: int, *, fill: float = 0.0) -> Pixels:
    """Return the image as large as it fits into a square, centred, with `fill` beside it.

    Args:
        pixels: float32, shape (rows, columns), in [0, 1].
        size: Side of the square, pixels. Interpolation is Pillow's bilinear filter, which averages when shrinking.
        fill: Value where there is no image.
    """
    place = find_place((pixels.shape[0], pixels.shape[1]), size)
    if (place.height, place.width) != pixels.shape:
        image = Image.fromarray(pixels).resize((place.width, place.height), Image.Resampling.BILINEAR)
        pixels = np.asarray(image, np.float32)
    if pixels.shape == (size, size):
        return pixels
    square = np.full((size, size), fill, np.float32)
    square[place.top : place.top + place.height, place.left : place.left + place.width] = pixels
    return square


def quantise(pixels: Pixels) -> NDArray[np.uint16]:
    """Return [0, 1] as 0 to 65535, rounded half to even."""
    scaled = np.clip(pixels, 0.0, 1.0)
    scaled *= np.float32(65535.0)
    return np.rint(scaled, out=scaled).astype(np.uint16)


def pass_through_jpeg(image: Stack, quality: int) -> Stack:
    """Return the image as an 8-bit JPEG shows it, in 16 bits again: RGB with three channels, else a grey one for each.

    Args:
        image: Shape (height, width, channels).
        quality: Pillow's, 1 to 100.
    """
    bytes_ = np.rint(image / np.float32(BYTE_STEP)).astype(np.uint8)
    if image.shape[2] == 3:
        shown = _reopen(Image.fromarray(bytes_), quality)
    else:
        channels = [_reopen(Image.fromarray(np.ascontiguousarray(one)), quality) for one in np.moveaxis(bytes_, -1, 0)]
        shown = np.stack(channels, axis=-1)
    return shown.astype(np.uint16) * np.uint16(BYTE_STEP)


def _reopen(image: Image.Image, quality: int) -> NDArray[np.uint8]:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def hash_likeness(image: Stack) -> str:
    """Return the perceptual hash of the first channel, 16 hexadecimal digits: near images differ in few bits.

    It is `imagehash.phash` (signs of the lowest 8 x 8 cosine terms against their median) of an image of 8 bits that
    block means have made at most 64 pixels wide.
    """
    grey = Image.fromarray((image[:, :, 0] >> 8).astype(np.uint8))
    return str(imagehash.phash(grey.reduce(max(1, -(-max(grey.size) // LIKENESS_SIDE)))))
