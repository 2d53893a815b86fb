"""Claims about label tables: how they are written, and whom a row speaks of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bcdx.config import Dataset, Labels
from bcdx.errors import LabelError
from bcdx.imaging.frames import Frame
from bcdx.imaging.identity import Pseudonyms
from bcdx.imaging.labels import LabelTable, read_labels

NAMES = Pseudonyms(b"k")


def read(tmp_path: Path, text: str, encoding: str = "utf-8", **settings: Any) -> LabelTable:
    (tmp_path / "t.csv").write_text(text, encoding=encoding)
    dataset = Dataset(classes=settings.pop("classes", ()), labels=Labels(file="t.csv", **settings))
    return read_labels(dataset, source=tmp_path, pseudonyms=NAMES)


def frame(**known: Any) -> Frame:
    base = dict.fromkeys(("patient", "study", "series", "instance", "sample", "split_digest"), "x")
    return Frame(**{"path": "/p", "index": 0, **base, **known})


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])  # the second is what spreadsheets write
def test_table_is_read_as_spreadsheets_write_it(tmp_path: Path, delimiter: str, encoding: str) -> None:
    """Comma, semicolon or tab, with or without a byte order mark, blanks around names and values."""
    table = read(tmp_path, f"path {delimiter} label\na.dcm{delimiter} ill \n", encoding)
    assert ("ill", "") == table.look_up(frame(), "a.dcm")


@pytest.mark.parametrize("written", ["s/a.dcm", "s\\a.dcm", "s/a", "./s/a.dcm"])
def test_path_may_be_written_in_any_way(tmp_path: Path, written: str) -> None:
    """Backslashes, no suffix, a leading dot."""
    assert ("ill", "") == read(tmp_path, f"path,label\n{written},ill").look_up(frame(), "s/a.dcm")


def test_no_identifier_is_kept_as_a_key(tmp_path: Path) -> None:
    """Rows are keyed by code; what the table wrote is for the terminal."""
    table = read(tmp_path, "PatientID,label\nSECRET,ill")
    assert not [key for key in table.labels if "SECRET" in key]
    assert ["SECRET"] == list(table.names.values())
    assert ("ill", "") == table.look_up(frame(patient=NAMES.code("PatientID", "SECRET")), "any")


def test_pattern_reads_tables_that_are_not_csv(tmp_path: Path) -> None:
    """Lines that do not match are passed over; renaming makes classes of codes."""
    text = "INFO of the collection\nmdb001 G CIRC B 535\nmdb003 D NORM\n"
    pattern = r"(?P<path>mdb\d+) . (?P<label>\w+)"
    table = read(tmp_path, text, pattern=pattern, rename={"NORM": "none", "CIRC": "ill"})
    assert [("ill", ""), ("none", "")] == [table.look_up(frame(), f"{name}.pgm") for name in ("mdb001", "mdb003")]


@pytest.mark.parametrize(
    ("text", "settings", "words"),
    [
        ("path,label\na,b", {"pattern": "("}, "not a regular expression"),
        ("path,label\na,b", {"key": "file"}, "no column 'file'"),
        ("label,other\na,b", {"key": "other"}, "labels.key must be one of path"),
        ("path,label\na,b", {"patient": "who"}, "no column 'who'"),
    ],
)
def test_table_that_cannot_be_used_is_one_error(
    tmp_path: Path, text: str, settings: dict[str, Any], words: str
) -> None:
    """It says what was looked for."""
    with pytest.raises(LabelError, match=words):
        read(tmp_path, text, **settings)


def test_table_that_is_not_text_is_one_error(tmp_path: Path) -> None:
    """A spreadsheet's own format, say."""
    (tmp_path / "t.csv").write_bytes(b"PK\x03\x04\xff\xfe")
    with pytest.raises(LabelError, match="cannot be read as UTF-8 text"):
        read_labels(Dataset(labels=Labels(file="t.csv")), source=tmp_path, pseudonyms=NAMES)


@pytest.mark.parametrize(
    ("classes", "name", "expected"),
    [
        ((), "ill/p1/1.png", "ill"),  # the topmost folder
        (("ill", "well"), "set/ill/p1/1.png", "ill"),  # the nearest one that is a class
        (("ill", "well"), "well/ill/1.png", "ill"),
        ((), "1.png", None),
        (("ill", "well"), "other/1.png", None),
    ],
)
def test_folders_name_classes(classes: tuple[str, ...], name: str, expected: str | None) -> None:
    """Where there is no table."""
    assert expected == LabelTable("folder", classes=classes).look_up(frame(), name)[0]
