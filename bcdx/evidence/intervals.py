"""Intervals that respect that images of one patient are alike."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bcdx.evidence.statistics import Statistic

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Texts = NDArray[np.str_]
Key = TypeVar("Key", bound=Hashable)

CHUNK = 2**18
"""Weights held at a time: 2 MiB, which stay in the cache of a core while all statistics read them."""


def number_patients(patients: Texts | Integers) -> Integers:
    """Return the number of each sample's patient, in order of first appearance, shape (samples,).

    Codes depend on a private key, and so would folds and draws that followed their order.
    """
    _, first, member = np.unique(patients, return_index=True, return_inverse=True)
    places = np.empty(len(first), np.int64)
    places[np.argsort(first)] = np.arange(len(first))
    return places[member]


def draw_patients(patients: int, *, resamples: int, seed: int) -> Integers:
    """Return as many patients as there are, drawn with replacement, shape (resamples, patients)."""
    return np.random.default_rng(seed).integers(0, patients, (resamples, patients))


def resample_patients(patients: Texts, *, resamples: int, seed: int) -> Iterator[Integers]:
    """Yield indices of cases: as many patients as there are, drawn with replacement, each with all its cases."""
    member = number_patients(patients)
    order = np.argsort(member, kind="stable")
    counts = np.bincount(member)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    for drawn in draw_patients(len(counts), resamples=resamples, seed=seed):
        sizes = counts[drawn]
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        yield order[np.repeat(starts[drawn], sizes) + within]


def bootstrap(
    statistics: Mapping[Key, Statistic], patients: Texts | Integers, *, resamples: int = 2000, seed: int = 0
) -> dict[Key, Floats]:
    """Return the values of each statistic in the same resamples of whole patients, shape (resamples,) each.

    Args:
        statistics: Name -> statistic of weighted units.
        patients: Patient of each unit, shape (units,); all units of a patient move together.

    Source: Field and Welsh 2007, "Bootstrapping clustered data", J. R. Stat. Soc. B 69(3).
    """
    member = number_patients(patients)
    drawn = draw_patients(int(member.max()) + 1, resamples=resamples, seed=seed)
    rows = max(1, CHUNK // len(patients))
    parts: dict[Key, list[Floats]] = {key: [] for key in statistics}
    for start in range(0, resamples, rows):
        weights = _count_draws(drawn[start : start + rows])[:, member]
        for key, statistic in statistics.items():
            parts[key].append(statistic(weights))
    return {key: np.concatenate(found) for key, found in parts.items()}


def _count_draws(drawn: Integers) -> Floats:
    """Return how often each patient was drawn, shape (resamples, patients)."""
    resamples, patients = drawn.shape
    places = drawn + patients * np.arange(resamples)[:, None]
    return np.bincount(places.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(np.float64)


def percentile_interval(values: Floats) -> tuple[float | None, float | None, int]:
    """Return the 95 % percentile interval of resampled values, and the resamples it rests on.

    Resamples in which the statistic is undefined (a class is missing) are left out; where fewer than half remain there
    is no interval.
    """
    kept = values[np.isfinite(values)]
    if 2 * len(kept) < len(values) or not len(kept):
        return None, None, len(kept)
    low, high = np.percentile(kept, (2.5, 97.5))
    return float(low), float(high), len(kept)


def bootstrap_interval(
    statistic: Callable[[Any, Any], float],
    scores: Floats,
    labels: Integers,
    patients: Texts,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float | None, float | None, int]:
    """Return the 95 % percentile interval of any `statistic`, one resample of whole patients after the other.

    Args:
        statistic: (scores, labels) -> value, NaN where undefined.
        scores: Shape (cases, ...).
        labels: Shape (cases,).
        patients: Patient of each case, shape (cases,); all cases of a patient move together.
    """
    drawn = resample_patients(patients, resamples=resamples, seed=seed)
    return percentile_interval(np.array([statistic(scores[one], labels[one]) for one in drawn]))


def paired_difference(
    statistic: Callable[[Any, Any], float],
    scores: tuple[Floats, Floats],
    labels: Integers,
    patients: Texts,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Return statistic(first) - statistic(second) on the same cases, and its 95 % interval over resampled patients."""

    def difference(both: Floats, drawn: Integers) -> float:
        return statistic(both[..., 0], drawn) - statistic(both[..., 1], drawn)

    both = np.stack(scores, axis=-1)
    low, high, _ = bootstrap_interval(difference, both, labels, patients, resamples=resamples, seed=seed)
    value = difference(both, labels)
    return value, value if low is None else low, value if high is None else high
