"""Claims about two runs on the same cases: their difference is that of R's pROC, and other cases are refused."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bcdx.errors import RunError
from bcdx.evidence.cases import Cases
from bcdx.evidence.comparison import DELONG, OBUCHOWSKI, PAIRED_BOOTSTRAP, SAME_VERDICTS, compare_runs

RESOURCES = Path(__file__).parents[1] / "resources"


def read_pair(name: str) -> tuple[Cases, Cases]:
    """Two runs on one set of made-up cases; a patient's sides are taken in turn."""
    rows = [row for row in csv.DictReader((RESOURCES / "auc_cases.csv").open()) if row["set"] == name]
    labels, patients = (np.array([row[key] for row in rows]) for key in ("positive", "patient"))
    sides = np.array(["L"] * len(rows))
    scores = [1 / (1 + np.exp(-np.array([float(row[key]) for row in rows]))) for key in ("first", "second")]
    first, second = (Cases(np.stack([1 - one, one], 1), labels.astype(int), patients, sides, 1, 1) for one in scores)
    return first, second


@pytest.mark.parametrize(
    ("name", "level", "row", "method"),
    [
        ("single", "patient", "delong", DELONG),
        ("tied", "patient", "delong", DELONG),
        ("whole", "slice", "obuchowski", OBUCHOWSKI),
        ("mixed", "slice", "obuchowski", OBUCHOWSKI),
    ],
)
def test_comparison_agrees_with_r(name: str, level: str, row: str, method: str) -> None:
    """Difference, interval and p value: DeLong's of patients, Obuchowski's of slices."""
    rows = csv.DictReader((RESOURCES / "auc_reference.csv").open())
    wanted = next(one for one in rows if (one["set"], one["method"]) == (name, row))
    numbers = {key: float(value) for key, value in wanted.items() if key not in {"set", "method"}}
    value = numbers["auc_first"] - numbers["auc_second"]
    spread = np.sqrt(numbers["variance_first"] + numbers["variance_second"] - 2 * numbers["covariance"])
    found = compare_runs(*read_pair(name))[level]
    expected = [value, value - 1.959964 * spread, value + 1.959964 * spread, numbers["p_value"]]
    assert expected == pytest.approx([found[key] for key in ("value", "low", "high", "p_value")], abs=1e-6)
    assert found["method"] == method


def test_comparison_is_first_minus_second() -> None:
    """Swapping the runs turns every sign and leaves p."""
    first, second = read_pair("mixed")
    ours, theirs = compare_runs(first, second)["slice"], compare_runs(second, first)["slice"]
    assert ours["first"] - ours["second"] == pytest.approx(ours["value"])
    assert [-ours["value"], -ours["high"], -ours["low"]] == pytest.approx(
        [theirs["value"], theirs["low"], theirs["high"]]
    )
    assert ours["p_value"] == pytest.approx(theirs["p_value"])


def test_comparison_of_a_run_with_itself_is_nothing() -> None:
    """Difference 0, p 1."""
    first, _ = read_pair("mixed")
    found = compare_runs(first, first)["slice"]
    assert [0.0, 0.0, 0.0, 1.0] == [found[key] for key in ("value", "low", "high", "p_value")]


def test_comparison_of_three_classes_resamples_patients() -> None:
    """The macro mean has an interval and no p value."""
    generator = np.random.default_rng(0)
    labels, patients = np.arange(60) % 3, np.array([f"p{index // 2}" for index in range(60)])
    good, bad = np.eye(3)[labels] * 0.5 + generator.dirichlet(np.ones(3), 60) / 2, generator.dirichlet(np.ones(3), 60)
    runs = [Cases(scores, labels, patients, np.array(["L"] * 60), 2) for scores in (good, bad)]
    found = compare_runs(runs[0], runs[1], resamples=100)["slice"]
    assert found["method"] == PAIRED_BOOTSTRAP
    assert 0.0 < found["low"] < found["value"] < found["high"]
    assert found["p_value"] is None


def test_comparison_where_there_is_nothing_to_compare_is_valid_json() -> None:
    """Unknown sides and patients of one class are null with a reason."""
    scores = np.array([[0.9, 0.1], [0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
    cases = Cases(scores, np.array([0, 1, 0, 1]), np.array(list("aabb")), np.array(["L", "L", "R", "unknown"]), 1)
    found = compare_runs(cases, cases)
    assert found == json.loads(json.dumps(found, allow_nan=False))
    assert [found[level]["value"] for level in ("breast", "patient")] == [None, None]
    assert found["patient"]["reason"] == "only 1 of 2 classes at this level"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": np.array([1, 0, 0])}, "labels of sample 0 differ"),
        ({"patients": np.array(["a", "b", "d"])}, "patients of sample 2 differ"),
        ({"positive": 0}, "class 1 of 2 and class 0 of 2"),
    ],
)
def test_comparison_refuses_other_cases(change: dict[str, Any], words: str) -> None:
    """What differs is said: another label, patient or question."""
    scores = np.array([[0.9, 0.1], [0.1, 0.9], [0.8, 0.2]])
    cases = Cases(scores, np.array([0, 1, 0]), np.array(list("abc")), np.array(["L"] * 3), 1)
    with pytest.raises(RunError, match=words):
        compare_runs(cases, dataclasses.replace(cases, **change))


def test_comparison_refuses_another_number_of_cases() -> None:
    """Both numbers are said."""
    first, second = read_pair("single")[0], read_pair("tied")[0]
    with pytest.raises(RunError, match="60 and 50"):
        compare_runs(first, second)


def test_comparison_of_two_perfect_runs_claims_no_certainty() -> None:
    """Both part the classes, by other rankings: difference 0, and no interval of width 0 with p 1."""
    labels, patients, sides = np.arange(20) // 10, np.array([f"p{one:02d}" for one in range(20)]), np.array(["L"] * 20)
    generator = np.random.default_rng(0)
    scores = [labels / 2.0 + 0.4 * generator.random(20) for _ in range(2)]
    first, second = (Cases(np.stack([1 - one, one], 1), labels, patients, sides, 1, 1) for one in scores)
    found = compare_runs(first, second)["patient"]
    assert [0.0, None, None, None] == [found[key] for key in ("value", "low", "high", "p_value")]
    assert found["method"] == f"no interval: {SAME_VERDICTS}"
    alike = compare_runs(first, first)["patient"]
    assert [0.0, 0.0, 0.0, 1.0] == [alike[key] for key in ("value", "low", "high", "p_value")]
