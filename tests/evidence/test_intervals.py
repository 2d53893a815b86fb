"""Claims about intervals: whole patients are drawn, and a patient's many images buy no false certainty."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcdx.evidence import intervals
from bcdx.evidence.intervals import (
    bootstrap,
    bootstrap_interval,
    paired_difference,
    percentile_interval,
    resample_patients,
)
from bcdx.evidence.statistics import class_area, class_error, roc_auc
from bcdx.evidence.statistics import mean_of as mean_statistic


def mean_of(scores: Any, labels: Any) -> float:
    """A statistic that is always defined and needs no labels."""
    return float(scores.mean())


def binary_auc(scores: Any, labels: Any) -> float:
    """ROC AUC of scores of shape (cases, 2)."""
    return roc_auc(scores, labels, 1)


def as_two_classes(positives: Any) -> Any:
    """Rows of (negative, positive) probabilities."""
    return np.stack([1.0 - positives, positives], axis=1)


@settings(deadline=None)
@given(st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=40))
def test_resample_draws_whole_patients(names: list[str]) -> None:
    """As many patients as there are, each as often as drawn with every one of its images."""
    patients = np.array(names)
    for drawn in resample_patients(patients, resamples=5, seed=0):
        times = Counter(drawn.tolist())
        draws = {name: {times[index] for index in np.flatnonzero(patients == name)} for name in set(names)}
        assert all(len(found) == 1 for found in draws.values())
        assert len(set(names)) == sum(found.pop() for found in draws.values())


def test_resample_is_seeded() -> None:
    """The same seed draws the same, another seed something else."""
    patients = np.array(list("aabbccddeeff"))

    def draw(seed: int) -> list[list[int]]:
        return [drawn.tolist() for drawn in resample_patients(patients, resamples=4, seed=seed)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_interval_of_a_mean_is_the_textbooks() -> None:
    """With an image each, the mean's interval is 2 x 1.96 standard errors wide and centred on it."""
    scores = np.random.default_rng(0).normal(size=400)
    low, high, used = bootstrap_interval(mean_of, scores, np.zeros(400, int), np.arange(400).astype(str))
    assert low is not None
    assert high is not None
    assert high - low == pytest.approx(2 * 1.96 * scores.std() / np.sqrt(400), rel=0.07)
    assert (low + high) / 2 == pytest.approx(scores.mean(), abs=0.01)
    assert used == 2000


def test_interval_is_not_narrowed_by_copies_of_images() -> None:
    """Every image ten times over gives the interval of the images alone."""
    scores = np.random.default_rng(0).random(30)
    patients = np.array([f"p{index:02d}" for index in range(30)])
    once = bootstrap_interval(mean_of, scores, np.zeros(30, int), patients, resamples=200)
    often = bootstrap_interval(
        mean_of, np.repeat(scores, 10), np.zeros(300, int), np.repeat(patients, 10), resamples=200
    )
    assert once == pytest.approx(often)


def test_interval_covers_the_truth_where_images_taken_for_patients_would_not() -> None:
    """With ten like images of 40 patients about 93 % of intervals cover the truth; images as patients: under 60 %."""
    generator = np.random.default_rng(0)
    patients, images = np.repeat(np.arange(40), 10).astype(str), np.arange(400).astype(str)
    studies, covered = 400, Counter[str]()
    for study in range(studies):
        scores = np.repeat(generator.normal(size=40), 10) + 0.1 * generator.normal(size=400)
        for name, units in (("patients", patients), ("images", images)):
            drawn = bootstrap({"mean": mean_statistic(scores)}, units, resamples=200, seed=study)
            low, high, _ = percentile_interval(drawn["mean"])
            covered[name] += low is not None and high is not None and low <= 0.0 <= high
    # 200 resamples of 40 patients fall a little short of 95 %; three standard errors on either side of 93 %
    assert covered["patients"] / studies == pytest.approx(0.93, abs=3 * np.sqrt(0.93 * 0.07 / studies))
    assert covered["images"] / studies < 0.6


