"""Heat maps and where lesions are in; how often the hottest point lies in one, beside points without a model, out.

Source: Zhang, Bargal, Lin, Brandt, Shen and Sclaroff 2018, "Top-down neural attention by excitation backprop", Int. J.
Comput. Vis. 126: a point is a hit within 15 pixels of the object. Here the tolerance is said with every figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import norm

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

PUBLISHED_TOLERANCE = 15.0
"""Pixels, of Zhang et al."""
SMOOTHING = 1 / 100
"""Standard deviation of the Gaussian before the brightest point is sought, in parts of the image's longer side."""
LEAST_PATIENTS = 5
"""With fewer, how alike a patient's images are cannot be told: all images of a patient count as one."""


def point(heat: Floats) -> tuple[int, int]:
    """Return row and column of a map's maximum: of several pixels with it the middle of their largest connected part.

    A map that is the same everywhere points at its centre. What is not finite is never the maximum.

    Args:
        heat: Shape (height, width).
    """
    values = np.where(np.isfinite(heat), heat, -np.inf)
    labels, count = ndimage.label(values == values.max())
    if count > 1:
        sizes = np.bincount(labels.ravel())
        labels = labels == 1 + int(np.argmax(sizes[1:]))
    pixels = np.argwhere(labels)
    middle = pixels[np.argmin(((pixels - pixels.mean(axis=0)) ** 2).sum(axis=1))]
    return int(middle[0]), int(middle[1])


def point_all(maps: Floats) -> Integers:
    """Return the points of maps, shape (images, height, width), as (images, 2)."""
    return np.array([point(heat) for heat in maps], np.int64).reshape(len(maps), 2)


def hits(points: Integers, lesions: Floats | Booleans, tolerance: float = 0.0) -> Booleans:
    """Return which points lie in their image's lesion, or as near as the tolerance; never where it is not known.

    Distances are from the middle of the pixel to that of the lesion's nearest one.

    Args:
        points: Row and column, shape (images, 2).
        lesions: Boxes, shape (images, 4): first row, first column, one past the last row and column, fractions too, -1
            where there is none; or masks, bool of shape (images, height, width).
        tolerance: Pixels.
    """
    if lesions.ndim == 3:
        return np.array(
            [mask.any() and _reach(mask)[tuple(at)] <= tolerance for at, mask in zip(points, lesions, strict=True)],
            np.bool_,
        )
    middles = points + 0.5
    beyond = np.maximum(lesions[:, :2] - middles, middles - lesions[:, 2:])
    away = np.hypot(*np.where(beyond > 0, beyond + 0.5, 0.0).T)
    near: Booleans = find_known(lesions) & (away <= tolerance)
    return near


def find_known(lesions: Floats | Booleans) -> Booleans:
    """Return of which images the lesion is known: its box has an area, its mask a pixel."""
    if lesions.ndim == 3:
        return np.asarray(lesions.any(axis=(1, 2)), np.bool_)
    known: Booleans = (lesions.min(axis=1) >= 0) & (lesions[:, 2:] > lesions[:, :2]).all(axis=1)
    return known


def _reach(mask: Booleans) -> NDArray[np.float64]:
    return np.asarray(ndimage.distance_transform_edt(~mask), np.float64)


