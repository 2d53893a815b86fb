"""Claims about operating points: chosen on validation, per level, halfway between scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bcdx.evidence.cases import Cases
from bcdx.evidence.operating import (
    calibrate,
    call_classes,
    choose_operating_points,
    sensitive_threshold,
    specific_threshold,
    youden_threshold,
)

MakeCases = Callable[..., Cases]
Split = Callable[[Any], tuple[NDArray[np.float64], NDArray[np.bool_]]]

TIED = st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=2, max_size=60)
"""(score in twelfths, positive): few distinct scores, so that ties are common."""


def youden_of(cases: Cases) -> dict[str, float | None]:
    """The Youden threshold of each level."""
    return {name: one.operating_points["youden"] for name, one in calibrate(cases, test_views=1).levels.items()}


@settings(deadline=None)
@given(TIED)
def test_youden_threshold_is_the_best_of_all(split_columns: Split, rows: list[tuple[int, bool]]) -> None:
    """No other threshold has a higher sensitivity + specificity on the same cases."""
    scores, positives = split_columns(rows)

    def balance(threshold: float) -> float:
        called = scores >= threshold
        return float(called[positives].mean() + (~called[~positives]).mean())

    threshold = youden_threshold(scores, positives)
    assert threshold is not None
    best = max(balance(value) for value in (*scores, 2.0))
    assume(best > 1.0 + 1e-9)
    assert best == pytest.approx(balance(threshold))


def test_youden_threshold_lies_halfway_in_the_gap() -> None:
    """New cases have as much room on either side."""
    actual = youden_threshold(np.array([0.1, 0.2, 0.6, 0.9]), np.array([False, False, True, True]))
    assert actual == pytest.approx(0.4)


@pytest.mark.parametrize("positive", [True, False])
def test_youden_threshold_of_one_class_is_undefined(positive: bool) -> None:
    """There is nothing to tell apart."""
    assert youden_threshold(np.array([0.2, 0.8]), np.array([positive, positive])) is None


@pytest.mark.parametrize(("top", "patient"), [(1, (0.6 + 1.0) / 2), (2, (0.5 + 0.9) / 2), (3, (0.4 + 0.7) / 2)])
def test_thresholds_are_chosen_per_level(make_cases: MakeCases, top: int, patient: float) -> None:
    """Patients' highest slices, averaged as the settings say, part elsewhere than single slices do."""
    cases = make_cases([0.2, 0.4, 0.6, 0.3, 0.8, 1.0], [0, 0, 0, 0, 1, 1], patients="aaabbb", top=top)
    actual = youden_of(cases)
    assert actual["slice"] == pytest.approx(0.7)
    assert actual["patient"] == pytest.approx(patient)


def test_thresholds_undefined_levels_have_none(make_cases: MakeCases) -> None:
    """Without sides there is no breast threshold, and patients who are all ill have none either."""
    cases = make_cases([0.2, 0.4, 0.6, 1.0], [0, 1, 0, 1], patients="aabb", sides="LRL?")
    actual = youden_of(cases)
    assert {level: value is None for level, value in actual.items()} == {
        "slice": False,
        "breast": True,
        "patient": True,
    }


def test_thresholds_of_three_classes_are_undefined(make_random_cases: MakeCases) -> None:
    """One threshold cannot part three classes."""
    assert set(youden_of(make_random_cases(classes=3)).values()) == {None}


@settings(deadline=None)
@given(TIED, st.floats(0.5, 1.0))
def test_operating_points_hold_what_they_promise(
    split_columns: Split, rows: list[tuple[int, bool]], share: float
) -> None:
    """On the cases that they were chosen on, at least as much as was asked."""
    scores, positives = split_columns(rows)
    called = scores >= specific_threshold(scores, positives, share)
    assert (~called[~positives]).mean() >= share - 1e-9
    called = scores >= sensitive_threshold(scores, positives, share)
    assert called[positives].mean() >= share - 1e-9


def test_operating_points_of_one_class_are_undefined() -> None:
    """There is nothing to tell apart."""
    found = choose_operating_points(np.array([0.2, 0.8]), np.array([True, True]))
    assert set(found.values()) == {None}
    assert len(found) == 5


@pytest.mark.parametrize(("threshold", "expected"), [(None, [1, 0]), (0.65, [0, 0]), (0.4, [1, 1])])
def test_call_classes_uses_the_threshold_or_the_most_probable(threshold: float | None, expected: list[int]) -> None:
    """A threshold says what is positive; where there is none, the most probable class is called."""
    probabilities = np.array([[0.4, 0.6], [0.55, 0.45]])
    assert expected == call_classes(probabilities, threshold, 1).tolist()


def test_call_classes_of_several_is_the_most_probable() -> None:
    """A threshold on one of three classes says nothing of the other two."""
    assert [2] == call_classes(np.array([[0.3, 0.3, 0.4]]), 0.1, 0).tolist()


def test_calibrate_does_not_depend_on_patients_codes(make_random_cases: MakeCases) -> None:
    """Whoever has another private key gets the same calibrators and thresholds."""
    cases = make_random_cases()
    renamed = np.array([f"q{999 - int(one[1:])}" for one in cases.patients])
    assert calibrate(cases, test_views=1) == calibrate(dataclasses.replace(cases, patients=renamed), test_views=1)
