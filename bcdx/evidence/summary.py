"""Metrics as a table for the terminal: the level and the number of units stand beside every figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bcdx.evidence.familiarity import FEWEST_PATIENTS, QUANTILE
from bcdx.evidence.metrics import MACRO
from bcdx.evidence.operating import NAMES as POINTS
from bcdx.evidence.words import METRIC_NAMES, STARRED, Entry, describe_interval, has_spread

RAW = "_uncalibrated"
COLUMNS = {"sensitivity": "sensitivity", "specificity": "specificity", "ppv": "PPV", "npv": "NPV"}
PROBED = {"balanced_accuracy": "balanced accuracy", "auc": "ROC AUC", "difference": "by image - patient"}
"""What a probe measures, first come first shown."""
SPLIT_UNITS = {True: "split by image, LEAKING", False: "split by patient"}
TITLES = {"patient": "per patient", "breast": "per breast", "slice": "per sample (images, not patients)"}
SHOWN = 4
"""Subgroups shown of a grouping, those of most units; `metrics.json` has all."""
WIDTH = 110
"""Characters of the widest line that is made to fit."""
HOW = (
    "intervals: 95 %; ROC AUC of two classes: Obuchowski's variance by patient, else patients resampled",
    STARRED,
)


def summarise(metrics: Mapping[str, Any], *, title: str) -> str:
    """Return the table; undefined metrics say why."""
    lines = [f"{title}: {metrics['split']} split, positive class {metrics['positive']}"]
    for level, heading in TITLES.items():
        lines += ["", heading, *_describe_level(metrics[level])]
    lines += _describe_subgroups(metrics)
    if "comparison" in metrics:
        lines += ["", *_describe_comparison(metrics["comparison"])]
    if "probes" in metrics:
        lines += ["", "shortcut probes, beside the result per slice", *_describe_probes(metrics["probes"])]
    if metrics.get("familiarity"):
        lines += ["", _describe_familiarity(metrics["familiarity"])]
    lines += ["", *HOW]
    lines += [f"WARNING: {text}" for name, text in metrics.items() if name.endswith("warning")]
    if "beside" in metrics:
        lines += ["", *_lay_side_by_side(metrics, metrics["beside"])]
    return "\n".join([*lines, "research use only"])


def _describe_level(content: Mapping[str, Any]) -> list[str]:
    entries = {name: content[name] for name in METRIC_NAMES if name in content}
    reasons = {entry.get("reason") for entry in entries.values()}
    if all(entry["value"] is None for entry in entries.values()) and len(reasons) == 1:
        return [f"  undefined: {reasons.pop()}"]
    points = content.get("operating_points", {})
    hidden = COLUMNS if points else ()
    shown = {name: entry for name, entry in entries.items() if name not in hidden and not name.endswith(RAW)}
    lines = [_describe_line(METRIC_NAMES[name], entry, entries.get(name + RAW)) for name, entry in shown.items()]
    return [*lines, *_describe_points(points)]


def _describe_line(name: str, entry: Entry, raw: Entry | None = None) -> str:
    """Return a figure with its interval and, where there is one, what it was before calibration."""
    if MACRO in entry.get("method", ""):
        name = f"{name}, {MACRO if len(name) + len(MACRO) < 34 else MACRO.split()[0]}"
    if entry["value"] is None:
        return f"  {name:<36} undefined: {entry['reason']}"
    beside = f"; uncalibrated {_describe_short(raw)}" if raw else ""
    return f"  {name:<36} {entry['value']:.3f}  ({describe_interval(entry)}; n = {entry['n']}){beside}"


def _describe_points(points: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield a table with a row per operating point; one line where none has a threshold."""
    if not points:
        return
    first = next(iter(points.values()))
    if all(point["threshold"] is None for point in points.values()):
        yield f"  operating points: undefined: {first['sensitivity'].get('reason', 'no threshold')}"
        return
    share = f"{100 * first['prevalence']:g} %"
    heads = [f"{name} at {share}" if name in {"PPV", "NPV"} else name for name in COLUMNS.values()]
    yield "  " + f"{'operating point':<19} {'at':>5} " + " ".join(f"{head:<19}" for head in heads).rstrip()
    for name, point in points.items():
        if point["threshold"] is not None:
            cells = " ".join(f"{_describe_short(point[column]):<19}" for column in COLUMNS)
            yield f"  {POINTS.get(name, name):<19} {point['threshold']:.3f} {cells}".rstrip()
    yield f"  PPV and NPV are stated for a prevalence of {share}, not for that of these cases"


