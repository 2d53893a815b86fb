"""An image and its heat in, both in [0, 1]; the image in grey under colours where it is hot out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

COLOURS = "plasma"
"""Its lightness rises evenly, people with any usual colour vision read it, and no part of it looks like grey.

Source: Smith and van der Walt 2015, "A better default colormap for Matplotlib", SciPy.
"""
MOST_OPAQUE = 0.6
"""Of the hottest pixel: the image is seen even there."""


def draw_overlay(image: NDArray[np.floating], heat: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return the picture, uint8 of shape (height, width, 3).

    A pixel is covered in proportion to its heat: where there is none the image stands alone.

    Args:
        image: Shape (height, width, channels), in [0, 1]; the mean of the channels is shown.
        heat: Shape (height, width), in [0, 1].
    """
    from matplotlib import colormaps

    grey = np.clip(image, 0.0, 1.0).astype(np.float64).mean(axis=-1, keepdims=True)
    warmth = np.clip(heat, 0.0, 1.0).astype(np.float64)
    cover = MOST_OPAQUE * warmth[..., None]
    mixed = (1.0 - cover) * grey + cover * colormaps[COLOURS](warmth)[..., :3]
    return np.asarray(np.rint(255.0 * mixed), dtype=np.uint8)
