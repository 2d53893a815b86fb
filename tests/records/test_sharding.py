"""Claims about the plan of shards: order, seeds and sizes."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from bcdx.config import Dataset, Split
from bcdx.errors import RecordsError
from bcdx.records.sharding import cut_shards, order_records, plan_shards


def test_order_and_seeds_depend_on_pixels_and_salt_alone(make_entry: Any) -> None:
    """Neither the order of input nor the private key's codes change them."""
    entries = [make_entry(number) for number in range(20)]
    recoded = [replace(entry, patient=f"x{entry.patient}", sample=f"x{entry.sample}", study="x") for entry in entries]
    random.Random(0).shuffle(recoded)
    expected = [(entry.pixels, seed) for entry, seed in order_records(entries, "salt")]
    assert expected == [(entry.pixels, seed) for entry, seed in order_records(recoded, "salt")]
    assert expected != [(entry.pixels, seed) for entry, seed in order_records(entries, "pepper")]
    assert all(0 <= seed < 2**63 for _, seed in expected)


def test_identical_images_have_seeds_of_their_own(make_entry: Any) -> None:
    """The occurrence tells copies apart."""
    copies = [make_entry(0, sample=f"s{number}") for number in range(3)]
    assert 3 == len({seed for _, seed in order_records(copies, "salt")})


@pytest.mark.parametrize(
    ("records", "shard_bytes", "min_shards", "expected"),
    [
        (100, 1024, 8, 8),  # 3,200 bytes need 4 shards; at least 8 are wanted
        (100, 320 * 4, 2, 3),
        (3, 1024, 8, 3),  # never more shards than records
        (0, 1024, 8, 0),
    ],
)
def test_shards_are_cut_by_bytes(
    make_entry: Any, records: int, shard_bytes: int, min_shards: int, expected: int
) -> None:
    """About `shard_bytes` each, at least `min_shards`, none empty; names count them."""
    entries = [(make_entry(number), number) for number in range(records)]
    shards = cut_shards("train", entries, shard_bytes=shard_bytes, min_shards=min_shards)
    assert expected == len(shards)
    assert entries == [record for shard in shards for record in shard.records]
    assert all(shard.records for shard in shards)
    if shards:
        assert f"train-00000-of-{expected:05d}.tfrecord" == shards[0].name


def test_no_patient_stands_in_two_splits(make_entry: Any) -> None:
    """Ten patients with many images each."""
    entries = [
        make_entry(number, **{name: getattr(make_entry(number % 10), name) for name in ("patient", "split_digest")},
                   study=f"study{number % 10}", label=number % 10 % 2)
        for number in range(80)
    ]  # fmt: skip
    plan = plan_shards(entries, Dataset(), ["a", "b"])
    homes: dict[str, set[str]] = {}
    for name, shards in plan.splits.items():
        for shard in shards:
            for entry, _ in shard.records:
                homes.setdefault(entry.patient, set()).add(name)
    assert {1} == {len(found) for found in homes.values()}


def test_images_of_two_shapes_are_refused(make_entry: Any) -> None:
    """A split of mixed shapes could not be batched."""
    with pytest.raises(RecordsError, match="differ in shape"):
        plan_shards([make_entry(0), make_entry(1, shape=(4, 4, 3))], Dataset(), ["a", "b"])


def test_split_by_image_leaks_and_says_so(make_entry: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Images of one patient go to several splits, as shares say, whatever their order; a warning names it."""
    entries = [
        make_entry(number, **{name: getattr(make_entry(number % 5), name) for name in ("patient", "split_digest")})
        for number in range(100)
    ]
    dataset = Dataset(split=Split(unit="image", validation=0.2, test=0.3))
    plan = plan_shards(entries, dataset, ("a", "b"))
    members = {name: [entry for shard in shards for entry, _ in shard.records] for name, shards in plan.splits.items()}
    assert {"train": 50, "validation": 20, "test": 30} == {name: len(found) for name, found in members.items()}
    assert {one.patient for one in members["train"]} & {one.patient for one in members["test"]}
    assert "LEAKING" in caplog.text
    assert plan == plan_shards(entries[::-1], dataset, ("a", "b"))
    copies = [replace(entries[n], split_digest=f"{n}", patient=f"{n}", sample=f"copy{n}") for n in range(20)]
    with pytest.raises(RecordsError, match="in two splits"):  # by patient the same images would be refused
        plan_shards([*entries, *copies], Dataset(), ("a", "b"))
