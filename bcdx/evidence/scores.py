"""From slices to breasts and patients: which slices belong together, their score and their label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bcdx.errors import RecordsError

LEVELS = ("patient", "breast", "slice")
"""From coarse to fine."""
ENOUGH_UNITS = 5
"""Units of each class that a level needs in training and in validation to be the objective's."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Texts = NDArray[np.str_]


class Rows(Protocol):
    """What is known of samples: arrays of shape (samples,)."""

    @property
    def label(self) -> Integers:
        """Class index."""

    @property
    def patient(self) -> Texts:
        """Patient."""

    @property
    def laterality(self) -> Texts:
        """Side: L, R or unknown."""


def name_units(level: str, patients: Texts, lateralities: Texts) -> Texts | None:
    """Return the unit of each slice at a level, None where the level is undefined.

    A breast is a patient's side; slices of unknown laterality leave that level undefined.
    """
    if level == "patient":
        return patients
    if level == "breast":
        if not np.isin(lateralities, ("L", "R")).all():
            return None
        return np.char.add(np.char.add(patients, "/"), lateralities)
    return np.array([str(index) for index in range(len(patients))], dtype=np.str_)


def top_mean(values: Floats, top: int) -> float:
    """Return the mean of the `top` highest values (of all, where there are fewer)."""
    return float(np.sort(values)[-top:].mean())


def aggregate(
    probabilities: Floats, labels: Integers, units: Texts, *, positive: int, top: int
) -> tuple[Floats, Integers, Integers]:
    """Return unit scores, unit labels and the index of each unit's first slice.

    A unit's score is, per class, the mean of its `top` highest slices; scores of more than two classes are then made
    to add up to 1. Its label is `positive` if any of its slices is, else the highest class index among them.

    Args:
        probabilities: Shape (slices, classes).
        labels: Class index of each slice, shape (slices,).
        units: Unit of each slice, shape (slices,).
        positive: Class index that is looked for.
        top: Slices averaged.

    Returns:
        Shapes (units, classes), (units,), (units,); units in order of their names.
    """
    names, first, member = np.unique(units, return_index=True, return_inverse=True)
    scores = np.empty((len(names), probabilities.shape[1]))
    found = np.empty(len(names), np.int64)
    for unit in range(len(names)):
        mine = member == unit
        scores[unit] = np.sort(probabilities[mine], axis=0)[-top:].mean(axis=0)
        found[unit] = positive if (labels[mine] == positive).any() else labels[mine].max()
    if probabilities.shape[1] == 2:
        scores[:, 1 - positive] = 1.0 - scores[:, positive]
    else:
        scores /= scores.sum(axis=1, keepdims=True)
    return scores, found, first


def count_units(rows: Rows, level: str, classes: int, positive: int) -> Integers | None:
    """Return the units of each class at a level, None where the level is undefined."""
    units = name_units(level, rows.patient, rows.laterality)
    if units is None:
        return None
    blank = np.zeros((len(rows.label), classes))
    _, labels, _ = aggregate(blank + 1.0, rows.label, units, positive=positive, top=1)
    return np.bincount(labels, minlength=classes)


def choose_level(setting: str, splits: Sequence[Rows], *, classes: int, positive: int) -> str:
    """Return the level of the objective.

    `auto` is the coarsest at which every class has at least `ENOUGH_UNITS` units in each of the splits, slices if there
    is none.

    Args:
        splits: Training and validation.

    Raises:
        RecordsError: A level was asked for at which validation AUC is undefined.
    """
    for level in LEVELS if setting == "auto" else (setting,):
        counts = [count_units(rows, level, classes, positive) for rows in splits]
        needed = ENOUGH_UNITS if setting == "auto" else 1
        if all(count is not None and count.min() >= needed for count in counts):
            return level
    if setting != "auto":
        raise RecordsError(
            f"objective.level = {setting!r}: validation AUC is undefined there (a class has no unit, or laterality is "
            "unknown); use `auto` or `slice`"
        )
    return "slice"
