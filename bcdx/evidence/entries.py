"""One figure and its resamples in; its entry in `metrics.json` out: value, interval, n, method of the interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bcdx.evidence.clustered import TAIL, find_interval, measure_auc
from bcdx.evidence.intervals import percentile_interval
from bcdx.evidence.statistics import Statistic, evaluate_once

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]
Texts = NDArray[np.str_]
Entry = dict[str, Any]

BOOTSTRAP = "percentile bootstrap over patients"
EXACT_SHARE = "exact bound over patients"
FROM_SHARES = "from the intervals of sensitivity and specificity"
RECENTRED = "bootstrap over patients, recentred"
NO_INTERVAL = "more than half of the resamples lack a class"
NO_SPREAD = "it is the same in all resamples"


@dataclass(frozen=True)
class Figure:
    """What is measured, before it is.

    Attributes:
        statistic: Of weighted units.
        n: Units that it rests on.
        reason: Why it is undefined, where it is.
        patients: Of a share, the patients that hold the units of which it is one; else 0.
        recentred: Whether resampling itself raises it, so that its interval is mirrored at the value.
        kind: What its name does not say, such as how classes are averaged; stands with the method.
        note: What else the entry says.
    """

    statistic: Statistic
    n: int
    reason: str
    patients: int = 0
    recentred: bool = False
    kind: str = ""
    note: Mapping[str, str] = field(default_factory=dict)


def undefined(n: int, reason: str) -> Entry:
    """Return the entry of a figure that has no value."""
    return {"value": None, "low": None, "high": None, "n": n, "reason": reason}


def make_entry(figure: Figure, units: int, resampled: Floats) -> Entry:
    """Return a figure with its bootstrap interval.

    A share of 0 or 1 at a threshold is the same in every resample. Its bound is exact instead, with a patient as one
    trial: were the share p, all patients would be on this side of it with probability p ** patients. A share whose
    threshold moves with the resample has the wider of both.

    Any other figure that is the same in every resample has no interval. Where resampling itself raises a figure, as
    noise raises a mean gap, its quantiles are mirrored at the value, which never lies outside.

    Args:
        units: Of the level.
        resampled: The statistic's values, shape (resamples,).

    Source: Clopper and Pearson 1934, Biometrika 26(4); Davison and Hinkley 1997, "Bootstrap methods and their
    application", Cambridge, 5.2.1 (mirrored, there "basic").
    """
    value = evaluate_once(figure.statistic, units)
    if not np.isfinite(value):
        return undefined(figure.n, figure.reason)
    low, high, used = percentile_interval(resampled)
    low, high, method = _find_ends(figure, value, low, high)
    method = f"{method}; {figure.kind}" if figure.kind else method
    entry = {"value": value, "low": low, "high": high, "n": figure.n, "resamples": used}
    return {**entry, "method": method, **figure.note}


def _find_ends(
    figure: Figure, value: float, low: float | None, high: float | None
) -> tuple[float | None, float | None, str]:
    """Return the ends of a figure's interval, from those of its resamples, and the method."""
    if figure.patients and value in {0.0, 1.0}:
        bound = TAIL ** (1.0 / figure.patients)
        if value:
            return (bound if low is None else min(low, bound)), 1.0, EXACT_SHARE
        return 0.0, (1.0 - bound if high is None else max(high, 1.0 - bound)), EXACT_SHARE
    if low is None or high is None:
        return None, None, f"no interval: {NO_INTERVAL}"
    if high - low < 1e-12:
        return None, None, f"no interval: {NO_SPREAD}"
    if figure.recentred:
        return min(value, max(0.0, 2.0 * value - high)), min(1.0, max(value, 2.0 * value - low)), RECENTRED
    return low, high, BOOTSTRAP


def make_auc_entry(scores: Floats, positives: Booleans, patients: Texts) -> Entry:
    """Return ROC AUC of two classes with its interval; both classes must be present.

    Args:
        scores: Shape (units,).
        positives: Shape (units,).
        patients: Shape (units,).
    """
    found = measure_auc(scores, positives, patients)
    value = float(found.values[0])
    low, high, method = find_interval(value, float(found.covariance[0, 0]), pairs=found.pairs, freedom=found.freedom)
    method = method if low is not None else f"no interval: {method}"
    return {"value": value, "low": low, "high": high, "n": len(scores), "method": method}


def widen_predictive(entry: Entry, right: tuple[float, float], wrong: tuple[float, float], prevalence: float) -> Entry:
    """Return a predictive value whose interval reaches where those of sensitivity and specificity reach.

    Needed where one of them is 0 or 1, for then no resample says how far it may lie from that.

    Args:
        right: Interval of the share of those who have what the verdict says that get it.
        wrong: Interval of the share of the others that get it.
        prevalence: Share of those who have what the verdict says.
    """
    if entry["value"] is None:
        return entry
    own = [entry["value"] if entry[end] is None else entry[end] for end in ("low", "high")]
    low = _apply_bayes(right[0], wrong[1], prevalence)
    high = _apply_bayes(right[1], wrong[0], prevalence)
    return {**entry, "low": min(own[0], low), "high": max(own[1], high), "method": FROM_SHARES}


def _apply_bayes(right: float, wrong: float, prevalence: float) -> float:
    true, false = prevalence * right, (1.0 - prevalence) * wrong
    return true / (true + false) if true + false else 1.0
