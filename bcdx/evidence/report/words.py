"""Facts of a run in; the sentences of the report out: the verdict, and what to beware of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bcdx.evidence.cases import Cases
from bcdx.evidence.operating import NAMES as POINT_NAMES
from bcdx.evidence.report.facts import ReportFacts
from bcdx.evidence.scores import LEVELS

NOTICE = "Research use only. Not a medical device. Not to be used for the care of any patient."
METRIC_NAMES = {
    "auc": "ROC AUC",
    "average_precision": "average precision",
    "sensitivity": "sensitivity at the Youden threshold",
    "specificity": "specificity at the Youden threshold",
    "sensitivity_at_90_specificity": "sensitivity at 90 % specificity, read off this ROC",
    "sensitivity_at_98_specificity": "sensitivity at 98 % specificity, read off this ROC",
    "brier": "Brier score, calibrated",
    "ece": "ECE, calibrated, 10 bins",
    "brier_uncalibrated": "Brier score, raw",
    "ece_uncalibrated": "ECE, raw, 10 bins",
}
UNITS = {"slice": "slices", "breast": "breasts", "patient": "patients"}
PATH = re.compile(r"(?<![\w.])(?:~|\.{1,2})?/(?:[^\s/:'\"]+/)+[^\s:'\",;)]*|\b[A-Za-z]:\\[^\s'\"]+")
"""What looks like the path of a file: messages of failed trials may hold some."""


@dataclass(frozen=True)
class Verdict:
    """What is read first.

    Attributes:
        level: Coarsest level with an AUC, None where there is none.
        headline: One sentence: the AUC with its interval, level and numbers.
        sentences: The operating point, and which coarser levels say nothing and why.
    """

    level: str | None
    headline: str
    sentences: tuple[str, ...]


def state_verdict(facts: ReportFacts) -> Verdict:
    """Return the verdict at the coarsest level at which AUC is defined, never at one that hides coarser truth."""
    level = find_level(facts.metrics)
    positive, split = facts.metrics["positive"], facts.metrics["split"]
    if level is None:
        reasons = "; ".join(f"per {one}: {facts.metrics[one]['auc'].get('reason', 'unknown')}" for one in LEVELS)
        return Verdict(None, f"No ROC AUC is defined on the {split} split, at no level ({reasons}).", ())
    entry = facts.metrics[level]["auc"]
    counted = f"{entry['n']} {UNITS[level]}"
    if level != "patient":
        counted += f" of {count_patients(facts.cases)} patients"
    headline = f"ROC AUC per {level} for {positive}: {describe_entry(entry)}, on {counted} of the {split} split."
    missing = [describe_missing(facts, one) for one in LEVELS[: LEVELS.index(level)]]
    return Verdict(level, headline, tuple(one for one in (_state_point(facts, level), *missing) if one))


def find_level(metrics: Mapping[str, Any]) -> str | None:
    """Return the coarsest level with a defined AUC."""
    return next((level for level in LEVELS if metrics[level]["auc"]["value"] is not None), None)


def count_patients(cases: Cases) -> int:
    """Return the number of patients."""
    return len(np.unique(cases.patients))


def describe_missing(facts: ReportFacts, level: str) -> str:
    """Return why a level has no AUC, and what that means for who reads the finer one."""
    text = f"No {level}-level AUC exists: {facts.metrics[level]['auc'].get('reason', 'unknown')}"
    units, finer = facts.cases.at_level(level), find_level(facts.metrics)
    if units is None:
        return f"{text}."
    present = [facts.metrics["classes"][one] for one in np.unique(units.labels)]
    if len(present) == 1:
        text += f" (every {level} tested is {present[0]})"
    told = f"The figure above tells {UNITS[str(finer)]} apart, not {UNITS[level]}"
    return f"{text}. {told}: how many {UNITS[level]} would be found, or called ill wrongly, it does not say."


def describe_entry(entry: Mapping[str, Any], digits: int = 3) -> str:
    """Return a figure with its interval, or why it is undefined."""
    if entry.get("value") is None:
        return f"undefined ({entry.get('reason', 'no reason is known')})"
    return f"{entry['value']:.{digits}f} ({describe_interval(entry, digits)})"


def describe_interval(entry: Mapping[str, Any], digits: int = 3) -> str:
    """Return the interval in words."""
    if entry.get("low") is None or entry.get("high") is None:
        return "no interval"
    if entry["low"] == entry["high"]:
        return "no spread in resamples"
    return f"95 % interval {entry['low']:.{digits}f} to {entry['high']:.{digits}f}"


def describe_method(entry: Mapping[str, Any]) -> str:
    """Return how a figure's interval was made and where its threshold comes from."""
    made = entry.get("method") or (f"{entry['resamples']:,} resamples of patients" if entry.get("resamples") else "")
    return "; ".join(str(one) for one in (made, entry.get("operating_point")) if one)


def list_warnings(facts: ReportFacts) -> list[tuple[str, str]]:
    """Return what must be read before any figure: (kind, text), the leak first."""
    found = [(name, str(text)) for name, text in facts.metrics.items() if name.endswith("warning")]
    found.sort(key=lambda one: one[0] != "leak_warning")
    kinds = {"leak_warning": "LEAKING", "overlap_warning": "Overlap"}
    warnings = [(kinds.get(name, "Beware"), text.removeprefix("LEAKING: ")) for name, text in found]
    reached = [name for name, probe in facts.probes.items() if isinstance(probe, Mapping) and probe.get("reached")]
    warnings += [("Shortcut", f"the probe “{humanise(name)}” reaches the result: see Probes") for name in reached]
    return warnings + [("Data", str(text)) for text in (facts.card or {}).get("warnings", ())]


def humanise(name: str) -> str:
    """Return a key as words."""
    return POINT_NAMES.get(name, METRIC_NAMES.get(name, re.sub(r"\bauc\b", "AUC", name.replace("_", " "))))


def describe_value(value: Any) -> str:
    """Return any plain value as words: entries with their interval and n, mappings and lists one after the other."""
    if isinstance(value, Mapping):
        if "value" in value:
            about = [f"n = {value['n']}"] if "n" in value else []
            about += [str(value["method"])] if value.get("method") else []
            return ", ".join([describe_entry(value), *about])
        return "; ".join(f"{humanise(str(name))}: {describe_value(one)}" for name, one in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 0.01 and value else f"{value:.3f}"
    if isinstance(value, (list, tuple)):
        return ", ".join(describe_value(one) for one in value)
    return "not known" if value is None else hide_paths(str(value))


def hide_paths(text: str) -> str:
    """Return a message without the paths in it."""
    return PATH.sub("[path]", text)


def _state_point(facts: ReportFacts, level: str) -> str:
    metrics = facts.metrics[level]
    threshold = facts.calibration.at_level(level).operating_points.get("youden")
    if threshold is None or metrics["sensitivity"]["value"] is None:
        return f"No operating point per {level}: {metrics['sensitivity'].get('reason', 'none could be chosen')}."
    return (
        f"At the Youden threshold (probability {threshold:.3f} or more, chosen on {facts.calibration.chosen_on}): "
        f"sensitivity per {level} {describe_entry(metrics['sensitivity'])}, "
        f"specificity per {level} {describe_entry(metrics['specificity'])}."
    )