def score_pointing(
    maps: Floats,
    images: Floats,
    lesions: Floats | Booleans,
    *,
    patients: NDArray[np.str_] | None = None,
    breasts: Booleans | None = None,
    tolerance: float = 0.0,
) -> dict[str, Any]:
    """Return how often maps point at the lesion, and how often the centre and the brightest point lie in it.

    Images whose lesion is not known, or whose map is the same everywhere and so points nowhere, are told apart: the
    first take no part, the second are misses and counted as "silent".

    Args:
        maps: Heat, shape (images, height, width).
        images: In [0, 1], shape (images, height, width) or with channels, of which the mean counts.
        lesions: Boxes or masks, as `hits` takes them.
        patients: Patient of each image, shape (images,); None: each image is another patient's.
        breasts: Where the brightest point may lie and of what "breast centre" is the middle, bool, shape (images,
            height, width); None: all of the image.
        tolerance: Pixels beside the lesion that still count.

    Returns:
        "n" images, "patients", "tolerance", "silent", and for "heat map", "centre", "brightest" (and "breast centre")
        {"value", "low", "high", "hits", "n"}; values are None without images.
    """
    known = find_known(lesions)
    codes = np.arange(len(maps)).astype(str) if patients is None else patients
    silent = np.ptp(maps.reshape(len(maps), -1), axis=1) == 0 if len(maps) else np.zeros(0, bool)
    found = {"heat map": hits(point_all(maps), lesions, tolerance) & ~silent}
    for name, points in place_baselines(images, breasts).items():
        found[name] = hits(points, lesions, tolerance)
    return {
        "n": int(known.sum()),
        "patients": len(np.unique(codes[known])),
        "tolerance": tolerance,
        "silent": int((silent & known).sum()),
        **{name: measure_rate(one[known], codes[known]) for name, one in found.items()},
    }


def place_baselines(images: Floats, breasts: Booleans | None = None) -> Mapping[str, Integers]:
    """Return points that need no model, by name, shape (images, 2): of `score_pointing`'s images and breasts."""
    grey = images.mean(axis=3) if images.ndim == 4 else images
    count, height, width = grey.shape
    points = {
        "centre": np.tile(np.array([height // 2, width // 2], np.int64), (count, 1)),
        "brightest": np.array([find_brightest(one, _pick(breasts, at)) for at, one in enumerate(grey)], np.int64),
    }
    if breasts is not None:
        points["breast centre"] = point_all(breasts.astype(np.float64))
    return {name: found.reshape(count, 2) for name, found in points.items()}


def _pick(breasts: Booleans | None, number: int) -> Booleans | None:
    return None if breasts is None else breasts[number]


def find_brightest(image: Floats, breast: Booleans | None = None) -> tuple[int, int]:
    """Return the brightest point of the smoothed image, shape (height, width), within the breast where it is given."""
    smooth = ndimage.gaussian_filter(np.asarray(image, np.float64), max(1.0, SMOOTHING * max(image.shape)))
    return point(smooth if breast is None or not breast.any() else np.where(breast, smooth, -np.inf))


def measure_rate(found: Booleans, patients: NDArray[np.str_]) -> dict[str, Any]:
    """Return the share of hits with its 95 % interval: Wilson's, of as many images as the patients' are worth.

    Images of one patient are alike, so n is divided by the design effect, the variance between patients over that of
    independent images; it never counts for less than the patients. Of fewer than 5 patients each counts as one image.

    Args:
        found: Which images are hits, shape (images,).
        patients: Patient of each, shape (images,).

    Source: Wilson 1927, J. Am. Stat. Assoc. 22(158); Dean and Pagano 2015, "Evaluating confidence interval methods for
    binomial proportions in clustered surveys", J. Surv. Stat. Methodol. 3(4).
    """
    n = len(found)
    if not n:
        return {"value": None, "low": None, "high": None, "hits": 0, "n": 0, "reason": "no lesion is known"}
    share = float(found.mean())
    low, high = find_wilson_interval(share, _count_effective(found, patients))
    return {"value": share, "low": low, "high": high, "hits": int(found.sum()), "n": n}


def _count_effective(found: Booleans, patients: NDArray[np.str_]) -> float:
    """Return how many independent images say as much."""
    _, member = np.unique(patients, return_inverse=True)
    sizes = np.bincount(member)
    count, n, share = len(sizes), len(found), float(found.mean())
    if count == n:
        return float(n)
    if count < LEAST_PATIENTS or share in {0.0, 1.0}:
        return float(count)
    residues = np.bincount(member, weights=found) - share * sizes
    variance = count / (count - 1) * float((residues**2).sum()) / n**2
    return float(np.clip(share * (1.0 - share) / max(variance, 1e-12), count, n))


def find_wilson_interval(share: float, n: float) -> tuple[float, float]:
    """Return Wilson's 95 % score interval of a share of n; n need not be whole."""
    z = float(norm.ppf(0.975))
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * float(np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)))
    # rounding alone could leave the share outside its own interval
    return min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half))
