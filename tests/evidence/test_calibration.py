"""Claims about calibration: it mends what it can, on left-out patients, and leaves ranks alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, softmax
from sklearn.metrics import roc_auc_score

from bcdx.evidence.calibration import (
    Calibration,
    Calibrator,
    LevelCalibration,
    fit_calibrator,
    log_loss,
    read_calibration,
    to_logit,
)

Sample = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.str_]]


def draw(slope: float, intercept: float, *, count: int = 4000, seed: int = 0) -> Sample:
    """Scores whose true logit is slope * logit + intercept, two to a patient."""
    generator = np.random.default_rng(seed)
    logits = 2.0 * generator.standard_normal(count)
    labels = (generator.random(count) < expit(slope * logits + intercept)).astype(np.int64)
    scores = expit(logits)
    return np.stack([1 - scores, scores], axis=1), labels, np.array([f"p{index // 2}" for index in range(count)])


@pytest.mark.parametrize(
    ("slope", "intercept"),
    [(0.4, 0.0), (2.0, 0.0), (0.5, -1.0), (1.0, 0.0)],
)
def test_calibrator_finds_the_truth(slope: float, intercept: float) -> None:
    """Slope and intercept of the world that the scores came from, within sampling error."""
    scores, labels, patients = draw(slope, intercept)
    actual = fit_calibrator(scores, labels, patients, positive=1)
    assert actual.slope == pytest.approx(slope, rel=0.15)
    assert actual.intercept == pytest.approx(intercept, abs=0.15)


def test_calibrator_predicts_new_patients_better() -> None:
    """Overconfident scores have a lower log loss afterwards, on patients who took no part."""
    calibrator = fit_calibrator(*draw(0.4, -0.5), positive=1)
    scores, labels, _ = draw(0.4, -0.5, seed=1)
    assert log_loss(calibrator.apply(scores, 1), labels) < log_loss(scores, labels) - 0.05


@pytest.mark.parametrize("positive", [0, 1])
def test_calibrator_leaves_ranks_alone(positive: int) -> None:
    """ROC AUC is the same before and after, whichever class is looked for; rows add up to 1."""
    scores, labels, patients = draw(0.5, -1.0, count=400)
    found = fit_calibrator(scores, labels, patients, positive=positive).apply(scores, positive)
    assert roc_auc_score(labels, scores[:, 1]) == pytest.approx(roc_auc_score(labels, found[:, 1]))
    assert found.sum(axis=1) == pytest.approx(np.ones(400))


def test_calibrator_scales_three_classes_by_temperature() -> None:
    """Scores of three classes that are too sure become less so."""
    generator = np.random.default_rng(0)
    logits = 3.0 * generator.standard_normal((3000, 3))
    labels = np.array([generator.choice(3, p=softmax(0.4 * row)) for row in logits])
    patients = np.array([f"p{index}" for index in range(3000)])
    actual = fit_calibrator(softmax(logits, axis=1), labels, patients, positive=2)
    assert (actual.method, actual.intercept) == ("temperature", 0.0)
    assert actual.slope == pytest.approx(0.4, rel=0.1)


def test_calibrator_of_separated_classes_stays_finite() -> None:
    """Where validation is perfectly told apart, nobody becomes certain."""
    scores = np.r_[np.full(20, 0.4), np.full(20, 0.6)]
    labels, patients = np.arange(40) // 20, np.array([f"p{index}" for index in range(40)])
    found = fit_calibrator(np.stack([1 - scores, scores], axis=1), labels, patients, positive=1)
    assert 0.5 < found.apply(np.array([[0.4, 0.6]]), 1)[0, 1] < 1.0


def test_calibrator_of_too_few_units_does_nothing_and_says_why() -> None:
    """Four units of a class tell nothing of a probability."""
    scores, labels, patients = draw(0.4, 0.0, count=30)
    labels = np.where(np.arange(30) < 4, 1, 0)
    actual = fit_calibrator(scores, labels, patients, positive=1)
    assert actual.method == "none"
    assert "too few" in actual.reason
    assert actual.apply(scores, 1) is scores


def test_calibration_survives_json() -> None:
    """What a run has written is what `diagnose` reads."""
    one = LevelCalibration(Calibrator("platt", 0.5, -1.0, 80), {"youden": 0.4, "specificity_98": None})
    expected = Calibration(3, 8, {"slice": one})
    assert expected == read_calibration(json.loads(json.dumps(expected.to_json())))


def test_logit_of_certainty_is_finite() -> None:
    """A score of 1 may be wrong; it must not become infinity."""
    assert np.isfinite(to_logit(np.array([0.0, 1.0]))).all()


@pytest.mark.parametrize("seed", range(4))
def test_calibrator_of_scores_that_rank_by_chance_keeps_ranks(seed: int) -> None:
    """A slope of 0 would give everybody the same probability; it is pulled towards 1 and only tempers them."""
    scores, labels, patients = draw(-0.3, 0.0, count=200, seed=seed)
    actual = fit_calibrator(scores, labels, patients, positive=1)
    assert 0.02 < actual.slope < 0.7
    assert roc_auc_score(labels, scores[:, 1]) == pytest.approx(roc_auc_score(labels, actual.apply(scores, 1)[:, 1]))


def test_calibrator_of_scores_that_hardly_differ_makes_nobody_certain() -> None:
    """Told apart in the seventh digit: that is not stretched to near 0 and 1."""
    scores = 0.5 + 1e-7 * np.r_[np.full(20, -1), np.full(20, 1)]
    labels, patients = np.arange(40) // 20, np.array([f"p{index}" for index in range(40)])
    both = np.stack([1 - scores, scores], axis=1)
    actual = fit_calibrator(both, labels, patients, positive=1)
    assert actual.apply(both, 1) == pytest.approx(np.full((40, 2), 0.5), abs=0.1)


def test_calibrator_keeps_small_scores_apart() -> None:
    """Scores of 1e-9 and 1e-8 stay two scores."""
    found = Calibrator("platt", 0.5, 0.1).apply(np.array([[1 - 1e-9, 1e-9], [1 - 1e-8, 1e-8]]), 1)
    assert found[0, 1] < found[1, 1]


def test_calibrator_of_three_separated_classes_stays_finite() -> None:
    """Nobody becomes certain of three classes either."""
    labels, patients = np.arange(60) % 3, np.array([f"p{index}" for index in range(60)])
    scores = 0.2 + 0.4 * np.eye(3)[labels]
    found = fit_calibrator(scores, labels, patients, positive=2)
    assert found.method == "temperature"
    assert 0.8 < found.apply(scores, 2)[np.arange(60), labels].mean() < 0.97


def test_calibrator_says_how_many_of_its_units_were_positive() -> None:
    """Its probabilities hold where about as many are; also where nothing could be fitted."""
    scores, labels, patients = draw(0.5, -1.0, count=400)
    assert labels.mean() == pytest.approx(fit_calibrator(scores, labels, patients, positive=1).positive_share)
    few = fit_calibrator(scores[:4], np.array([0, 0, 0, 1]), patients[:4], positive=1)
    assert few.positive_share == pytest.approx(0.25)


def test_calibrator_does_not_depend_on_patients_codes() -> None:
    """Codes come from a private key; whoever has another key gets the same folds."""
    scores, labels, patients = draw(0.8, -0.3, count=100)
    renamed = np.array([f"q{999 - int(one[1:])}" for one in patients])
    assert fit_calibrator(scores, labels, patients, positive=1) == fit_calibrator(scores, labels, renamed, positive=1)


def test_calibration_of_an_older_version_is_read() -> None:
    """What it does not say is None."""
    content = Calibration(3, 8, {"slice": LevelCalibration(Calibrator("platt", 0.5, -1.0, 80))}).to_json()
    del content["levels"]["slice"]["calibrator"]["positive_share"]
    assert read_calibration(content).at_level("slice").calibrator == Calibrator("platt", 0.5, -1.0, 80)
