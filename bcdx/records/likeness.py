"""Entries in; pairs of slices that look alike although they are of different patients out.

Perceptual hash -> candidates that differ in few bits -> those whose stored images correlate. What the two limits rest
on are pairs of different patients. Of 526 patches of breast MR (136,476 pairs) none is a candidate, and none correlates
above 0.82; of 576 phantom slices (164,160 pairs) 3 are, none correlates above 0.88; of 32 mammograms (480 pairs) none
is, none correlates above 0.96. Of 120 breast ultrasounds (7,140 pairs), known for their copies, 38 are, and each shows
one scene twice; 36 pass. Copies pass as JPEG of quality 50 and at half size, 75 to 97 % do after a gamma of 0.7 or 1.4,
and fewer when moved by 1 % or cropped by 4 %.
"""

from __future__ import annotations

import logging
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bcdx.imaging.sample import Exclusion
from bcdx.records.staging import Entry

logger = logging.getLogger(__name__)

ALIKE = "looks like a slice of another patient"
MOST_BITS = 4
LEAST_CORRELATION = 0.97
MOST_PARTNERS = 16
"""Other slices that one is compared with; where thousands share a hash, as nearly empty ones do, not all pairs are."""
REACH = 1024
"""Places that the search looks ahead among hashes that agree in two bands."""
THUMBNAIL = 32
"""Side of the images that are correlated, pixels."""

Pair = tuple[Entry, Entry]
ReadImage = Callable[[Entry], bytes]
"""entry -> its stored pixels, as `staging.read_image` gives them."""


def find_alike(entries: Iterable[Entry], *, most_bits: int = MOST_BITS) -> list[Pair]:
    """Return pairs of slices of different patients whose hashes differ in few bits, or whose pixels are the same.

    Two hashes that differ in `most_bits` bits agree in at least two of `most_bits + 2` bands: only those that do are
    compared. A slice stands in about `MOST_PARTNERS` pairs per hash at most; where that leaves some out, a warning says
    for how many slices. The result does not depend on the order of entries.

    Args:
        entries: Samples; those without `likeness` are compared by their pixels alone.
        most_bits: Bits of 64 in which hashes may differ.
    """
    ordered = sorted(entries, key=lambda one: (one.split_digest, one.likeness, one.pixels, one.sample))
    groups: dict[str, list[Entry]] = {}
    for entry in ordered:
        if entry.likeness:
            groups.setdefault(entry.likeness, []).append(entry)
    found = _Pairs()
    members = list(groups.values())
    owners = [_sole_owner(group) for group in members]
    for group in (*_share_pixels(ordered), *(group for group, owner in zip(members, owners, strict=True) if not owner)):
        found.add(group, group)
    for left, right in _near_hashes(list(groups), owners, most_bits):
        found.add(members[left], members[right])
    if found.crowded:
        logger.warning(
            "%d slices share a hash with many of other patients; each was compared with %d of them",
            len(found.crowded), MOST_PARTNERS,
        )  # fmt: skip
    return sorted(found.pairs.values(), key=lambda pair: [(one.likeness, one.pixels, one.sample) for one in pair])


def confirm(pairs: Iterable[Pair], read_image: ReadImage, *, least: float = LEAST_CORRELATION) -> list[Pair]:
    """Return the pairs with the same pixels, or whose images correlate at least that much.

    Pearson's correlation over all channels, each reduced by area to 32 x 32 pixels and less its own mean; anatomy alone
    can make two hashes collide.
    """
    thumbnails: dict[str, NDArray[np.float32]] = {}

    def look_at(entry: Entry) -> NDArray[np.float32]:
        if entry.sample not in thumbnails:
            thumbnails[entry.sample] = _reduce(read_image(entry), entry.shape)
        return thumbnails[entry.sample]

    def correlate(one: Entry, other: Entry) -> float:
        same_kind = one.shape[2] == other.shape[2]
        return float(np.dot(look_at(one), look_at(other))) if same_kind else 0.0

    return [pair for pair in pairs if not _marks(pair[0]).isdisjoint(_marks(pair[1])) or correlate(*pair) >= least]


def note_alike(
    pairs: Iterable[Pair], action: Literal["flag", "exclude"], images: Mapping[str, int] | None = None
) -> tuple[list[Exclusion], set[str]]:
    """Return a note on every slice that stands in a pair, and the codes of the samples to drop: with "exclude" all.

    Args:
        pairs: Confirmed ones.
        action: `select.near_duplicates`.
        images: Sample code -> images that it stands for; unset: one each.
    """
    keys = sorted({one.sample for pair in pairs for one in pair})
    counts = images or {}
    notes = [Exclusion(key, ALIKE, images=counts.get(key, 1), flagged=action == "flag") for key in keys]
    return notes, set(keys) if action == "exclude" else set()


