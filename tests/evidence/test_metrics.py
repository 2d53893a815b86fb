"""Claims about metrics: equal to their textbook, never NaN, each at its level."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score, roc_curve

from bcdx.evidence.calibration import Calibration, LevelCalibration
from bcdx.evidence.cases import Cases
from bcdx.evidence.intervals import bootstrap_interval
from bcdx.evidence.metrics import (
    average_precision,
    brier,
    evaluate,
    expected_calibration_error,
    roc_auc,
    sensitivity_at,
)

METRICS = {
    "auc", "average_precision", "sensitivity", "specificity", "sensitivity_at_90_specificity",
    "sensitivity_at_98_specificity", "brier", "ece",
}  # fmt: skip
TIED = st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=2, max_size=60)
"""(score in twelfths, positive): few distinct scores, so that ties are common."""


def split_columns(rows: list[tuple[int, bool]]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores in [0, 1] and positives, both classes present."""
    scores, positives = (np.array(column) for column in zip(*rows, strict=True))
    assume(positives.any() and not positives.all())
    return scores / 12, positives


def as_two_classes(positives: Any) -> NDArray[np.float64]:
    """Rows of (negative, positive) probabilities."""
    return np.stack([1.0 - np.asarray(positives), np.asarray(positives)], axis=1)


def make_cases(
    scores: list[float], labels: list[int], *, patients: str | None = None, sides: str | None = None, top: int = 3
) -> Cases:
    """Two-class cases, a patient each unless letters say otherwise; sides by letter, `?` is unknown."""
    count = len(scores)
    names = list(patients) if patients else [f"p{index}" for index in range(count)]
    lateralities = ["unknown" if side == "?" else side for side in sides or "L" * count]
    return Cases(as_two_classes(scores), np.array(labels), np.array(names), np.array(lateralities), 1, top)


def make_random_cases(count: int = 60, classes: int = 2) -> Cases:
    """Cases of three slices a patient, all classes present."""
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(classes), count)
    labels = np.arange(count) // 3 % classes
    patients = np.array([f"p{index // 3:03d}" for index in range(count)])
    return Cases(probabilities, labels, patients, np.array(["L"] * count), classes - 1)


def measure(cases: Cases, threshold: float | None = 0.5, *, seed: int = 0) -> dict[str, dict[str, Any]]:
    """All metrics, one threshold for every level."""
    points = dict.fromkeys(("slice", "breast", "patient"), threshold)
    return evaluate(cases, fix_thresholds(points), resamples=60, seed=seed)


def fix_thresholds(points: Mapping[str, float | None]) -> Calibration:
    """Scores as they are, and one operating point a level."""
    levels = {level: LevelCalibration(operating_points={"youden": value}) for level, value in points.items()}
    return Calibration(3, 1, levels)


@settings(deadline=None)
@given(TIED)
def test_auc_equals_scikit_learn(rows: list[tuple[int, bool]]) -> None:
    """Ties count half, as in scikit-learn."""
    scores, positives = split_columns(rows)
    expected = roc_auc_score(positives, scores)
    assert expected == pytest.approx(roc_auc(as_two_classes(scores), positives.astype(int), 1), abs=1e-12)


@settings(deadline=None)
@given(TIED)
def test_average_precision_equals_scikit_learn(rows: list[tuple[int, bool]]) -> None:
    """Average precision of two classes is that of the positive one."""
    scores, positives = split_columns(rows)
    expected = average_precision_score(positives, scores)
    assert expected == pytest.approx(average_precision(as_two_classes(scores), positives.astype(int), 1), abs=1e-12)


def test_auc_of_three_classes_is_macro_one_against_rest() -> None:
    """Each class against all others, and the plain mean over classes."""
    cases = make_random_cases(classes=3)
    expected = roc_auc_score(cases.labels, cases.probabilities, multi_class="ovr", average="macro")
    assert expected == pytest.approx(roc_auc(cases.probabilities, cases.labels, cases.positive))


