"""Claims about statistics: equal to their textbook, and a weight of 2 is a unit twice over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score, roc_curve

from bcdx.evidence.statistics import (
    Statistic,
    area,
    class_area,
    class_error,
    class_gap,
    class_precision,
    complement,
    evaluate_once,
    predictive_value,
    rank,
    roc_auc,
    sensitivity_at_specificity,
    share,
)

Columns = Callable[[Any], NDArray[np.float64]]
Split = Callable[[Any], tuple[NDArray[np.float64], NDArray[np.bool_]]]

TIED = st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=2, max_size=60)
"""(score in twelfths, positive): few distinct scores, so that ties are common."""
OF_CLASSES = [class_area, class_precision, class_error, class_gap]


def draw_rows(count: int = 60, classes: int = 2) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities and labels, all classes present."""
    return np.random.default_rng(0).dirichlet(np.ones(classes), count), np.arange(count) // 3 % classes


def measure(statistic: Callable[..., Statistic], scores: Any, labels: Any, positive: int) -> float:
    """The figure of units as they are."""
    return evaluate_once(statistic(scores, labels, positive), len(labels))


def find_sensitivity(scores: Any, positives: Any, wanted: float) -> float:
    """The sensitivity at a specificity of units as they are."""
    return evaluate_once(sensitivity_at_specificity(rank(scores, positives), wanted), len(scores))


