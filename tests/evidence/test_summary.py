"""Claims about the table on the terminal: no figure stands without its level, its interval and its n."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from bcdx.evidence.calibration import Calibration, LevelCalibration
from bcdx.evidence.cases import Cases
from bcdx.evidence.metrics import FROM_ROC, evaluate
from bcdx.evidence.operating import OPERATING_POINTS
from bcdx.evidence.summary import summarise


def make_metrics(
    *,
    patients: int = 20,
    sides: tuple[str, str] = ("L", "R"),
    every_patient_ill: bool = False,
    noise: float = 0.7,
    threshold: float | None = 0.5,
    groups: Mapping[str, int] = MappingProxyType({}),
) -> Any:
    """Metrics of two slices a patient; without noise the classes part perfectly. Groups: name -> how many values."""
    generator = np.random.default_rng(0)
    count = 2 * patients
    labels = np.arange(count) % 2 if every_patient_ill else np.arange(count) // 2 % 2
    positives = np.clip(0.3 * labels + noise * generator.random(count), 0, 1)
    names = np.array([f"p{index // 2:03d}" for index in range(count)])
    probabilities = np.stack([1 - positives, positives], axis=1)
    owner = np.arange(count) // 2
    values = {name: np.array([f"v{one}" for one in owner // 2 % kinds]) for name, kinds in groups.items()}
    cases = Cases(probabilities, labels, names, np.array(sides * patients), 1, groups=values)
    point = LevelCalibration(operating_points=dict.fromkeys(OPERATING_POINTS, threshold))
    levels = evaluate(cases, Calibration(3, 1, dict.fromkeys(("slice", "breast", "patient"), point)), resamples=100)
    return {"split": "test", "classes": ["healthy", "tumour"], "positive": "tumour", **levels}


def find_section(text: str, heading: str) -> list[str]:
    """Lines under a heading, up to the next empty one."""
    lines = text.splitlines()
    start = lines.index(heading) + 1
    return lines[start : lines.index("", start)]


def test_summary_says_what_was_measured() -> None:
    """The first line names the run, the split and the class looked for."""
    first = summarise(make_metrics(), title="tuning/mine").splitlines()[0]
    assert first == "tuning/mine: test split, positive class tumour"


def test_summary_shows_patients_before_samples() -> None:
    """The figure that matters comes first, and slices are called samples, not patients."""
    text = summarise(make_metrics(), title="run")
    headings = [line for line in text.splitlines() if line.startswith("per ")]
    assert headings == ["per patient", "per breast", "per sample (images, not patients)"]


@pytest.mark.parametrize(
    ("heading", "level"),
    [("per patient", "patient"), ("per breast", "breast"), ("per sample (images, not patients)", "slice")],
)
def test_summary_shows_each_figure_with_interval_and_n(heading: str, level: str) -> None:
    """Every metric of the level has one line: value, interval, units."""
    metrics = make_metrics()
    lines = find_section(summarise(metrics, title="run"), heading)
    names = ("auc", "average_precision", *FROM_ROC, "brier", "ece")
    for line, name in zip(lines, names, strict=False):
        entry = metrics[level][name]
        assert f"{entry['value']:.3f}  ({entry['low']:.3f} to {entry['high']:.3f}; n = {entry['n']})" in line


def test_summary_shows_scores_before_calibration_beside_those_after() -> None:
    """Brier score and ECE say what they were."""
    metrics = make_metrics()
    for name, title in (("brier", "Brier score"), ("ece", "ECE")):
        line = next(one for one in find_section(summarise(metrics, title="run"), "per breast") if title in one)
        assert f"; uncalibrated {metrics['breast'][name + '_uncalibrated']['value']:.3f} (" in line


def test_summary_shows_each_operating_point_in_a_row() -> None:
    """Threshold, shares and predictive values with their intervals, and the prevalence that these are stated for."""
    metrics = make_metrics()
    lines = find_section(summarise(metrics, title="run"), "per patient")
    head = next(line for line in lines if line.startswith("  operating point"))
    assert ["sensitivity", "specificity", "PPV at 1 %", "NPV at 1 %"] == re.split(r" {2,}", head[head.index("sens") :])
    row = next(line for line in lines if line.startswith("  Youden"))
    point = metrics["patient"]["operating_points"]["youden"]
    assert f" {point['threshold']:.3f} " in row
    for name in ("sensitivity", "specificity", "ppv", "npv"):
        entry = point[name]
        assert f"{entry['value']:.3f} ({entry['low']:.3f}-{entry['high']:.3f})" in row
    assert "stated for a prevalence of 1 %" in lines[-1]


def test_summary_without_thresholds_says_so_once() -> None:
    """Five operating points that there are not take one line."""
    metrics = make_metrics(threshold=None)
    lines = find_section(summarise(metrics, title="run"), "per breast")
    assert lines[-1] == "  operating points: undefined: no threshold could be chosen on validation"


def test_summary_shows_few_subgroups() -> None:
    """Of seven scanners the four with most images, of one plane nothing: it tells nobody apart."""
    text = summarise(make_metrics(patients=120, groups={"scanner": 7, "plane": 1}), title="run")
    section = find_section(text, "ROC AUC in subgroups, per patient")
    assert len(section) == 5
    assert all(
        re.search(r"scanner: \w+ +[01]\.\d{3} \(0\.\d{3}-[01]\.\d{3}\)  n = \d+, \d+ patients", line)
        for line in section[:4]
    )
    assert section[4] == "  scanner: 3 more in metrics.json, 0 too small or of one class"
    assert "plane" not in text


def test_summary_shows_probes_and_flags_those_that_reach_the_result() -> None:
    """A probe's AUC with its interval, and words where it comes as far as the model."""
    entry = {"value": 0.6, "low": 0.5, "high": 0.7, "n": 40}
    probes = {
        "slice index": {"auc": entry, "reached": False, "note": ""},
        "mean intensity": {
            "auc": {**entry, "value": 0.9},
            "reached": True,
            "note": "brightness suffices. And more.",
        },
        "site": {"auc": {"value": None, "low": None, "high": None, "n": 0, "reason": "one site"}, "note": "none"},
        "scanner": {"balanced_accuracy": entry, "reached": None, "note": "What the features know. " * 9},
    }
    section = find_section(
        summarise({**make_metrics(), "probes": probes}, title="run"), "shortcut probes, beside the result per slice"
    )
    assert "0.600 (0.500-0.700)" in section[0]
    assert "REACHES" not in section[0]
    assert section[1].endswith("REACHES THE RESULT  brightness suffices")
    assert section[2].endswith("undefined            one site")
    assert re.search(r"balanced accuracy +0\.600", section[3])
    assert max(len(line) for line in section) <= 110