class _Pairs:
    """Pairs of different patients, bounded by `MOST_PARTNERS`."""

    def __init__(self) -> None:
        self.pairs: dict[tuple[str, str], Pair] = {}
        self.crowded: set[str] = set()
        self._partners: Counter[str] = Counter()

    def add(self, group: Sequence[Entry], other: Sequence[Entry]) -> None:
        """Pair each slice of either group with slices of the other, starting opposite itself, until it has enough.

        Both are ordered by patient, so that the slices of other patients are all but one stretch.
        """
        for some, others in ((group, other), (other, group)):
            owners = [one.split_digest for one in others]
            for place, entry in enumerate(some):
                end = bisect_right(owners, entry.split_digest)
                foreign = len(owners) - end + bisect_left(owners, entry.split_digest)
                for step in range(foreign):
                    if self._partners[entry.sample] >= MOST_PARTNERS:
                        self.crowded.add(entry.sample)
                        break
                    self._take(entry, others[(end + (place + step) % foreign) % len(others)])

    def _take(self, entry: Entry, partner: Entry) -> None:
        first, second = sorted((entry, partner), key=lambda one: (one.likeness, one.pixels, one.sample))
        if (first.sample, second.sample) not in self.pairs:
            self.pairs[first.sample, second.sample] = (first, second)
            self._partners.update((first.sample, second.sample))


def _sole_owner(group: Sequence[Entry]) -> str:
    owners = {entry.split_digest for entry in group}
    return owners.pop() if len(owners) == 1 else ""


def _share_pixels(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Yield entries that have an image in common, as stored or as it was in the file."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        for mark in _marks(entry):
            groups.setdefault(mark, []).append(entry)
    return (groups[mark] for mark in sorted(groups) if len(groups[mark]) > 1 and not _sole_owner(groups[mark]))


def _marks(entry: Entry) -> set[str]:
    return {entry.pixels, *entry.source_pixels}


def _near_hashes(hashes: Sequence[str], owners: Sequence[str], most_bits: int) -> Iterator[tuple[int, int]]:
    """Yield each pair of positions whose hashes differ in 1 to `most_bits` bits, unless one patient owns both alone."""
    values = np.array([int(one, 16) for one in hashes], dtype=np.uint64)
    patients = np.unique(np.array(owners, dtype=np.str_), return_inverse=True)[1] if owners else np.empty(0, np.int64)
    shared = np.array([not one for one in owners], dtype=bool)
    bands = [np.uint64(sum(1 << bit for bit in range(start, 64, most_bits + 2))) for start in range(most_bits + 2)]
    partners = np.zeros(len(values), np.int64)
    for first, second in combinations(range(len(bands)), 2):
        keys = values & (bands[first] | bands[second])
        order = np.argsort(keys, kind="stable")
        for left, right in _walk_buckets(keys[order], partial(_want_more, partners, order)):
            a, b = order[left], order[right]
            apart = values[a] ^ values[b]
            near = (_count_bits(apart) <= most_bits) & ((patients[a] != patients[b]) | shared[a])
            for band in bands[:second]:  # a pair that agrees in more bands is found with the first two of them
                near &= ((apart & band) != 0) | (band == bands[first])
            a, b = a[near], b[near]
            partners[a] += 1
            partners[b] += 1
            yield from zip(a.tolist(), b.tolist(), strict=True)


def _want_more(
    partners: NDArray[np.int64], order: NDArray[np.int64], positions: NDArray[np.int64]
) -> NDArray[np.bool_]:
    return partners[order[positions]] < MOST_PARTNERS


def _walk_buckets(
    keys: NDArray[np.uint64], wants_more: Callable[[NDArray[np.int64]], NDArray[np.bool_]]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield all pairs of positions with equal keys, which are sorted, one distance after the other."""
    left = np.arange(len(keys))
    for step in range(1, REACH + 1):
        left = left[left + step < len(keys)]
        left = left[keys[left] == keys[left + step]]
        if not left.size:
            return
        wanted = left[wants_more(left) | wants_more(left + step)]
        yield wanted, wanted + step


def _count_bits(values: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the bits set in each value; NumPy has `bitwise_count` from version 2 on."""
    halves = np.ascontiguousarray(values).view(np.uint16).reshape(-1, 4)
    counts: NDArray[np.int64] = BITS[halves].sum(axis=1, dtype=np.int64)
    return counts


BITS = np.array([value.bit_count() for value in range(2**16)], dtype=np.uint8)


def _reduce(image: bytes, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Return a stored image as a vector of length 1 whose scalar products are correlations."""
    pixels = np.frombuffer(image, "<u2").reshape(shape).astype(np.float32)
    size = (THUMBNAIL, THUMBNAIL)
    planes = (Image.fromarray(pixels[..., index]) for index in range(shape[2]))
    small = [np.asarray(plane.resize(size, Image.Resampling.BOX), np.float32).ravel() for plane in planes]
    vector = np.concatenate([one - one.mean() for one in small])
    length = float(np.linalg.norm(vector))
    return (vector / length if length else vector).astype(np.float32)
