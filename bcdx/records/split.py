"""Who goes into which split: a pure function of the patients' digests and labels."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from bcdx.config import Split
from bcdx.errors import RecordsError

logger = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")

LabelSet = frozenset[int]


def assign_splits(patients: Mapping[str, LabelSet], split: Split) -> dict[str, str]:
    """Return digest -> split, stratified by which labels a patient has.

    Within a stratum patients are ordered by their digest, which already holds the salt; neither the order of the input
    nor the private key plays a part. Shares are met over all strata by carrying what rounding leaves; a stratum with at
    least as many patients as there are splits has one in each.

    Args:
        patients: Hex SHA-256 of "salt:PatientID" -> labels of that patient's samples.
        split: Shares.

    Raises:
        RecordsError: There are fewer patients than splits.
    """
    shares = [1.0 - split.validation - split.test, split.validation, split.test]
    shares = [share if share > 1e-9 else 0.0 for share in shares]
    wanted = sum(share > 0 for share in shares)
    if len(patients) < wanted:
        raise RecordsError(f"{len(patients)} patients cannot fill {wanted} splits; add patients or set a share to 0")
    strata: dict[LabelSet, list[str]] = {}
    for digest in sorted(patients):
        strata.setdefault(patients[digest], []).append(digest)
    assigned: dict[str, str] = {}
    carried = [0.0, 0.0, 0.0]
    for labels in sorted(strata, key=sorted):
        members = strata[labels]
        targets = [share * len(members) + rest for share, rest in zip(shares, carried, strict=True)]
        counts = _round_counts(targets, shares, len(members))
        carried = [target - count for target, count in zip(targets, counts, strict=True)]
        names = [name for name, count in zip(SPLITS, counts, strict=True) for _ in range(count)]
        assigned.update(zip(members, names, strict=True))
    _fill_empty(assigned, shares)
    return assigned


def _round_counts(targets: Sequence[float], shares: Sequence[float], total: int) -> list[int]:
    """Return whole counts that add up to `total`, near to the targets, none empty where all can have one."""
    counts = [max(int(target), 0) if share else 0 for target, share in zip(targets, shares, strict=True)]
    used = [index for index, share in enumerate(shares) if share]
    while sum(counts) < total:
        counts[max(used, key=lambda index: targets[index] - counts[index])] += 1
    while sum(counts) > total:
        counts[min((index for index in used if counts[index]), key=lambda index: targets[index] - counts[index])] -= 1
    if total >= len(used):
        for index in used:
            if not counts[index]:
                counts[counts.index(max(counts))] -= 1
                counts[index] = 1
    return counts


def _fill_empty(assigned: dict[str, str], shares: Sequence[float]) -> None:
    """Give a split that small strata left empty one patient of the largest split."""
    for name, share in zip(SPLITS, shares, strict=True):
        taken = list(assigned.values())
        if share and name not in taken:
            largest = max(SPLITS, key=taken.count)
            assigned[min(digest for digest, split in assigned.items() if split == largest)] = name


def check_classes(counts: Mapping[str, Sequence[int]], classes: Sequence[str]) -> None:
    """Warn of splits that lack a class; refuse a training split that does.

    Args:
        counts: Split -> samples of each class.
        classes: Class names.

    Raises:
        RecordsError: Training is not empty and lacks a class.
    """
    for name, found in counts.items():
        missing = [classes[index] for index, count in enumerate(found) if not count]
        if not missing or not sum(found):
            continue
        if name == "train":
            raise RecordsError(f"no {missing[0]!r} in training; more patients, or another split.salt, are needed")
        logger.warning("no %s in the %s split: what depends on it stays undefined", ", ".join(missing), name)
