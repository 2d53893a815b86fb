"""Claims about the record of what a folder holds."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from bcdx.catalogue.provenance import (
    PROVENANCE,
    Entry,
    Provenance,
    digest_files,
    make_entry,
    read_provenance,
    write_provenance,
)
from bcdx.errors import BcdxError


@pytest.fixture
def entries(new_series: Any) -> list[Entry]:
    """Of three series."""
    return [make_entry(new_series(f"1.2.{tail}"), {"b": "22", "a": "11"}, 7) for tail in (1, 2, 10)]


def test_a_record_comes_back_as_it_was_written(entries: list[Entry], tmp_path: Path) -> None:
    """Both ways."""
    record = Provenance().extended({"collection": "x", "rules": {"plane": ["sagittal"]}}, entries)
    write_provenance(tmp_path, record)
    assert record == read_provenance(tmp_path)
    assert Provenance() == read_provenance(tmp_path / "elsewhere")


def test_a_record_does_not_depend_on_the_order_of_plans(entries: list[Entry], tmp_path: Path) -> None:
    """Nor on how often one was carried out."""
    texts = set()
    for order in permutations(range(3)):
        record = Provenance()
        for index in (*order, order[0]):
            record = record.extended({"series": index}, [entries[index]])
        write_provenance(tmp_path, record)
        texts.add((tmp_path / PROVENANCE).read_bytes())
    assert 1 == len(texts)


def test_digest_files_depends_on_names_and_bytes_alone() -> None:
    """Not on the order in which they arrived."""
    assert digest_files({"a": "1", "b": "2"}) == digest_files({"b": "2", "a": "1"})
    assert digest_files({"a": "1", "b": "2"}) != digest_files({"a": "2", "b": "1"})


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"series": [{}], "acquisitions": []}', '{"series": 1}'])
def test_somebody_elses_file_of_that_name_is_an_error(tmp_path: Path, text: str) -> None:
    """It is not overwritten."""
    (tmp_path / PROVENANCE).write_text(text)
    with pytest.raises(BcdxError, match="not what acquire writes"):
        read_provenance(tmp_path)
