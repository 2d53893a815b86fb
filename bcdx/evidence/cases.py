"""Scores beside what is known of each slice: what all evidence is computed from, at every level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bcdx.evidence.scores import aggregate, name_units

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Texts = NDArray[np.str_]


@dataclass(frozen=True)
class Units:
    """Slices, breasts or patients with their scores.

    Attributes:
        probabilities: Raw or calibrated, shape (units, classes).
        labels: Class indices, shape (units,).
        patients: Patient of each unit, shape (units,).
        first: Index of each unit's first slice, shape (units,).
    """

    probabilities: Floats
    labels: Integers
    patients: Texts
    first: Integers


@dataclass(frozen=True)
class Cases:
    """What is measured.

    Attributes:
        probabilities: Raw scores of the model, shape (slices, classes).
        labels: Class indices, shape (slices,).
        patients: Shape (slices,).
        lateralities: "L", "R" or "unknown", shape (slices,).
        positive: Class index that is looked for.
        top_slices: Slices averaged for a breast or patient.
        groups: Name of a grouping, such as `scanner` -> value of each slice, shape (slices,); "" where unknown.
    """

    probabilities: Floats
    labels: Integers
    patients: Texts
    lateralities: Texts
    positive: int
    top_slices: int = 3
    groups: Mapping[str, Texts] = field(default_factory=dict)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.probabilities.shape[1])

    def at_level(self, level: str) -> Units | None:
        """Return the units of a level with their raw scores, None where the level is undefined."""
        names = name_units(level, self.patients, self.lateralities)
        if names is None:
            return None
        if level == "slice":
            return Units(self.probabilities, self.labels, self.patients, np.arange(len(self.labels)))
        scores, labels, first = aggregate(
            self.probabilities, self.labels, names, positive=self.positive, top=self.top_slices
        )
        return Units(scores, labels, self.patients[first], first)
