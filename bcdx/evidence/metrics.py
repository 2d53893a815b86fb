"""Cases and a calibration in; metrics per slice, breast and patient out, with intervals that respect patients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bcdx.evidence.calibration import Calibration, LevelCalibration
from bcdx.evidence.cases import Cases
from bcdx.evidence.entries import EXACT_SHARE, Entry, Figure, make_auc_entry, make_entry, undefined, widen_predictive
from bcdx.evidence.intervals import bootstrap
from bcdx.evidence.operating import MAIN_POINT, OPERATING_POINTS, units_in_order
from bcdx.evidence.scores import ENOUGH_UNITS, LEVELS
from bcdx.evidence.shares import (
    TWO_CLASSES,
    Measured,
    describe_predictive,
    describe_share,
    measure_units,
)
from bcdx.evidence.statistics import (
    class_area,
    class_error,
    class_gap,
    class_precision,
    rank,
    sensitivity_at_specificity,
    share,
)
from bcdx.evidence.subgroups import Subgroup, list_subgroups

Place = tuple[str, ...]
"""Where an entry stands: (name,), (operating point, name) or (grouping, value, name)."""

PREVALENCE = 0.01
"""Share of those examined who have what is looked for: screening finds a cancer in some 100 to 200 women, while a
collection of cases holds far more."""
SHARES = ("sensitivity", "specificity")
PREDICTIVE = ("ppv", "npv")
FROM_ROC = {"sensitivity_at_90_specificity": 0.90, "sensitivity_at_98_specificity": 0.98}
CALIBRATED = {"brier": class_error, "ece": class_gap}
FLAT = ("auc", "average_precision", *SHARES, *FROM_ROC, *CALIBRATED, *(f"{name}_uncalibrated" for name in CALIBRATED))
"""Entries of a level, in this order."""
NO_BREASTS = "laterality of some slices is unknown"
MACRO = "macro one-against-rest"
"""How ranking figures of more than two classes are averaged: each class counts alike, the positive one as any."""
GROUP_POSITIVES = "known of positives alone"


def evaluate(
    cases: Cases,
    calibration: Calibration,
    *,
    prevalence: float = PREVALENCE,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Return level -> metrics, the content of `metrics.json`.

    An entry is {"value", "low", "high", "n", "method", ...} with a 95 % interval: Obuchowski's on the logit scale for
    ROC AUC of two classes, else of resampled patients. What is undefined is null with a `reason`. What ranks units
    takes the model's own scores, which calibration could only tie.

    Args:
        cases: Raw scores and what is known of each slice.
        calibration: Chosen on validation: how raw scores become probabilities, and operating points.
        prevalence: Share of those examined who have what is looked for, in (0, 1), for predictive values.
    """
    return {
        level: evaluate_level(cases, level, calibration.at_level(level), resamples, seed, prevalence)
        for level in LEVELS[::-1]
    }


def evaluate_level(
    cases: Cases,
    level: str,
    calibration: LevelCalibration,
    resamples: int = 2000,
    seed: int = 0,
    prevalence: float = PREVALENCE,
) -> dict[str, Any]:
    """Return all metrics of one level; they share the same resamples."""
    units = units_in_order(cases, level)
    if units is None:
        return leave_undefined(NO_BREASTS, prevalence)
    measured = measure_units(units, calibration, cases.positive)
    groups = list(list_subgroups(cases, level, units))
    figures = dict(_list_figures(measured, groups, prevalence))
    statistics = {place: figure.statistic for place, figure in figures.items()}
    drawn = bootstrap(statistics, measured.patients, resamples=resamples, seed=seed)
    entries = {place: make_entry(figure, len(measured.labels), drawn[place]) for place, figure in figures.items()}
    if measured.classes == 2:
        entries["auc",] = _rank_units(measured, np.ones_like(measured.positives), "at this level")
    return {
        **{name: entries[name,] for name in FLAT},
        "operating_points": {
            point: _describe_point(measured, point, entries, prevalence) for point in OPERATING_POINTS
        },
        "confusion_matrix": measured.confuse().tolist(),
        "subgroups": _describe_groups(measured, groups, entries),
    }


def leave_undefined(reason: str, prevalence: float) -> dict[str, Any]:
    """Return the metrics of a level that there is not."""
    blank = undefined(0, reason)
    point = {"threshold": None, **dict.fromkeys((*SHARES, *PREDICTIVE), blank), "prevalence": prevalence}
    points = {name: {**point, "confusion": None} for name in OPERATING_POINTS}
    return {**dict.fromkeys(FLAT, blank), "operating_points": points, "confusion_matrix": None, "subgroups": {}}


