"""Metrics as a table for the terminal: the level and the number of units stand beside every figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAMES = {
    "auc": "ROC AUC",
    "average_precision": "average precision",
    "sensitivity": "sensitivity (validation threshold)",
    "specificity": "specificity (validation threshold)",
    "sensitivity_at_90_specificity": "sensitivity at 90 % specificity *",
    "sensitivity_at_98_specificity": "sensitivity at 98 % specificity *",
    "brier": "Brier score",
    "ece": "ECE, 10 bins",
}
SPLIT_UNITS = {True: "split by image, LEAKING", False: "split by patient"}
TITLES = {"patient": "per patient", "breast": "per breast", "slice": "per sample (images, not patients)"}


def summarise(metrics: Mapping[str, Any], *, title: str) -> str:
    """Return the table; undefined metrics say why."""
    lines = [f"{title}: {metrics['split']} split, positive class {metrics['positive']}"]
    for level, heading in TITLES.items():
        lines += ["", heading, *_describe_level(metrics[level])]
    lines += ["", "intervals: 95 %, patients resampled; * read off this split's own ROC, optimistic"]
    lines += [f"WARNING: {text}" for name, text in metrics.items() if name.endswith("warning")]
    if "beside" in metrics:
        lines += ["", *_lay_side_by_side(metrics, metrics["beside"])]
    return "\n".join([*lines, "research use only"])


def _lay_side_by_side(metrics: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return a table of two results, each with how its splits were made."""
    heads = [SPLIT_UNITS["leak_warning" in one] for one in (metrics, other)]
    lines = [f"{'side by side':<38} {'this: ' + heads[0]:<30} {'beside: ' + heads[1]}"]
    for level, heading in TITLES.items():
        lines.append(heading)
        for name in metrics[level]:
            cells = [_describe_cell(one[level].get(name)) for one in (metrics, other)]
            lines.append(f"  {NAMES[name]:<36} {cells[0]:<30} {cells[1]}")
    lines += [f"WARNING (beside): {text}" for name, text in other.items() if name.endswith("warning")]
    return [*lines, "two tests on different images: read the difference as an order of magnitude"]


def _describe_cell(entry: Mapping[str, Any] | None) -> str:
    if entry is None or entry["value"] is None:
        return "undefined"
    return f"{entry['value']:.3f} ({_describe_interval(entry)})"


def _describe_level(entries: Mapping[str, Any]) -> list[str]:
    reasons = {entry.get("reason") for entry in entries.values()}
    if all(entry["value"] is None for entry in entries.values()) and len(reasons) == 1:
        return [f"  undefined: {reasons.pop()}"]
    lines = []
    for name, entry in entries.items():
        if entry["value"] is None:
            lines.append(f"  {NAMES[name]:<36} undefined: {entry['reason']}")
            continue
        interval = _describe_interval(entry)
        lines.append(f"  {NAMES[name]:<36} {entry['value']:.3f}  ({interval}; n = {entry['n']})")
    return lines


def _describe_interval(entry: Mapping[str, Any]) -> str:
    if entry["low"] is None:
        return "no interval"
    if entry["low"] == entry["high"]:
        return "no spread in resamples: too few units to bound it"
    return f"{entry['low']:.3f} to {entry['high']:.3f}"
