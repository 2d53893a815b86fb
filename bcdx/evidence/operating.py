"""Calibrated validation probabilities in; thresholds at which a unit is called positive out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from bcdx.evidence.calibration import Calibration, LevelCalibration, fit_calibrator
from bcdx.evidence.cases import Cases, Units
from bcdx.evidence.scores import LEVELS

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

MAIN_POINT = "youden"
"""The operating point of a level's own sensitivity and specificity, of its confusion matrix and its subgroups."""
WANTED = {
    "specificity_90": ("specificity", 0.90),
    "specificity_98": ("specificity", 0.98),
    "sensitivity_90": ("sensitivity", 0.90),
    "sensitivity_97_5": ("sensitivity", 0.975),
}
"""Operating point -> what it holds on validation at least, and how much of it."""
OPERATING_POINTS = (MAIN_POINT, *WANTED)
NAMES = {
    MAIN_POINT: "Youden",
    "specificity_90": "90 % specificity",
    "specificity_98": "98 % specificity",
    "sensitivity_90": "90 % sensitivity",
    "sensitivity_97_5": "97.5 % sensitivity",
}


def units_in_order(cases: Cases, level: str) -> Units | None:
    """Return a level's units in stored order, None where the level is undefined.

    By name they would stand in the order of the patients' codes, and folds and draws would hang on a private key.
    """
    units = cases.at_level(level)
    if units is None:
        return None
    order = np.argsort(units.first)
    return Units(units.probabilities[order], units.labels[order], units.patients[order], units.first[order])


def calibrate(cases: Cases, *, test_views: int) -> Calibration:
    """Return what validation decides at each level: the calibrator, then thresholds on what it gives.

    Args:
        cases: Of the validation split, never of a split that is reported.
        test_views: Views that were averaged for each slice.
    """
    return Calibration(cases.top_slices, test_views, {level: _calibrate_level(cases, level) for level in LEVELS})


def _calibrate_level(cases: Cases, level: str) -> LevelCalibration:
    units = units_in_order(cases, level)
    if units is None:
        return LevelCalibration(operating_points=dict.fromkeys(OPERATING_POINTS))
    calibrator = fit_calibrator(units.probabilities, units.labels, units.patients, positive=cases.positive)
    if cases.classes > 2:
        return LevelCalibration(calibrator, dict.fromkeys(OPERATING_POINTS))
    scores = calibrator.apply(units.probabilities, cases.positive)[:, cases.positive]
    return LevelCalibration(calibrator, choose_operating_points(scores, units.labels == cases.positive))


def choose_operating_points(scores: Floats, positives: Booleans) -> dict[str, float | None]:
    """Return operating point -> threshold; None where a class is missing.

    Each lies halfway to the next score, so that it does not hang on the last digit of one unit.

    Args:
        scores: Probability of the positive class, shape (units,).
        positives: Shape (units,).
    """
    if positives.all() or not positives.any():
        return dict.fromkeys(OPERATING_POINTS)
    found: dict[str, float | None] = {MAIN_POINT: youden_threshold(scores, positives)}
    for name, (what, share) in WANTED.items():
        chosen = specific_threshold if what == "specificity" else sensitive_threshold
        found[name] = chosen(scores, positives, share)
    return found


def youden_threshold(scores: Floats, positives: Booleans) -> float | None:
    """Return the threshold of highest sensitivity + specificity, halfway to the next lower score; None if undefined.

    Source: Youden 1950, "Index for rating diagnostic tests", Cancer 3(1).
    """
    if positives.all() or not positives.any():
        return None
    false_rate, true_rate, thresholds = roc_curve(positives, scores, drop_intermediate=False)
    chosen = float(thresholds[int(np.argmax(true_rate - false_rate))])
    return _lower_halfway(scores, chosen) if np.isfinite(chosen) else 0.5


def specific_threshold(scores: Floats, positives: Booleans, specificity: float) -> float:
    """Return the lowest threshold at which at least this share of the negatives is called negative."""
    negatives = np.sort(scores[~positives])[::-1]
    allowed = int(np.floor((1.0 - specificity) * len(negatives) + 1e-9))  # negatives that may be called positive
    if allowed >= len(negatives):
        return float(scores.min())
    bound = float(negatives[allowed])
    above = scores[scores > bound]
    return (bound + float(above.min())) / 2.0 if above.size else float(np.nextafter(bound, np.inf))


def sensitive_threshold(scores: Floats, positives: Booleans, sensitivity: float) -> float:
    """Return the highest threshold at which at least this share of the positives is called positive."""
    found = np.sort(scores[positives])[::-1]
    needed = max(1, int(np.ceil(sensitivity * len(found) - 1e-9)))
    return _lower_halfway(scores, float(found[needed - 1]))


def call_classes(probabilities: Floats, threshold: float | None, positive: int) -> Integers:
    """Return the class that each unit is called, shape (units,): by the threshold, without one the most probable.

    Args:
        probabilities: Calibrated, shape (units, classes).
        threshold: On the probability of the positive class; of no meaning for more than two classes.
        positive: Class index that is looked for.
    """
    if threshold is None or probabilities.shape[1] > 2:
        return np.asarray(probabilities.argmax(axis=1), np.int64)
    return np.where(probabilities[:, positive] >= threshold, positive, 1 - positive)


def _lower_halfway(scores: Floats, chosen: float) -> float:
    below = scores[scores < chosen]
    return float((chosen + below.max()) / 2.0) if below.size else chosen
