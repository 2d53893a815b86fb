"""Cases and what is known of each slice in; which units of a level belong to which subgroup out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bcdx.evidence.cases import Cases, Units
from bcdx.evidence.scores import name_units

Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]
Texts = NDArray[np.str_]

UNKNOWN = "unknown"
SEVERAL = "several"
LESION_SIZE = "lesion size"
"""The grouping that only positives have: theirs are told from all negatives."""


@dataclass(frozen=True)
class Subgroup:
    """Units that share a value.

    Attributes:
        grouping: Such as `scanner`.
        value: What they share; `unknown`, or `several` where a unit's own slices differ.
        members: The units, shape (units,).
        compared: The units among which the AUC is taken: the members, with all negatives where only positives have a
            value.
    """

    grouping: str
    value: str
    members: Booleans
    compared: Booleans

    @property
    def of_positives(self) -> bool:
        """Whether only positives have a value."""
        return self.grouping == LESION_SIZE


def list_subgroups(cases: Cases, level: str, units: Units) -> Iterator[Subgroup]:
    """Yield the subgroups of a level's units, grouping by grouping, the known values in order and `unknown` last."""
    names = name_units(level, cases.patients, cases.lateralities)
    if names is None or not len(units.labels):
        return
    positives = units.labels == cases.positive
    for grouping, of_slices in cases.groups.items():
        only = positives if grouping == LESION_SIZE else np.ones_like(positives)
        values = value_units(grouping, of_slices, names, units.first)
        for value in sorted(set(values[only].tolist()), key=lambda one: (one in {UNKNOWN, SEVERAL}, one)):
            members = only & (values == value)
            yield Subgroup(grouping, value, members, members | ~only)


def value_units(grouping: str, values: Texts, names: Texts, first: Integers) -> Texts:
    """Return the value of each unit, shape (units,).

    It is what its slices share, those of unknown value aside. Where they differ it is `several`; a lesion, whose area
    differs from slice to slice, has the size that most of its slices have.

    Args:
        grouping: Name of the grouping.
        values: Value of each slice, "" where unknown, shape (slices,).
        names: Unit of each slice, shape (slices,).
        first: Index of each unit's first slice, shape (units,).
    """
    order = {name: unit for unit, name in enumerate(names[first].tolist())}
    member = np.array([order[name] for name in names.tolist()])
    kinds, which = np.unique(values, return_inverse=True)
    counts = np.zeros((len(first), len(kinds)), np.int64)
    np.add.at(counts, (member, which), 1)
    counts[:, kinds == ""] = 0
    found: Texts = kinds[counts.argmax(axis=1)].astype(f"<U{max(len(SEVERAL), kinds.dtype.itemsize // 4)}")
    if grouping != LESION_SIZE:
        found[(counts > 0).sum(axis=1) > 1] = SEVERAL
    found[counts.sum(axis=1) == 0] = UNKNOWN
    return found
