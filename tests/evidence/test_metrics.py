"""Claims about metrics: never NaN, each at its level, each with an interval that says how it was found."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from bcdx.evidence.calibration import Calibration, Calibrator, LevelCalibration
from bcdx.evidence.cases import Cases
from bcdx.evidence.clustered import EXACT, find_interval, measure_auc
from bcdx.evidence.entries import BOOTSTRAP, EXACT_SHARE, NO_SPREAD, RECENTRED
from bcdx.evidence.intervals import bootstrap_interval
from bcdx.evidence.metrics import MACRO, PREVALENCE, evaluate
from bcdx.evidence.operating import OPERATING_POINTS
from bcdx.evidence.statistics import class_error, evaluate_once

MakeCases = Callable[..., Cases]

METRICS = {
    "auc", "average_precision", "sensitivity", "specificity", "sensitivity_at_90_specificity",
    "sensitivity_at_98_specificity", "brier", "ece", "brier_uncalibrated", "ece_uncalibrated",
}  # fmt: skip
NESTED = {"operating_points", "confusion_matrix", "subgroups"}


def measure(cases: Cases, threshold: float | None = 0.5, *, seed: int = 0) -> dict[str, dict[str, Any]]:
    """All metrics, one threshold for every level."""
    points = dict.fromkeys(("slice", "breast", "patient"), threshold)
    return evaluate(cases, fix_thresholds(points), resamples=60, seed=seed)


def flat(entries: dict[str, Any]) -> dict[str, Any]:
    """The figures of the level itself."""
    return {name: entry for name, entry in entries.items() if name not in NESTED}


def list_entries(content: Any) -> list[dict[str, Any]]:
    """Every entry, however deep it stands."""
    if isinstance(content, list):
        return [entry for one in content for entry in list_entries(one)]
    if not isinstance(content, dict):
        return []
    if "low" in content:
        return [content]
    return [entry for one in content.values() for entry in list_entries(one)]


def fix_thresholds(points: Mapping[str, float | None]) -> Calibration:
    """Scores as they are, and one operating point a level."""
    levels = {level: LevelCalibration(operating_points={"youden": value}) for level, value in points.items()}
    return Calibration(3, 1, levels)


def test_metrics_follow_the_positive_class(make_random_cases: MakeCases) -> None:
    """Class 0 as the positive one gives the figures of the same data with classes swapped."""
    cases = make_random_cases()
    swapped = Cases(cases.probabilities[:, ::-1], 1 - cases.labels, cases.patients, cases.lateralities, positive=0)
    for level, entries in measure(cases, 0.4).items():
        others = measure(swapped, 0.4)[level]
        assert entries.pop("confusion_matrix") == np.array(others.pop("confusion_matrix"))[::-1, ::-1].tolist()
        assert entries == others


def test_evaluate_gives_every_metric_at_every_level(make_random_cases: MakeCases) -> None:
    """Each entry says its value, its interval and the units it rests on."""
    result = measure(make_random_cases())
    assert {"slice", "breast", "patient"} == set(result)
    for entries in result.values():
        assert set(entries) == METRICS | NESTED
        assert set(entries["operating_points"]) == set(OPERATING_POINTS)
        assert all({"value", "low", "high", "n", "method"} <= set(entry) for entry in flat(entries).values())


def test_evaluate_counts_the_units_of_the_level(make_cases: MakeCases) -> None:
    """Six slices of three breasts of two patients."""
    result = measure(make_cases([0.1, 0.2, 0.3, 0.4, 0.8, 0.9], [0, 0, 0, 0, 1, 1], patients="aaaabb", sides="LLRRLL"))
    assert {level: result[level]["auc"]["n"] for level in result} == {"slice": 6, "breast": 3, "patient": 2}


def test_evaluate_patient_figures_are_of_patients(make_cases: MakeCases) -> None:
    """Slices in disorder within patients who are told apart: AUC 1 per patient, less per slice."""
    cases = make_cases([0.1, 0.3, 0.2, 0.9], [0, 0, 1, 1], patients="aabb", top=1)
    result = measure(cases)
    assert result["patient"]["auc"]["value"] == 1.0
    assert result["slice"]["auc"]["value"] == 0.75


def test_evaluate_uses_the_given_threshold(make_cases: MakeCases) -> None:
    """A score at the threshold counts as positive."""
    result = measure(make_cases([0.2, 0.5, 0.7, 0.4, 0.5, 0.9], [0, 0, 0, 1, 1, 1]), 0.5)["slice"]
    assert result["sensitivity"]["value"] == pytest.approx(2 / 3)
    assert result["specificity"]["value"] == pytest.approx(1 / 3)


def test_evaluate_uses_each_levels_own_threshold(make_cases: MakeCases) -> None:
    """Patients are judged by the patient threshold, slices by the slice threshold."""
    cases = make_cases([0.2, 0.6], [0, 1])
    result = evaluate(cases, fix_thresholds({"slice": 0.5, "patient": 0.7}), resamples=10)
    assert [result[level]["sensitivity"]["value"] for level in ("slice", "patient")] == [1.0, 0.0]
    assert result["breast"]["sensitivity"]["value"] is None


def test_evaluate_labels_operating_points_by_their_origin(make_random_cases: MakeCases) -> None:
    """A reader can tell a threshold chosen on validation from one read off the evaluated split."""
    result = measure(make_random_cases())["slice"]
    points = {name: entry.get("operating_point", "") for name, entry in flat(result).items()}
    assert {name for name, text in points.items() if "validation" in text} == {"sensitivity", "specificity"}
    assert {name for name, text in points.items() if "this split's own ROC" in text} == {
        "sensitivity_at_90_specificity",
        "sensitivity_at_98_specificity",
    }


def test_evaluate_intervals_resample_whole_patients(make_random_cases: MakeCases) -> None:
    """The interval beside a figure is the patient bootstrap of that very figure."""
    cases = make_random_cases()
    entry = measure(cases, seed=3)["slice"]["brier"]
    low, high, used = bootstrap_interval(
        lambda scores, labels: evaluate_once(class_error(scores, labels, 1), len(labels)),
        cases.probabilities,
        cases.labels,
        cases.patients,
        resamples=60,
        seed=3,
    )
    assert [low, high, used] == pytest.approx([entry["low"], entry["high"], entry["resamples"]])


def test_evaluate_breasts_of_one_patient_move_together(make_cases: MakeCases) -> None:
    """Two like breasts a patient narrow no interval: it is that of one breast a patient."""
    scores, labels = [0.1, 0.3, 0.7, 0.2, 0.6, 0.9], [0, 0, 0, 1, 1, 1]
    one = make_cases(scores, labels, patients="abcdef", sides="LLLLLL")
    both = make_cases(scores * 2, labels * 2, patients="abcdef" * 2, sides="LLLLLLRRRRRR")
    for name in ("auc", "average_precision", "brier"):
        first, second = measure(one)["breast"][name], measure(both)["breast"][name]
        assert [first["n"], second["n"]] == [6, 12]
        assert [first["low"], first["high"]] == pytest.approx([second["low"], second["high"]])


def test_evaluate_says_the_same_twice(make_random_cases: MakeCases) -> None:
    """The same seed gives the same intervals, another seed others."""
    cases = make_random_cases()
    assert measure(cases, seed=1) == measure(cases, seed=1)
    assert measure(cases, seed=1)["slice"]["brier"] != measure(cases, seed=2)["slice"]["brier"]


def test_evaluate_patients_who_are_all_ill_have_no_patient_auc(make_cases: MakeCases) -> None:
    """Patient AUC is null with a reason, while slices, told apart within patients, have theirs."""
    cases = make_cases([0.1, 0.9, 0.2, 0.8, 0.4, 0.6], [0, 1, 0, 1, 0, 1], patients="aabbcc")
    result = measure(cases)
    expected = {"value": None, "low": None, "high": None, "n": 3, "reason": "only 1 of 2 classes at this level"}
    assert expected == result["patient"]["auc"]
    assert result["patient"]["specificity"]["value"] is None
    assert result["patient"]["sensitivity"]["value"] == 1.0
    assert result["slice"]["auc"]["value"] == 1.0


def test_evaluate_unknown_sides_leave_breasts_undefined(make_cases: MakeCases) -> None:
    """Every metric of breasts is null and says why; patients are unharmed."""
    result = measure(make_cases([0.1, 0.9, 0.2, 0.8], [0, 1, 0, 1], sides="LR?L"))
    reasons = {entry["reason"] for entry in flat(result["breast"]).values() if entry["value"] is None}
    assert reasons == {"laterality of some slices is unknown"}
    assert {name for name, entry in flat(result["breast"]).items() if entry["value"] is None} == METRICS
    assert result["patient"]["auc"]["value"] == 1.0


def test_evaluate_without_threshold_says_so(make_cases: MakeCases) -> None:
    """Sensitivity and specificity need a threshold from validation; the others do not."""
    result = measure(make_cases([0.1, 0.9, 0.2, 0.8], [0, 1, 0, 1]), None)["slice"]
    missing = {name: entry["reason"] for name, entry in flat(result).items() if entry["value"] is None}
    assert missing == dict.fromkeys(("sensitivity", "specificity"), "no threshold could be chosen on validation")


def test_evaluate_three_classes_have_no_sensitivity(make_random_cases: MakeCases) -> None:
    """What two classes alone define is null with that reason; the other figures are there."""
    result = measure(make_random_cases(classes=3), None)["slice"]
    missing = {name: entry["reason"] for name, entry in flat(result).items() if entry["value"] is None}
    assert METRICS - {"auc", "average_precision", "brier", "ece", "brier_uncalibrated", "ece_uncalibrated"} == set(
        missing
    )
    assert set(missing.values()) == {"defined for two classes only"}


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1], [0, 1, 1]])
@pytest.mark.parametrize("patients", ["abc", "aab", "aaa"])
@pytest.mark.parametrize("threshold", [None, 0.5])
@pytest.mark.parametrize("sides", ["LRL", "L?R"])
def test_evaluate_is_always_valid_json(
    make_cases: MakeCases, labels: list[int], patients: str, threshold: float | None, sides: str
) -> None:
    """However little there is to measure, nothing is NaN, and what is null has a reason."""
    result = measure(make_cases([0.1, 0.5, 0.9], labels, patients=patients, sides=sides), threshold)
    assert result == json.loads(json.dumps(result, allow_nan=False))
    for entry in list_entries(result):
        assert (entry["value"] is None) == ("reason" in entry)


def test_evaluate_auc_interval_is_obuchowskis(make_random_cases: MakeCases) -> None:
    """On the logit scale, from the covariance of patients; all other intervals are of resampled patients."""
    cases = make_random_cases()
    result = flat(measure(cases)["slice"])
    found = measure_auc(cases.probabilities[:, 1], cases.labels == 1, cases.patients)
    low, high, method = find_interval(found.values[0], found.covariance[0, 0], pairs=found.pairs, freedom=found.freedom)
    auc = result.pop("auc")
    assert [low, high, method] == [auc["low"], auc["high"], auc["method"]]
    exact = result.pop("sensitivity_at_98_specificity")
    assert (exact["value"], exact["method"]) == (0.0, EXACT_SHARE)
    assert {BOOTSTRAP, RECENTRED} == {entry["method"] for entry in result.values()}
    assert {"ece", "ece_uncalibrated"} == {name for name, one in result.items() if one["method"] == RECENTRED}


def test_evaluate_three_classes_resample_their_auc(make_random_cases: MakeCases) -> None:
    """The macro mean of three curves has the bootstrap's interval, and says that it is one."""
    entries = measure(make_random_cases(classes=3), None)["slice"]
    for entry in (entries["auc"], entries["average_precision"]):
        assert entry["method"] == f"{BOOTSTRAP}; {MACRO}"
        assert entry["low"] < entry["value"] < entry["high"]
    assert MACRO not in entries["brier"]["method"]


