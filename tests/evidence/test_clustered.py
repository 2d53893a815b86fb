"""Claims about AUC in clusters: pROC's and the method's author's figures to 1e-6, and bounds where the logit fails."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import logit
from scipy.stats import norm
from scipy.stats import t as student

from bcdx.evidence.clustered import EXACT, FEW, FLAT, LOGIT, ClusteredAuc, compare_aucs, find_interval, measure_auc

RESOURCES = Path(__file__).parents[1] / "resources"
ROWS = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8), st.booleans(), st.sampled_from("abcde")), min_size=4)
"""(score, other score, positive, patient): ties, and patients with both classes."""


def interval_of(found: ClusteredAuc) -> tuple[float | None, float | None, str]:
    """The interval of the first test."""
    return find_interval(found.values[0], found.covariance[0, 0], pairs=found.pairs, freedom=found.freedom)


def read_cases(name: str) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.str_]]:
    """Scores of two tests, positives and patients of one set of made-up cases."""
    rows = [row for row in csv.DictReader((RESOURCES / "auc_cases.csv").open()) if row["set"] == name]
    scores = np.array([[float(row["first"]), float(row["second"])] for row in rows])
    return scores, np.array([row["positive"] == "1" for row in rows]), np.array([row["patient"] for row in rows])


@pytest.mark.parametrize("name", ["single", "tied", "whole", "mixed"])
@pytest.mark.parametrize("method", ["delong", "obuchowski"])
def test_measure_agrees_with_r(name: str, method: str) -> None:
    """AUCs, variances, covariance and p value; DeLong's are those of every unit a patient of its own."""
    rows = csv.DictReader((RESOURCES / "auc_reference.csv").open())
    wanted = next(row for row in rows if row["set"] == name and row["method"] == method)
    scores, positives, patients = read_cases(name)
    units = patients if method == "obuchowski" else np.arange(len(scores)).astype(str)
    found = measure_auc(scores, positives, units)
    first, second, covariance = (float(wanted[key]) for key in ("variance_first", "variance_second", "covariance"))
    assert [float(wanted["auc_first"]), float(wanted["auc_second"])] == pytest.approx(found.values.tolist(), abs=1e-6)
    expected = np.array([[first, covariance], [covariance, second]])
    assert np.abs(expected - found.covariance).max() < 1e-12
    assert float(wanted["p_value"]) == pytest.approx(compare_aucs(found)[2], abs=1e-6)


def sum_pairs(scores: NDArray[np.float64], positives: NDArray[np.bool_], patients: NDArray[np.str_]) -> float:
    """Obuchowski's variance as the paper writes it: sums over patients of sums over pairs."""
    above = [(patients[i], scores[i]) for i in np.flatnonzero(positives)]
    below = [(patients[i], scores[i]) for i in np.flatnonzero(~positives)]
    won = {(i, j): float(x > y) + (x == y) / 2 for i, (_, x) in enumerate(above) for j, (_, y) in enumerate(below)}
    auc = sum(won.values()) / len(won)
    rows, columns = dict.fromkeys(patients.tolist(), 0.0), dict.fromkeys(patients.tolist(), 0.0)
    for (i, j), value in won.items():
        rows[above[i][0]] += (value - auc) / len(below)
        columns[below[j][0]] += (value - auc) / len(above)
    ill, healthy, both = (len(set(names)) for names in (patients[positives], patients[~positives], patients))
    ours = sum(value**2 for value in rows.values()) * ill / (ill - 1) / len(above) ** 2
    theirs = sum(value**2 for value in columns.values()) * healthy / (healthy - 1) / len(below) ** 2
    shared = sum(rows[name] * columns[name] for name in rows) * both / (both - 1) / len(won)
    return ours + theirs + 2 * shared


@settings(deadline=None, max_examples=60)
@given(ROWS)
def test_measure_equals_sums_over_pairs(rows: list[tuple[int, int, bool, str]]) -> None:
    """Ranks give what comparing every positive with every negative gives."""
    first, second, flags, names = (np.array(column) for column in zip(*rows, strict=True))
    assume(len(set(names[flags])) > 1)
    assume(len(set(names[~flags])) > 1)
    found = measure_auc(np.stack([first, second], axis=1), flags, names)
    for test, scores in enumerate((first, second)):
        expected = np.mean([[float(x > y) + (x == y) / 2 for y in scores[~flags]] for x in scores[flags]])
        assert expected == pytest.approx(found.values[test])
        assert sum_pairs(scores, flags, names) == pytest.approx(found.covariance[test, test], abs=1e-12)


def test_measure_is_not_deceived_by_copies() -> None:
    """Every image three times over: the variance of the images alone, where images taken for patients give a third."""
    scores, positives, patients = read_cases("single")
    once = measure_auc(scores, positives, patients)
    often = [np.repeat(column, 3, axis=0) for column in (scores, positives, patients)]
    assert np.allclose(once.covariance, measure_auc(*often).covariance)
    images = np.arange(len(often[0])).astype(str)
    assert measure_auc(often[0], often[1], images).covariance[0, 0] < 0.4 * once.covariance[0, 0]


