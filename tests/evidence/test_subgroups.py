"""Claims about subgroups: every unit in one group of each grouping, lesions against all negatives, few units no AUC."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from bcdx.evidence.calibration import Calibration, LevelCalibration
from bcdx.evidence.cases import Cases
from bcdx.evidence.metrics import evaluate
from bcdx.evidence.subgroups import LESION_SIZE, list_subgroups, value_units


def make_cases(groups: dict[str, Any], *, patients: int = 40, slices: int = 3) -> Cases:
    """Patients of several slices, every other patient ill; group values by slice."""
    count = patients * slices
    owner = np.arange(count) // slices
    labels = owner % 2
    positive = np.clip(0.5 * labels + 0.8 * np.random.default_rng(0).random(count), 0, 1)
    names = np.array([f"p{index:03d}" for index in owner])
    values = {name: np.array(column) for name, column in groups.items()}
    return Cases(np.stack([1 - positive, positive], 1), labels, names, np.array(["L"] * count), 1, 1, values)


def measure(cases: Cases) -> dict[str, Any]:
    """All metrics at one threshold."""
    point = LevelCalibration(operating_points={"youden": 0.6})
    return evaluate(cases, Calibration(1, 1, dict.fromkeys(("slice", "breast", "patient"), point)), resamples=100)


def by_value(groups: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Subgroups by what they share."""
    return {group["value"]: group for group in groups}


def test_subgroups_hold_every_unit_once() -> None:
    """Known values in order, then those of which nothing is known; sizes and patients add up."""
    scanners = np.array(["b", "", "a", "c"])[np.arange(120) // 3 // 2 % 4]
    result = measure(make_cases({"scanner": scanners}))
    for level, units in (("slice", 120), ("patient", 40)):
        groups = result[level]["subgroups"]["scanner"]
        assert ["a", "b", "c", "unknown"] == [group["value"] for group in groups]
        assert [units, 40] == [sum(group[key] for group in groups) for key in ("n", "patients")]


def test_subgroups_are_measured_on_their_own_units() -> None:
    """AUC and shares are those of the same units alone."""
    scanners = np.array(["a", "b"])[np.arange(120) // 3 // 2 % 2]
    cases = make_cases({"scanner": scanners})
    group = by_value(measure(cases)["slice"]["subgroups"]["scanner"])["b"]
    scores, labels = cases.probabilities[scanners == "b", 1], cases.labels[scanners == "b"]
    assert roc_auc_score(labels, scores) == pytest.approx(group["auc"]["value"])
    assert (scores[labels == 1] >= 0.6).mean() == pytest.approx(group["sensitivity"]["value"])
    assert (scores[labels == 0] < 0.6).mean() == pytest.approx(group["specificity"]["value"])
    assert group["sensitivity"]["low"] < group["sensitivity"]["value"] < group["sensitivity"]["high"]


def test_subgroups_of_one_value_are_the_level() -> None:
    """One scanner for all: its figures are the level's own."""
    result = measure(make_cases({"scanner": ["a"] * 120}))["slice"]
    (group,) = result["subgroups"]["scanner"]
    assert [result[name] for name in ("auc", "sensitivity", "specificity")] == [
        group[name] for name in ("auc", "sensitivity", "specificity")
    ]


def test_subgroups_of_lesions_are_told_from_all_negatives() -> None:
    """A size is known of positives alone: their AUC is against every negative, and there is no specificity."""
    ill = np.arange(120) // 3 % 2 == 1
    sizes = np.where(ill, np.array(["small", "large"])[np.arange(120) % 2], "")
    cases = make_cases({LESION_SIZE: sizes})
    groups = by_value(measure(cases)["slice"]["subgroups"][LESION_SIZE])
    assert set(groups) == {"small", "large"}
    for name, group in groups.items():
        compared = (sizes == name) | ~ill
        expected = roc_auc_score(cases.labels[compared], cases.probabilities[compared, 1])
        assert expected == pytest.approx(group["auc"]["value"])
        assert (sizes == name).sum() == group["n"]
        assert group["specificity"]["reason"] == "known of positives alone"


def test_subgroups_of_lesions_of_unknown_size_are_unknown_and_negatives_are_not() -> None:
    """Only a positive can lack its lesion's size."""
    ill = np.arange(120) // 3 % 2 == 1
    sizes = np.where(ill & (np.arange(120) < 60), "small", "")
    groups = by_value(measure(make_cases({LESION_SIZE: sizes}))["slice"]["subgroups"][LESION_SIZE])
    assert {"small": 30, "unknown": 30} == {name: group["n"] for name, group in groups.items()}


def test_subgroups_too_small_or_of_one_class_have_no_auc() -> None:
    """Null with the reason, while their size is told."""
    owner = np.arange(120) // 3
    values = np.where(owner < 4, "few", np.where(owner % 2 == 1, "ill", "healthy"))
    groups = by_value(measure(make_cases({"site": values}))["patient"]["subgroups"]["site"])
    assert groups["few"]["auc"]["reason"] == "fewer than 5 units of a class in this group"
    assert groups["ill"]["auc"]["reason"] == "only 1 of 2 classes in this group"
    assert groups["ill"]["specificity"]["reason"] == "no negative unit"
    assert {"few": 4, "healthy": 18, "ill": 18} == {name: group["n"] for name, group in groups.items()}


def test_subgroups_of_three_classes_have_no_auc() -> None:
    """They say why."""
    cases = make_cases({"site": ["x"] * 120})
    three = Cases(
        np.random.default_rng(0).dirichlet(np.ones(3), 120), np.arange(120) % 3, cases.patients, cases.lateralities, 2,
        groups=cases.groups,
    )  # fmt: skip
    (group,) = measure(three)["slice"]["subgroups"]["site"]
    assert group["auc"]["reason"] == "defined for two classes only"


def test_subgroups_of_an_undefined_level_are_none() -> None:
    """Without sides there are no breasts to group."""
    cases = make_cases({"site": ["x"] * 120})
    unknown = Cases(
        cases.probabilities, cases.labels, cases.patients, np.array(["unknown"] * 120), 1, groups=cases.groups
    )
    assert measure(unknown)["breast"]["subgroups"] == {}


@pytest.mark.parametrize(
    ("grouping", "slices", "expected"),
    [
        ("scanner", ["a", "a", ""], "a"),  # what is unknown of a slice contradicts nothing
        ("scanner", ["", "", ""], "unknown"),
        ("laterality", ["L", "R", "L"], "several"),
        (LESION_SIZE, ["small", "large", "large"], "large"),  # a lesion's area differs from slice to slice
    ],
)
def test_units_take_the_value_of_their_slices(grouping: str, slices: list[str], expected: str) -> None:
    """What their slices share, `several` where they differ."""
    names = np.array(["p"] * 3)
    assert [expected] == value_units(grouping, np.array(slices), names, np.array([0])).tolist()


def test_units_are_valued_whatever_the_order_of_slices() -> None:
    """Slices of patients may be mixed."""
    names = np.array(list("baab"))
    _, first = np.unique(names, return_index=True)
    assert value_units("site", np.array(["x", "y", "y", "x"]), names, first).tolist() == ["y", "x"]


def test_list_is_empty_without_groupings() -> None:
    """Nothing known, nothing told apart."""
    cases = make_cases({})
    units = cases.at_level("slice")
    assert units is not None
    assert list(list_subgroups(cases, "slice", units)) == []
