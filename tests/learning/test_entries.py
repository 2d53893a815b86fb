"""Claims about one kept entry: its name, the rows it takes, and every way in which it can be damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from bcdx.learning.entries import DATA, DTYPES, ENTRY, Spec, Writer, entry_key, open_entry

FACTS = {"weights": "abc", "augmentation": {"views": 8, "shift": [0.1, 2]}, "tensor": "mixed7"}


def refuse(obstacle: str) -> None:
    raise AssertionError(f"moved to memory: {obstacle}")


def write_entry(home: Path, values: np.ndarray, dtype: str = "float32") -> Path:
    writer = Writer(Spec(FACTS, values.shape, dtype, "disk"), home, refuse)
    for rows in np.array_split(values, 3):
        writer.append(rows)
    writer.finish()
    return home


def test_key_depends_on_every_fact_and_not_on_their_order() -> None:
    """So that other weights or another augmentation can never be taken for these."""
    reordered = dict(reversed(FACTS.items()))
    assert entry_key(FACTS) == entry_key(reordered)
    others = [{**FACTS, "weights": "abd"}, {**FACTS, "augmentation": {"views": 4}}, {**FACTS, "more": None}]
    assert 4 == len({entry_key(FACTS), *map(entry_key, others)})


def test_key_of_facts_without_json_is_refused() -> None:
    """A number that is none equals nothing, itself included."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        entry_key({"rate": float("nan")})


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_entry_comes_back_in_its_dtype(tmp_path: Path, dtype: str) -> None:
    """Bit by bit, read-only, as a map of the file."""
    values = np.random.default_rng(0).normal(size=(7, 3, 2)).astype(DTYPES[dtype])
    found = open_entry(write_entry(tmp_path / "entry", values, dtype), FACTS)
    assert isinstance(found, np.memmap)
    assert (values.dtype, values.shape, False) == (found.dtype, found.shape, found.flags.writeable)
    assert values.tobytes() == found.tobytes()


def test_entry_holds_plain_bytes_and_readable_facts(tmp_path: Path) -> None:
    """So that it can be understood without bcdx."""
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    home = write_entry(tmp_path / "entry", values)
    content = json.loads((home / ENTRY).read_text())
    assert values.astype("<f4").tobytes() == (home / DATA).read_bytes()
    assert (1, FACTS, [3, 2], "float32") == tuple(content[name] for name in ("format", "facts", "shape", "dtype"))
    assert {DATA, ENTRY} == {path.name for path in home.iterdir()}


def test_missing_entry_is_no_damage(tmp_path: Path) -> None:
    """It is only not there."""
    assert open_entry(tmp_path / "entry", FACTS) is None


def flip_data(home: Path, place: int) -> None:
    content = bytearray((home / DATA).read_bytes())
    content[place] ^= 1
    (home / DATA).write_bytes(content)


def change(home: Path, **values: Any) -> None:
    content = {**json.loads((home / ENTRY).read_text()), **values}
    (home / ENTRY).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda home: flip_data(home, 0), "checksum"),
        (lambda home: flip_data(home, -1), "checksum"),
        (lambda home: (home / DATA).write_bytes((home / DATA).read_bytes()[:-1]), "47 bytes instead of 48"),
        (lambda home: (home / DATA).write_bytes(bytes(48)), "checksum"),  # as long as it should be, never filled
        (lambda home: (home / DATA).unlink(), "half written"),
        (lambda home: (home / ENTRY).unlink(), "half written"),
        (lambda home: (home / ENTRY).write_text(""), "Expecting value"),
        (lambda home: (home / ENTRY).write_text("[1, 2]"), "garbled"),
        (lambda home: (home / ENTRY).write_text("[" * 100_000), "garbled|too many nested|recursion"),
        (lambda home: (home / ENTRY).write_bytes(b"\xff\xfe\x00"), "decode"),
        (lambda home: change(home, format=2), "another format"),
        (lambda home: change(home, facts={**FACTS, "weights": "xyz"}), "other facts"),
        (lambda home: change(home, shape=[4, 3]), "checksum"),  # as many bytes, in other rows
        (lambda home: change(home, shape="34"), "another format"),
        (lambda home: change(home, shape=[6, 4], dtype="float16"), "checksum"),
        (lambda home: change(home, dtype="int7"), "garbled"),
        (lambda home: change(home, checksum="0"), "checksum"),
    ],
)
def test_damaged_entry_is_told_from_a_sound_one(tmp_path: Path, damage: Callable[[Path], Any], message: str) -> None:
    """Whatever happened to it, no wrong value is handed out."""
    home = write_entry(tmp_path / "entry", np.arange(1, 13, dtype=np.float32).reshape(3, 4))
    damage(home)
    with pytest.raises(ValueError, match=message):
        open_entry(home, FACTS)


@pytest.mark.parametrize("home", [None, "entry"])
@pytest.mark.parametrize(
    "rows",
    [
        np.zeros((2, 3), np.float64),
        np.zeros((2, 3), ml_dtypes.bfloat16),
        np.zeros((2, 4), np.float32),
        np.zeros((5, 3), np.float32),  # one too many
    ],
)
def test_rows_that_are_not_the_spec_s_are_refused(tmp_path: Path, home: str | None, rows: np.ndarray) -> None:
    """Nothing is cast or cut silently, on disk or in memory."""
    writer = Writer(Spec(FACTS, (4, 3), "float32", "disk"), None if home is None else tmp_path / home, refuse)
    with pytest.raises(ValueError, match=r"expected float32, \(4, 3\) in all"):
        writer.append(rows)


def test_missing_rows_are_refused_at_the_end(tmp_path: Path) -> None:
    """An entry is whole or is not."""
    writer = Writer(Spec(FACTS, (4, 3), "float32", "disk"), tmp_path / "entry", refuse)
    writer.append(np.zeros((3, 3), np.float32))
    with pytest.raises(ValueError, match=r"expected 4 rows\. Received: 3"):
        writer.finish()
