"""Facts of a run in; the pictures of its report, each with words for those who do not see it, out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bcdx.evidence.cases import Cases, Units
from bcdx.evidence.operating import MAIN_POINT
from bcdx.evidence.operating import NAMES as POINT_NAMES
from bcdx.evidence.pictures import curves
from bcdx.evidence.pictures.canvas import Picture
from bcdx.evidence.pictures.search import draw_depths, draw_parallel_coordinates, draw_subgroups
from bcdx.evidence.report.facts import ReportFacts
from bcdx.evidence.report.words import name_curve
from bcdx.evidence.subgroups import UNKNOWN
from bcdx.evidence.words import UNITS, describe_entry

Floats = NDArray[np.float64]

FINE = 160
"""Pixels an inch: letters stay sharp on phones and paper."""


@dataclass(frozen=True)
class Shown:
    """A picture as the page shows it.

    Attributes:
        name: Tells it from the page's others.
        picture: uint8, shape (height, width, 4).
        text: For those who do not see it.
        caption: Below it.
        broad: Whether it takes the page's whole width.
    """

    name: str
    picture: Picture = field(repr=False)
    text: str
    caption: str
    broad: bool = False


def draw_level(facts: ReportFacts, level: str) -> list[Shown]:
    """Return ROC, precision-recall, reliability and confusion at a level; none where it has no AUC."""
    units = facts.cases.at_level(level)
    if units is None or facts.metrics[level]["auc"]["value"] is None:
        return []
    return list(_draw_units(facts, level, units))


def draw_search(facts: ReportFacts) -> list[Shown]:
    """Return the pictures of the search; none where fewer than two trials have a score."""
    scored = [one for one in facts.trials if one.score is not None]
    if len(scored) < 2:
        return []
    selected = str((facts.run.get("selection") or {}).get("trial", ""))
    lines = draw_parallel_coordinates(scored, title=f"{len(scored)} trials", selected=selected, dpi=FINE)
    caption = (
        "Each line is a trial, from what was set to the validation AUC that it reached; only what varied is shown."
    )
    found = [
        Shown("trials", lines, f"Parallel coordinates of {len(scored)} trials", f"{caption} Thick: selected.", True)
    ]
    if any("depth" in one.values for one in scored):
        points = draw_depths(scored, title="frozen depth and validation AUC", dpi=FINE)
        caption = "Hollow: stopped early, by successive halving or a failure."
        found.append(Shown("depths", points, "Validation AUC over frozen depth", caption))
    return found


def draw_groups(facts: ReportFacts, level: str) -> list[Shown]:
    """Return the forest plot of the subgroups at a level; none where there are none."""
    subgroups = list_groups(facts.metrics[level])
    if not subgroups:
        return []
    title = f"{facts.metrics['split']}, per {level}"
    overall = facts.metrics[level]["auc"]["value"]
    picture = draw_subgroups(subgroups, overall=overall, title=title, dpi=FINE)
    text = f"ROC AUC per {level} in each subgroup with its interval; the table has the same numbers"
    return [Shown(f"subgroups-{level}", picture, text, f"Per {level}. Intervals as in the table of metrics.", True)]


def list_groups(entries: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """Return a level's subgroups, without groupings of which no value is known."""
    found = {name: list(rows) for name, rows in (entries.get("subgroups") or {}).items()}
    return {name: rows for name, rows in found.items() if any(one["value"] != UNKNOWN for one in rows)}


