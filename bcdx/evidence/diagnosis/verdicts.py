"""Scores of new slices and what validation decided in; the verdict on each slice, breast and patient out.

A patient is judged once for each study: what stood in one study says nothing of the breasts years before or after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bcdx.evidence.diagnosis.rules import Rules, explain_calibration, explain_threshold
from bcdx.evidence.familiarity import judge_unit
from bcdx.evidence.scores import aggregate

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

UNFAMILIAR = "unlike what the model was trained on: a slice that decides lies further from training than the limit"
MOSTLY_UNFAMILIAR = "unlike what the model was trained on: at least half of its slices lie further than the limit"
SIDES = ("L", "R")
DIGITS = 6


@dataclass(frozen=True)
class Images:
    """What is known of each new slice: keyed codes and words, all of the same length.

    Attributes:
        sample, patient, study: Codes.
        laterality: "L", "R" or "unknown".
        plane: "sagittal", "axial", "coronal" or "unknown".
        slice_index: Place in the stack, from 0.
        scores: The model's raw class probabilities, shape (slices, classes).
        distances: Distance of each slice's features from training, shape (slices,); None where the run cannot tell.
    """

    sample: Sequence[str]
    patient: Sequence[str]
    study: Sequence[str]
    laterality: Sequence[str]
    plane: Sequence[str]
    slice_index: Sequence[int]
    scores: Floats
    distances: Floats | None = None


@dataclass(frozen=True)
class Verdict:
    """What is said of one slice, breast or patient.

    Attributes:
        level: slice, breast or patient.
        members: Indices of its slices in order of side and place.
        deciding: Indices of the slices that its score is the mean of, the highest first.
        score: The model's raw score for the positive class.
        probability: The calibrated one; the raw score where there is no calibration.
        probabilities: Of each class, for more than two classes; else empty.
        calibration_reason: Why the probability is the raw score; empty: it is calibrated.
        threshold: At or above which it is called above; None where there is none.
        no_threshold: Why there is none; else empty.
        distance: The largest of its deciding slices from training; None where the run cannot tell.
        unfamiliar: Why its images are unlike those that the model was trained on; empty where they are not.
    """

    level: str
    members: tuple[int, ...]
    deciding: tuple[int, ...]
    score: float
    probability: float
    probabilities: tuple[float, ...]
    calibration_reason: str
    threshold: float | None
    no_threshold: str
    distance: float | None
    unfamiliar: str

    @property
    def abstained(self) -> bool:
        """Whether the model does not answer, for these images are unlike those it was trained on."""
        return bool(self.unfamiliar)

    @property
    def call(self) -> str | None:
        """`above` or `below` the threshold; None without one, or where the model abstains."""
        if self.abstained or self.threshold is None:
            return None
        return "above" if self.probability >= self.threshold else "below"

    @property
    def reason(self) -> str:
        """Why there is no call; empty where there is one."""
        return self.unfamiliar or self.no_threshold


@dataclass(frozen=True)
class StudyVerdict:
    """A patient's verdict in one study, and those of the breasts (by side, where known) and slices below it.

    Attributes:
        patient, study: Codes.
        whole: At the level of the patient.
        breasts: By side, where known.
        slices: In order of side and place.
    """

    patient: str
    study: str
    whole: Verdict
    breasts: dict[str, Verdict]
    slices: tuple[Verdict, ...]


def judge_studies(images: Images, rules: Rules) -> tuple[StudyVerdict, ...]:
    """Return the verdict on each patient in each study, in order of their codes."""
    members: dict[tuple[str, str], list[int]] = {}
    for index in sorted(range(len(images.sample)), key=lambda one: _place(images, one)):
        members.setdefault((images.patient[index], images.study[index]), []).append(index)
    return tuple(_judge_study(key, members[key], images, rules) for key in sorted(members))


def _place(images: Images, index: int) -> tuple[Any, ...]:
    return images.laterality[index], images.slice_index[index], images.sample[index]


def _judge_study(key: tuple[str, str], members: list[int], images: Images, rules: Rules) -> StudyVerdict:
    sided = {side: [one for one in members if images.laterality[one] == side] for side in SIDES}
    return StudyVerdict(
        *key,
        judge(members, images, rules, level="patient"),
        {side: judge(found, images, rules, level="breast") for side, found in sided.items() if found},
        tuple(judge([one], images, rules, level="slice") for one in members),
    )


def judge(members: Sequence[int], images: Images, rules: Rules, *, level: str) -> Verdict:
    """Return the verdict on one unit.

    Its score is that of evaluation: per class the mean of the highest slices (`evidence.scores.aggregate`). Whether it
    is familiar `evidence.familiarity.judge_unit` decides.

    Args:
        members: Indices of its slices.
        images: All of them.
        rules: How.
        level: slice, breast or patient.
    """
    found = np.asarray(members)
    top = rules.calibration.top_slices
    scores = images.scores[found]
    if level != "slice":
        unit = np.full(len(found), level)
        scores, _, _ = aggregate(scores, np.zeros(len(found), np.int64), unit, positive=rules.positive, top=top)
    order = _find_deciding(images.scores[found], rules.positive, top)
    decided = rules.calibration.at_level(level)
    probabilities = decided.calibrator.apply(scores, rules.positive)[0]
    return Verdict(
        level,
        tuple(int(one) for one in found),
        tuple(int(one) for one in found[order]),
        float(scores[0, rules.positive]),
        float(probabilities[rules.positive]),
        tuple(float(one) for one in probabilities) if len(probabilities) > 2 else (),
        explain_calibration(decided),
        decided.operating_points.get(rules.operating_point),
        explain_threshold(decided, rules, classes=len(probabilities)),
        None if images.distances is None else float(images.distances[found[order]].max()),
        _explain_strangeness(images, rules, found, order),
    )


def _find_deciding(scores: Floats, positive: int, top: int) -> Integers:
    """Return the places of the slices that a unit's scores are the means of, those of the positive class first."""
    others = [one for one in range(scores.shape[1]) if one != positive] if scores.shape[1] > 2 else []
    ranked = [np.argsort(-scores[:, one], kind="stable")[:top] for one in (positive, *others)]
    return np.array(list(dict.fromkeys(np.concatenate(ranked).tolist())), np.int64)


def _explain_strangeness(images: Images, rules: Rules, found: Integers, order: Integers) -> str:
    """Return why a unit is unfamiliar; empty where it is not, or where the run cannot tell."""
    if images.distances is None or rules.limit is None:
        return ""
    distances = images.distances[found]
    if not judge_unit(distances, rules.limit, deciding=order):
        return ""
    return UNFAMILIAR if (distances[order] > rules.limit).any() else MOSTLY_UNFAMILIAR


def list_deciding(verdicts: Iterable[StudyVerdict]) -> Iterator[int]:
    """Yield the slices that decide about a patient or a breast, once each."""
    seen: dict[int, None] = {}
    for one in verdicts:
        for unit in (one.whole, *one.breasts.values()):
            seen.update(dict.fromkeys(unit.deciding))
    yield from seen