def test_average_precision_of_three_classes_is_macro() -> None:
    """Each class counts alike, however rare."""
    cases = make_random_cases(classes=3)
    expected = average_precision_score(np.eye(3)[cases.labels], cases.probabilities, average="macro")
    assert expected == pytest.approx(average_precision(cases.probabilities, cases.labels, cases.positive))


@pytest.mark.parametrize("statistic", [roc_auc, average_precision])
def test_ranking_metrics_of_a_missing_class_are_undefined(statistic: Any) -> None:
    """Two of three classes do not make a macro mean."""
    assert np.isnan(statistic(np.full((4, 3), 1 / 3), np.array([0, 1, 0, 1]), 2))


def test_metrics_follow_the_positive_class() -> None:
    """Class 0 as the positive one gives the figures of the same data with classes swapped."""
    cases = make_random_cases()
    swapped = Cases(cases.probabilities[:, ::-1], 1 - cases.labels, cases.patients, cases.lateralities, positive=0)
    assert measure(cases, 0.4) == measure(swapped, 0.4)


def test_brier_of_two_classes_equals_scikit_learn() -> None:
    """The squared error of the positive class alone, between 0 and 1."""
    cases = make_random_cases()
    expected = brier_score_loss(cases.labels, cases.probabilities[:, 1])
    assert expected == pytest.approx(brier(cases.probabilities, cases.labels, 1))


def test_brier_of_three_classes_sums_over_classes() -> None:
    """A sure and right row costs 0, a sure and wrong one 2, an even one 2/3."""
    scores = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    assert brier(scores, np.array([0, 2, 1]), 2) == pytest.approx((0.0 + 2.0 + 2 / 3) / 3)


def test_calibration_error_weighs_bins_by_their_cases() -> None:
    """Three cases at 0.85, two of them ill, and one healthy at 0.15: (3 x 0.183 + 1 x 0.15) / 4."""
    scores = as_two_classes([0.85, 0.85, 0.85, 0.15])
    expected = (3 * (0.85 - 2 / 3) + 0.15) / 4
    assert expected == pytest.approx(expected_calibration_error(scores, np.array([1, 1, 0, 0]), 1))


def test_calibration_error_parts_confidences_at_tenths() -> None:
    """Errors of opposite sign cancel within a tenth and not across its edge."""
    labels = np.array([1, 0])
    within = expected_calibration_error(as_two_classes([0.52, 0.58]), labels, 1)
    across = expected_calibration_error(as_two_classes([0.48, 0.52]), labels, 1)
    assert within == pytest.approx(abs(0.48 - 0.58) / 2)
    assert across == pytest.approx((0.52 + 0.52) / 2)


def test_calibration_error_keeps_certainty_in_the_last_bin() -> None:
    """A probability of exactly 1 shares the bin of 0.95."""
    scores = as_two_classes([1.0, 0.95])
    assert expected_calibration_error(scores, np.array([0, 1]), 1) == pytest.approx((1.0 - 0.05) / 2)


def test_calibration_error_of_three_classes_uses_the_top_class() -> None:
    """Confidence is the highest probability, a hit is that class being true."""
    scores = np.array([[0.7, 0.2, 0.1], [0.1, 0.15, 0.75]])
    assert expected_calibration_error(scores, np.array([0, 1]), 2) == pytest.approx(abs(1 - 0.7 - 0.75) / 2)


@settings(deadline=None)
@given(TIED, st.sampled_from([0.5, 0.9, 0.98]))
def test_sensitivity_at_specificity_is_the_best_point_of_the_roc(rows: list[tuple[int, bool]], wanted: float) -> None:
    """No point of scikit-learn's ROC curve with that specificity has a higher sensitivity."""
    scores, positives = split_columns(rows)
    false_rate, true_rate, _ = roc_curve(positives, scores, drop_intermediate=False)
    expected = true_rate[1.0 - false_rate >= wanted - 1e-9].max()
    assert expected == pytest.approx(sensitivity_at(scores, positives, wanted))