def _draw_units(facts: ReportFacts, level: str, units: Units) -> Iterator[Shown]:
    entries, names = facts.metrics[level], facts.metrics["classes"]
    positives, about = units.labels == facts.cases.positive, f"{facts.metrics['split']}, per {level}"
    scores = units.probabilities[:, facts.cases.positive]
    counted, of = f"n = {len(positives)} {UNITS[level]}", name_curve(facts)
    points = _list_points(entries)
    title = f"ROC, {of}: {about}"
    roc = curves.draw_roc(scores, positives, title=title, points=points, patients=units.patients, dpi=FINE)
    text = f"ROC AUC per {level}{_name_mean(facts)} {describe_entry(entries['auc'])}, {counted}."
    marks = " Marks: thresholds chosen on validation." if points else ""
    yield Shown(f"roc-{level}", roc, f"ROC curve of {of}: {text}", f"{text}{marks}")
    curve = curves.draw_precision_recall(scores, positives, title=f"precision, {of}: {about}", dpi=FINE)
    text = (
        f"Average precision per {level}{_name_mean(facts)} {describe_entry(entries['average_precision'])}, {counted}."
    )
    yield Shown(f"precision-recall-{level}", curve, f"Precision-recall curve of {of}: {text}", text)
    split = str(facts.metrics["split"])
    fitted = facts.origin == "own split" and split == "validation"
    yield _draw_reliability(facts, facts.cases, level, split=split, fitted=fitted)
    if facts.validation is not None and facts.validation.at_level(level) is not None:
        yield _draw_reliability(facts, facts.validation, level, split="validation", fitted=True)
    counts = np.asarray(entries["confusion_matrix"])
    picture = curves.draw_counts(counts, names, title=f"confusion: {about}", dpi=FINE)
    text = "; ".join(
        f"{counts[row, column]} {names[row]} called {names[column]}" for row, column in np.ndindex(counts.shape)
    )
    yield Shown(f"confusion-{level}", picture, f"Confusion matrix: {text}", f"Per {level}, {_say_rule(facts, level)}.")


def _name_mean(facts: ReportFacts) -> str:
    return "" if facts.cases.classes == 2 else ", mean over classes,"


def _draw_reliability(facts: ReportFacts, cases: Cases, level: str, *, split: str, fitted: bool) -> Shown:
    """Return the diagrams of a split's units; `fitted` says that calibration was fitted on these."""
    units = cases.at_level(level)
    raw, calibrated = _calibrate(facts, cases, level)
    positives = np.zeros(0, np.bool_) if units is None else units.labels == cases.positive
    patients = None if units is None else units.patients
    method = facts.calibration.at_level(level).calibrator.method
    pair, said = {"before calibration": raw, "after calibration": calibrated}, f"Calibration: {method}."
    words = "How often what was predicted came true, in ten bins, before and after calibration"
    if method == "none":
        pair, said = {"not calibrated": raw}, "These scores are not calibrated."
        words = "How often what was predicted came true, in ten bins"
    elif fitted:
        said = "Calibration was fitted on these."
    title = f"reliability: {split}, per {level}"
    picture = curves.draw_reliabilities(pair, positives, title=title, patients=patients, dpi=FINE)
    caption = f"Per {level}, {len(positives)} {UNITS[level]} of {split}. Bars: 95 %, patients resampled. {said}"
    broad = len(pair) > 1
    return Shown(f"reliability-{split}-{level}", picture, f"{words}, {split}, per {level}", caption, broad=broad)


def _calibrate(facts: ReportFacts, cases: Cases, level: str) -> tuple[Floats, Floats]:
    """Return raw and calibrated probabilities of the positive class at a level, shape (units,) each."""
    units = cases.at_level(level)
    if units is None:
        return np.zeros(0), np.zeros(0)
    found = facts.calibration.at_level(level).calibrator.apply(units.probabilities, cases.positive)
    return units.probabilities[:, cases.positive], found[:, cases.positive]


def _list_points(entries: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Return operating point -> (sensitivity, specificity) on the tested units."""
    found = {
        POINT_NAMES.get(name, name): (one["sensitivity"]["value"], one["specificity"]["value"])
        for name, one in (entries.get("operating_points") or {}).items()
    }
    return {name: pair for name, pair in found.items() if None not in pair}


def _say_rule(facts: ReportFacts, level: str) -> str:
    threshold = facts.calibration.at_level(level).operating_points.get(MAIN_POINT)
    if threshold is None or facts.cases.classes > 2:
        return "the class of the highest score"
    return f"Youden threshold {threshold:.3f} of validation"
