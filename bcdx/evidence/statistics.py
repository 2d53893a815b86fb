"""Scores and labels in; figures of many weighted copies of the same units out, one a resample.

A resample in which a patient was drawn twice is a weight of 2 on each of that patient's units. So a figure of 2,000
resamples is a few products of arrays, and the figure itself is the one whose weights are all 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]
Statistic = Callable[[Floats], Floats]
"""Whole weights of units, shape (resamples, units) -> values, shape (resamples,); NaN where undefined."""

BINS = 10
"""Of equal width, for calibration."""


@dataclass(frozen=True)
class Ranking:
    """Units in falling order of their scores; ties are one step of the ROC curve.

    Attributes:
        order: Units, shape (units,).
        ends: Last place of each step, shape (steps,).
        positives: In falling order, shape (units,).
    """

    order: Integers
    ends: Integers
    positives: Booleans

    def count(self, weights: Floats) -> tuple[Floats, Floats]:
        """Return positives and negatives called positive after each step, shapes (resamples, steps)."""
        ordered = weights[:, self.order]
        called = np.cumsum(ordered, axis=1)[:, self.ends]
        found = np.cumsum(ordered * self.positives, axis=1)[:, self.ends]
        return found, called - found


def rank(scores: Floats, positives: Booleans) -> Ranking:
    """Return the ranking of units by their scores.

    Args:
        scores: Shape (units,).
        positives: Shape (units,).
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    return Ranking(order, ends, positives[order])


def area(ranking: Ranking) -> Statistic:
    """Return ROC AUC by the trapezoidal rule, ties counting half.

    Source: Hanley and McNeil 1982, "The meaning and use of the area under a ROC curve", Radiology 143(1).
    """

    def weigh(weights: Floats) -> Floats:
        found, false = ranking.count(weights)
        middle = found - np.diff(found, axis=1, prepend=0.0) / 2.0
        return divide((middle * np.diff(false, axis=1, prepend=0.0)).sum(axis=1), found[:, -1] * false[:, -1])

    return weigh


def mean_precision(ranking: Ranking) -> Statistic:
    """Return precision averaged over the steps of recall, without interpolation.

    Source: Buckley and Voorhees 2000, "Evaluating evaluation measure stability", SIGIR.
    """

    def weigh(weights: Floats) -> Floats:
        found, false = ranking.count(weights)
        precision = np.nan_to_num(divide(found, found + false))
        return divide((precision * np.diff(found, axis=1, prepend=0.0)).sum(axis=1), found[:, -1])

    return weigh


def sensitivity_at_specificity(ranking: Ranking, wanted: float) -> Statistic:
    """Return the highest sensitivity at which specificity is at least as wanted, on the units' own ROC curve."""

    def weigh(weights: Floats) -> Floats:
        found, false = ranking.count(weights)
        allowed = np.floor((1.0 - wanted) * false[:, -1:] + 1e-9)  # negatives that may be called positive
        best = np.where(false <= allowed, found, 0.0).max(axis=1)
        return np.where(false[:, -1] > 0.0, divide(best, found[:, -1]), np.nan)

    return weigh


def share(hits: Booleans, among: Booleans) -> Statistic:
    """Return which share of the units of a kind has a property.

    Args:
        hits: The property, shape (units,).
        among: The kind, shape (units,).
    """
    counted, of = (hits & among).astype(np.float64), among.astype(np.float64)
    return lambda weights: divide(weights @ counted, weights @ of)


def mean_of(values: Floats) -> Statistic:
    """Return the mean of what each unit has, shape (units,)."""
    return lambda weights: divide(weights @ values, weights.sum(axis=1))


def place_in_bins(confidence: Floats) -> Integers:
    """Return the bin of each unit, 0 to `BINS` - 1: tenths of [0, 1], their lower ends included, and 1 in the last."""
    return np.minimum((confidence * BINS).astype(np.int64), BINS - 1)