@pytest.mark.parametrize(("negatives", "wanted"), [(10, 0.90), (50, 0.98), (100, 0.99)])
def test_sensitivity_at_specificity_spends_every_false_alarm_it_may(negatives: int, wanted: float) -> None:
    """One healthy case in 10, 50 or 100 may lie above the positive one; rounding does not forbid it."""
    scores = np.array([0.5, 0.9, *[0.1] * (negatives - 1)])
    positives = np.array([True] + [False] * negatives)
    assert sensitivity_at(scores, positives, wanted) == 1.0
    scores[2] = 0.8
    assert sensitivity_at(scores, positives, wanted) == 0.0


def test_evaluate_gives_every_metric_at_every_level() -> None:
    """Each entry says its value, its interval and the units it rests on."""
    result = measure(make_random_cases())
    assert {"slice", "breast", "patient"} == set(result)
    for entries in result.values():
        assert set(entries) == METRICS
        assert all({"value", "low", "high", "n"} <= set(entry) for entry in entries.values())


def test_evaluate_counts_the_units_of_the_level() -> None:
    """Six slices of three breasts of two patients."""
    result = measure(make_cases([0.1, 0.2, 0.3, 0.4, 0.8, 0.9], [0, 0, 0, 0, 1, 1], patients="aaaabb", sides="LLRRLL"))
    assert {level: result[level]["auc"]["n"] for level in result} == {"slice": 6, "breast": 3, "patient": 2}


def test_evaluate_patient_figures_are_of_patients() -> None:
    """Slices in disorder within patients who are told apart: AUC 1 per patient, less per slice."""
    cases = make_cases([0.1, 0.3, 0.2, 0.9], [0, 0, 1, 1], patients="aabb", top=1)
    result = measure(cases)
    assert result["patient"]["auc"]["value"] == 1.0
    assert result["slice"]["auc"]["value"] == 0.75


def test_evaluate_uses_the_given_threshold() -> None:
    """A score at the threshold counts as positive."""
    result = measure(make_cases([0.2, 0.5, 0.7, 0.4, 0.5, 0.9], [0, 0, 0, 1, 1, 1]), 0.5)["slice"]
    assert result["sensitivity"]["value"] == pytest.approx(2 / 3)
    assert result["specificity"]["value"] == pytest.approx(1 / 3)


def test_evaluate_uses_each_levels_own_threshold() -> None:
    """Patients are judged by the patient threshold, slices by the slice threshold."""
    cases = make_cases([0.2, 0.6], [0, 1])
    result = evaluate(cases, fix_thresholds({"slice": 0.5, "patient": 0.7}), resamples=10)
    assert [result[level]["sensitivity"]["value"] for level in ("slice", "patient")] == [1.0, 0.0]
    assert result["breast"]["sensitivity"]["value"] is None


def test_evaluate_labels_operating_points_by_their_origin() -> None:
    """A reader can tell a threshold chosen on validation from one read off the evaluated split."""
    result = measure(make_random_cases())["slice"]
    points = {name: entry.get("operating_point", "") for name, entry in result.items()}
    assert {name for name, text in points.items() if "validation" in text} == {"sensitivity", "specificity"}
    assert {name for name, text in points.items() if "this split's own ROC" in text} == {
        "sensitivity_at_90_specificity",
        "sensitivity_at_98_specificity",
    }


def test_evaluate_intervals_resample_whole_patients() -> None:
    """The interval beside a figure is the patient bootstrap of that very figure."""
    cases = make_random_cases()
    entry = measure(cases, seed=3)["slice"]["brier"]
    low, high, used = bootstrap_interval(
        lambda scores, labels: brier(scores, labels, 1),
        cases.probabilities,
        cases.labels,
        cases.patients,
        resamples=60,
        seed=3,
    )
    assert [low, high, used] == [entry["low"], entry["high"], entry["resamples"]]


