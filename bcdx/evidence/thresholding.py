"""An image in [0, 1] in; a breast mask, lesion candidates by five classical thresholds, and one figure of them out.

This is how the project's origin looked for tumours. Here it is a look at an image, never part of a verdict: a threshold
finds what is bright (vessels, glands, the heart), and no threshold was chosen on any data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bcdx.evidence.pictures.canvas import GREEN, ORANGE, SKY, Picture, render

Image = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
Threshold = Callable[[Image, Mask], Mask]

NOTICE = "Orange: bright by fixed rules within the breast (blue). A look at the image, never part of a verdict."
SMOOTHING = 1.0
"""Standard deviation, pixels, of the Gaussian before every threshold: single noisy pixels are no candidates."""
AIR_SMOOTHING = 1 / 100
"""The same before the breast is told from air, in parts of the longer side."""
GLOBAL_SHARE = 0.7
"""Of the way from the darkest to the brightest hundredth of the breast."""
LOCAL_SHARE, LOCAL_MARGIN = 1 / 8, 0.1
"""Side of the neighbourhood in parts of the image's longer side, and how far above its mean a candidate lies."""
PANEL_INCHES = 2.1
CLASSES = 3
"""Of multi-Otsu: fat, gland and what enhances."""
LEAST_PART = 0.2
"""Parts of the foreground smaller than this, relative to the largest, are not breast: two breasts may be apart."""


def mask_breast(image: Image) -> Mask:
    """Return where the body is: what is brighter than air, without holes.

    Otsu's or the triangle threshold, whichever is lower, of the smoothed square root, which brings fat-suppressed
    tissue and bright tissue closer together. The chest is not taken off: without orientation it looks like breast.

    Args:
        image: Shape (height, width), in [0, 1]; 0 where padded.

    Returns:
        Shape (height, width); all of the image where nothing in it differs.

    Source: Otsu 1979, IEEE Trans. Syst. Man Cybern. 9(1); Zack, Rogers and Latt 1977, J. Histochem. Cytochem. 25(7).
    """
    from skimage.filters import threshold_otsu, threshold_triangle

    bright = np.sqrt(np.clip(image, 0.0, 1.0))
    smooth = ndimage.gaussian_filter(bright, max(SMOOTHING, AIR_SMOOTHING * max(image.shape)))
    shown = bright > 0
    values = _cut_padding(smooth, shown)
    if not np.ptp(values):
        return np.ones(image.shape, bool)
    # air that the scanner has blanked in part would draw the triangle down into the noise of the rest
    level = min(threshold_otsu(values), threshold_triangle(smooth[shown]))
    mask: Mask = ndimage.binary_fill_holes(_keep_large(smooth > level))
    return mask


