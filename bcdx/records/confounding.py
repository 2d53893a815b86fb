"""Entries in; patients and images of each class by plane, site, scanner, and what gives the class away, out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from bcdx.records.staging import Entry

MOST_ASSOCIATION = 0.3
LEAST_SHARE = 0.1
UNKNOWN = "unknown"
RULE = (
    f"Confounded means here: Cramér's V between value and class, over images, is {MOST_ASSOCIATION:g} or more, or a "
    f"value that covers at least {LEAST_SHARE:.0%} of the images is seen with one class only. With few patients chance "
    "alone can do that; a model may learn the value all the same."
)


@dataclass(frozen=True)
class Cell:
    """Distinct patients, and images."""

    patients: int
    images: int


@dataclass(frozen=True)
class Row:
    """One value, or one combination of values: a cell for each class, and one for all of them."""

    values: tuple[str, ...]
    cells: tuple[Cell, ...]
    total: Cell


@dataclass(frozen=True)
class CountTable:
    """Values against classes.

    Attributes:
        names: What the values are, such as ("plane", "site").
        classes: Class names.
        rows: The value with the most images first.
        total: Over all rows; patients that stand in several rows count once.
        associations: Value, or values joined by " and " -> Cramér's V; None where it is not defined.
        warnings: What is confounded, in words.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    rows: tuple[Row, ...]
    total: Row
    associations: Mapping[str, float | None]
    warnings: tuple[str, ...] = ()


def name_sites(entries: Sequence[Entry]) -> dict[str, str]:
    """Return code -> name of each site, such as "site 1 (ab12cd34)": numbered from the one with the most images on."""
    counts: dict[str, int] = {}
    for entry in entries:
        counts[entry.site] = counts.get(entry.site, 0) + 1
    codes = sorted((code for code in counts if code), key=lambda code: (-counts[code], code))
    return {"": UNKNOWN, **{code: f"site {number} ({code[:8]})" for number, code in enumerate(codes, start=1)}}


def compare_classes(
    entries: Sequence[Entry], classes: Sequence[str], factors: Mapping[str, Callable[[Entry], str]]
) -> CountTable:
    """Return patients and images of each class for every combination of the factors' values, with warnings.

    Args:
        entries: All samples.
        classes: Class names in order.
        factors: Name -> what gives an entry's value.
    """
    names = tuple(factors)
    columns = {name: [value(entry) or UNKNOWN for entry in entries] for name, value in factors.items()}
    groups: dict[tuple[str, ...], list[Entry]] = {}
    for key, entry in zip(zip(*columns.values(), strict=True), entries, strict=True):
        groups.setdefault(key, []).append(entry)
    rows = [count_classes(found, classes, key) for key, found in groups.items()]
    rows.sort(key=lambda row: (-row.total.images, row.values))
    total = count_classes(entries, classes, ("all", *("" for _ in names[1:])))
    associations, warnings = _check(columns, np.array([entry.label for entry in entries]), classes)
    return CountTable(names, tuple(classes), tuple(rows), total, associations, tuple(warnings))


def count_classes(entries: Sequence[Entry], classes: Sequence[str], values: tuple[str, ...] = ("all",)) -> Row:
    """Return the patients and images of each class, under the name of what they have in common."""
    of_class = [[one for one in entries if one.label == index] for index in range(len(classes))]
    return Row(values, tuple(_count(found) for found in of_class), _count(entries))


def measure_association(counts: NDArray[np.int64]) -> float | None:
    """Return Cramér's V of a table of counts, shape (values, classes), in [0, 1]; None with one value or class only.

    Source: Cramér 1946, "Mathematical Methods of Statistics", chapter 21; without correction for bias.
    """
    counts = counts[counts.sum(axis=1) > 0][:, counts.sum(axis=0) > 0]
    if min(counts.shape) < 2:
        return None
    total = counts.sum()
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0, keepdims=True) / total
    squares = ((counts - expected) ** 2 / expected).sum()
    return float(np.sqrt(squares / (total * (min(counts.shape) - 1))))  # importing scipy.stats takes a second


def _count(entries: Sequence[Entry]) -> Cell:
    return Cell(len({one.patient for one in entries}), len(entries))


def _check(
    columns: Mapping[str, Sequence[str]], labels: NDArray[np.int64], classes: Sequence[str]
) -> tuple[dict[str, float | None], list[str]]:
    """Look at each factor, then at combinations; what a factor alone has shown is not said again."""
    associations: dict[str, float | None] = {}
    warnings: list[str] = []
    told: set[tuple[str, str]] = set()
    for names in (names for size in range(1, len(columns) + 1) for names in combinations(columns, size)):
        counts: dict[tuple[tuple[str, str], ...], NDArray[np.int64]] = {}
        for values, label in zip(zip(*(columns[name] for name in names), strict=True), labels, strict=True):
            key = tuple(zip(names, values, strict=True))
            counts.setdefault(key, np.zeros(len(classes), np.int64))[label] += 1
        what = " and ".join(names)
        associations[what] = strength = measure_association(np.array(list(counts.values())))
        if strength is not None and strength >= MOST_ASSOCIATION:
            warnings.append(f"{what} and class go together: Cramér's V is {strength:.2f}")
        for key in sorted(counts):
            only = _sole_class(counts[key], len(labels), classes)
            if only and told.isdisjoint(key):
                told.update(key)
                value = ", ".join(value if value.startswith(name) else f"{name} {value}" for name, value in key)
                warnings.append(f"{value}: {only} only, {counts[key].sum():,} of {len(labels):,} images")
    return associations, warnings


def _sole_class(counts: NDArray[np.int64], images: int, classes: Sequence[str]) -> str:
    """Return the only class that a value is seen with, if it covers enough of the images; else ""."""
    seen = np.flatnonzero(counts)
    return classes[seen[0]] if len(seen) == 1 and counts.sum() >= LEAST_SHARE * images else ""
