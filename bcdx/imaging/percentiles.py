"""Images in, one after the other; percentiles of all their pixels together out: exact, in memory that does not grow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bcdx.imaging.stored import Counts, Pixels, Rule, Stored, bin_values

MOST_RULES = 8
"""Ways from integers to real units that a tally counts integer by integer, 0.5 MiB each."""
WHOLE_IMAGES = 8
"""So many images are counted whole before those after them are counted in their tails alone."""
MARGIN = 0.5
"""A tail is wider than the wanted percentile by so many percent of the pixels."""
MOST_OUTSIDE = 0.15
"""Where tails hold a larger share of the pixels, counting them alone saves nothing."""
BUCKETS = 1 << 16


class Tally:
    """Counts the real values of many images; percentiles are those of all their pixels that are not padding.

    Integers are counted as they are, for each of the first `MOST_RULES` rules, most images in the tails alone, in which
    the percentiles nearly always lie. All others are float32 numbers, counted by their upper 16 bits first and then, of
    those whose upper ones hold a wanted rank, by the lower 16 (radix selection). So after `add` of all images, as long
    as the tally is not `settled`, start a `new_look` and give all images to `look_again`.
    """

    def __init__(self, low: float, high: float) -> None:
        """Take the percentiles that are wanted, 0 to 100."""
        self._wanted = (low, high)
        self._bins: dict[tuple[str, Rule], _Bins] = {}
        self._upper: Counts | None = None
        self._lower: dict[int, Counts] = {}
        self._recounted: set[tuple[str, Rule]] = set()

    def add(self, image: Stored) -> None:
        """Count an image."""
        kind = _kind_of(image)
        if kind is None or (kind not in self._bins and len(self._bins) == MOST_RULES):
            upper = _count_upper(*image.list_levels())
            self._upper = upper if self._upper is None else self._upper + upper
        else:
            self._bins.setdefault(kind, _Bins(*kind, self._wanted)).add(image)

    @property
    def settled(self) -> bool:
        """Whether the percentiles are known; if not, all images must be looked at again."""
        if any(one.inside for one in self._bins.values()):
            # what is inside may lie anywhere between its ends: where both give the same, all in between do
            low, high = (self._find_ranked(*self._list_levels(end)) for end in (0, 1))
            return self._upper is None and low == high
        return self._upper is None or bool(self._lower)

    def new_look(self) -> None:
        """Prepare for all images being given to `look_again`."""
        self._recounted = {kind for kind, one in self._bins.items() if one.inside}
        for kind in self._recounted:
            self._bins[kind].clear()
        if self._recounted or self._upper is None:
            return
        levels, counts = self._list_levels()
        upper = self._upper + _count_upper(levels, counts)
        ranks, _ = self._ranks(int(upper.sum()))
        buckets = np.searchsorted(np.cumsum(upper), ranks.ravel(), side="right")
        self._lower = {int(bucket): np.zeros(BUCKETS, np.int64) for bucket in buckets}
        self._count_lower(levels, counts)

    def look_again(self, image: Stored) -> None:
        """Count what was left open of an image."""
        kind = _kind_of(image)
        if kind in self._recounted:
            self._bins[kind].count_whole(image)
        elif kind not in self._bins and self._lower:
            self._count_lower(*image.list_levels())

    def percentiles(self) -> tuple[float, float]:
        """Return both percentiles as numpy.percentile does, by linear interpolation; (0, 0) of no pixels."""
        levels, counts = self._list_levels()
        if self._upper is not None:
            levels, counts = self._select(self._upper + _count_upper(levels, counts))
        ranked = self._find_ranked(levels, counts)
        if not ranked:
            return 0.0, 0.0
        first, last = np.array(ranked[:2], np.float32), np.array(ranked[2:], np.float32)
        _, shares = self._ranks(int(counts.sum()))
        step = last - first  # float32, as numpy has it
        found = np.where(shares < 0.5, first + step * shares, last - step * (1.0 - shares)) + 0.0  # no negative zero
        return float(found[0]), float(found[1])

    def _list_levels(self, end: int = 0) -> tuple[Pixels, Counts]:
        """Return real values and counts of all integers counted so far; `end` as in `_Bins.list_levels`."""
        found = [one.list_levels(end) for one in self._bins.values()]
        levels = np.concatenate([np.empty(0, np.float32), *(levels for levels, _ in found)])
        return levels, np.concatenate([np.empty(0, np.int64), *(counts for _, counts in found)])

    def _ranks(self, total: int) -> tuple[Counts, NDArray[np.float64]]:
        """Return the ranks on either side of each percentile, shape (2, percentiles), and where between them it is."""
        places = (total - 1) * (np.array(self._wanted) / 100.0)
        first = np.floor(places).astype(np.int64)
        return np.stack([first, np.minimum(first + 1, total - 1)]), places - first

    def _find_ranked(self, levels: Pixels, counts: Counts) -> list[float]:
        """Return the values of the wanted ranks, first those below; none of no pixels."""
        order = np.argsort(levels)
        levels, below = levels[order], np.cumsum(counts[order])
        if not below.size or not below[-1]:
            return []
        ranks, _ = self._ranks(int(below[-1]))
        found: list[float] = levels[np.searchsorted(below, ranks.ravel(), side="right")].tolist()
        return found

    def _count_lower(self, values: Pixels, counts: Counts) -> None:
        keys = _order_keys(values)
        upper = keys >> 16
        for bucket, found in self._lower.items():
            here = upper == bucket
            np.add.at(found, keys[here] & 0xFFFF, counts[here])

    def _select(self, upper: Counts) -> tuple[Pixels, Counts]:
        """Return values and counts that hold the wanted ranks; all others stand at the start of their bucket."""
        upper[list(self._lower)] = 0
        keys, found = [np.flatnonzero(upper) << 16], [upper[upper > 0]]
        for bucket, lower in self._lower.items():
            places = np.flatnonzero(lower)
            keys.append((bucket << 16) | places)
            found.append(lower[places])
        return _from_keys(np.concatenate(keys)), np.concatenate(found)


class _Bins:
    """Counts of integers of one type with one rule.

    Attributes:
        inside: Pixels that are known only to lie between the tails, both ends included.
    """

    def __init__(self, kind: str, rule: Rule, wanted: tuple[float, float]) -> None:
        self._type, self._rule = np.dtype(kind), rule
        self._tail = (max(wanted[0], 100.0 - wanted[1]) + MARGIN) / 100.0
        self._counts: Counts = np.zeros(0, np.int64)
        self._ends: tuple[int, int] | None = None
        self._images = 0
        self.inside = 0

    def add(self, image: Stored) -> None:
        if self._ends is None or image.padded is not None:
            self.count_whole(image)
            self._images += 1
            if self._images == WHOLE_IMAGES:
                self._ends = self._find_ends()
            return
        values = image.values.ravel()
        outside = values[np.flatnonzero((values < self._ends[0]) | (values > self._ends[1]))]
        self._counts = _add(self._counts, Stored(outside, image.rule).count_bins())
        self.inside += values.size - outside.size

    def count_whole(self, image: Stored) -> None:
        self._counts = _add(self._counts, image.count_bins())

    def clear(self) -> None:
        self._counts, self._ends, self.inside = np.zeros(0, np.int64), None, 0

    def list_levels(self, end: int) -> tuple[Pixels, Counts]:
        """Return real values and counts; all that is inside counts as the lower (0) or the higher (1) end of it."""
        bins = np.flatnonzero(self._counts)
        values, counts = bin_values(bins, self._type), self._counts[bins]
        if self._ends is not None:
            place = sorted(self._ends, key=lambda value: float(self._rule.apply(np.array([value]))[0]))[end]
            values, counts = np.append(values, place), np.append(counts, self.inside)
        return self._rule.apply(values), counts

    def _find_ends(self) -> tuple[int, int] | None:
        """Return the first and last integer between the tails, None where tails hold too much."""
        values = bin_values(np.arange(self._counts.size), self._type)
        order = np.argsort(values)
        values, below = values[order], np.cumsum(self._counts[order])
        total = int(below[-1]) if below.size else 0
        low, high = np.searchsorted(below, [self._tail * total, (1.0 - self._tail) * total])
        if not total or high - low < 2 or 1.0 - (below[high - 1] - below[low]) / total > MOST_OUTSIDE:
            return None
        return int(values[low]) + 1, int(values[high]) - 1


def _kind_of(image: Stored) -> tuple[str, Rule] | None:
    return None if image.rule is None else (image.values.dtype.str, image.rule)


def _add(total: Counts, counts: Counts) -> Counts:
    """Return the sum of counts of which one may be longer, in the longer one's place."""
    if total.size < counts.size:
        total, counts = counts, total
    total[: counts.size] += counts
    return total


def _count_upper(values: Pixels, counts: Counts) -> Counts:
    upper = np.zeros(BUCKETS, np.int64)
    np.add.at(upper, _order_keys(values) >> 16, counts)
    return upper


def _order_keys(values: Pixels) -> NDArray[np.uint32]:
    """Return integers in the order of the numbers: IEEE 754 bits, the sign turned; +0 and -0 are one."""
    bits = (values + np.float32(0.0)).view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))


def _from_keys(keys: Counts) -> Pixels:
    bits = keys.astype(np.uint32)
    return np.where(bits >> 31, bits & np.uint32(0x7FFFFFFF), ~bits).view(np.float32)