def test_summary_shows_a_comparison_at_each_level() -> None:
    """The difference with its sign, its interval, p and n."""
    found = {"value": 0.04, "low": -0.01, "high": 0.09, "p_value": 0.12, "n": 40}
    comparison = {"patient": {"value": None, "reason": "only 1 of 2 classes"}, "slice": found}
    text = summarise({**make_metrics(), "comparison": comparison}, title="run")
    section = text[text.index("difference in ROC AUC") :].splitlines()
    assert re.fullmatch(r"  per patient +undefined: only 1 of 2 classes", section[1])
    assert section[2].endswith("+0.040  (-0.010 to 0.090; p = 0.12; n = 40)")


def test_summary_stays_readable_in_a_terminal() -> None:
    """No line of the table is wider than 110 characters."""
    text = summarise(make_metrics(patients=120, groups={"scanner": 7, "site": 3}), title="run")
    assert max(len(line) for line in text.splitlines()) <= 110


def test_summary_marks_operating_points_of_the_split_itself() -> None:
    """Sensitivities read off the evaluated split carry a star, and the star is explained."""
    text = summarise(make_metrics(), title="run")
    starred = [line for line in text.splitlines() if re.search(r"specificity \* ", line)]
    assert len(starred) == 6
    assert "* read off this split's own ROC, optimistic" in text


def test_summary_of_an_undefined_level_is_one_line() -> None:
    """Without sides, breasts have one line that says why, not eight empty ones."""
    text = summarise(make_metrics(sides=("L", "unknown")), title="run")
    assert find_section(text, "per breast") == ["  undefined: laterality of some slices is unknown"]


def test_summary_of_an_undefined_metric_says_why() -> None:
    """Patients who are all ill: no AUC but the reason, while the Brier score stands."""
    lines = find_section(summarise(make_metrics(every_patient_ill=True), title="run"), "per patient")
    assert lines[0].split(maxsplit=2) == ["ROC", "AUC", "undefined: only 1 of 2 classes at this level"]
    assert any(re.search(r"Brier score +0\.\d{3}  \(0\.\d{3} to 0\.\d{3}; n = 20\)", line) for line in lines)


