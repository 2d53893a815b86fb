"""Units and a calibration in; shares of right verdicts at operating points, as figures to be resampled, out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bcdx.evidence.calibration import LevelCalibration
from bcdx.evidence.cases import Units
from bcdx.evidence.entries import Figure
from bcdx.evidence.operating import MAIN_POINT, NAMES, call_classes
from bcdx.evidence.statistics import Statistic, complement, predictive_value, share

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

TWO_CLASSES = "defined for two classes only"
NO_THRESHOLD = "no threshold could be chosen on validation"


@dataclass(frozen=True)
class Measured:
    """The units of one level, ready to be measured.

    Attributes:
        raw: The model's scores, shape (units, classes).
        scores: Calibrated probabilities, shape (units, classes).
        labels: Shape (units,).
        patients: Shape (units,).
        positive: Class index that is looked for.
        thresholds: Operating point -> threshold on the calibrated probability, None where there is none.
    """

    raw: Floats
    scores: Floats
    labels: Integers
    patients: NDArray[np.str_]
    positive: int
    thresholds: Mapping[str, float | None]

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.scores.shape[1])

    @property
    def positives(self) -> Booleans:
        """Units of the positive class, shape (units,)."""
        found: Booleans = self.labels == self.positive
        return found

    def count_patients(self, units: Booleans) -> int:
        """Return how many patients hold these units."""
        return len(np.unique(self.patients[units]))

    def call(self, point: str) -> Booleans | None:
        """Return which units an operating point calls positive, None where it has no meaning."""
        threshold = self.thresholds.get(point)
        if threshold is None or self.classes > 2:
            return None
        called: Booleans = self.scores[:, self.positive] >= threshold
        return called

    def predict(self) -> Integers:
        """Return the class of each unit: at the main operating point, without one the most probable class."""
        return call_classes(self.scores, self.thresholds.get(MAIN_POINT), self.positive)

    def confuse(self) -> Integers:
        """Return counts, shape (classes, classes): a row per true class, a column per predicted class."""
        places = self.labels * self.classes + self.predict()
        return np.bincount(places, minlength=self.classes**2).reshape(self.classes, self.classes)

    def explain_missing(self, units: Booleans, where: str) -> str:
        """Return which classes these units lack, "" where they lack none."""
        found = len(np.unique(self.labels[units]))
        return f"only {found} of {self.classes} classes {where}" if found < self.classes else ""

    def explain_point(self, point: str) -> str:
        """Return why an operating point has no figures at this level."""
        if self.classes > 2:
            return TWO_CLASSES
        missing = self.explain_missing(np.ones_like(self.positives), "at this level")
        return missing or (NO_THRESHOLD if self.thresholds.get(point) is None else "")


def weigh_share(measured: Measured, point: str, name: str, units: Booleans) -> tuple[Statistic, Booleans]:
    """Return sensitivity or specificity at an operating point, and the units of which it is a share.

    Args:
        name: `sensitivity` or `specificity`.
        units: Those to look at, shape (units,).
    """
    called = measured.call(point)
    among = units & (measured.positives if name == "sensitivity" else ~measured.positives)
    if called is None:
        return share(among, np.zeros_like(among)), np.zeros_like(among)
    return share(called if name == "sensitivity" else ~called, among), among


def describe_share(measured: Measured, point: str, name: str, units: Booleans, reason: str) -> Figure:
    """Return sensitivity or specificity at an operating point, to be resampled."""
    statistic, among = weigh_share(measured, point, name, units)
    note = {}
    if measured.thresholds.get(point) is not None:
        note["operating_point"] = f"validation {NAMES[point]} threshold {measured.thresholds[point]:.4f}"
    n = int(among.sum()) if among.any() else int(units.sum())
    return Figure(statistic, n, reason, measured.count_patients(among), note=note)


def describe_predictive(measured: Measured, point: str, name: str, prevalence: float) -> Figure:
    """Return a predictive value at an operating point, to be resampled.

    Args:
        name: `ppv` or `npv`.
        prevalence: Share of those examined who have what is looked for.
    """
    units = np.ones_like(measured.positives)
    sensitivity, _ = weigh_share(measured, point, "sensitivity", units)
    specificity, _ = weigh_share(measured, point, "specificity", units)
    if name == "ppv":
        statistic = predictive_value(sensitivity, complement(specificity), prevalence)
    else:
        statistic = predictive_value(specificity, complement(sensitivity), 1.0 - prevalence)
    verdict = "positive" if name == "ppv" else "negative"
    reason = measured.explain_point(point) or f"nothing is called {verdict}"
    return Figure(statistic, len(units), reason)


def measure_units(units: Units, calibration: LevelCalibration, positive: int) -> Measured:
    """Return a level's units with their calibrated probabilities."""
    scores = calibration.calibrator.apply(units.probabilities, positive)
    points = calibration.operating_points
    return Measured(units.probabilities, scores, units.labels, units.patients, positive, points)