def calibration_gap(confidence: Floats, hits: Booleans) -> Statistic:
    """Return the mean gap between confidence and frequency over 10 equal-width bins, weighted by units.

    Args:
        confidence: In [0, 1], shape (units,).
        hits: Whether what was claimed with that confidence is so, shape (units,).

    Source: Naeini, Cooper and Hauskrecht 2015, "Obtaining well calibrated probabilities using Bayesian binning", AAAI.
    """
    gaps = np.eye(BINS)[place_in_bins(confidence)] * (hits - confidence)[:, None]
    return lambda weights: divide(np.abs(weights @ gaps).sum(axis=1), weights.sum(axis=1))


def macro(statistics: list[Statistic]) -> Statistic:
    """Return the plain mean over classes."""
    return lambda weights: np.mean([one(weights) for one in statistics], axis=0)


def predictive_value(right: Statistic, wrong: Statistic, prevalence: float) -> Statistic:
    """Return how often a verdict is true, by Bayes' theorem.

    Args:
        right: Share of those who have what the verdict says that get it.
        wrong: Share of the others that get it.
        prevalence: Share of those who have what the verdict says, among all who are examined.
    """

    def weigh(weights: Floats) -> Floats:
        true = prevalence * right(weights)
        return divide(true, true + (1.0 - prevalence) * wrong(weights))

    return weigh


def complement(statistic: Statistic) -> Statistic:
    """Return 1 - statistic."""
    return lambda weights: 1.0 - statistic(weights)


def divide(numerators: Floats, denominators: Floats) -> Floats:
    """Return quotients; NaN where the denominator is 0."""
    found = np.full(np.broadcast_shapes(numerators.shape, denominators.shape), np.nan)
    np.divide(numerators, denominators, out=found, where=denominators > 0.0)
    return found


def evaluate_once(statistic: Statistic, units: int) -> float:
    """Return the figure of the units as they are."""
    return float(statistic(np.ones((1, units)))[0]) if units else float("nan")


def class_area(scores: Floats, labels: Integers, positive: int) -> Statistic:
    """Return ROC AUC; macro one-against-rest for more than two classes; NaN where a class is missing."""
    return macro([area(rank(scores[:, one], labels == one)) for one in _chosen(scores, positive)])


def class_precision(scores: Floats, labels: Integers, positive: int) -> Statistic:
    """Return average precision; macro for more than two classes; NaN where a class is missing."""
    ranked = [(rank(scores[:, one], labels == one), labels == one) for one in _chosen(scores, positive)]
    means = [mean_precision(ranking) for ranking, _ in ranked]
    both = [share(mine, np.ones_like(mine)) for _, mine in ranked]

    def weigh(weights: Floats) -> Floats:
        defined = np.all([(found > 0.0) & (found < 1.0) for found in (one(weights) for one in both)], axis=0)
        return np.where(defined, macro(means)(weights), np.nan)

    return weigh


def _chosen(scores: Floats, positive: int) -> list[int]:
    return [positive] if scores.shape[1] == 2 else list(range(scores.shape[1]))


def class_error(scores: Floats, labels: Integers, positive: int) -> Statistic:
    """Return the mean squared error of probabilities: of the positive class, or summed over more than two.

    Source: Brier 1950, "Verification of forecasts expressed in terms of probability", Mon. Weather Rev. 78(1).
    """
    if scores.shape[1] == 2:
        return mean_of((scores[:, positive] - (labels == positive)) ** 2)
    return mean_of(np.sum((scores - np.eye(scores.shape[1])[labels]) ** 2, axis=1))


def class_gap(scores: Floats, labels: Integers, positive: int) -> Statistic:
    """Return the calibration gap of the positive class's probability, for more than two classes of the highest one."""
    if scores.shape[1] == 2:
        return calibration_gap(scores[:, positive], labels == positive)
    return calibration_gap(scores.max(axis=1), scores.argmax(axis=1) == labels)


def roc_auc(scores: Floats, labels: Integers, positive: int) -> float:
    """Return ROC AUC of units as they are; see `class_area`."""
    return evaluate_once(class_area(scores, labels, positive), len(labels))