def test_interval_leaves_out_undefined_resamples_and_counts_the_rest() -> None:
    """With one ill patient of six, resamples without that patient have no AUC."""
    patients, labels = np.array(list("abcdef")), np.array([1, 0, 0, 0, 0, 0])
    scores = as_two_classes(np.array([0.5, 0.1, 0.2, 0.6, 0.3, 0.4]))
    expected = sum(0 < labels[drawn].sum() < len(drawn) for drawn in resample_patients(patients, resamples=500, seed=0))
    low, high, used = bootstrap_interval(binary_auc, scores, labels, patients, resamples=500)
    assert expected == used
    assert used < 500
    assert low is not None
    assert high is not None
    assert 0.0 <= low < high <= 1.0


def test_interval_is_missing_where_most_resamples_are_undefined() -> None:
    """Three patients of three classes are rarely all drawn: no interval rather than one of a few lucky draws."""
    scores = np.eye(3)
    low, high, used = bootstrap_interval(
        lambda scores, labels: roc_auc(scores, labels, 2), scores, np.arange(3), np.array(list("abc")), resamples=300
    )
    assert (low, high) == (None, None)
    assert 0 < used < 150


def test_bootstrap_weighs_the_resamples_that_are_drawn() -> None:
    """Weights give, resample by resample, what the drawn cases themselves give; of unequal patients too."""
    generator = np.random.default_rng(0)
    scores, labels = as_two_classes(generator.random(40)), generator.integers(0, 2, 40)
    patients = np.array([f"p{index}" for index in generator.integers(0, 9, 40)])
    drawn = bootstrap({"auc": class_area(scores, labels, 1)}, patients, resamples=50, seed=7)["auc"]
    expected = [roc_auc(scores[one], labels[one], 1) for one in resample_patients(patients, resamples=50, seed=7)]
    assert expected == pytest.approx(drawn.tolist(), nan_ok=True)


def test_bootstrap_gives_all_statistics_the_same_resamples() -> None:
    """A statistic's values do not depend on what else is asked, nor on how many are held at a time."""
    generator = np.random.default_rng(0)
    scores, labels, patients = as_two_classes(generator.random(30)), np.arange(30) % 2, np.arange(30).astype(str)
    alone = bootstrap({"auc": class_area(scores, labels, 1)}, patients, resamples=40, seed=1)
    both = {"brier": class_error(scores, labels, 1), "auc": class_area(scores, labels, 1)}
    together = bootstrap(both, patients, resamples=40, seed=1)
    assert alone["auc"].tolist() == together["auc"].tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intervals, "CHUNK", 70)
        assert together["brier"].tolist() == pytest.approx(bootstrap(both, patients, resamples=40, seed=1)["brier"])


def test_difference_of_a_model_from_itself_is_nothing() -> None:
    """Pairing removes what both share."""
    scores = as_two_classes(np.random.default_rng(0).random(40))
    labels, patients = np.arange(40) % 2, (np.arange(40) // 2).astype(str)
    assert paired_difference(binary_auc, (scores, scores), labels, patients, resamples=100) == (0.0, 0.0, 0.0)


def test_difference_is_first_minus_second() -> None:
    """The value is the difference of the statistics, and swapping the models turns every sign."""
    generator = np.random.default_rng(0)
    labels, patients = np.arange(60) % 2, (np.arange(60) // 2).astype(str)
    good = as_two_classes(np.clip(0.5 * labels + 0.6 * generator.random(60), 0, 1))
    bad = as_two_classes(generator.random(60))
    value, low, high = paired_difference(binary_auc, (good, bad), labels, patients, resamples=200)
    assert binary_auc(good, labels) - binary_auc(bad, labels) == pytest.approx(value)
    assert 0.0 < low < value < high
    swapped = paired_difference(binary_auc, (bad, good), labels, patients, resamples=200)
    assert [-value, -high, -low] == pytest.approx(list(swapped))


def test_difference_is_surer_than_its_parts() -> None:
    """Two models that err on the same patients are compared more sharply than each is measured."""
    generator = np.random.default_rng(0)
    labels, patients = np.arange(80) % 2, np.arange(80).astype(str)
    shared = 0.3 * labels + 0.6 * generator.random(80)
    first, second = (as_two_classes(shared + 0.02 * generator.random(80)) for _ in range(2))
    _, low, high = paired_difference(binary_auc, (first, second), labels, patients, resamples=300)
    alone_low, alone_high, _ = bootstrap_interval(binary_auc, first, labels, patients, resamples=300)
    assert alone_low is not None
    assert alone_high is not None
    assert high - low < (alone_high - alone_low) / 2
