"""Intervals that respect that images of one patient are alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def resample_patients(patients: NDArray[np.str_], *, resamples: int, seed: int) -> Iterator[Integers]:
    """Yield indices of cases: as many patients as there are, drawn with replacement, each with all its cases."""
    _, member = np.unique(patients, return_inverse=True)
    order = np.argsort(member, kind="stable")
    counts = np.bincount(member)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    generator = np.random.default_rng(seed)
    for _ in range(resamples):
        drawn = generator.integers(0, len(counts), len(counts))
        sizes = counts[drawn]
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        yield order[np.repeat(starts[drawn], sizes) + within]


def bootstrap_interval(
    statistic: Callable[[Any, Any], float],
    scores: Floats,
    labels: Integers,
    patients: NDArray[np.str_],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float | None, float | None, int]:
    """Return the 95 % percentile interval of `statistic`, resampling whole patients, and the resamples it rests on.

    Resamples in which the statistic is undefined (a class is missing) are left out; where fewer than half remain there
    is no interval.

    Args:
        statistic: (scores, labels) -> value, NaN where undefined.
        scores: Shape (cases, ...).
        labels: Shape (cases,).
        patients: Patient of each case, shape (cases,); all cases of a patient move together.

    Source: Field and Welsh 2007, "Bootstrapping clustered data", J. R. Stat. Soc. B 69(3).
    """
    values = np.array(
        [
            statistic(scores[drawn], labels[drawn])
            for drawn in resample_patients(patients, resamples=resamples, seed=seed)
        ]
    )
    kept = values[np.isfinite(values)]
    if 2 * len(kept) < resamples:
        return None, None, len(kept)
    low, high = np.percentile(kept, (2.5, 97.5))
    return float(low), float(high), len(kept)


def paired_difference(
    statistic: Callable[[Any, Any], float],
    scores: tuple[Floats, Floats],
    labels: Integers,
    patients: NDArray[np.str_],
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