def _describe_subgroups(metrics: Mapping[str, Any]) -> list[str]:
    """Return the AUCs of subgroups at the coarsest level that has any, of groupings that tell cases apart."""
    for level, heading in TITLES.items():
        groupings = metrics[level].get("subgroups") or {}
        told = {name: groups for name, groups in groupings.items() if len(groups) > 1}
        if any(group["auc"]["value"] is not None for groups in told.values() for group in groups):
            lines = [line for name, groups in told.items() for line in _describe_grouping(name, groups)]
            return ["", f"ROC AUC in subgroups, {heading}", *lines]
    return []


def _describe_grouping(name: str, groups: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    known = sorted((one for one in groups if one["auc"]["value"] is not None), key=lambda one: -one["n"])
    for group in known[:SHOWN]:
        counts = f"n = {group['n']}, {group['patients']} patients"
        label = f"{name}: {group['value']}"
        yield f"  {label:<48.48} {_describe_short(group['auc']):<19}  {counts}"
    if len(groups) > len(known[:SHOWN]):
        rest = len(groups) - len(known[:SHOWN])
        yield f"  {name}: {rest} more in metrics.json, {len(groups) - len(known)} too small or of one class"


def _describe_comparison(levels: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield "difference in ROC AUC from another run on the same cases (first minus second)"
    for level, heading in TITLES.items():
        found = levels.get(level)
        if found is None:
            continue
        if found["value"] is None:
            yield f"  {heading:<36} undefined: {found['reason']}"
            continue
        chance = "" if found["p_value"] is None else f"; p = {found['p_value']:.3g}"
        about = describe_interval(found) if has_spread(found) else found["method"]
        yield f"  {heading:<36} {found['value']:+.3f}  ({about}{chance}; n = {found['n']})"


def _describe_probes(probes: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line per probe: its figure, whether it comes as far as the result, what it is where there is room."""
    for name, probe in probes.items():
        measure = next((words for key, words in PROBED.items() if key in probe), "ROC AUC")
        entry = next((probe[key] for key in PROBED if key in probe), None)
        shown = _describe_short(entry) if entry else "undefined"
        words = [f"  {name.replace('_', ' '):<22} {measure:<18} {shown:<19}"]
        if probe.get("reached"):
            words.append("REACHES THE RESULT")
        said = (entry or {}).get("reason") or (probe.get("note") or "").split(". ")[0].rstrip(".")
        if said and len("  ".join([*words, said])) <= WIDTH:
            words.append(said)
        yield "  ".join(words).rstrip()


def _describe_familiarity(found: Mapping[str, Any]) -> str:
    """Return how many images the model cannot know, beside how many would be expected."""
    if found["unfamiliar"] is None:
        return f"unlike training images: cannot be told, fewer than {FEWEST_PATIENTS} patients were learned from"
    images = f"{found['unfamiliar']} of {found['n']} ({100 * found['unfamiliar'] / found['n']:.1f} %)"
    patients = f"{found['patients_with_unfamiliar']} of {found['patients']} patients"
    expected = f"{100 * (1 - QUANTILE):.0f} % of new images are expected"
    return f"unlike training images: {images}, in {patients}; about {expected}"


def _lay_side_by_side(metrics: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return a table of two results, each with how its splits were made."""
    heads = [SPLIT_UNITS["leak_warning" in one] for one in (metrics, other)]
    lines = [f"{'side by side':<38} {'this: ' + heads[0]:<30} {'beside: ' + heads[1]}"]
    for level, heading in TITLES.items():
        lines.append(heading)
        for name in (one for one in METRIC_NAMES if one in metrics[level]):
            cells = [_describe_cell(one[level].get(name)) for one in (metrics, other)]
            lines.append(f"  {METRIC_NAMES[name]:<36} {cells[0]:<30} {cells[1]}")
    lines += [f"WARNING (beside): {text}" for name, text in other.items() if name.endswith("warning")]
    if "comparison" in metrics:
        return lines
    return [*lines, "two tests on different images: read the difference as an order of magnitude"]


def _describe_cell(entry: Entry | None) -> str:
    if entry is None or entry["value"] is None:
        return "undefined"
    return f"{entry['value']:.3f} ({describe_interval(entry)})"


def _describe_short(entry: Entry) -> str:
    if entry["value"] is None:
        return "undefined"
    if not has_spread(entry):
        return f"{entry['value']:.3f} (no interval)"
    return f"{entry['value']:.3f} ({entry['low']:.3f}-{entry['high']:.3f})"