def test_evaluate_bounds_what_is_perfect(make_cases: MakeCases) -> None:
    """No figure of 20 separated patients is certain: its interval ends at 1 and begins below."""
    scores, labels = [0.1] * 10 + [0.9] * 10, [0] * 10 + [1] * 10
    result = measure(make_cases(scores, labels))["patient"]
    point = result["operating_points"]["youden"]
    for entry, method in (
        (result["auc"], EXACT),
        (point["sensitivity"], EXACT_SHARE),
        (point["specificity"], EXACT_SHARE),
        (result["sensitivity_at_98_specificity"], EXACT_SHARE),
    ):
        assert entry["method"] == method
        assert [0.025**0.1, 1.0] == pytest.approx([entry["low"], entry["high"]])
    precision = result["average_precision"]
    assert [1.0, None, None] == [precision[key] for key in ("value", "low", "high")]
    assert precision["method"] == f"no interval: {NO_SPREAD}"
    assert point["ppv"]["value"] == 1.0
    assert 0.01 * 0.025**0.1 / (0.01 * 0.025**0.1 + 0.99 * (1 - 0.025**0.1)) == pytest.approx(point["ppv"]["low"])


def test_evaluate_calibrated_and_raw_scores_stand_beside_each_other(make_random_cases: MakeCases) -> None:
    """Calibration changes Brier score and ECE, leaves the ranking, and the raw figures are kept."""
    cases = make_random_cases()
    raw = measure(cases)["slice"]
    levels = {"slice": LevelCalibration(Calibrator("platt", 0.2, 0.1), {"youden": 0.5})}
    calibrated = evaluate(cases, Calibration(3, 1, levels), resamples=60)["slice"]
    for name in ("brier", "ece"):
        assert raw[name] == calibrated[f"{name}_uncalibrated"] == raw[f"{name}_uncalibrated"]
        assert calibrated[name]["value"] < calibrated[f"{name}_uncalibrated"]["value"]
    assert raw["auc"] == calibrated["auc"]


