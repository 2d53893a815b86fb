"""Images of a diagnosis and their heat in; the PNG files that lie beside `diagnosis.json` out.

Each says on its face that it is for research use only: a picture is passed on without the text it belongs to.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bcdx.evidence.pictures.canvas import Picture, render
from bcdx.evidence.pictures.overlays import draw_overlay
from bcdx.evidence.thresholding import draw_thresholds

Floats = NDArray[np.floating[Any]]
Image = Floats | NDArray[np.uint16]

LEAST_SIDE = 384
"""Pixels that a picture is enlarged to at least, by whole numbers, so that none is made up."""
STRIP_INCHES, STRIP_DPI = 0.22, 100
RESEARCH = "RESEARCH USE ONLY"


def draw_heat(image: Image, heat: Floats, positive: str) -> Picture:
    """Return the image, beside it the same under its heat, and a strip that says what is seen.

    Args:
        image: In [0, 1], or stored as uint16, shape (height, width, channels).
        heat: Shape (height, width), in [0, 1].
        positive: The class that the heat speaks for.
    """
    shown = _to_floats(image)
    pair = np.concatenate([draw_overlay(shown, np.zeros_like(heat)), draw_overlay(shown, heat)], axis=1)
    return _add_strip(_enlarge(pair), f"{RESEARCH}   right: what speaks for {positive} (Grad-CAM, coarse)")


def draw_candidates(image: Image, channels: str | tuple[str, ...]) -> Picture:
    """Return the image, and where its channels hold one the subtraction, under classical thresholds.

    Args:
        image: In [0, 1], or stored as uint16, shape (height, width, channels).
        channels: `channels` of the recipe.
    """
    shown = _to_floats(image)
    names = ("pre", "early", "late")[: shown.shape[2]] if channels == "phases" else tuple(channels)
    early = names.index("early") if "early" in names else 0
    subtraction = None
    if {"pre", "early"} <= set(names):
        subtraction = np.clip(shown[..., early] - shown[..., names.index("pre")], 0.0, 1.0)
    figure = draw_thresholds(shown[..., early], subtraction)[..., :3]
    return _add_strip(figure, f"{RESEARCH}   thresholds take no part in the verdict")


def _to_floats(image: Image) -> Floats:
    """Return an image in [0, 1]."""
    highest = np.iinfo(np.uint16).max if image.dtype == np.uint16 else 1
    floats: Floats = image.astype(np.float32) / np.float32(highest)
    return floats


def _enlarge(pair: Picture) -> Picture:
    times = -(-LEAST_SIDE // pair.shape[0])
    return pair.repeat(times, axis=0).repeat(times, axis=1)


def _add_strip(picture: Picture, words: str) -> Picture:
    return np.concatenate([picture, _draw_strip(picture.shape[1], words)], axis=0)


@lru_cache(maxsize=8)
def _draw_strip(width: int, words: str) -> Picture:
    """Return white words on black, shape (22, width, 3)."""

    def draw(figure: Any) -> None:
        figure.set_facecolor("black")
        figure.text(0.01, 0.5, words, color="white", fontsize=8, va="center")

    return render(draw, inches=(width / STRIP_DPI, STRIP_INCHES), dpi=STRIP_DPI)[:, :width, :3]
