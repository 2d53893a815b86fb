"""The leakage gate: no patient, no study and no identical image stands in two splits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bcdx.errors import RecordsError
from bcdx.records.staging import Entry

SHOWN = 10


def join_duplicates(entries: Iterable[Entry]) -> dict[str, str]:
    """Return split digest -> digest of its group: patients who share an image or a code are one.

    A group goes by its smallest digest, so that the result does not depend on the order of entries.
    """
    parents: dict[str, str] = {}

    def find(digest: str) -> str:
        while parents.setdefault(digest, digest) != digest:
            digest = parents[digest]
        return digest

    owners: dict[str, str] = {}
    for entry in entries:
        root = find(entry.split_digest)
        for mark in (f"pixels {entry.pixels}", f"patient {entry.patient}", f"study {entry.study}"):
            other = find(owners.setdefault(mark, root))
            root, joined = min(root, other), max(root, other)
            parents[joined] = root
    return {digest: find(digest) for digest in parents}


def check_leakage(entries: Sequence[Entry], splits: Mapping[str, str]) -> None:
    """Raise unless every patient, study and image stands in one split only.

    Args:
        entries: All samples.
        splits: Split digest -> split.

    Raises:
        RecordsError: Lists the pairs by key.
    """
    for what in ("patient", "study", "pixels"):
        first: dict[str, Entry] = {}
        pairs = set()
        for entry in entries:
            other = first.setdefault(getattr(entry, what), entry)
            if splits[other.split_digest] != splits[entry.split_digest]:
                pairs.add(f"{other.patient[:12]} and {entry.patient[:12]}")
        if pairs:
            shown = "; ".join(sorted(pairs)[:SHOWN]) + ("; ..." if len(pairs) > SHOWN else "")
            name = "identical pixels" if what == "pixels" else f"the same {what}"
            raise RecordsError(
                f"{name} in two splits, of patients {shown}; merge_duplicates = true treats such patients as one"
            )
