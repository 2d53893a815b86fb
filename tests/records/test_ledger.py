"""Claims about what was left out: nothing is lost, nothing counts twice, nobody is named."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcdx.errors import RecordsError
from bcdx.imaging.sample import Exclusion
from bcdx.records.ledger import EXCLUDED, FLAGGED, Line, check_account, summarise, write_exclusions

NOTES = [
    Exclusion("b", "cannot be decoded", "/home/CANARY/b.dcm"),
    Exclusion("a", "cannot be decoded", "/home/CANARY/a.dcm"),
    Exclusion("d", 'a mask, "drawn" twice', images=3),
    Exclusion("c", "looks odd", images=3, flagged=True),
    Exclusion("e", "label row without image", images=0),
]

exclusions = st.lists(
    st.builds(
        Exclusion,
        st.text("abc", min_size=1),
        st.sampled_from(["one", "two"]),
        images=st.integers(0, 3),
        flagged=st.booleans(),
    )
)


@pytest.mark.parametrize("notes", [NOTES, NOTES[::-1]])
def test_table_is_ordered_and_names_no_file(tmp_path: Path, notes: list[Exclusion]) -> None:
    """By action, reason and key, whatever order they came in."""
    write_exclusions(tmp_path / "exclusions.csv", notes)
    with (tmp_path / "exclusions.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert [
        ["key", "action", "reason", "images"],
        ["d", "excluded", 'a mask, "drawn" twice', "3"],
        ["a", "excluded", "cannot be decoded", "1"],
        ["b", "excluded", "cannot be decoded", "1"],
        ["e", "excluded", "label row without image", "0"],
        ["c", "flagged", "looks odd", "3"],
    ] == rows
    assert b"CANARY" not in (tmp_path / "exclusions.csv").read_bytes()


def test_summary_counts_entries_and_images_by_action_and_reason() -> None:
    """Excluded before flagged, the most frequent reason first."""
    assert [
        Line(EXCLUDED, "cannot be decoded", 2, 2),
        Line(EXCLUDED, 'a mask, "drawn" twice', 1, 3),
        Line(EXCLUDED, "label row without image", 1, 0),
        Line(FLAGGED, "looks odd", 1, 3),
    ] == summarise(NOTES)


@given(exclusions, st.integers(0, 9))
def test_account_holds_exactly_where_used_and_left_out_are_all(notes: list[Exclusion], used: int) -> None:
    """Flagged images are used; one image more or less is an error."""
    left_out = sum(one.images for one in notes if not one.flagged)
    check_account(used + left_out, used, notes)
    for wrong in (-1, 1):
        with pytest.raises(RecordsError):
            check_account(used + left_out + wrong, used, notes)


@pytest.mark.parametrize(("images_in", "expected"), [(12, "2 are in neither"), (8, "2 are counted twice")])
def test_account_says_which_way_it_is_off(images_in: int, expected: str) -> None:
    """With all three figures."""
    with pytest.raises(RecordsError, match=f"{images_in} images in, 5 used and 5 left out: {expected}"):
        check_account(images_in, 5, NOTES)


@given(exclusions)
def test_summary_loses_nothing(notes: list[Exclusion]) -> None:
    """Sums over all lines are those over all notes."""
    lines = summarise(notes)
    assert len(notes) == sum(line.count for line in lines)
    assert sum(one.images for one in notes) == sum(line.images for line in lines)