def _cut_padding(smooth: Image, shown: Mask) -> Image:
    """Return what is within the outermost pixels that are not 0: padding is no air to learn from."""
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    return smooth[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if rows.size else smooth


def _keep_large(mask: Mask) -> Mask:
    labels, count = ndimage.label(mask)
    if not count:
        return np.ones(mask.shape, bool)
    sizes = np.bincount(labels.ravel())[1:]
    return np.isin(labels, 1 + np.flatnonzero(sizes >= LEAST_PART * sizes.max()))


def threshold_global(image: Image, breast: Mask) -> Mask:
    """Return what is brighter than a fixed share of the breast's range."""
    smooth = _smooth(image)
    low, high = np.percentile(smooth[breast], (1, 99))
    return _within(breast, smooth > low + GLOBAL_SHARE * (high - low))


def threshold_otsu(image: Image, breast: Mask) -> Mask:
    """Return the brighter of two classes.

    Source: Otsu 1979, "A threshold selection method from gray-level histograms", IEEE Trans. Syst. Man Cybern. 9(1).
    """
    smooth = _smooth(image)
    return _within(breast, smooth > _split(smooth[breast], 2)[-1])


def threshold_multi_otsu(image: Image, breast: Mask) -> Mask:
    """Return the brightest of three classes.

    Source: Liao, Chen and Chung 2001, "A fast algorithm for multilevel thresholding", J. Inf. Sci. Eng. 17(5).
    """
    smooth = _smooth(image)
    return _within(breast, smooth > _split(smooth[breast], CLASSES)[-1])


def threshold_adaptive(image: Image, breast: Mask) -> Mask:
    """Return what is brighter than its neighbourhood.

    Air counts as the breast's mean, else all of the skin would be bright.
    """
    from skimage.filters import threshold_local

    smooth = _smooth(image)
    filled = np.where(breast, smooth, smooth[breast].mean())
    side = 2 * round(LOCAL_SHARE * max(image.shape) / 2) + 1
    level = threshold_local(filled, max(3, side), method="mean", offset=-LOCAL_MARGIN)
    return _within(breast, smooth > level)


def threshold_hysteresis(image: Image, breast: Mask) -> Mask:
    """Return those parts of Otsu's brighter class that hold some of multi-Otsu's brightest.

    Source: Canny 1986, "A computational approach to edge detection", IEEE Trans. Pattern Anal. 8(6), part VI.
    """
    from skimage.filters import apply_hysteresis_threshold

    smooth = _smooth(image)
    low, high = _split(smooth[breast], 2)[-1], _split(smooth[breast], CLASSES)[-1]
    return _within(breast, apply_hysteresis_threshold(np.where(breast, smooth, -np.inf), min(low, high), high))


METHODS: Mapping[str, Threshold] = {
    "global": threshold_global,
    "Otsu": threshold_otsu,
    "multi-Otsu": threshold_multi_otsu,
    "adaptive": threshold_adaptive,
    "hysteresis": threshold_hysteresis,
}


def find_candidates(image: Image, breast: Mask | None = None) -> dict[str, Mask]:
    """Return method -> lesion candidates within the breast.

    Args:
        image: Shape (height, width), in [0, 1].
        breast: Where to look, same shape; None: as `mask_breast` says. An empty one yields nothing.
    """
    where = mask_breast(image) if breast is None else breast
    if not where.any():
        return {name: np.zeros(image.shape, bool) for name in METHODS}
    return {name: method(image, where) for name, method in METHODS.items()}


def dice(first: Mask, second: Mask) -> float:
    """Return twice the overlap over the sum of both areas; 1 where both are empty.

    Source: Dice 1945, "Measures of the amount of ecologic association between species", Ecology 26(3).
    """
    total = int(np.count_nonzero(first)) + int(np.count_nonzero(second))
    return 2.0 * int(np.count_nonzero(first & second)) / total if total else 1.0


def _within(breast: Mask, found: Mask) -> Mask:
    both: Mask = breast & found
    return both


def _smooth(image: Image) -> Image:
    smooth: Image = ndimage.gaussian_filter(np.asarray(image, np.float64), SMOOTHING)
    return smooth


def _split(values: NDArray[Any], classes: int) -> NDArray[np.float64]:
    """Return the thresholds between classes; above all values where there are fewer values than classes."""
    from skimage.filters import threshold_multiotsu

    try:
        return np.asarray(threshold_multiotsu(values, classes=classes), np.float64)
    except ValueError:  # scikit-image's answer to too few different values
        return np.full(classes - 1, values.max())


def draw_thresholds(image: Image, subtraction: Image | None = None, truth: Mask | None = None) -> Picture:
    """Return one figure: the image, then each method's candidates, with their share of the breast.

    Args:
        image: Shape (height, width), in [0, 1].
        subtraction: Enhancement in [0, 1], same shape; a second row, within the image's breast.
        truth: Where readers drew a lesion, same shape; outlined, and its Dice coefficient is named.
    """
    breast = mask_breast(image)
    rows = [("image", image)] + ([] if subtraction is None else [("subtraction", subtraction)])
    high, wide = (PANEL_INCHES * side / max(image.shape) for side in image.shape)
    size = (max(wide, 1.5) * (1 + len(METHODS)), (high + 0.25) * len(rows) + 0.25)

    def draw(figure: Any) -> None:
        grid = figure.subplots(len(rows), 1 + len(METHODS), squeeze=False)
        for axes, (name, shown) in zip(grid, rows, strict=True):
            _draw_row(axes, name, shown, (breast, truth))
        figure.supxlabel(NOTICE + ("" if truth is None else " Green: as drawn by readers."), fontsize=8)

    return render(draw, inches=size)


def _draw_row(grid: Sequence[Any], name: str, image: Image, masks: tuple[Mask, Mask | None]) -> None:
    from matplotlib.colors import ListedColormap

    breast, truth = masks
    panels: dict[str, Mask | None] = {name: None, **find_candidates(image, breast)}
    for axes, (method, found) in zip(grid, panels.items(), strict=True):
        title = method
        axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.contour(breast, levels=[0.5], colors=SKY, linewidths=0.6)
        axes.set_axis_off()
        if found is not None:
            title += f": {found.sum() / max(1, breast.sum()):.1%}"
            axes.imshow(np.ma.masked_equal(found, False), cmap=ListedColormap([ORANGE]), alpha=0.6)
            if truth is not None:
                title += f", Dice {dice(found, truth):.2f}"
        if truth is not None:
            axes.contour(truth, levels=[0.5], colors=GREEN, linewidths=0.8)
        axes.set_title(title, fontsize=8)