def test_measure_does_not_depend_on_order_or_scale() -> None:
    """Units in any order, scores stretched as one likes."""
    scores, positives, patients = read_cases("mixed")
    order = np.random.default_rng(0).permutation(len(scores))
    expected = measure_auc(scores, positives, patients)
    found = measure_auc(np.exp(scores[order]), positives[order], patients[order])
    assert np.allclose(expected.values, found.values)
    assert np.allclose(expected.covariance, found.covariance)


def test_interval_is_symmetric_on_the_logit_scale() -> None:
    """Its ends lie Student's reach of standard errors of the logit from the AUC, and never outside 0 and 1."""
    low, high, method = find_interval(0.97, 0.03**2, pairs=20, freedom=16)
    assert low is not None
    assert high is not None
    reach = student.ppf(0.975, 16) * 0.03 / (0.97 * 0.03)
    assert [logit(0.97) - reach, logit(0.97) + reach] == pytest.approx([logit(low), logit(high)])
    assert method == LOGIT


@pytest.mark.parametrize("pairs", [1, 5, 40, 300])
def test_interval_of_a_perfect_auc_is_what_could_still_look_perfect(pairs: int) -> None:
    """At the bound so many pairs are all in order in 2.5 % of studies; for many patients it is 1 - 3.7 / pairs."""
    low, high, method = find_interval(1.0, 0.0, pairs=pairs, freedom=9)
    assert low is not None
    assert low**pairs == pytest.approx(0.025)
    assert (high, method) == (1.0, EXACT)
    assert find_interval(0.0, 0.0, pairs=pairs, freedom=9) == (0.0, 1.0 - low, EXACT)


def test_interval_of_a_perfect_auc_covers_the_worst_distribution() -> None:
    """5 % of cancers missed entirely: studies that happen to miss none still have intervals that hold 0.95."""
    generator = np.random.default_rng(0)
    patients, positives = np.arange(60).astype(str), np.arange(60) < 30
    covered, studies = 0, 400
    for _ in range(studies):
        scores = np.where(positives & (generator.random(60) > 0.05), 2.0, 1.0) + 0.1 * generator.random(60)
        scores[positives & (scores < 1.5)] = 0.0
        found = measure_auc(scores, positives, patients)
        low, high, _ = interval_of(found)
        covered += low is not None and high is not None and low <= 0.95 <= high
    assert covered / studies > 0.92


@pytest.mark.parametrize(
    ("names", "positives", "pairs"),
    [("abcde", "11000", 2), ("aabb", "1010", 1), ("aabbc", "10101", 1), ("aaaa", "1010", 0)],
)
def test_measure_counts_pairs_of_different_patients(names: str, positives: str, pairs: int) -> None:
    """No patient stands in two pairs, nor against itself."""
    flags = np.array([one == "1" for one in positives])
    assert pairs == measure_auc(np.arange(len(names)), flags, np.array(list(names))).pairs


def test_interval_of_one_ill_patient_is_missing() -> None:
    """Nothing can be said of how patients differ; nor where the estimate says that they do not."""
    found = measure_auc(np.array([0.4, 0.5, 0.3, 0.6]), np.array([True, False, False, False]), np.array(list("abcd")))
    assert (None, None, FEW) == interval_of(found)
    assert find_interval(0.5, 0.0, pairs=3, freedom=9) == (None, None, FLAT)


def test_comparison_of_a_test_with_itself_is_nothing() -> None:
    """No difference, no variance, p 1."""
    scores, positives, patients = read_cases("mixed")
    twice = np.stack([scores[:, 0], 2 * scores[:, 0]], axis=1)
    assert compare_aucs(measure_auc(twice, positives, patients)) == (0.0, 0.0, 1.0)


def test_interval_of_few_patients_is_wider() -> None:
    """The variance is estimated too: of few patients the reach is Student's, of many the normal's."""
    few, many = (find_interval(0.9, 0.03**2, pairs=9, freedom=count) for count in (4, 100000))
    assert few[0] is not None
    assert many[0] is not None
    assert logit(0.9) - logit(few[0]) == pytest.approx(student.ppf(0.975, 4) * 0.03 / 0.09)
    assert logit(0.9) - logit(many[0]) == pytest.approx(norm.ppf(0.975) * 0.03 / 0.09, rel=1e-4)


def test_measure_counts_patients_of_the_rarer_class() -> None:
    """Three patients hold a positive, two a negative: one degree of freedom."""
    flags = np.array([True, True, True, False, False, False])
    assert 1 == measure_auc(np.arange(6.0), flags, np.array(list("abcabb"))).freedom


def test_interval_takes_rounding_for_no_variance() -> None:
    """A variance of 1e-33 is one of 0 that was added up."""
    assert find_interval(0.5, 1e-33, pairs=3, freedom=9) == (None, None, FLAT)
