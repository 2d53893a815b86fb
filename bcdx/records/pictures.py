"""Images in; small pictures for the dataset card, as text that stands inside the page, out."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bcdx.records.staging import Entry

MOST_PER_CLASS = 8
MOST_PICTURES = 48
"""Of all classes together, so that a card with many classes stays small."""
SIDE = {1: 96, 3: 64}
"""Longest side by channels, pixels: three take three times the bytes."""


@dataclass(frozen=True)
class Picture:
    """One image as it is shown.

    Attributes:
        label: Class name or "unlabelled".
        reason: Why it was left out; "" where it was kept.
        pixels: uint8, shape (rows, columns) or (rows, columns, 3).
    """

    label: str
    reason: str
    pixels: NDArray[np.uint8] = field(repr=False)


def show_kept(
    entries: Sequence[Entry],
    classes: Sequence[str],
    read_image: Callable[[Entry], bytes],
    *,
    hidden: Collection[str] = (),
) -> list[Picture]:
    """Return pictures of some entries of each class, drawn by the SHA-256 of their codes.

    Args:
        entries: All samples.
        classes: Class names in order.
        read_image: Entry -> its stored pixels, as `staging.read_image` gives them.
        hidden: Codes of samples never to be shown, such as those with burned-in annotation.
    """
    most = min(MOST_PER_CLASS, max(1, MOST_PICTURES // len(classes)))
    ordered = sorted(entries, key=lambda one: hashlib.sha256(one.sample.encode()).digest())
    pictures = []
    for index, name in enumerate(classes):
        members = [one for one in ordered if one.label == index and one.sample not in hidden]
        pictures += [Picture(name, "", _to_grey_or_colour(read_image(one), one.shape)) for one in members[:most]]
    return pictures


def encode_thumbnail(pixels: NDArray[np.uint8]) -> str:
    """Return a picture, reduced to at most 96 pixels a side (64 in colour), as a data URI."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    side = SIDE[3 if pixels.ndim == 3 else 1]
    scale = side / max(image.size)
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.BOX)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _to_grey_or_colour(image: bytes, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return stored pixels in 8 bits: three channels as red, green and blue, else the first one."""
    pixels = (np.frombuffer(image, "<u2").reshape(shape) // 257).astype(np.uint8)
    return pixels if shape[2] == 3 else pixels[..., 0]
