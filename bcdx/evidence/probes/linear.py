"""Features, labels and patients of one split in; scores by a linear model that has not seen what it scores, out.

The model is logistic regression on the leading principal components of the standardised features. Components are
taken from all images at once, which is fair, for they know no label. ROC AUC is the mean over folds: scores of
different folds come from different models, and one AUC over all of them lies below 0.5 where there is nothing to learn.

Source: Forman and Scholz 2010, "Apples-to-apples in cross-validation studies", SIGKDD Explorations 12(1).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from bcdx.evidence.statistics import Statistic, area, divide, rank

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

FOLDS, FEWEST_FOLDS = 5, 3
MOST_COMPONENTS = 64
PENALTY = 0.01
"""Inverse strength of the L2 penalty: the best on pooled InceptionV3 features of breast MR patches."""
VARIANCE_FLOOR = 0.01
"""Of the median: what hardly varies on these images would outweigh all else on others."""


def measure_scale(features: Floats) -> tuple[Floats, Floats]:
    """Return mean and floored standard deviation of each feature, shape (features,) each."""
    variance = features.var(axis=0)
    floored = np.maximum(variance, VARIANCE_FLOOR * np.median(variance))
    return features.mean(axis=0), np.sqrt(np.where(floored > 0.0, floored, 1.0))


def reduce_features(features: NDArray[np.float32], *, seed: int) -> Floats:
    """Return the leading principal components of the standardised features, shape (samples, up to 64)."""
    found = features.astype(np.float64)
    mean, scale = measure_scale(found)
    space = PCA(min(MOST_COMPONENTS, *found.shape), random_state=seed)
    with np.errstate(divide="ignore", invalid="ignore"):  # shares of variance, of one image or of constant features
        return np.asarray(space.fit_transform((found - mean) / scale))


def count_folds(targets: Integers, patients: Integers) -> int:
    """Return how many folds by patient leave every value of `targets` in each: 5, or fewer with few patients."""
    return min(FOLDS, *(len(np.unique(patients[targets == value])) for value in np.unique(targets)))


def fold_by_patient(targets: Integers, patients: Integers, *, folds: int, seed: int) -> Integers:
    """Return the fold of each sample, whole patients together, values of `targets` spread evenly."""
    dealt = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(targets, targets, patients)
    return _number_folds(dealt, len(targets))


def fold_by_image(targets: Integers, *, folds: int, seed: int) -> Integers:
    """Return the fold of each sample, whatever its patient: images of one patient stand on both sides."""
    return _number_folds(StratifiedKFold(folds, shuffle=True, random_state=seed).split(targets, targets), len(targets))


def _number_folds(dealt: Iterable[tuple[Integers, Integers]], samples: int) -> Integers:
    found = np.zeros(samples, np.int64)
    for fold, (_, held) in enumerate(dealt):
        found[held] = fold
    return found


def cross_fit(reduced: Floats, positives: Booleans, fold: Integers) -> Floats:
    """Return each sample's score by the model of the other folds, shape (samples,); constant without two classes."""
    scores = np.zeros(len(positives))
    for held in (fold == one for one in np.unique(fold)):
        if len(np.unique(positives[~held])) == 2:
            scores[held] = fit_linear(reduced[~held], positives[~held]).decision_function(reduced[held])
    return scores


def cross_predict(reduced: Floats, targets: Integers, fold: Integers) -> Integers:
    """Return the value of each sample that the model of the other folds predicts, all values counting alike."""
    found = np.full(len(targets), -1)
    for held in (fold == one for one in np.unique(fold)):
        if len(np.unique(targets[~held])) > 1:
            found[held] = fit_linear(reduced[~held], targets[~held], balanced=True).predict(reduced[held])
    return found


def fit_linear(
    inputs: Floats, targets: Integers | Booleans, *, penalty: float = PENALTY, balanced: bool = False
) -> LogisticRegression:
    """Return logistic regression on inputs, shape (samples, columns).

    Newton's method needs a handful of steps here, less time than the usual solver takes, which it falls back on.
    """
    weights = "balanced" if balanced else None
    model = LogisticRegression(C=penalty, solver="newton-cholesky", max_iter=300, class_weight=weights)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(inputs, targets)


def area_over_folds(scores: Floats, positives: Booleans, fold: Integers) -> Statistic:
    """Return ROC AUC as the mean over those folds in which both classes stand; NaN where there is none."""
    mine = [np.flatnonzero(fold == one) for one in np.unique(fold)]
    areas = [area(rank(scores[rows], positives[rows])) for rows in mine]

    def weigh(weights: Floats) -> Floats:
        found = np.stack([one(weights[:, rows]) for one, rows in zip(areas, mine, strict=True)])
        return divide(np.nan_to_num(found).sum(axis=0), np.isfinite(found).sum(axis=0))

    return weigh