def test_evaluate_breasts_of_one_patient_move_together() -> None:
    """Two like breasts a patient narrow no interval: it is that of one breast a patient."""
    scores, labels = [0.1, 0.3, 0.7, 0.2, 0.6, 0.9], [0, 0, 0, 1, 1, 1]
    one = make_cases(scores, labels, patients="abcdef", sides="LLLLLL")
    both = make_cases(scores * 2, labels * 2, patients="abcdef" * 2, sides="LLLLLLRRRRRR")
    first, second = measure(one)["breast"]["auc"], measure(both)["breast"]["auc"]
    assert [first["n"], second["n"]] == [6, 12]
    assert [first["low"], first["high"]] == pytest.approx([second["low"], second["high"]])


def test_evaluate_says_the_same_twice() -> None:
    """The same seed gives the same intervals, another seed others."""
    cases = make_random_cases()
    assert measure(cases, seed=1) == measure(cases, seed=1)
    assert measure(cases, seed=1)["slice"]["brier"] != measure(cases, seed=2)["slice"]["brier"]


def test_evaluate_patients_who_are_all_ill_have_no_patient_auc() -> None:
    """Patient AUC is null with a reason, while slices, told apart within patients, have theirs."""
    cases = make_cases([0.1, 0.9, 0.2, 0.8, 0.4, 0.6], [0, 1, 0, 1, 0, 1], patients="aabbcc")
    result = measure(cases)
    expected = {"value": None, "low": None, "high": None, "n": 3, "reason": "only 1 of 2 classes at this level"}
    assert expected == result["patient"]["auc"]
    assert result["patient"]["specificity"]["value"] is None
    assert result["patient"]["sensitivity"]["value"] == 1.0
    assert result["slice"]["auc"]["value"] == 1.0


def test_evaluate_unknown_sides_leave_breasts_undefined() -> None:
    """Every metric of breasts is null and says why; patients are unharmed."""
    result = measure(make_cases([0.1, 0.9, 0.2, 0.8], [0, 1, 0, 1], sides="LR?L"))
    reasons = {entry["reason"] for entry in result["breast"].values() if entry["value"] is None}
    assert reasons == {"laterality of some slices is unknown"}
    assert {name for name, entry in result["breast"].items() if entry["value"] is None} == METRICS
    assert result["patient"]["auc"]["value"] == 1.0


def test_evaluate_without_threshold_says_so() -> None:
    """Sensitivity and specificity need a threshold from validation; the others do not."""
    result = measure(make_cases([0.1, 0.9, 0.2, 0.8], [0, 1, 0, 1]), None)["slice"]
    missing = {name: entry["reason"] for name, entry in result.items() if entry["value"] is None}
    assert missing == dict.fromkeys(("sensitivity", "specificity"), "no threshold could be chosen on validation")


def test_evaluate_three_classes_have_no_sensitivity() -> None:
    """What two classes alone define is null with that reason; the other figures are there."""
    result = measure(make_random_cases(classes=3), None)["slice"]
    missing = {name: entry["reason"] for name, entry in result.items() if entry["value"] is None}
    assert METRICS - {"auc", "average_precision", "brier", "ece"} == set(missing)
    assert set(missing.values()) == {"defined for two classes only"}


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1], [0, 1, 1]])
@pytest.mark.parametrize("threshold", [None, 0.5])
@pytest.mark.parametrize("sides", ["LRL", "L?R"])
def test_evaluate_is_always_valid_json(labels: list[int], threshold: float | None, sides: str) -> None:
    """However little there is to measure, nothing is NaN, and what is null has a reason."""
    result = measure(make_cases([0.1, 0.5, 0.9], labels, sides=sides), threshold)
    assert result == json.loads(json.dumps(result, allow_nan=False))
    for entry in (entry for entries in result.values() for entry in entries.values()):
        assert (entry["value"] is None) == ("reason" in entry)
