"""Claims about leakage: it is refused, or the patients are joined."""

from __future__ import annotations

from typing import Any

import pytest

from bcdx.config import Dataset
from bcdx.errors import RecordsError
from bcdx.records.gate import check_leakage, join_duplicates
from bcdx.records.sharding import plan_shards


def test_identical_pixels_in_two_splits_are_refused_with_the_pair(make_entry: Any) -> None:
    """The message names both patients by key and the way out."""
    entries = [make_entry(0), make_entry(1, pixels="pixels0")]
    splits = {entries[0].split_digest: "train", entries[1].split_digest: "test"}
    with pytest.raises(RecordsError, match="identical pixels in two splits, of patients patient0 and patient1; merge"):
        check_leakage(entries, splits)


def test_one_source_image_in_two_splits_is_refused_however_it_was_normalised(make_entry: Any) -> None:
    """The percentiles of two studies turn one image into two; a single shared phase is enough."""
    entries = [make_entry(0, source_pixels=("a", "b")), make_entry(1, source_pixels=("c", "a"))]
    splits = {entries[0].split_digest: "train", entries[1].split_digest: "test"}
    with pytest.raises(RecordsError, match="identical pixels in two splits, of patients patient0 and patient1; merge"):
        check_leakage(entries, splits)
    assert 1 == len(set(join_duplicates(entries).values()))


@pytest.mark.parametrize("what", ["patient", "study"])
def test_one_patient_or_study_in_two_splits_is_refused(make_entry: Any, what: str) -> None:
    """Two PatientIDs under one study, say."""
    entries = [make_entry(0), make_entry(1, **{what: f"{what}0"})]
    splits = {entries[0].split_digest: "train", entries[1].split_digest: "test"}
    with pytest.raises(RecordsError, match=f"the same {what} in two splits"):
        check_leakage(entries, splits)


def test_identical_pixels_within_one_split_are_fine(make_entry: Any) -> None:
    """Nothing leaks within training."""
    entries = [make_entry(0), make_entry(1, pixels="pixels0")]
    check_leakage(entries, {entry.split_digest: "train" for entry in entries})


def test_join_duplicates_joins_chains(make_entry: Any) -> None:
    """A shares with B, B with C: one group, named by its smallest digest, whatever the order."""
    first = [make_entry(0), make_entry(1), make_entry(2)]
    linked = [*first, make_entry(3, split_digest=first[1].split_digest, pixels="pixels0"),
              make_entry(4, split_digest=first[2].split_digest, pixels="pixels1")]  # fmt: skip
    expected = min(entry.split_digest for entry in first)
    for entries in (linked, linked[::-1]):
        assert {expected} == set(join_duplicates(entries).values())


def test_plan_refuses_shared_pixels_unless_told_to_merge(make_entry: Any) -> None:
    """With merge_duplicates both patients go into the same split."""
    entries = [make_entry(number) for number in range(40)]
    entries += [make_entry(100 + number, label=number % 2, pixels=f"pixels{number}") for number in range(40)]
    with pytest.raises(RecordsError, match="merge_duplicates"):
        plan_shards(entries, Dataset(), ["a", "b"])
    plan = plan_shards(entries, Dataset(merge_duplicates=True), ["a", "b"])
    homes: dict[str, set[str]] = {}
    for name, shards in plan.splits.items():
        for shard in shards:
            for entry, _ in shard.records:
                homes.setdefault(entry.pixels, set()).add(name)
    assert {1} == {len(found) for found in homes.values()}
