"""Entries of `metrics.json` in; their names and figures, in words that terminal, report and model card share, out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Entry = Mapping[str, Any]

METRIC_NAMES = {
    "auc": "ROC AUC",
    "average_precision": "average precision",
    "sensitivity": "sensitivity at the Youden threshold",
    "specificity": "specificity at the Youden threshold",
    "sensitivity_at_90_specificity": "sensitivity at 90 % specificity *",
    "sensitivity_at_98_specificity": "sensitivity at 98 % specificity *",
    "brier": "Brier score",
    "ece": "ECE, 10 bins",
    "brier_uncalibrated": "Brier score, uncalibrated",
    "ece_uncalibrated": "ECE, 10 bins, uncalibrated",
}
STARRED = "* read off this split's own ROC, optimistic; other thresholds were chosen on validation"
UNITS = {"slice": "slices", "breast": "breasts", "patient": "patients"}
"""Level -> what it counts."""


def describe_entry(entry: Entry, digits: int = 3) -> str:
    """Return a figure with its interval, or why it is undefined."""
    if entry.get("value") is None:
        return f"undefined ({entry.get('reason', 'no reason is known')})"
    about = "95 % interval " if has_spread(entry) else ""
    return f"{entry['value']:.{digits}f} ({about}{describe_interval(entry, digits)})"


def describe_interval(entry: Entry, digits: int = 3) -> str:
    """Return the ends of a figure's interval, or that there is none."""
    if entry.get("low") is None or entry.get("high") is None:
        return "no interval"
    if not has_spread(entry):
        return "no spread in resamples"
    return f"{entry['low']:.{digits}f} to {entry['high']:.{digits}f}"


def has_spread(entry: Entry) -> bool:
    """Return whether an entry has an interval of which the ends differ."""
    return entry.get("low") is not None and entry.get("high") is not None and bool(entry["low"] != entry["high"])
