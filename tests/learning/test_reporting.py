"""Claims about what a report shows: the surest cases, patients in turn, and no picture that may name one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bcdx.evidence.calibration import Calibration, LevelCalibration
from bcdx.evidence.cases import Cases
from bcdx.learning.reporting import choose_examples, find_origin, may_show, read_card
from bcdx.learning.run import Run
from bcdx.records.manifest import Left, read_manifest


def make_cases(scores: list[float], labels: list[int], patients: str) -> Cases:
    """Two-class cases on left breasts."""
    positives = np.array(scores)
    sides = np.full(len(scores), "L")
    return Cases(np.stack([1 - positives, positives], axis=1), np.array(labels), np.array(list(patients)), sides, 1)


def at(threshold: float | None) -> Calibration:
    """Scores as they are, and one threshold."""
    return Calibration(3, 1, {"slice": LevelCalibration(operating_points={"youden": threshold})})


def test_examples_are_the_surest_first_and_classes_take_turns() -> None:
    """Right and wrong are told apart at the threshold, not at one half."""
    cases = make_cases([0.9, 0.1, 0.7, 0.3, 0.55, 0.58], [1, 0, 1, 0, 1, 0], "abcdef")
    actual = choose_examples(cases, at(0.6), 3)
    assert actual == [(1, "right"), (0, "right"), (3, "right"), (4, "wrong")]


def test_examples_show_each_patient_before_any_twice() -> None:
    """Six slices of one patient would say little."""
    cases = make_cases([0.9, 0.89, 0.88, 0.8], [1, 1, 1, 1], "aaab")
    assert [index for index, _ in choose_examples(cases, at(0.5), 3)] == [0, 3, 1]


@pytest.mark.parametrize("count", [0, 5])
def test_examples_are_as_many_as_there_are(count: int) -> None:
    """None asked for, none shown; more asked for than there are, all shown."""
    assert len(choose_examples(make_cases([0.9, 0.1], [1, 0], "ab"), at(0.5), count)) == min(count, 2)


def test_origin_is_told_by_the_hash_of_the_data(records: Path) -> None:
    """The run's own test, another split that it knows, or other shards, whatever their split is called."""
    manifest = read_manifest(records)
    own, other = (Run.model_construct(data_hash=one) for one in (manifest.data_hash, "0" * 64))
    assert ["own test", "own split"] == [find_origin(own, manifest, split) for split in ("test", "validation")]
    assert "other shards" == find_origin(other, manifest, "test")


def test_card_of_other_shards_is_not_shown(records: Path, tmp_path: Path) -> None:
    """A folder may have been written anew since the run; none, or a damaged one, is no error."""
    manifest = read_manifest(records)
    card = read_card(records, manifest.data_hash)
    assert card is not None
    assert manifest.data_hash == card["data_hash"]
    assert read_card(records, "0" * 64) is None
    assert read_card(tmp_path, manifest.data_hash) is None
    (tmp_path / "card.json").write_text("{")
    assert read_card(tmp_path, manifest.data_hash) is None


@pytest.mark.parametrize(
    ("action", "reason", "shown"),
    [
        ("flagged", "BurnedInAnnotation is YES", False),
        ("flagged", "a secondary capture: words may be burned in", False),
        ("excluded", "BurnedInAnnotation is YES", True),  # it is not among the samples
        ("flagged", "laterality: description R, geometry L", True),
    ],
)
def test_pictures_are_not_shown_where_one_may_hold_a_name(records: Path, action: str, reason: str, shown: bool) -> None:
    """A report is passed on further than the images are."""
    manifest = read_manifest(records).model_copy(
        update={"exclusions": (Left(action=action, reason=reason, count=1, images=1),)}
    )
    assert may_show(manifest) == shown