@settings(deadline=None, max_examples=60)
@given(TIED)
def test_auc_equals_scikit_learn(as_two_classes: Columns, split_columns: Split, rows: list[tuple[int, bool]]) -> None:
    """Ties count half, as in scikit-learn."""
    scores, positives = split_columns(rows)
    expected = roc_auc_score(positives, scores)
    assert expected == pytest.approx(measure(class_area, as_two_classes(scores), positives.astype(int), 1), abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(TIED)
def test_average_precision_equals_scikit_learn(
    as_two_classes: Columns, split_columns: Split, rows: list[tuple[int, bool]]
) -> None:
    """Average precision of two classes is that of the positive one."""
    scores, positives = split_columns(rows)
    expected = average_precision_score(positives, scores)
    assert expected == pytest.approx(
        measure(class_precision, as_two_classes(scores), positives.astype(int), 1), abs=1e-12
    )


def test_auc_of_three_classes_is_macro_one_against_rest() -> None:
    """Each class against all others, and the plain mean over classes."""
    probabilities, labels = draw_rows(classes=3)
    expected = roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    assert expected == pytest.approx(measure(class_area, probabilities, labels, 2))


def test_average_precision_of_three_classes_is_macro() -> None:
    """Each class counts alike, however rare."""
    probabilities, labels = draw_rows(classes=3)
    expected = average_precision_score(np.eye(3)[labels], probabilities, average="macro")
    assert expected == pytest.approx(measure(class_precision, probabilities, labels, 2))


@pytest.mark.parametrize("statistic", [class_area, class_precision])
def test_ranking_metrics_of_a_missing_class_are_undefined(statistic: Any) -> None:
    """Two of three classes do not make a macro mean."""
    assert np.isnan(measure(statistic, np.full((4, 3), 1 / 3), np.array([0, 1, 0, 1]), 2))


def test_brier_of_two_classes_equals_scikit_learn() -> None:
    """The squared error of the positive class alone, between 0 and 1."""
    probabilities, labels = draw_rows()
    expected = brier_score_loss(labels, probabilities[:, 1])
    assert expected == pytest.approx(measure(class_error, probabilities, labels, 1))


def test_brier_of_three_classes_sums_over_classes() -> None:
    """A sure and right row costs 0, a sure and wrong one 2, an even one 2/3."""
    scores = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    assert measure(class_error, scores, np.array([0, 2, 1]), 2) == pytest.approx((0.0 + 2.0 + 2 / 3) / 3)


def test_calibration_error_weighs_bins_by_their_cases(as_two_classes: Columns) -> None:
    """Three cases at 0.85, two of them ill, and one healthy at 0.15: (3 x 0.183 + 1 x 0.15) / 4."""
    scores = as_two_classes([0.85, 0.85, 0.85, 0.15])
    expected = (3 * (0.85 - 2 / 3) + 0.15) / 4
    assert expected == pytest.approx(measure(class_gap, scores, np.array([1, 1, 0, 0]), 1))


def test_calibration_error_parts_confidences_at_tenths(as_two_classes: Columns) -> None:
    """Errors of opposite sign cancel within a tenth and not across its edge."""
    labels = np.array([1, 0])
    within = measure(class_gap, as_two_classes([0.52, 0.58]), labels, 1)
    across = measure(class_gap, as_two_classes([0.48, 0.52]), labels, 1)
    assert within == pytest.approx(abs(0.48 - 0.58) / 2)
    assert across == pytest.approx((0.52 + 0.52) / 2)


def test_calibration_error_keeps_certainty_in_the_last_bin(as_two_classes: Columns) -> None:
    """A probability of exactly 1 shares the bin of 0.95."""
    scores = as_two_classes([1.0, 0.95])
    assert measure(class_gap, scores, np.array([0, 1]), 1) == pytest.approx((1.0 - 0.05) / 2)


def test_calibration_error_of_three_classes_uses_the_top_class() -> None:
    """Confidence is the highest probability, a hit is that class being true."""
    scores = np.array([[0.7, 0.2, 0.1], [0.1, 0.15, 0.75]])
    assert measure(class_gap, scores, np.array([0, 1]), 2) == pytest.approx(abs(1 - 0.7 - 0.75) / 2)


@settings(deadline=None, max_examples=60)
@given(TIED, st.sampled_from([0.5, 0.9, 0.98]))
def test_sensitivity_at_specificity_is_the_best_point_of_the_roc(
    split_columns: Split, rows: list[tuple[int, bool]], wanted: float
) -> None:
    """No point of scikit-learn's ROC curve with that specificity has a higher sensitivity."""
    scores, positives = split_columns(rows)
    false_rate, true_rate, _ = roc_curve(positives, scores, drop_intermediate=False)
    expected = true_rate[1.0 - false_rate >= wanted - 1e-9].max()
    assert expected == pytest.approx(find_sensitivity(scores, positives, wanted))


@pytest.mark.parametrize(("negatives", "wanted"), [(10, 0.90), (50, 0.98), (100, 0.99)])
def test_sensitivity_at_specificity_spends_every_false_alarm_it_may(negatives: int, wanted: float) -> None:
    """One healthy case in 10, 50 or 100 may lie above the positive one; rounding does not forbid it."""
    scores = np.array([0.5, 0.9, *[0.1] * (negatives - 1)])
    positives = np.array([True] + [False] * negatives)
    assert find_sensitivity(scores, positives, wanted) == 1.0
    scores[2] = 0.8
    assert find_sensitivity(scores, positives, wanted) == 0.0


@settings(deadline=None, max_examples=60)
@given(TIED, st.integers(0, 2**32 - 1))
def test_weights_are_units_drawn_so_often(
    as_two_classes: Columns, split_columns: Split, rows: list[tuple[int, bool]], seed: int
) -> None:
    """Every statistic of weighted units is that of the units repeated; no weight takes a unit away."""
    scores, positives = split_columns(rows)
    weights = np.random.default_rng(seed).integers(0, 4, len(scores))
    often = np.repeat(np.arange(len(scores)), weights)
    assume(len(often) > 0)
    for statistic in OF_CLASSES:
        weighed = statistic(as_two_classes(scores), positives.astype(int), 1)(weights[None].astype(float))[0]
        expected = measure(statistic, as_two_classes(scores[often]), positives[often].astype(int), 1)
        assert expected == pytest.approx(weighed, abs=1e-12, nan_ok=True)
    for wanted in (0.5, 0.9):
        found = sensitivity_at_specificity(rank(scores, positives), wanted)(weights[None].astype(float))[0]
        expected = find_sensitivity(scores[often], positives[often], wanted)
        assert expected == pytest.approx(found, abs=1e-12, nan_ok=True)


def test_weights_of_many_resamples_do_not_mix() -> None:
    """Each row of weights gives what it gives alone."""
    scores, labels = draw_rows(classes=3)
    weights = np.random.default_rng(1).integers(0, 3, (5, 60)).astype(float)
    for statistic in OF_CLASSES:
        together = statistic(scores, labels, 2)(weights)
        expected = [statistic(scores, labels, 2)(row[None])[0] for row in weights]
        assert expected == pytest.approx(together.tolist(), nan_ok=True)


def test_roc_auc_is_the_area_of_units_as_they_are() -> None:
    """One call for who needs no resamples."""
    scores, labels = draw_rows()
    assert evaluate_once(area(rank(scores[:, 1], labels == 1)), 60) == roc_auc(scores, labels, 1)


def test_share_of_nothing_is_undefined() -> None:
    """No positive, no sensitivity."""
    blank = np.zeros(3, bool)
    assert np.isnan(evaluate_once(share(~blank, blank), 3))


def test_predictive_value_of_a_screening_test() -> None:
    """Sensitivity 3/4, specificity 4/5, prevalence 1 %: 0.0075 / (0.0075 + 0.198) of those called ill are so."""
    ill = np.array([True] * 4 + [False] * 5)
    called = np.array([True, True, True, False, True, False, False, False, False])
    sensitivity, specificity = share(called, ill), share(~called, ~ill)
    found = evaluate_once(predictive_value(sensitivity, complement(specificity), 0.01), 9)
    assert 0.0075 / (0.0075 + 0.198) == pytest.approx(found)
    healthy = evaluate_once(predictive_value(specificity, complement(sensitivity), 0.99), 9)
    assert 0.99 * 0.8 / (0.99 * 0.8 + 0.01 * 0.25) == pytest.approx(healthy)


@pytest.mark.parametrize("drawn", [0.2, 0.5])
def test_predictive_value_at_the_units_own_prevalence_is_their_precision(drawn: float) -> None:
    """With as many ill as among the units themselves, Bayes gives the share of those called positive who are ill."""
    generator = np.random.default_rng(0)
    ill, called = generator.random(200) < drawn, generator.random(200) < 0.4
    statistic = predictive_value(share(called, ill), share(called, ~ill), ill.mean())
    assert (called & ill).sum() / called.sum() == pytest.approx(evaluate_once(statistic, 200))