def _list_figures(measured: Measured, groups: Sequence[Subgroup], prevalence: float) -> Iterator[tuple[Place, Figure]]:
    """Yield all that is resampled; the AUC of two classes has its interval from elsewhere."""
    everyone = np.ones_like(measured.positives)
    yield from _list_flat(measured)
    for name in SHARES:
        for point in OPERATING_POINTS:
            yield (point, name), describe_share(measured, point, name, everyone, measured.explain_point(point))
        for group in groups:
            reason = measured.explain_point(MAIN_POINT) or f"no {'positive' if name == SHARES[0] else 'negative'} unit"
            if name == "specificity" and group.of_positives:
                reason = GROUP_POSITIVES
            figure = describe_share(measured, MAIN_POINT, name, group.members, reason)
            yield (group.grouping, group.value, name), figure
    for name in PREDICTIVE:
        for point in OPERATING_POINTS:
            yield (point, name), describe_predictive(measured, point, name, prevalence)


def _list_flat(measured: Measured) -> Iterator[tuple[Place, Figure]]:
    units, positive, everyone = len(measured.labels), measured.positive, np.ones_like(measured.positives)
    missing = measured.explain_missing(everyone, "at this level")
    kind = MACRO if measured.classes > 2 else ""
    if kind:
        yield ("auc",), Figure(class_area(measured.raw, measured.labels, positive), units, missing, kind=kind)
    precision = class_precision(measured.raw, measured.labels, positive)
    yield ("average_precision",), Figure(precision, units, missing, kind=kind)
    for name in SHARES:
        yield (name,), describe_share(measured, MAIN_POINT, name, everyone, measured.explain_point(MAIN_POINT))
    ranking = rank(measured.raw[:, positive], measured.positives)
    ill = measured.count_patients(measured.positives)
    for name, wanted in FROM_ROC.items():
        note = {"operating_point": "read off this split's own ROC"}
        if measured.classes == 2:
            yield (name,), Figure(sensitivity_at_specificity(ranking, wanted), units, missing, ill, note=note)
        else:
            yield (name,), Figure(share(everyone, ~everyone), units, TWO_CLASSES)
    for suffix, scores in (("", measured.scores), ("_uncalibrated", measured.raw)):
        for name, erring in CALIBRATED.items():
            figure = Figure(erring(scores, measured.labels, positive), units, missing, recentred=name == "ece")
            yield (f"{name}{suffix}",), figure


def _describe_point(
    measured: Measured, point: str, entries: Mapping[Place, Entry], prevalence: float
) -> dict[str, Any]:
    """Return what is known of an operating point; counts are of units as they are, not at the prevalence."""
    found = {name: entries[point, name] for name in (*SHARES, *PREDICTIVE)}
    bounded = all(found[name]["low"] is not None for name in SHARES)
    if bounded and EXACT_SHARE in {found[name]["method"] for name in SHARES}:
        rates = [(found[name]["low"], found[name]["high"]) for name in SHARES]
        others = [(1.0 - high, 1.0 - low) for low, high in rates]
        found["ppv"] = widen_predictive(found["ppv"], rates[0], others[1], prevalence)
        found["npv"] = widen_predictive(found["npv"], rates[1], others[0], 1.0 - prevalence)
    called, positives = measured.call(point), measured.positives
    counts = None if called is None else {
        "true_positive": int((called & positives).sum()),
        "false_positive": int((called & ~positives).sum()),
        "true_negative": int((~called & ~positives).sum()),
        "false_negative": int((~called & positives).sum()),
    }  # fmt: skip
    threshold = None if called is None else measured.thresholds[point]
    return {"threshold": threshold, **found, "prevalence": prevalence, "confusion": counts}


def _describe_groups(
    measured: Measured, groups: Sequence[Subgroup], entries: Mapping[Place, Entry]
) -> dict[str, list[dict[str, Any]]]:
    """Return grouping -> its subgroups, each with how many units and patients it has."""
    found: dict[str, list[dict[str, Any]]] = {}
    for group in groups:
        counts = {"n": int(group.members.sum()), "patients": measured.count_patients(group.members)}
        shares = {name: entries[group.grouping, group.value, name] for name in SHARES}
        auc = _rank_units(measured, group.compared, "in this group")
        found.setdefault(group.grouping, []).append({"value": group.value, **counts, "auc": auc, **shares})
    return found


def _rank_units(measured: Measured, units: NDArray[np.bool_], where: str) -> Entry:
    """Return ROC AUC of two classes among some units; in a subgroup it wants enough of each class."""
    reason = TWO_CLASSES if measured.classes > 2 else measured.explain_missing(units, where)
    fewest = np.bincount(measured.labels[units], minlength=measured.classes).min()
    if not reason and where == "in this group" and fewest < ENOUGH_UNITS:
        reason = f"fewer than {ENOUGH_UNITS} units of a class {where}"
    if reason:
        return undefined(int(units.sum()), reason)
    scores = measured.raw[units, measured.positive]
    return make_auc_entry(scores, measured.positives[units], measured.patients[units])
