"""Claims about units: which slices belong together, their score, their label, and the level of the objective."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bcdx.errors import RecordsError
from bcdx.evidence.scores import ENOUGH_UNITS, aggregate, choose_level, name_units, top_mean


@dataclass(frozen=True)
class Samples:
    """Three columns, as shards hold them."""

    label: NDArray[np.int64]
    patient: NDArray[np.str_]
    laterality: NDArray[np.str_]


def make_samples(*rows: tuple[str, str, int]) -> Samples:
    """Samples from rows of (patient, laterality, label)."""
    patients, sides, labels = zip(*rows, strict=True)
    return Samples(np.array(labels), np.array(patients), np.array(sides))


def make_split(healthy: int, ill: int, *, side: str = "L") -> Samples:
    """One slice a patient."""
    rows = [(f"p{index}", side, int(index >= healthy)) for index in range(healthy + ill)]
    return make_samples(*rows)


def make_ill_patients(count: int, *, other_side: str = "R") -> Samples:
    """Patients who are all ill on the left and healthy on the other side."""
    rows = [(f"p{index}", side, int(side == "L")) for index in range(count) for side in ("L", other_side)]
    return make_samples(*rows)


def as_two_classes(positives: list[float], *, positive: int = 1) -> NDArray[np.float64]:
    """Rows of (negative, positive) probabilities, or the other way round."""
    columns = [1.0 - np.array(positives), np.array(positives)]
    return np.stack(columns if positive == 1 else columns[::-1], axis=1)


def test_units_at_patient_level_are_the_patients() -> None:
    """A patient's slices share a unit whatever their side."""
    actual = name_units("patient", np.array(["a", "a", "b"]), np.array(["L", "unknown", "R"]))
    assert actual is not None
    assert actual.tolist() == ["a", "a", "b"]


def test_units_at_breast_level_part_sides_and_patients() -> None:
    """Slices share a breast only if both patient and side agree."""
    units = name_units("breast", np.array(["a", "a", "a", "b"]), np.array(["L", "R", "L", "L"]))
    assert units is not None
    assert units[0] == units[2]
    assert len(set(units.tolist())) == 3


def test_units_of_unknown_side_leave_breasts_undefined() -> None:
    """One slice whose side is unknown is enough to have no breast level."""
    assert name_units("breast", np.array(["a", "b"]), np.array(["L", "unknown"])) is None


def test_units_at_slice_level_are_all_their_own() -> None:
    """Even slices of one breast stay apart."""
    units = name_units("slice", np.array(["a"] * 12), np.array(["L"] * 12))
    assert units is not None
    assert len(set(units.tolist())) == 12


def test_top_mean_averages_the_highest() -> None:
    """Only the highest values count."""
    assert top_mean(np.array([0.1, 0.9, 0.2, 0.6, 0.3]), 3) == pytest.approx(0.6)


def test_top_mean_of_fewer_averages_all() -> None:
    """A unit with fewer slices than asked for uses those it has."""
    assert top_mean(np.array([0.2, 0.6]), 3) == pytest.approx(0.4)


def test_aggregate_scores_by_the_highest_slices() -> None:
    """The two highest of patient a, and the only one of b, make their scores."""
    units = np.array(["a", "b", "a", "a"])
    scores, _, _ = aggregate(as_two_classes([0.2, 0.5, 0.8, 0.6]), np.zeros(4, int), units, positive=1, top=2)
    assert scores[:, 1] == pytest.approx([0.7, 0.5])


def test_aggregate_ignores_further_quiet_slices() -> None:
    """More slices that look healthy do not dilute a suspicious patient."""
    few, _, _ = aggregate(as_two_classes([0.9, 0.8]), np.array([1, 1]), np.array(["a"] * 2), positive=1, top=2)
    many, _, _ = aggregate(
        as_two_classes([0.9, 0.8] + [0.1] * 50), np.zeros(52, int), np.array(["a"] * 52), positive=1, top=2
    )
    assert few.tolist() == many.tolist()


@pytest.mark.parametrize("positive", [0, 1])
def test_aggregate_of_two_classes_adds_up_to_one(positive: int) -> None:
    """The positive class is averaged over its highest slices, and the other class is what is left."""
    probabilities = as_two_classes([0.1, 0.9, 0.4], positive=positive)
    scores, _, _ = aggregate(probabilities, np.zeros(3, int), np.array(["a"] * 3), positive=positive, top=2)
    assert scores[0, positive] == pytest.approx(0.65)
    assert scores.sum(axis=1) == pytest.approx(1.0)


def test_aggregate_of_three_classes_adds_up_to_one() -> None:
    """Each class is averaged over its own highest slices, then the row is scaled."""
    probabilities = np.array([[0.8, 0.1, 0.1], [0.2, 0.2, 0.6]])
    scores, _, _ = aggregate(probabilities, np.zeros(2, int), np.array(["a", "a"]), positive=2, top=1)
    assert scores[0] == pytest.approx(np.array([0.8, 0.2, 0.6]) / 1.6)


