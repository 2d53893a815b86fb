"""Claims about tables of lesion boxes: how they may be written, and what a row covers."""

from __future__ import annotations

from pathlib import Path

import pytest

from bcdx.config import Labels
from bcdx.errors import LabelError
from bcdx.imaging.boxes import DAMAGED, read_boxes
from bcdx.imaging.drawn import Lesion
from bcdx.imaging.identity import Pseudonyms

NAMES = Pseudonyms(b"k")
DUKE = "Patient ID,Start Row,End Row,Start Column,End Column,Start Slice,End Slice"


def read(tmp_path: Path, text: str) -> tuple[Lesion, ...]:
    (tmp_path / "boxes.csv").write_text(text, encoding="utf-8")
    return read_boxes(tmp_path / "boxes.csv", Labels(source="boxes.csv"), NAMES)


@pytest.mark.parametrize(
    "header",
    [
        DUKE,
        "patient_id,start_row,end_row,start_column,end_column,start_slice,end_slice",
        "PatientID,StartRow,EndRow,StartColumn,EndColumn,StartSlice,EndSlice",
        "\ufeff patient id , START ROW , END ROW , START COLUMN , END COLUMN , START SLICE , END SLICE ",
    ],
)
def test_columns_may_be_written_in_any_way(tmp_path: Path, header: str) -> None:
    """Blanks, underscores, capitals; the box is that of rows and columns from 1, ends included."""
    (lesion,) = read(tmp_path, f"{header}\nBreast_MRI_153,47,82,90,124,83,100\n")
    assert NAMES.code("PatientID", "Breast_MRI_153") == lesion.patient
    assert list(range(83, 101)) == [patch.number for patch in lesion.patches]
    assert {(46, 89, 82, 124)} == {(patch.row, patch.column, *patch.end) for patch in lesion.patches}
    assert all(patch.mask.all() for patch in lesion.patches)


def test_columns_may_stand_in_any_order(tmp_path: Path) -> None:
    """And others between them."""
    header = "note;End Slice;Start Slice;End Column;Start Column;End Row;Start Row;Patient ID"
    (lesion,) = read(tmp_path, f"{header}\nbig;8;7;6;5;4;3;P\n")
    assert [(2, 4, 4, 6, 7), (2, 4, 4, 6, 8)] == [(one.row, one.column, *one.end, one.number) for one in lesion.patches]


def test_each_row_is_a_lesion(tmp_path: Path) -> None:
    """Two of a patient have keys of their own, equal rows included; lines of commas are passed over."""
    lesions = read(tmp_path, f"{DUKE}\nP,1,2,1,2,1,2\nP,1,2,1,2,1,2\nQ,1.0,2.0,1,2,1,2\n,,,,,,\n")
    assert [NAMES.code("PatientID", name) for name in "PPQ"] == [lesion.patient for lesion in lesions]
    assert 3 == len({lesion.key for lesion in lesions})
    assert [""] * 3 == [lesion.reason for lesion in lesions]


@pytest.mark.parametrize(
    "numbers",
    ["2,1,1,2,1,2", "1,2,2,1,1,2", "1,2,1,2,2,1", "0,2,1,2,1,2", "1,2,1,2,1,", "1,2,1,2,1,x", "1,2.5,1,2,1,2",
     "1,2,1,2,1,999999999", "-1,2,1,2,1,2"],
)  # fmt: skip
def test_row_that_is_no_box_is_a_lesion_with_a_reason(tmp_path: Path, numbers: str) -> None:
    """Its patient has a lesion of which nothing is known."""
    (lesion,) = read(tmp_path, f"{DUKE}\nP,{numbers}\n")
    assert (NAMES.code("PatientID", "P"), DAMAGED, ()) == (lesion.patient, lesion.reason, lesion.patches)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Patient ID,Start Row\nP,1\n", "needs the columns Patient ID, .* it has 'Patient ID', 'Start Row'"),
        (f"{DUKE}\nP,1,2,1,2,1,2\n,1,2,1,2,1,2\n", "row 3: a box without Patient ID"),
        (f"{DUKE}\n", "no labels in it"),
    ],
)
def test_table_that_cannot_be_used_is_one_error(tmp_path: Path, text: str, words: str) -> None:
    """It says what was looked for."""
    with pytest.raises(LabelError, match=words):
        read(tmp_path, text)


@pytest.mark.real_data
def test_whole_published_table_is_read(shared_data: Path) -> None:
    """A box for each patient, none damaged."""
    path = shared_data / "tables" / "duke_annotation_boxes.csv"
    lesions = read_boxes(path, Labels(source=str(path)), NAMES)
    rows = len(path.read_text().strip().splitlines()) - 1
    assert (rows, rows, {""}) == (len(lesions), len({one.patient for one in lesions}), {one.reason for one in lesions})
