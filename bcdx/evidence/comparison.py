"""Two runs' scores of the same samples in; the difference of their ROC AUC, its interval and p value per level out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from bcdx.errors import RunError
from bcdx.evidence.cases import Cases, Units
from bcdx.evidence.clustered import FEW, FLAT, QUANTILE, compare_aucs, measure_auc
from bcdx.evidence.entries import undefined
from bcdx.evidence.intervals import paired_difference
from bcdx.evidence.metrics import NO_BREASTS
from bcdx.evidence.operating import units_in_order
from bcdx.evidence.scores import LEVELS
from bcdx.evidence.statistics import roc_auc

DELONG = "DeLong 1988"
OBUCHOWSKI = "Obuchowski 1997"
SAME_VERDICTS = "both tell the same units apart, by rankings that differ"
PAIRED_BOOTSTRAP = "paired percentile bootstrap over patients"


def compare_runs(first: Cases, second: Cases, *, resamples: int = 2000, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Return level -> {"value", "low", "high", "p_value", "first", "second", "n", "patients", "method"}.

    `value` is ROC AUC of the first run minus that of the second, with a 95 % interval; both rank the same units, so
    what they share cancels. For two classes the variance is DeLong's where a unit is a patient and Obuchowski's below;
    for more the interval is of resampled patients and there is no p value.

    Args:
        first: A run's scores and what is known of each slice.
        second: Another run's, in the same order.

    Raises:
        RunError: They are not of the same samples.
    """
    _check_alike(first, second)
    return {level: _compare_level(first, second, level, resamples, seed) for level in LEVELS[::-1]}


def _check_alike(first: Cases, second: Cases) -> None:
    for name in ("labels", "patients", "lateralities"):
        ours, theirs = getattr(first, name), getattr(second, name)
        if len(ours) != len(theirs):
            raise RunError(
                f"two runs can only be compared on the same samples: {len(ours)} and {len(theirs)} were given; "
                "evaluate both on the same split of the same shards"
            )
        if (ours != theirs).any():
            place = int(np.flatnonzero(ours != theirs)[0])
            raise RunError(
                f"two runs can only be compared on the same samples: {name} of sample {place} differ; "
                "evaluate both on the same split of the same shards"
            )
    if (first.classes, first.positive) != (second.classes, second.positive):
        raise RunError(
            f"two runs can only be compared on the same question: class {first.positive} of {first.classes} and class "
            f"{second.positive} of {second.classes} were looked for"
        )


def _compare_level(first: Cases, second: Cases, level: str, resamples: int, seed: int) -> dict[str, Any]:
    ours, theirs = units_in_order(first, level), units_in_order(second, level)
    if ours is None or theirs is None:
        return undefined(0, NO_BREASTS)
    found = len(np.unique(ours.labels))
    if found < first.classes:
        return undefined(len(ours.labels), f"only {found} of {first.classes} classes at this level")
    if first.classes == 2:
        compared = _compare_two(ours, theirs, first.positive)
    else:
        compared = _compare_more(ours, theirs, first.positive, resamples, seed)
    return {**compared, "n": len(ours.labels), "patients": len(np.unique(ours.patients))}


def _compare_two(ours: Units, theirs: Units, positive: int) -> dict[str, Any]:
    scores = np.stack([one.probabilities[:, positive] for one in (ours, theirs)], axis=1)
    measured = measure_auc(scores, ours.labels == positive, ours.patients)
    value, variance, p_value = compare_aucs(measured)
    single = len(np.unique(ours.patients)) == len(ours.patients)
    entry: dict[str, Any] = {
        "value": value, "low": None, "high": None, "p_value": None,
        "first": float(measured.values[0]), "second": float(measured.values[1]),
    }  # fmt: skip
    if not np.isfinite(p_value):
        return {**entry, "method": f"no interval: {FLAT if np.isfinite(variance) else FEW}"}
    if not variance and (np.diff(rankdata(scores, axis=0), axis=1) != 0.0).any():
        return {**entry, "method": f"no interval: {SAME_VERDICTS}"}
    reach = QUANTILE * float(np.sqrt(variance))
    ends = {"low": max(-1.0, value - reach), "high": min(1.0, value + reach)}
    return {**entry, **ends, "p_value": p_value, "method": DELONG if single else OBUCHOWSKI}


def _compare_more(ours: Units, theirs: Units, positive: int, resamples: int, seed: int) -> dict[str, Any]:
    def measure(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
        return roc_auc(scores, labels, positive)

    both = ours.probabilities, theirs.probabilities
    value, low, high = paired_difference(measure, both, ours.labels, ours.patients, resamples=resamples, seed=seed)
    aucs = [measure(scores, ours.labels) for scores in both]
    return {
        "value": value, "low": low, "high": high, "p_value": None,
        "first": aucs[0], "second": aucs[1], "method": PAIRED_BOOTSTRAP,
    }  # fmt: skip
