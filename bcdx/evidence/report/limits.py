"""Facts of a run in; what its figures do not say, in sentences, out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bcdx.evidence.report.facts import ReportFacts
from bcdx.evidence.report.words import UNITS, count_patients, find_level

FEW_PATIENTS = 100
ALWAYS = (
    "Heat maps say what moved the score, not where a lesion is.",
    "No reader was compared with, no other hospital's images were tested, and nothing was tested prospectively.",
)


def list_limits(facts: ReportFacts) -> list[str]:
    """Return the limits, as far as they can be told from the facts."""
    return [*_limit_data(facts), *_limit_groups(facts), *_limit_choices(facts), *ALWAYS]


def _limit_data(facts: ReportFacts) -> Iterator[str]:
    patients, level = count_patients(facts.cases), find_level(facts.metrics)
    yield (
        "One split of one data set: another split would give other figures. The intervals hold the chance of these "
        "patients, not that of the split or of training."
    )
    if patients < FEW_PATIENTS:
        yield f"{patients} patients are few: intervals are wide, and rare appearances are missing."
    units = None if level is None else facts.cases.at_level(level)
    if units is None:
        return
    if level != "patient":
        yield f"Figures per {level} are no figures per patient."
    share = float(np.mean(units.labels == facts.cases.positive))
    yield (
        f"{share:.0%} of the tested {UNITS[str(level)]} are {facts.metrics['positive']}; probabilities are calibrated "
        "for about such a share and mean less where it is rarer. Predictive values stand beside "
        "the prevalence that they are for."
    )


def _limit_groups(facts: ReportFacts) -> Iterator[str]:
    for name in ("scanner", "site"):
        known = {one for one in facts.cases.groups.get(name, np.array([], np.str_)).tolist() if one}
        if len(known) <= 1:
            yield f"{'One' if known else 'No known'} {name}: how the model does at another is not known."


def _limit_choices(facts: ReportFacts) -> Iterator[str]:
    level, settings = find_level(facts.metrics), facts.run.get("settings", {})
    calibrator = None if level is None else facts.calibration.at_level(level).calibrator
    if settings.get("refit") == "train+validation":
        yield (
            "Calibration and thresholds were chosen on validation, before the refit on training and validation "
            "together. The final model has seen more, and its scores may lie a little differently."
        )
    if calibrator is not None and calibrator.method == "none":
        yield f"Scores per {level} are not calibrated: {calibrator.reason or 'there was nothing to fit on'}."
    if len(facts.trials) > 1:
        yield f"The best of {len(facts.trials)} validation AUCs is optimistic; the test split had no part in choosing."
    yield "Sensitivities read off this split's own ROC use thresholds that the tested cases chose: they are optimistic."
    if settings.get("network", {}).get("weights") == "random":
        yield "Training started from random weights: what a pretrained model would reach is not known."
