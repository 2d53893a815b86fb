"""Scores, classes and patients in; ROC AUC, its covariance between tests and its interval out.

Units of one patient are alike, so the variance is estimated from sums over patients. Where every unit is a patient of
its own this is DeLong's; one function serves both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import norm, rankdata, t

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]

TAIL = 0.025
"""Error on either side of a 95 % interval."""
QUANTILE = float(norm.isf(TAIL))
LOGIT = "Obuchowski 1997, logit-transformed, Student's t"
EXACT = "exact bound over pairs of patients"
FEW = "fewer than two patients hold a class"
FLAT = "the estimated variance is not positive"
ROUNDING = 1e-15
"""Variances up to this are 0 but for rounding."""


@dataclass(frozen=True)
class ClusteredAuc:
    """ROC AUC of one or more tests on the same units.

    Attributes:
        values: Shape (tests,).
        covariance: Shape (tests, tests); NaN where fewer than two patients hold a class.
        pairs: The most pairs (patient with a positive, other patient with a negative) in which no patient is twice.
        freedom: Degrees of freedom: patients that hold the class which fewer hold, less one.
    """

    values: Floats
    covariance: Floats
    pairs: int
    freedom: int


def measure_auc(scores: Floats, positives: Booleans, patients: NDArray[np.str_]) -> ClusteredAuc:
    """Return ROC AUC, ties counting half, with the covariance that patients as clusters give.

    Patients may hold units of both classes. Time grows with n log n.

    Args:
        scores: Shape (units,), or (units, tests) for several tests of the same units.
        positives: Shape (units,); both classes must be present.
        patients: Patient of each unit, shape (units,).

    Source: Obuchowski 1997, "Nonparametric analysis of clustered ROC curve data", Biometrics 53(2); with a unit a
    patient DeLong, DeLong and Clarke-Pearson 1988, "Comparing the areas under two or more correlated receiver operating
    characteristic curves", Biometrics 44(3).
    """
    columns = scores.reshape(len(scores), -1)
    _, member = np.unique(patients, return_inverse=True)
    above = _place(columns, positives)
    values: Floats = above[positives].mean(axis=0)
    centred = above - values
    of_positives = _sum_patients(centred[positives], member[positives], member.max() + 1)
    of_negatives = _sum_patients(centred[~positives], member[~positives], member.max() + 1)
    holding = [np.unique(member[mine]) for mine in (positives, ~positives)]
    counts = len(holding[0]), len(holding[1]), int(member.max()) + 1
    covariance = _combine(of_positives / positives.sum(), of_negatives / (~positives).sum(), counts)
    return ClusteredAuc(values, covariance, _count_pairs(*counts), min(counts[:2]) - 1)


def _place(scores: Floats, positives: Booleans) -> Floats:
    """Return for each unit the share of the other class that it is ranked rightly against, shape (units, tests)."""
    ranks: Floats = rankdata(scores, axis=0)
    found = np.empty_like(ranks)
    found[positives] = (ranks[positives] - rankdata(scores[positives], axis=0)) / (~positives).sum()
    found[~positives] = 1.0 - (ranks[~positives] - rankdata(scores[~positives], axis=0)) / positives.sum()
    return found


def _sum_patients(values: Floats, member: NDArray[np.int64], count: int) -> Floats:
    sums = [np.bincount(member, weights=column, minlength=count) for column in values.T]
    return np.stack(sums, axis=1)


def _combine(of_positives: Floats, of_negatives: Floats, counts: tuple[int, int, int]) -> Floats:
    """Return the covariance from each patient's share in the error of its positives and of its negatives.

    Args:
        of_positives: Shape (patients, tests).
        of_negatives: Shape (patients, tests).
        counts: Patients with a positive, with a negative, all.
    """
    if min(counts[:2]) < 2:
        return np.full((of_positives.shape[1],) * 2, np.nan)
    factors = [count / (count - 1.0) for count in counts]
    crossed = of_positives.T @ of_negatives
    found: Floats = (
        factors[0] * of_positives.T @ of_positives
        + factors[1] * of_negatives.T @ of_negatives
        + factors[2] * (crossed + crossed.T)
    )
    return found


def _count_pairs(with_positive: int, with_negative: int, patients: int) -> int:
    return min(with_positive, with_negative, patients // 2)


def find_interval(auc: float, variance: float, *, pairs: int, freedom: int) -> tuple[float | None, float | None, str]:
    """Return the 95 % interval of one AUC and how it was found, or no interval and why.

    The interval is symmetric on the logit scale, so it stays within 0 and 1. Its reach is Student's, for the variance
    is itself estimated, from as many patients as hold the rarer class; the normal's is too short where these are few
    (benchmarks/coverage.py). At an AUC of 1 (or 0) the estimated variance is 0 and the logit infinite. There the bound
    is exact: were the AUC a, `pairs` independent pairs would all be in order with probability a ** pairs, and the bound
    is the a at which that is 2.5 %. It is the sharpest that holds whatever the scores' distribution: a share 1 - a of
    the positives may be missed entirely.

    Args:
        auc: In [0, 1].
        variance: Of it, NaN where it could not be estimated.
        pairs: `ClusteredAuc.pairs`.
        freedom: `ClusteredAuc.freedom`.

    Source: Pepe 2003, "The statistical evaluation of medical tests for classification and prediction", Oxford, 5.2
    (logit); Clopper and Pearson 1934, "The use of confidence or fiducial limits illustrated in the case of the
    binomial", Biometrika 26(4); Hanley and Lippman-Hand 1983, "If nothing goes wrong, is everything all right?", JAMA
    249(13).
    """
    if auc in {0.0, 1.0}:
        if pairs < 1:
            return None, None, FEW
        bound = TAIL ** (1.0 / pairs)
        return (bound, 1.0, EXACT) if auc == 1.0 else (0.0, 1.0 - bound, EXACT)
    if not np.isfinite(variance) or freedom < 1:
        return None, None, FEW
    if variance <= ROUNDING:
        return None, None, FLAT
    reach = float(t.isf(TAIL, freedom)) * np.sqrt(variance) / (auc * (1.0 - auc))
    low, high = expit(logit(auc) - reach), expit(logit(auc) + reach)
    return float(low), float(high), LOGIT


def compare_aucs(found: ClusteredAuc) -> tuple[float, float, float]:
    """Return the difference of the first two AUCs, its variance, and the two-sided p value of no difference.

    Two tests that rank all units alike do not differ: variance 0, p 1. Whether equal AUCs without variance are of such
    tests is for the caller to see. Where the variance is 0 and the AUCs are not equal, p is NaN.
    """
    weights = np.array([1.0, -1.0])
    difference = float(found.values[0] - found.values[1])
    variance = float(weights @ found.covariance[:2, :2] @ weights)
    if abs(difference) < 1e-12 and abs(variance) < ROUNDING:
        return 0.0, 0.0, 1.0
    if not variance > ROUNDING:
        return difference, variance, float("nan")
    return difference, variance, float(2.0 * norm.sf(abs(difference) / np.sqrt(variance)))