def test_evaluate_points_count_verdicts(make_cases: MakeCases) -> None:
    """Counts, shares and predictive values of one operating point belong together."""
    cases = make_cases([0.2, 0.5, 0.7, 0.4, 0.5, 0.9, 0.8], [0, 0, 0, 1, 1, 1, 1])
    point = measure(cases)["slice"]["operating_points"]["youden"]
    expected = {"true_positive": 3, "false_positive": 2, "true_negative": 1, "false_negative": 1}
    assert expected == point["confusion"]
    assert [0.75, 1 / 3] == pytest.approx([point["sensitivity"]["value"], point["specificity"]["value"]])
    assert [4, 3] == [point["sensitivity"]["n"], point["specificity"]["n"]]
    assert point["prevalence"] == PREVALENCE
    assert 0.75 * 0.01 / (0.75 * 0.01 + 0.99 * 2 / 3) == pytest.approx(point["ppv"]["value"])
    assert 0.99 / 3 / (0.99 / 3 + 0.25 * 0.01) == pytest.approx(point["npv"]["value"])


def test_evaluate_point_that_calls_nothing_positive_has_no_ppv(make_cases: MakeCases) -> None:
    """Null with its reason, while the other figures stand."""
    point = measure(make_cases([0.1, 0.2, 0.3], [0, 1, 1]), 0.9)["slice"]["operating_points"]["youden"]
    assert point["ppv"]["reason"] == "nothing is called positive"
    assert point["npv"]["value"] == pytest.approx(0.99)


