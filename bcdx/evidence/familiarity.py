"""Features of training images in; how far a new image lies from them, and from where on it is unfamiliar, out.

The distance is Mahalanobis's in the space of the leading principal components of the standardised features, divided by
the root of their number: usual images lie around 1 or below. Variances are shrunk, for a hundred patients say little
about them. Nothing of a single patient is kept.

Of fifteen distances tried on breast MR patches (412 training images of 67 patients, 114 test images of 17) none told
strange images (mammograms, ultrasound, thermograms, whole slices, noise, inverted patches) from left-out patients
better, both before and after fine-tuning. The distance to the k-th nearest neighbour of normalised features hardly saw
inverted patches (Sun et al. 2022, "Out-of-distribution detection with deep nearest neighbors", ICML), and would keep
features of each patient. What differs little from training images stays unseen: with one phase in place of three 33 to
45 % were called unfamiliar, with the phases in reverse order 4 to 11 %.

Source: Lee et al. 2018, "A simple unified framework for detecting out-of-distribution samples and adversarial attacks",
NeurIPS; Ledoit and Wolf 2004, "A well-conditioned estimator for large-dimensional covariance matrices", J. Multivar.
Anal. 88(2).
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from bcdx._files import written_whole
from bcdx.errors import RunError
from bcdx.evidence.intervals import number_patients
from bcdx.evidence.probes.linear import measure_scale

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Texts = NDArray[np.str_]
Features = NDArray[np.float32]

FOLDS = 10
MOST_COMPONENTS = 64
PATIENTS_PER_COMPONENT = 2
"""Images of one patient are alike, so that patients, not images, say how many directions can be measured."""
FEWEST_PATIENTS = 10
"""With fewer no limit can be set."""
QUANTILE = 0.99
ARRAYS = ("mean", "scale", "axes", "variances")


@dataclass(frozen=True)
class Reference:
    """What training images look like to the model, as a whole.

    Attributes:
        mean: Of each feature, shape (features,).
        scale: Floored standard deviation of each feature, shape (features,).
        axes: Principal components of the standardised features, shape (components, features).
        variances: Along each of them, shrunk, shape (components,).
        limit: Distance above which an image is unfamiliar; infinite with fewer than 10 patients: nothing is.
        patients: Training patients.
        images: Training images.
    """

    mean: Floats
    scale: Floats
    axes: Floats
    variances: Floats
    limit: float
    patients: int
    images: int


def fit_reference(features: Features, patients: Texts, *, seed: int = 0) -> Reference:
    """Return the reference of training images.

    The limit is the 99th percentile of the distances of training images from references fitted without their patients,
    in ten folds. So about one image in a hundred of new patients of the same kind lies beyond it; of patients whose
    three highest slices decide, whichever of these does, up to 3 in a hundred. A model knows its training images better
    than new ones; where it was fine-tuned long, expect somewhat more.

    Args:
        features: What the model's head reads, of training images as they are, shape (images, features).
        patients: Patient of each image, shape (images,).
        seed: Decides folds.
    """
    generator = np.random.default_rng(seed)
    member = number_patients(patients)
    count = int(member.max()) + 1
    exact = features.astype(np.float64)
    components = max(1, min(MOST_COMPONENTS, count // PATIENTS_PER_COMPONENT, *exact.shape))
    limit = np.inf
    with threadpool_limits(1):  # threads that wait for each other take ten times the CPU time
        if count >= FEWEST_PATIENTS:
            fold = (generator.permutation(count) % FOLDS)[member]
            limit = _find_limit(exact, fold, components, seed)
        return Reference(*_fit(exact, components, seed), limit, count, len(features))


def _find_limit(features: Floats, fold: Integers, components: int, seed: int) -> float:
    """Return the percentile of distances from references that know nothing of an image's patient."""
    distances = np.zeros(len(features))
    for held in (fold == one for one in np.unique(fold)):
        distances[held] = _measure(*_fit(features[~held], components, seed), features[held])
    return float(np.quantile(distances, QUANTILE, method="higher"))


def _fit(features: Floats, components: int, seed: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Return mean, scale, axes and shrunk variances."""
    mean, scale = measure_scale(features)
    space = PCA(min(components, *features.shape), random_state=seed)
    with np.errstate(divide="ignore", invalid="ignore"):  # shares of variance, of one image or of constant features
        placed = space.fit_transform((features - mean) / scale)
    variances = placed.var(axis=0)
    shrinkage = ledoit_wolf_shrinkage(placed, assume_centered=True)
    shrunk = (1.0 - shrinkage) * variances + shrinkage * variances.mean()
    return mean, scale, space.components_, np.where(shrunk > 0.0, shrunk, 1.0)


def measure_distances(reference: Reference, features: Features) -> Floats:
    """Return how far images lie from the training images, shape (images,); infinite where not finite.

    Args:
        reference: Fitted on features of the same model.
        features: What the model's head reads, shape (images, features).

    Raises:
        RunError: The model that gave the features is another one.
    """
    if features.ndim != 2 or features.shape[1] != len(reference.mean):
        raise RunError(
            f"reference.npz: made for {len(reference.mean)} features, received {features.shape}; it belongs to another "
            "model"
        )
    parts = (reference.mean, reference.scale, reference.axes, reference.variances)
    return _measure(*parts, features.astype(np.float64))


def _measure(mean: Floats, scale: Floats, axes: Floats, variances: Floats, features: Floats) -> Floats:
    with np.errstate(invalid="ignore", over="ignore"):
        placed = ((features - mean) / scale) @ axes.T
        distances = np.sqrt((placed**2 / variances).mean(axis=1))
    return np.where(np.isfinite(distances), distances, np.inf)


def judge_unit(distances: Floats, limit: float, *, deciding: Sequence[int] | Integers) -> bool:
    """Return whether a slice, breast or patient is unfamiliar, so that no verdict should be given.

    It is where one of the slices that decide its score is, for then the score rests on what the model cannot know; and
    where at least half of all its slices are, for then it is another kind of study, and that its highest slices look
    usual is chance. A strange slice that decides nothing, such as one at the end of a stack, does not silence the rest.

    Args:
        distances: Of all slices of the unit, shape (slices,).
        limit: `Reference.limit`.
        deciding: Indices of the slices whose scores are averaged.
    """
    strange = distances > limit
    return bool(strange[np.asarray(deciding, np.int64)].any() or (len(strange) and strange.mean() >= 0.5))


def write_reference(path: Path, reference: Reference) -> None:
    """Write a reference, whole or not at all."""
    arrays = {name: getattr(reference, name).astype(np.float32) for name in ARRAYS}
    counts = np.array([reference.patients, reference.images], np.int64)
    with written_whole(path) as file:
        np.savez(file, limit=np.float64(reference.limit), counts=counts, **arrays)


def read_reference(path: Path) -> Reference:
    """Read what `write_reference` wrote.

    Raises:
        RunError: It is missing, damaged or something else.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            mean, scale, axes, variances = (content[name].astype(np.float64) for name in ARRAYS)
            limit, (patients, images) = float(content["limit"]), content["counts"].tolist()
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"{path}: no reference of training images that can be read; make the run again") from error
    if axes.shape != (len(variances), len(mean)) or scale.shape != mean.shape:
        raise RunError(f"{path}: the parts of this reference do not fit each other; make the run again")
    return Reference(mean, scale, axes, variances, limit, patients, images)
