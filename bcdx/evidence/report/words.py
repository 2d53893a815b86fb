"""Facts of a run in; the sentences of the report out: the verdict, and what to beware of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bcdx.evidence.cases import Cases
from bcdx.evidence.operating import MAIN_POINT
from bcdx.evidence.operating import NAMES as POINT_NAMES
from bcdx.evidence.report.facts import Origin, ReportFacts
from bcdx.evidence.scores import LEVELS
from bcdx.evidence.words import METRIC_NAMES, UNITS, describe_entry

NOTICE = "Research use only. Not a medical device. Not to be used for the care of any patient."
PATH = re.compile(r"(?<![\w.])(?:~|\.{1,2})?/(?:[^\s/:'\"]+/)+[^\s:'\",;)]*|\b[A-Za-z]:\\[^\s'\"]+")
"""What looks like the path of a file: messages of failed trials may hold some."""
WHOSE: Mapping[Origin, str] = {"own test": "", "own split": "", "other shards": " of other shards than the model's own"}


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


SHUFFLED = "shuffled_labels"
"""The probe that is no shortcut: what it reaches, chance reaches."""


def state_verdict(facts: ReportFacts) -> Verdict:
    """Return the verdict at the coarsest level at which AUC is defined, never at one that hides coarser truth."""
    level = find_level(facts.metrics)
    split = f"{facts.metrics['split']} split{WHOSE[facts.origin]}"
    if level is None:
        reasons = "; ".join(f"per {one}: {facts.metrics[one]['auc'].get('reason', 'unknown')}" for one in LEVELS)
        return Verdict(None, f"No ROC AUC is defined on the {split}, at no level ({reasons}).", ())
    entry = facts.metrics[level]["auc"]
    counted = f"{entry['n']} {UNITS[level]}"
    if level != "patient":
        counted += f" of {count_patients(facts.cases)} patients"
    headline = f"ROC AUC per {level}{_say_of_what(facts)}: {describe_entry(entry)}, on {counted} of the {split}."
    missing = [describe_missing(facts, one) for one in LEVELS[: LEVELS.index(level)]]
    return Verdict(level, headline, tuple(one for one in (_state_point(facts, level), *missing) if one))


def explain_classes(facts: ReportFacts) -> str:
    """Return what figures of more than two classes are, "" for two."""
    if facts.cases.classes == 2:
        return ""
    return (
        f"With {facts.cases.classes} classes ROC AUC and average precision are means over the classes, each against "
        "the rest; the Brier score is summed over classes, and ECE is that of the most probable class. Curves and "
        f"reliability show {facts.metrics['positive']} against the rest, so what they name differs from these figures."
    )


def name_curve(facts: ReportFacts) -> str:
    """Return what a curve is of: the positive class, where there are more than two against the rest."""
    return f"{facts.metrics['positive']}{'' if facts.cases.classes == 2 else ' against the rest'}"


def _say_of_what(facts: ReportFacts) -> str:
    if facts.cases.classes == 2:
        return f" for {facts.metrics['positive']}"
    return f", the mean of {facts.cases.classes} classes each against the rest"


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
    text = "the probe “{}” reaches the result per slice: see Probes"
    warnings += [("Shortcut", text.format(humanise(name))) for name in reached if name != SHUFFLED]
    if SHUFFLED in reached:
        chance = "labels shuffled between patients sometimes score as high: the result is not told from chance"
        warnings.append(("Chance", chance))
    warnings += [("Data", str(text)) for text in (facts.card or {}).get("warnings", ())]
    if facts.origin == "other shards":
        warnings += [("Training data", str(text)) for text in (facts.training_card or {}).get("warnings", ())]
    return warnings


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
    threshold = facts.calibration.at_level(level).operating_points.get(MAIN_POINT)
    if threshold is None or metrics["sensitivity"]["value"] is None:
        return f"No operating point per {level}: {metrics['sensitivity'].get('reason', 'none could be chosen')}."
    return (
        f"At the Youden threshold (probability {threshold:.3f} or more, chosen on {facts.calibration.chosen_on}): "
        f"sensitivity per {level} {describe_entry(metrics['sensitivity'])}, "
        f"specificity per {level} {describe_entry(metrics['specificity'])}."
    )
