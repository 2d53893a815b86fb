"""The leakage gate: no patient, no study and no identical image stands in two splits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from bcdx.errors import RecordsError
from bcdx.records.staging import Entry

SHOWN = 10
SHARED = {"patient": "the same patient", "study": "the same study", "pixels": "identical pixels"}
"""What no two splits may share, and how it is called."""


def join_duplicates(entries: Iterable[Entry]) -> dict[str, str]:
    """Return split digest -> digest of its group: patients who share an image or a code are one.

    A group goes by its smallest digest, so that the result does not depend on the order of entries.
    """
    parents: dict[str, str] = {}

    def find(digest: str) -> str:
        while parents.setdefault(digest, digest) != digest:
            digest = parents[digest]
        return digest

    owners: dict[tuple[str, str], str] = {}
    for entry in entries:
        root = find(entry.split_digest)
        for mark in _marks(entry):
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
    first: dict[tuple[str, str], Entry] = {}
    pairs: dict[str, set[str]] = {what: set() for what in SHARED}
    for entry in entries:
        for mark in _marks(entry):
            other = first.setdefault(mark, entry)
            if splits[other.split_digest] != splits[entry.split_digest]:
                pairs[mark[0]].add(f"{other.patient[:12]} and {entry.patient[:12]}")
    for what, found in pairs.items():
        if found:
            shown = "; ".join(sorted(found)[:SHOWN]) + ("; ..." if len(found) > SHOWN else "")
            raise RecordsError(
                f"{SHARED[what]} in two splits, of patients {shown}; "
                "merge_duplicates = true treats such patients as one"
            )


def _marks(entry: Entry) -> Iterator[tuple[str, str]]:
    """Yield (what, value) of all that ties an entry to others; pixels both as stored and as they were in the file."""
    yield "patient", entry.patient
    yield "study", entry.study
    for pixels in (entry.pixels, *entry.source_pixels):
        yield "pixels", pixels