def test_summary_of_two_patients_claims_no_interval() -> None:
    """Where most resamples lack a class the line says that there is no interval."""
    metrics = make_metrics(patients=2)
    assert metrics["patient"]["average_precision"]["low"] is None
    line = find_section(summarise(metrics, title="run"), "per patient")[1]
    assert line.endswith("(no interval; n = 2)")


def test_summary_shows_no_interval_of_width_zero() -> None:
    """What is 1 in every resample is not shown as certain; an AUC of 1 has its exact bound."""
    metrics = make_metrics(noise=0.0)
    auc, precision, sensitivity, *_ = find_section(summarise(metrics, title="run"), "per patient")
    for line in (auc, sensitivity):
        assert f"1.000  ({0.025**0.1:.3f} to 1.000; n = 20)" in line
    assert "1.000  (no interval; n = 20)" in precision


def test_summary_shows_no_interval_of_width_zero_of_an_older_version() -> None:
    """Metrics that are read may still have one."""
    older = make_metrics()
    older["patient"]["auc"] = {"value": 1.0, "low": 1.0, "high": 1.0, "n": 20}
    auc = find_section(summarise(older, title="run"), "per patient")[0]
    assert "no spread in resamples" in auc
    assert "1.000 to 1.000" not in auc


def test_summary_repeats_warnings() -> None:
    """What makes the figures doubtful stands below them."""
    text = summarise({**make_metrics(), "warning": "files as patients", "overlap_warning": "3 known"}, title="run")
    assert text.splitlines()[-3:] == ["WARNING: files as patients", "WARNING: 3 known", "research use only"]


def test_summary_without_cause_warns_of_nothing() -> None:
    """A clean run's table has no warning, and still says that it is for research."""
    text = summarise(make_metrics(), title="run")
    assert "WARNING" not in text
    assert text.endswith("\nresearch use only")


def test_summary_has_no_nan() -> None:
    """However little was measured, no line shows `nan` or `None`."""
    for metrics in (make_metrics(patients=1), make_metrics(every_patient_ill=True, sides=("L", "unknown"))):
        assert not re.search(r"\b(nan|None)\b", summarise(metrics, title="run"))


def test_summary_lays_two_results_side_by_side() -> None:
    """Each with how its splits were made, its own interval and its own warnings; the levels stay apart."""
    leaking = {**make_metrics(noise=0.0), "leak_warning": "LEAKING: split by image"}
    text = summarise({**make_metrics(), "beside": leaking}, title="run")
    head = next(line for line in text.splitlines() if line.startswith("side by side"))
    assert "this: split by patient" in head
    assert "beside: split by image, LEAKING" in head
    assert "WARNING (beside): LEAKING: split by image" in text
    table = text[text.index("side by side") :]
    assert [3, 3] == [table.count("per "), table.count("ROC AUC")]
    assert not re.search(r"\b(nan|None)\b", table)


def test_summary_says_how_many_images_are_unlike_training() -> None:
    """One line, with the patients that they are of; nothing where a run cannot tell."""
    counts = {"n": 114, "unfamiliar": 3, "patients": 17, "patients_with_unfamiliar": 2}
    text = summarise({**make_metrics(), "familiarity": counts}, title="run")
    line = next(one for one in text.splitlines() if one.startswith("unlike training images"))
    assert "3 of 114 (2.6 %), in 2 of 17 patients" in line
    assert "1 % of new images are expected" in line
    assert len(line) <= 110
    few = {**counts, "unfamiliar": None, "patients_with_unfamiliar": None}
    assert "cannot be told, fewer than 10 patients" in summarise({**make_metrics(), "familiarity": few}, title="run")
    assert "unlike training" not in summarise(make_metrics(), title="run")


def test_summary_names_a_macro_mean() -> None:
    """ROC AUC of three classes is not that of the positive one, and the line says so."""
    generator = np.random.default_rng(0)
    labels, names = np.arange(60) % 3, np.array([f"p{index:03d}" for index in range(60)])
    cases = Cases(generator.dirichlet(np.ones(3), 60), labels, names, np.array(["L"] * 60), 2)
    levels = evaluate(cases, Calibration(3, 1, {}), resamples=50)
    metrics = {"split": "test", "classes": ["a", "b", "c"], "positive": "c", **levels}
    lines = find_section(summarise(metrics, title="run"), "per patient")
    assert lines[0].startswith("  ROC AUC, macro one-against-rest ")
    assert lines[1].startswith("  average precision, macro")
    assert not any("macro" in line for line in summarise(make_metrics(), title="run").splitlines())
