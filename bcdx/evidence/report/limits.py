"""Facts of a run in; what its figures do not say, in sentences, out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bcdx.evidence.report.facts import ReportFacts
from bcdx.evidence.report.words import count_patients, find_level
from bcdx.evidence.words import UNITS

FEW_PATIENTS = 100
LEAST_PATIENTS = 50
"""With fewer the intervals of ROC AUC cover somewhat less than they say (`benchmarks/coverage.py`)."""
ALWAYS = "Heat maps say what moved the score, not where a lesion is."
UNTRIED = "nothing was tested prospectively"


def list_limits(facts: ReportFacts) -> list[str]:
    """Return the limits, as far as they can be told from the facts."""
    listed = (_limit_origin, _limit_patients, _limit_prevalence, _limit_groups, _limit_choices)
    return [*(text for limit in listed for text in limit(facts)), ALWAYS]


def _limit_origin(facts: ReportFacts) -> Iterator[str]:
    """Yield what follows from where the tested images come from."""
    if facts.origin == "other shards":
        yield (
            "One training run, tested on one other data set: another run or other patients would give other figures. "
            "The intervals hold the chance of these patients, not that of training."
        )
        if "overlap_warning" not in facts.metrics:
            yield (
                "No patient's code of these shards is among those that the model learned from. Shards that were made "
                "with another private key would hide that a patient is in both."
            )
        yield f"No reader was compared with, and {UNTRIED}."
        return
    if facts.origin == "own split":
        yield _limit_own_split(facts)
    yield (
        "One split of one data set: another split would give other figures. The intervals hold the chance of these "
        "patients, not that of the split or of training."
    )
    yield f"No reader was compared with, no other data set was tested, and {UNTRIED}."


def _limit_own_split(facts: ReportFacts) -> str:
    learned = facts.metrics["split"] == "train" or facts.run.get("settings", {}).get("refit") == "train+validation"
    roles = ["the model was fitted on"] if learned else []
    roles += ["calibration and thresholds were chosen on"] if facts.metrics["split"] == "validation" else []
    return f"These are images that {' and '.join(roles)}: the figures say little of how it does on new patients."


def _limit_patients(facts: ReportFacts) -> Iterator[str]:
    patients, level = count_patients(facts.cases), find_level(facts.metrics)
    if patients < FEW_PATIENTS:
        yield f"{patients} patients are few: intervals are wide, and rare appearances are missing."
    if patients < LEAST_PATIENTS and level is not None:
        yield (
            f"With fewer than about {LEAST_PATIENTS} patients 95 % intervals of ROC AUC hold the true value somewhat "
            "less often than that."
        )
    if level not in {None, "patient"}:
        yield f"Figures per {level} are no figures per patient."


def _limit_prevalence(facts: ReportFacts) -> Iterator[str]:
    level = find_level(facts.metrics)
    units = None if level is None else facts.cases.at_level(level)
    if level is None or units is None:
        return
    calibrator, positive = facts.calibration.at_level(level).calibrator, facts.metrics["positive"]
    share = float(np.mean(units.labels == facts.cases.positive))
    text = f"{share:.0%} of the tested {UNITS[level]} are {positive}"
    if calibrator.method != "none" and calibrator.positive_share is not None:
        text += (
            f"; probabilities are calibrated for {calibrator.positive_share:.0%}, as on validation. They are too high "
            "where it is rarer, too low where it is more frequent"
        )
    yield f"{text}. Predictive values stand beside the prevalence that they are for."


def _limit_groups(facts: ReportFacts) -> Iterator[str]:
    for name in ("scanner", "site"):
        known = {one for one in facts.cases.groups.get(name, np.array([], np.str_)).tolist() if one}
        if len(known) <= 1:
            tested = f"One {name} was tested" if known else f"Which {name} was tested is not known"
            yield f"{tested}: how the model does at another cannot be told."


def _limit_choices(facts: ReportFacts) -> Iterator[str]:
    level, settings = find_level(facts.metrics), facts.run.get("settings", {})
    found = None if level is None else facts.calibration.at_level(level)
    calibrator = None if found is None else found.calibrator
    decided = found is None or found.calibrator.method != "none" or any(found.operating_points.values())
    if decided and settings.get("refit") == "train+validation":
        yield (
            "Calibration and thresholds were chosen on validation, before the refit on training and validation "
            "together. The final model has seen more, and its scores may lie a little differently."
        )
    if calibrator is not None and calibrator.method == "none":
        yield f"Scores per {level} are not calibrated: {calibrator.reason or 'there was nothing to fit on'}."
    if len(facts.trials) > 1:
        free = "; the test split had no part in choosing" if facts.origin == "own test" else ""
        yield f"The best of {len(facts.trials)} validation AUCs is optimistic{free}."
    yield "Sensitivities read off this split's own ROC use thresholds that the tested cases chose: they are optimistic."
    if settings.get("network", {}).get("weights") == "random":
        yield "Training started from random weights: what a pretrained model would reach is not known."
