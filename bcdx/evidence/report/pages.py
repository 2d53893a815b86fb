"""Facts of a finished run in; `report.html`, one page that needs nothing but itself, and `model_card.md` out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bcdx._files import write_bytes
from bcdx.evidence.pictures.canvas import encode_png
from bcdx.evidence.pictures.search import describe_trial
from bcdx.evidence.probes.run import RULE
from bcdx.evidence.report.checks import describe_checks, describe_familiarity, list_probes
from bcdx.evidence.report.facts import Example, Plate, ReportFacts, Saliency, TrialFacts, read_trials
from bcdx.evidence.report.limits import list_limits
from bcdx.evidence.report.plates import draw_groups, draw_level, draw_search, list_groups
from bcdx.evidence.report.words import (
    NOTICE,
    count_patients,
    describe_method,
    describe_value,
    explain_classes,
    hide_paths,
    humanise,
    list_warnings,
    state_verdict,
)
from bcdx.evidence.scores import LEVELS
from bcdx.evidence.words import METRIC_NAMES, STARRED, UNITS, describe_entry, describe_interval

__all__ = [
    "Example",
    "Plate",
    "ReportFacts",
    "Saliency",
    "TrialFacts",
    "read_trials",
    "render_card",
    "render_report",
    "write_report",
]

REPORT, MODEL_CARD = "report.html", "model_card.md"


def write_report(folder: Path, facts: ReportFacts) -> None:
    """Write both files, each whole or not at all."""
    write_bytes(folder / MODEL_CARD, render_card(facts).encode())
    write_bytes(folder / REPORT, render_report(facts).encode())


def render_report(facts: ReportFacts) -> str:
    """Return the page."""
    verdict = state_verdict(facts)
    levels = [one for one in dict.fromkeys((verdict.level, "slice")) if one]
    return _render(
        "report.html",
        facts,
        verdict=verdict,
        figures={level: draw_level(facts, level) for level in levels},
        groups={level: draw_groups(facts, level) for level in levels},
        search=draw_search(facts),
        examples={kind: [one for one in facts.examples if one.kind == kind] for kind in ("right", "wrong")},
    )


def render_card(facts: ReportFacts) -> str:
    """Return the model card.

    Source: Mitchell et al. 2019, "Model cards for model reporting", FAT*.
    """
    return _render("model_card.md", facts, verdict=state_verdict(facts))


def list_entries(metrics: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return a level's single figures by their names in words."""
    return {
        METRIC_NAMES.get(name, humanise(name)): entry
        for name, entry in metrics.items()
        if isinstance(entry, Mapping) and "value" in entry
    }


def rank_trials(trials: tuple[TrialFacts, ...]) -> tuple[list[str], list[TrialFacts]]:
    """Return the names of what is shown of trials, and the trials, the best first and those without a score last."""
    ranked = sorted(trials, key=lambda one: (one.score is None, -(one.score or 0.0), one.name))
    return list(dict.fromkeys(name for one in trials for name in describe_trial(one))), ranked


def _render(name: str, facts: ReportFacts, **more: Any) -> str:
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    rooms = ("bcdx.evidence.report", "bcdx.records")  # the dataset card's style is the report's
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(room, "templates") for room in rooms]),
        autoescape=name.endswith(".html"),  # Markdown shows what HTML would escape
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        png=encode_png, number="{:,}".format, words=humanise, entry=describe_entry, interval=describe_interval,
        method=describe_method, value=describe_value, hide=hide_paths, trial=describe_trial, entries=list_entries,
        cell=_escape_cell, groups=list_groups,
    )  # fmt: skip
    names, ranked = rank_trials(facts.trials)
    return environment.get_template(name).render(
        facts=facts, run=facts.run, metrics=facts.metrics, card=facts.card, notice=NOTICE, units=UNITS, levels=LEVELS,
        patients=count_patients(facts.cases), warnings=list_warnings(facts), limits=list_limits(facts),
        trial_names=names, trials=ranked, probes=list_probes(facts.probes), rule=RULE, starred=STARRED,
        checks=describe_checks(facts), familiarity=describe_familiarity(facts), of_classes=explain_classes(facts),
        **more,
    )  # fmt: skip


def _escape_cell(text: Any) -> str:
    """Return a text that stays in its cell of a Markdown table."""
    return " ".join(str(text).replace("|", "\\|").split())