def test_evaluate_prevalence_moves_predictive_values_alone(make_random_cases: MakeCases) -> None:
    """More ill among those examined: the PPV rises, the NPV falls, nothing else changes."""
    cases, calibration = make_random_cases(), fix_thresholds({"slice": 0.5})
    rare, common = (evaluate(cases, calibration, prevalence=share, resamples=60)["slice"] for share in (0.01, 0.3))
    points = [one["operating_points"]["youden"] for one in (rare, common)]
    assert points[0]["ppv"]["value"] < points[1]["ppv"]["value"]
    assert points[0]["npv"]["value"] > points[1]["npv"]["value"]
    assert points[0]["sensitivity"] == points[1]["sensitivity"]
    assert flat(rare) == flat(common)


def test_evaluate_confusion_matrix_has_a_row_per_true_class(
    make_cases: MakeCases, make_random_cases: MakeCases
) -> None:
    """Counts at the Youden threshold; for more classes of the most probable one."""
    cases = make_cases([0.2, 0.5, 0.7, 0.4, 0.5, 0.9, 0.8], [0, 0, 0, 1, 1, 1, 1])
    assert measure(cases)["slice"]["confusion_matrix"] == [[1, 2], [1, 3]]
    three = make_random_cases(classes=3)
    found = np.array(measure(three, None)["slice"]["confusion_matrix"])
    assert np.bincount(three.labels).tolist() == found.sum(axis=1).tolist()
    assert (three.probabilities.argmax(axis=1) == three.labels).sum() == np.trace(found)


def test_evaluate_ranks_raw_scores(make_random_cases: MakeCases) -> None:
    """A calibrator that makes all probabilities alike takes nothing from what ranks, in subgroups neither."""
    cases = make_random_cases()
    cases = dataclasses.replace(cases, groups={"scanner": np.array(["A", "B"] * 30)})
    flattened = LevelCalibration(Calibrator("platt", 4.5e-22, 0.0), {"youden": 0.5})
    found = evaluate(cases, Calibration(3, 1, dict.fromkeys(("slice", "patient"), flattened)), resamples=60)
    raw = measure(cases)
    for level in ("slice", "patient"):
        for name in ("auc", "average_precision", "sensitivity_at_90_specificity", "sensitivity_at_98_specificity"):
            assert raw[level][name] == found[level][name]
    groups = [one["slice"]["subgroups"]["scanner"] for one in (raw, found)]
    assert [one["auc"] for one in groups[0]] == [one["auc"] for one in groups[1]]


@pytest.mark.parametrize("classes", [2, 3])
def test_evaluate_does_not_depend_on_patients_codes(make_random_cases: MakeCases, classes: int) -> None:
    """Codes come from a private key; whoever has another key gets the same intervals, at every level."""
    cases = make_random_cases(classes=classes)
    renamed = np.array([f"q{999 - int(one[1:])}" for one in cases.patients])
    assert measure(cases) == measure(dataclasses.replace(cases, patients=renamed))


def test_evaluate_interval_of_the_calibration_gap_allows_for_its_noise(make_cases: MakeCases) -> None:
    """Of probabilities that are true, resampled gaps lie above the gap: its interval reaches down, and holds it."""
    generator = np.random.default_rng(0)
    scores = generator.random(200)
    entry = measure(make_cases(scores.tolist(), (generator.random(200) < scores).astype(int).tolist()))["slice"]["ece"]
    assert 0.0 <= entry["low"] <= entry["value"] <= entry["high"]
    assert entry["low"] < 0.02
