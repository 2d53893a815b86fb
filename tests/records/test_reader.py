"""Claims about what comes back out of the shards."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from bcdx.errors import RecordsError
from bcdx.records.manifest import read_manifest
from bcdx.records.reader import open_records, read_table

SPLITS = ("train", "validation", "test")


def test_table_and_records_agree_in_order(records: Path) -> None:
    """Row n of the table is record n of the stream."""
    manifest = read_manifest(records)
    table = read_table(records, manifest, ("train", "test"))
    streamed = list(open_records(records, manifest, ("train", "test")).as_numpy_iterator())
    assert table.sample.tolist() == [one["sample"].decode() for one in streamed]
    assert table.label.tolist() == [int(one["label"]) for one in streamed]
    assert {(75, 75, 1)} == {one["image"].shape for one in streamed}
    assert np.dtype(np.uint16) == streamed[0]["image"].dtype


def test_manifest_counts_what_is_there(records: Path) -> None:
    """Samples, patients and classes per split."""
    manifest = read_manifest(records)
    for name in SPLITS:
        table = read_table(records, manifest, (name,))
        facts = manifest.splits[name]
        assert (len(table.sample), len(set(table.patient))) == (facts.samples, facts.patients)
        assert [int((table.label == index).sum()) for index in (0, 1)] == list(facts.samples_per_class.values())


def test_no_patient_in_two_splits(records: Path) -> None:
    """On the shards themselves."""
    manifest = read_manifest(records)
    found = [set(read_table(records, manifest, (name,)).patient) for name in SPLITS]
    assert not found[0] & found[1] and not found[0] & found[2] and not found[1] & found[2]


def test_missing_shard_is_an_error(records: Path, tmp_path: Path) -> None:
    """The manifest promises what the folder must hold."""
    shutil.copytree(records, tmp_path / "copy")
    next((tmp_path / "copy").glob("test-*.tfrecord")).unlink()
    with pytest.raises(RecordsError, match="shard again with --overwrite"):
        read_manifest(tmp_path / "copy")


def test_damaged_shard_is_an_error(records: Path, tmp_path: Path) -> None:
    """A flipped byte is found by the record's checksum."""
    shutil.copytree(records, tmp_path / "copy")
    shard = next((tmp_path / "copy").glob("test-*.tfrecord"))
    content = bytearray(shard.read_bytes())
    content[100] ^= 0xFF
    shard.write_bytes(bytes(content))
    with pytest.raises(RecordsError, match="damaged"):
        read_table(tmp_path / "copy", read_manifest(tmp_path / "copy"), ("test",))


def test_folder_without_shards_is_an_error(tmp_path: Path) -> None:
    """The message says how to make them."""
    with pytest.raises(RecordsError, match=r"python -m bcdx\.shard"):
        read_manifest(tmp_path)