@pytest.mark.parametrize(
    ("labels", "positive", "expected"),
    [
        ([0, 0, 1], 1, 1),
        ([0, 0, 0], 1, 0),
        ([1, 0, 1], 0, 0),
        ([1, 1, 1], 0, 1),
        ([0, 1, 2], 1, 1),
        ([0, 2, 0], 1, 2),
        ([0, 1, 0], 2, 1),
    ],
)
def test_aggregate_label_is_the_positive_one_if_any(labels: list[int], positive: int, expected: int) -> None:
    """One positive slice makes the unit positive; without one the highest class index counts."""
    probabilities = np.full((3, 3), 1 / 3)
    _, found, _ = aggregate(probabilities, np.array(labels), np.array(["a"] * 3), positive=positive, top=1)
    assert [expected] == found.tolist()


def test_aggregate_points_to_the_first_slice_of_each_unit() -> None:
    """Units come by name, and their index finds the patient of a breast."""
    units = np.array(["b", "a", "b", "a"])
    _, _, first = aggregate(as_two_classes([0.5] * 4), np.zeros(4, int), units, positive=1, top=1)
    assert first.tolist() == [1, 0]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1), st.integers(0, 20)), min_size=1), st.randoms())
def test_aggregate_does_not_depend_on_slice_order(rows: list[tuple[int, int, int]], random: object) -> None:
    """Shuffled slices give the same scores and labels."""
    order = np.array(sorted(range(len(rows)), key=lambda _: random.random()))  # type: ignore[attr-defined]
    units, labels, grid = (np.array(column) for column in zip(*rows, strict=True))
    probabilities = as_two_classes((grid / 20).tolist())
    names = units.astype(str)
    scores, found, _ = aggregate(probabilities, labels, names, positive=1, top=3)
    again, labels_again, _ = aggregate(probabilities[order], labels[order], names[order], positive=1, top=3)
    assert scores.tolist() == again.tolist()
    assert found.tolist() == labels_again.tolist()


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=7), st.integers(1, 7))
def test_aggregate_agrees_with_top_mean(values: list[float], top: int) -> None:
    """A patient is scored alike in evaluation and in diagnosis."""
    units = np.array(["a"] * len(values))
    scores, _, _ = aggregate(as_two_classes(values), np.zeros(len(values), int), units, positive=1, top=top)
    assert top_mean(np.array(values), top) == pytest.approx(scores[0, 1], abs=1e-12)


def test_level_auto_prefers_patients() -> None:
    """With five healthy and five ill patients in both splits, patients it is."""
    split = make_split(ENOUGH_UNITS, ENOUGH_UNITS)
    assert choose_level("auto", [split, split], classes=2, positive=1) == "patient"


def test_level_auto_takes_breasts_where_every_patient_is_ill() -> None:
    """Where no patient is healthy, their healthy breasts are what cancer is told from."""
    split = make_ill_patients(ENOUGH_UNITS)
    assert choose_level("auto", [split, split], classes=2, positive=1) == "breast"


def test_level_auto_takes_slices_where_sides_are_unknown() -> None:
    """Without sides there are no breasts to fall back on."""
    split = make_ill_patients(ENOUGH_UNITS, other_side="unknown")
    assert choose_level("auto", [split, split], classes=2, positive=1) == "slice"


@pytest.mark.parametrize("short", [0, 1])
def test_level_auto_needs_enough_patients_in_both_splits(short: int) -> None:
    """Four healthy patients in either split are one too few."""
    splits = [make_split(ENOUGH_UNITS, ENOUGH_UNITS, side="unknown") for _ in range(2)]
    splits[short] = make_split(ENOUGH_UNITS - 1, ENOUGH_UNITS, side="unknown")
    assert choose_level("auto", splits, classes=2, positive=1) == "slice"


def test_level_auto_needs_enough_of_every_class() -> None:
    """A third class that no patient has rules the patient level out."""
    split = make_split(ENOUGH_UNITS, ENOUGH_UNITS)
    assert choose_level("auto", [split, split], classes=3, positive=1) == "slice"


@pytest.mark.parametrize("level", ["patient", "breast", "slice"])
def test_level_asked_for_is_taken_where_auc_is_defined(level: str) -> None:
    """One unit of each class will do for a level that was asked for."""
    split = make_split(1, 1)
    assert choose_level(level, [split, split], classes=2, positive=1) == level


def test_level_asked_for_is_refused_where_auc_is_undefined() -> None:
    """Patients who are all ill have no patient-level AUC, and the message names what to use."""
    split = make_ill_patients(20)
    with pytest.raises(RecordsError, match=r"'patient'.*use `auto` or `slice`"):
        choose_level("patient", [split, split], classes=2, positive=1)


def test_level_breast_is_refused_where_sides_are_unknown() -> None:
    """Breasts that cannot be told apart are no silent slices."""
    split = make_split(9, 9, side="unknown")
    with pytest.raises(RecordsError, match="laterality is unknown"):
        choose_level("breast", [split, split], classes=2, positive=1)
