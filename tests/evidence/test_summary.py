"""Claims about the table on the terminal: no figure stands without its level, its interval and its n."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from bcdx.evidence.calibration import Calibration, LevelCalibration
from bcdx.evidence.cases import Cases
from bcdx.evidence.metrics import evaluate
from bcdx.evidence.summary import summarise


def make_metrics(
    *, patients: int = 20, sides: tuple[str, str] = ("L", "R"), every_patient_ill: bool = False, noise: float = 0.7
) -> Any:
    """Metrics of two slices a patient; without noise the classes part perfectly."""
    generator = np.random.default_rng(0)
    count = 2 * patients
    labels = np.arange(count) % 2 if every_patient_ill else np.arange(count) // 2 % 2
    positives = np.clip(0.3 * labels + noise * generator.random(count), 0, 1)
    names = np.array([f"p{index // 2:03d}" for index in range(count)])
    probabilities = np.stack([1 - positives, positives], axis=1)
    cases = Cases(probabilities, labels, names, np.array(sides * patients), positive=1)
    point = LevelCalibration(operating_points={"youden": 0.5})
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
    for line, entry in zip(lines, metrics[level].values(), strict=True):
        expected = f"{entry['value']:.3f}  ({entry['low']:.3f} to {entry['high']:.3f}; n = {entry['n']})"
        assert line.endswith(expected)


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
    assert metrics["patient"]["auc"]["low"] is None
    line = find_section(summarise(metrics, title="run"), "per patient")[0]
    assert line.endswith("(no interval; n = 2)")


def test_summary_shows_no_interval_of_width_zero() -> None:
    """An AUC that is 1 in every resample is not shown as certain."""
    metrics = make_metrics(noise=0.0)
    assert (metrics["patient"]["auc"]["low"], metrics["patient"]["auc"]["high"]) == (1.0, 1.0)
    line = find_section(summarise(metrics, title="run"), "per patient")[0]
    assert "no spread in resamples" in line
    assert "1.000 to 1.000" not in line


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
