"""Claims about the report: it says what the metrics say, warns where it must, and needs and names nothing else."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bcdx.errors import RunError
from bcdx.evidence.calibration import Calibration, Calibrator, LevelCalibration
from bcdx.evidence.cases import Cases
from bcdx.evidence.metrics import evaluate
from bcdx.evidence.operating import calibrate
from bcdx.evidence.pictures.overlays import draw_overlay
from bcdx.evidence.pictures.search import draw_depths, draw_parallel_coordinates, draw_subgroups, list_varying
from bcdx.evidence.probes.run import RULE
from bcdx.evidence.report.checks import describe_checks, describe_familiarity, list_probes
from bcdx.evidence.report.limits import list_limits
from bcdx.evidence.report.pages import (
    Example,
    Plate,
    ReportFacts,
    Saliency,
    TrialFacts,
    read_trials,
    render_card,
    render_report,
    write_report,
)
from bcdx.evidence.report.plates import draw_level
from bcdx.evidence.report.words import describe_value, hide_paths, list_warnings, state_verdict

LEAK = "LEAKING: split by image"
NOTHING = ("No dataset card", "nothing was searched", "None was run", "None to show")
VOID = {"meta", "img", "br", "link", "hr", "input"}
PICTURE = np.full((8, 8, 3), 90, np.uint8)


class Page(HTMLParser):
    """A page as its text, tables by id, and all that it loads; says which tags were not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.tags: list[str] = []
        self.images: list[dict[str, str]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.text = ""
        self._open: list[str] = []
        self._rows: list[list[str]] = []
        self.feed(text)
        self.left = self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what is opened and loaded."""
        facts = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.loaded += [value for name, value in facts.items() if name in {"src", "href", "srcset", "data"}]
        self.images += [facts] if tag == "img" else []
        self._open += [] if tag in VOID else [tag]
        if tag == "table":
            self._rows = self.tables.setdefault(facts["id"], [])
        elif tag == "tr":
            self._rows.append([])
        elif tag in {"td", "th"}:
            self._rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        """Close the innermost tag, which must be this one."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Gather text."""
        if "style" not in self._open:
            self.text += data
        if {"td", "th"} & set(self._open):
            self._rows[-1][-1] += data.strip()


def make_cases(*, healthy: bool, seed: int = 0) -> Cases:
    """160 slices of 40 patients; healthy patients, or patients with a tumour in half of their slices."""
    rng = np.random.default_rng(seed)
    patients = np.array([f"patient{number // 4:02}" for number in range(160)])
    labels = np.arange(160) // 4 % 2 if healthy else np.arange(160) % 2
    found = 1 / (1 + np.exp(-(3.0 * labels - 1.5 + rng.normal(0, 1.5, 160))))
    scanner = np.where(np.arange(160) % 8 < 4, "maker <A>", "maker B")
    groups = {"scanner": scanner, "site": np.full(160, "")}
    return Cases(np.stack([1 - found, found], axis=1), labels, patients, np.full(160, "L"), 1, 3, groups)


TRIALS = (
    TrialFacts("00", {"depth": "mixed0/mixed3", "learning_rate": 1e-4, "tuner/epochs": 2}, 0.91, 3.0, whole=False),
    TrialFacts("01", {"depth": "none/mixed10", "learning_rate": 1e-5, "tuner/epochs": 2}, 0.87, 4.0),
    TrialFacts("02", {"depth": "mixed3/mixed3", "learning_rate": 1e-5, "tuner/epochs": 2}, None, 1.0,
               "cannot read /home/CANARY/model.keras"),
)  # fmt: skip
RUN = {
    "level": "slice", "settings": {"refit": "train+validation", "network": {"weights": "random"}},
    "data_hash": "d" * 64, "fingerprint": "f" * 64, "image_shape": [96, 96, 3], "git_revision": "a" * 40, "seed": 3,
    "precision": "float32", "versions": {"bcdx": "0.1.0"}, "selection": {"trial": "00", "validation_auc": 0.91},
    "records": "/home/CANARY/records", "learned_patients": ["CANARY"],
}  # fmt: skip


CARD = {
    "classes": ["normal", "tumour"], "positive": "tumour", "image_shape": [96, 96, 3], "channels": "phases",
    "split": {"names": ["split"], "classes": ["normal", "tumour"], "rows": [
        {"values": ["test"], "cells": [{"patients": 40, "images": 80}] * 2, "total": {"patients": 40, "images": 1160}},
    ], "total": {"values": ["all"], "cells": [{"patients": 40, "images": 80}] * 2,
                 "total": {"patients": 40, "images": 1160}}},
    "tables": [{"names": ["scanner"], "rows": [{"values": ["maker <A>"], "total": {"patients": 9, "images": 30}}]}],
    "source": {"classes": [{"label": "tumour", "files": 7, "formats": {"DICOM, MR": 7}}]},
    "warnings": ["scanner and class go together"],
    "rights": {"licence": "CC BY 4.0", "citations": ["Author, A."], "provenance": {"collection": "made up"}},
}  # fmt: skip


RANDOMISED = {
    "block": "mixed3", "n": 30, "limit": 0.3, "correlation": 0.017, "correlation_head": 0.0079, "passed": True,
}  # fmt: skip
RATE = {"value": 0.5, "low": 0.3, "high": 0.7, "hits": 5, "n": 10}
POINTING = {
    "n": 10, "patients": 4, "tolerance": 15.0, "silent": 1, "heat map": RATE, "centre": {**RATE, "hits": 2},
    "brightest": {**RATE, "hits": 3},
}  # fmt: skip


def make_facts(*, healthy: bool = False, **more: Any) -> ReportFacts:
    """Facts of a small run; without `healthy` every patient has a tumour."""
    cases, validation = make_cases(healthy=healthy), make_cases(healthy=healthy, seed=1)
    calibration = calibrate(validation, test_views=1)
    levels = evaluate(cases, calibration, resamples=100)
    base: dict[str, Any] = {
        "run": RUN,
        "metrics": {"split": "test", "classes": ["normal", "tumour"], "positive": "tumour", **levels},
        "trials": TRIALS,
        "probes": {"mean_intensity": {"auc": {"value": 0.9, "low": 0.8, "high": 0.95, "n": 160}, "reached": True}},
        "examples": (Example(PICTURE, draw_overlay(PICTURE / 255, PICTURE[..., 0] / 255), "tumour", 0.876, "right"),),
        "saliency": Saliency(RANDOMISED),
        "commands": ("bcdx tune x.toml",),
    }
    return ReportFacts("a <small> run", calibration=calibration, cases=cases, **{**base, **more})


@pytest.fixture(scope="module")
def facts() -> ReportFacts:
    return make_facts()


@pytest.fixture(scope="module")
def text(facts: ReportFacts) -> str:
    return render_report(facts)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_report_is_well_formed(page: Page) -> None:
    """Every tag is closed in its turn, and one heading stands above all."""
    assert [] == page.left
    assert 1 == page.tags.count("h1")


def test_report_loads_nothing_from_outside(page: Page) -> None:
    """All that is loaded stands inside; there is no script, no frame and no style sheet."""
    assert all(one.startswith("data:image/png;base64,") for one in page.loaded)
    assert not {"script", "iframe", "link", "object"} & set(page.tags)


def test_report_tells_what_each_picture_shows(page: Page) -> None:
    """No picture is without a text."""
    assert page.images
    assert all(one.get("alt") for one in page.images)


def test_report_shows_the_metrics_as_they_are(facts: ReportFacts, page: Page) -> None:
    """Each row of the table has its entry's value, interval and n, to three digits."""
    rows = {row[0]: row[1:] for row in page.tables["metrics-slice"]}
    for name, key in (("ROC AUC", "auc"), ("Brier score", "brier"), ("ECE, 10 bins", "ece")):
        entry = facts.metrics["slice"][key]
        expected = [f"{entry['value']:.3f}", f"{entry['low']:.3f} to {entry['high']:.3f}", str(entry["n"])]
        assert expected == rows[name][:3]


def test_report_shows_operating_points_with_their_counts(facts: ReportFacts, page: Page) -> None:
    """Threshold, sensitivity and the four counts are those of the metrics."""
    points = list(facts.metrics["slice"]["operating_points"].values())
    for row, point in zip(page.tables["points-slice"][1:], points, strict=True):
        counts = point["confusion"]
        names = ("true_positive", "false_positive", "true_negative", "false_negative")
        assert f"{point['threshold']:.3f}" == row[1]
        assert row[2].startswith(f"{point['sensitivity']['value']:.3f}")
        assert " / ".join(str(counts[name]) for name in names) == row[-1]


def test_verdict_of_patients_who_all_are_ill_is_per_slice(facts: ReportFacts) -> None:
    """It gives the slices' AUC as such, and says that there is none per patient and why."""
    verdict, entry = state_verdict(facts), facts.metrics["slice"]["auc"]
    assert "slice" == verdict.level
    assert f"per slice for tumour: {entry['value']:.3f}" in verdict.headline
    assert "160 slices of 40 patients" in verdict.headline
    said = " ".join(verdict.sentences)
    assert "No patient-level AUC exists: only 1 of 2 classes" in said
    assert "every patient tested is tumour" in said


def test_verdict_with_healthy_patients_is_per_patient() -> None:
    """The coarsest level that has an AUC is the one that is read first."""
    facts = make_facts(healthy=True)
    verdict = state_verdict(facts)
    assert "patient" == verdict.level
    assert f"{facts.metrics['patient']['auc']['value']:.3f}" in verdict.headline
    assert "40 patients of the test split" in verdict.headline
    assert not any("-level AUC exists" in one for one in verdict.sentences)


def test_verdict_without_any_auc_says_so() -> None:
    """Where no level has one the page is still written, with the reasons."""
    facts = make_facts()
    bare = Cases(facts.cases.probabilities, np.ones(160, np.int64), facts.cases.patients, facts.cases.lateralities, 1)
    levels = evaluate(bare, facts.calibration, resamples=20)
    facts = replace(facts, cases=bare, metrics={**facts.metrics, **levels})
    assert state_verdict(facts).level is None
    assert "No ROC AUC is defined" in Page(render_report(facts)).text


def test_every_number_of_the_verdict_stands_with_its_level(facts: ReportFacts) -> None:
    """Whatever has an interval is said to be per slice, breast or patient."""
    verdict = state_verdict(facts)
    for text in (verdict.headline, *verdict.sentences):
        assert len(re.findall("95 % interval", text)) <= len(re.findall(r"per (slice|breast|patient)", text))


def test_leak_stands_before_the_verdict() -> None:
    """The warning is large, first, and in the model card, too; sections without facts say so."""
    facts = make_facts(trials=(), probes={}, examples=(), saliency=Saliency(), commands=())
    facts = replace(facts, metrics={**facts.metrics, "leak_warning": LEAK, "warning": "every file a patient"})
    html = render_report(facts)
    page = Page(html)
    assert page.text.index("split by image") < page.text.index("ROC AUC per slice")
    assert 'class="warnings leaking"' in html
    for expected in NOTHING:
        assert expected in page.text
    assert ("LEAKING", "split by image") == list_warnings(facts)[0]
    assert "**LEAKING:** split by image" in render_card(facts)


def test_probe_that_reaches_the_result_is_a_warning(facts: ReportFacts, page: Page) -> None:
    """It stands in the box above the verdict, the other probes do not."""
    assert [("Shortcut", "the probe “mean intensity” reaches the result per slice: see Probes")] == list_warnings(facts)
    assert page.text.index("mean intensity") < page.text.index("ROC AUC per slice")


def test_undefined_levels_say_why(page: Page) -> None:
    """A level without the class tells so in its table."""
    rows = {row[0]: row[1] for row in page.tables["metrics-patient"]}
    assert rows["ROC AUC"].startswith("undefined: only 1 of 2 classes")


def test_report_names_no_path_no_patient_and_no_date(facts: ReportFacts, text: str) -> None:
    """Neither file holds a path of the run or of a failure's message, or a patient's code."""
    for found in (text, render_card(facts)):
        assert "CANARY" not in found
        assert "patient00" not in found
        assert not re.search(r"\b(19|20)\d\d-\d\d-\d\d\b", found)


def test_files_hold_what_is_rendered_each_time(facts: ReportFacts, text: str, tmp_path: Path) -> None:
    """Both are written whole, and equal facts give equal files."""
    write_report(tmp_path, facts)
    assert {"report.html": text, "model_card.md": render_card(facts)} == {
        path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()
    }


def test_report_escapes_what_it_is_told(page: Page) -> None:
    """Angle brackets in a title or a scanner's name are text."""
    assert "a <small> run" in page.text
    assert "maker <A>" in page.tables["subgroups-slice"][1]


def test_report_fits_a_phone_and_paper(text: str) -> None:
    """It says how wide it is, tables scroll, pictures shrink, and print has its own rules."""
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    assert text.count("<table") == text.count('<div class="wide"><table')
    assert "@media print" in text
    assert re.search(r"\bimg \{[^}]*max-width: 100%", text)


def test_notice_stands_at_both_ends(facts: ReportFacts, page: Page) -> None:
    """Research use only is the first and the last thing said."""
    for text in (page.text.split("</title>")[-1].strip(), render_card(facts).strip()):
        assert 2 == text.count("Research use only")
        assert text.rstrip("*").endswith("Not to be used for the care of any patient.")


def test_limits_are_those_of_the_run(facts: ReportFacts) -> None:
    """Few patients, random weights and the refit are told; another run has others."""
    limits = " ".join(list_limits(facts))
    for text in (
        "40 patients are few",
        "random weights",
        "before the refit",
        "Which site was tested is not known",
        "50% of the tested slices",
    ):
        assert text in limits
    settings = {"refit": "train", "network": {"weights": "imagenet"}}
    other = " ".join(list_limits(replace(facts, run={**RUN, "settings": settings}, trials=())))
    assert not any(text in other for text in ("random weights", "before the refit", "validation AUCs"))


def test_report_shows_card_thresholds_and_validation() -> None:
    """All appear where they are given; the card's warnings stand above the verdict."""
    thresholds, validation = Plate(PICTURE, "Otsu and others."), make_cases(healthy=False, seed=1)
    facts = make_facts(card=CARD, validation=validation, thresholding=thresholds, trials=(), examples=())
    page = Page(render_report(facts))
    assert ["test", "80(40)", "80(40)", "1,160(40)"] == page.tables["splits"][1]
    assert page.text.index("scanner and class go together") < page.text.index("ROC AUC per slice")
    assert "CC BY 4.0" in page.text
    assert "| test | 80 (40) | 80 (40) | 1,160 (40) |" in render_card(facts)
    assert any("validation, per slice" in one["alt"] for one in page.images)
    assert "Otsu and others." in page.text


TRAINING_CARD = {**CARD, "warnings": ["site and class go together"], "rights": {**CARD["rights"], "licence": "CC0"}}


def test_report_of_other_shards_keeps_both_data_sets_apart() -> None:
    """The card of what was learned from is the training data; that of what was tested is the evaluation data."""
    facts = make_facts(card=CARD, training_card=TRAINING_CARD, origin="other shards")
    page, text = Page(render_report(facts)), render_card(facts)
    assert {"splits", "training"} <= set(page.tables)
    assert "Images unlike those of training" not in page.text  # nothing is known of it here
    assert page.text.index("Tested on") < page.text.index("CC BY 4.0") < page.text.index("Learned from")
    evaluated, trained = text.split("## Evaluation data")[1].split("## Training data")
    assert ("CC BY 4.0" in evaluated, "CC0" in evaluated) == (True, False)
    assert ("CC BY 4.0" in trained.split("## Quant")[0], "CC0" in trained.split("## Quant")[0]) == (False, True)
    assert [("Data", "scanner and class go together"), ("Training data", "site and class go together")] == [
        one for one in list_warnings(facts) if one[0] != "Shortcut"
    ]
    assert "of other shards than the model's own" in state_verdict(facts).headline
    assert "Not described" in render_card(replace(facts, training_card=None)).split("## Training data")[1][:300]


@pytest.mark.parametrize(
    ("origin", "split", "said", "not_said"),
    [
        ("own test", "test", ("no other data set was tested", "the test split had no part"), ("private key",)),
        ("other shards", "test", ("one other data set", "private key"), ("no other data set", "had no part")),
        ("own split", "train", ("images that the model was fitted on:",), ("had no part", "chosen on:")),
        ("own split", "validation", ("fitted on and calibration and thresholds were chosen on",), ("had no part",)),
    ],
)
def test_limits_are_so_wherever_the_tested_images_come_from(
    facts: ReportFacts, origin: Any, split: str, said: tuple[str, ...], not_said: tuple[str, ...]
) -> None:
    """Nothing that holds for the run's own test alone is said of another split or of other shards."""
    limits = " ".join(list_limits(replace(facts, origin=origin, metrics={**facts.metrics, "split": split})))
    assert [] == [one for one in said if one not in limits]
    assert [] == [one for one in not_said if one in limits]


def test_limits_say_for_which_share_probabilities_are(facts: ReportFacts) -> None:
    """Validation's, which may differ from that of the tested; the latter is said, too."""
    level = LevelCalibration(Calibrator("platt", 1.0, 0.0, 160, positive_share=0.2))
    limits = " ".join(list_limits(replace(facts, calibration=Calibration(3, 1, {"slice": level}))))
    assert "50% of the tested slices are tumour; probabilities are calibrated for 20%" in limits


@pytest.mark.parametrize(("patients", "warned"), [(40, True), (80, False)])
def test_limits_of_few_patients_say_what_intervals_are_worth(facts: ReportFacts, patients: int, warned: bool) -> None:
    """Below about fifty they cover less than they say."""
    names = np.array([f"p{number % patients}" for number in range(160)])
    limits = list_limits(replace(facts, cases=replace(facts.cases, patients=names)))
    assert warned == any("somewhat less often" in one for one in limits)


def test_reliability_says_whether_there_is_a_calibration_and_where_it_was_fitted() -> None:
    """Without one there is no before and after; only validation of the run itself is what it was fitted on."""
    validation = make_cases(healthy=False, seed=1)
    facts = make_facts(validation=validation)
    captions = {one.name: one.caption for one in draw_level(facts, "slice")}
    assert "fitted on these" in captions["reliability-validation-slice"]
    assert "fitted on these" not in captions["reliability-test-slice"]
    other = replace(facts, origin="other shards", validation=None, metrics={**facts.metrics, "split": "validation"})
    assert not any("fitted on these" in one.caption for one in draw_level(other, "slice"))
    none = replace(facts, calibration=Calibration(3, 1, {}))
    shown = {one.name: one for one in draw_level(none, "slice")}["reliability-validation-slice"]
    assert "These scores are not calibrated." in shown.caption
    assert "calibration" not in shown.text
    assert not shown.broad


def make_three() -> ReportFacts:
    """Facts of a run that tells three classes apart."""
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    scores = rng.random((90, 3)) + np.eye(3)[labels]
    patients = np.array([f"patient{number // 3:02}" for number in range(90)])
    cases = Cases(scores / scores.sum(axis=1, keepdims=True), labels, patients, np.full(90, "L"), 2)
    calibration = calibrate(cases, test_views=1)
    names = {"split": "test", "classes": ["normal", "benign", "tumour"], "positive": "tumour"}
    metrics = {**names, **evaluate(cases, calibration, resamples=50)}
    return ReportFacts("three", RUN, metrics, calibration, cases)


def test_figures_of_three_classes_are_called_what_they_are() -> None:
    """The AUC is a mean over classes, the curve is of one against the rest, and both are said to be so."""
    facts = make_three()
    assert "per slice, the mean of 3 classes each against the rest: " in state_verdict(facts).headline
    shown = {one.name: one for one in draw_level(facts, "slice")}
    assert "tumour against the rest" in shown["roc-slice"].text
    assert "mean over classes" in shown["roc-slice"].caption
    assert "the class of the highest score" in shown["confusion-slice"].caption
    assert "With 3 classes ROC AUC" in Page(render_report(facts)).text
    assert "With 3 classes ROC AUC" in render_card(facts)


@pytest.mark.parametrize(
    ("passed", "expected"),
    [(True, "depend on what"), (False, "hardly depend on what"), (None, "could not be checked")],
)
def test_check_of_heat_maps_is_a_sentence(facts: ReportFacts, passed: bool | None, expected: str) -> None:
    """It says what was done and what follows, without names of layers."""
    facts = replace(facts, saliency=Saliency({**RANDOMISED, "passed": passed}))
    (text,) = describe_checks(facts)
    assert expected in text
    assert "mixed3" not in text
    assert ("rank correlation 0.02 over 30 tumour images" in text) == (passed is not None)


def test_pointing_is_told_beside_what_needs_no_model(facts: ReportFacts) -> None:
    """Hits of the map, of the middle and of the brightest point, with n, patients and what counts."""
    (text,) = describe_checks(replace(facts, saliency=Saliency(pointing=(POINTING,))))
    for expected in ("10 images of 4 patients", "at most 15 pixels beside it in 5 of them: 0.50", "in 2, its", "in 3."):
        assert expected in text


@pytest.mark.parametrize(
    ("unfamiliar", "expected"),
    [(0, "None of the 50 images"), (5, "5 of 50 images (10.0%)"), (None, "Fewer than 10 patients")],
)
def test_familiarity_is_told_with_what_it_means(facts: ReportFacts, unfamiliar: int | None, expected: str) -> None:
    """How many images, how many are to be expected, and what diagnose makes of them; or why nothing can be told."""
    found = {"n": 50, "unfamiliar": unfamiliar, "patients": 8, "patients_with_unfamiliar": unfamiliar and 3}
    facts = replace(facts, metrics={**facts.metrics, "familiarity": found})
    texts = describe_familiarity(facts)
    assert texts[0].startswith(expected)
    assert (unfamiliar is None) != any("up to about 3 % of patients" in one for one in texts)
    assert texts[0] in render_card(facts)


def test_probes_have_a_row_for_each_figure() -> None:
    """What is null is left out, what is undefined says why, and the rule that all share stands once."""
    auc = {"value": 0.9, "low": 0.8, "high": 0.95, "n": 160}
    probes = {
        "mean_intensity": {"auc": auc, "reached": True, "note": f"On mean intensity alone. {RULE}"},
        "image_split": {"auc_by_image": auc, "auc_by_patient": auc, "reached": None, "note": "Twice."},
        "features_tell_site": {"balanced_accuracy": {"value": None, "reason": "one site", "n": 0}, "chance": None},
    }
    first, second, third = list_probes(probes)
    assert ("On mean intensity alone.", (("ROC AUC", "0.900", "0.800 to 0.950", "160"),)) == (first.note, first.rows)
    assert ["ROC AUC, split by image", "ROC AUC, split by patient"] == [row[0] for row in second.rows]
    assert (("balanced accuracy", "undefined: one site", "", "0"),) == third.rows
    page = Page(render_report(make_facts(probes=probes)))
    assert 1 == page.text.count(RULE)
    assert 5 == len(page.tables["probes"])


def test_example_without_heat_stands_alone() -> None:
    """One picture, and no place for a second; what is known of familiarity has its own section."""
    found = {"n": 160, "unfamiliar": 0, "patients": 40, "patients_with_unfamiliar": 0}
    facts = make_facts(examples=(Example(PICTURE, None, "normal", 0.1, "right"),), trials=(), probes={})
    text = render_report(replace(facts, metrics={**facts.metrics, "familiarity": found}))
    assert "Images unlike those of training" in text
    inside = re.findall(r'<div class="pair">(.*?)</div>', text, re.DOTALL)
    assert [1] == [one.count("<img") for one in inside]


def test_trials_are_read_by_name(tmp_path: Path) -> None:
    """A folder's name without its prefix is the trial's; a run without a search has none."""
    record = {"values": {"depth": "none/mixed3"}, "score": None, "seconds": 1.5, "failure": "no", "whole": False}
    for name in ("trial_01", "trial_00"):
        (tmp_path / "trials" / name).mkdir(parents=True)
        (tmp_path / "trials" / name / "record.json").write_text(json.dumps({**record, "fatal": False}))
    assert ["00", "01"] == [one.name for one in read_trials(tmp_path)]
    assert TrialFacts("00", {"depth": "none/mixed3"}, None, 1.5, "no", whole=False) == read_trials(tmp_path)[0]
    assert () == read_trials(tmp_path / "trials")


@pytest.mark.parametrize("text", ["{", "[]", '{"values": {}}'])
def test_damaged_trial_is_refused(tmp_path: Path, text: str) -> None:
    """The message names the file."""
    (tmp_path / "trials" / "trial_00").mkdir(parents=True)
    (tmp_path / "trials" / "trial_00" / "record.json").write_text(text)
    with pytest.raises(RunError, match=r"record\.json: damaged"):
        read_trials(tmp_path)


def test_only_what_varies_has_an_axis() -> None:
    """Epochs are the same in all trials; depth is two things."""
    assert ["frozen depth", "pooled blocks", "learning rate"] == list_varying(TRIALS)


def test_charts_are_pictures() -> None:
    """Also of two equal trials, of none with a depth, and of subgroups without an AUC."""
    scored = [one for one in TRIALS if one.score is not None]
    none = {"value": None, "low": None, "high": None, "n": 3, "reason": "one class"}
    row = {"value": "A", "n": 3, "patients": 1, "auc": none}
    for picture in (
        draw_parallel_coordinates(scored, title="t", selected="00"),
        draw_parallel_coordinates([scored[0]] * 2, title="t"),
        draw_depths(scored, title="t"),
        draw_depths([], title="t"),
        draw_subgroups({"scanner": [row]}, overall=None, title="t"),
    ):
        assert ("uint8", 3, 4) == (picture.dtype.name, picture.ndim, picture.shape[-1])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no file /home/x/y.keras", "no file [path]"),
        ("../a/b is missing", "[path] is missing"),
        (r"C:\data\x is missing", "[path] is missing"),
        ("depth mixed0/mixed3+mixed5", "depth mixed0/mixed3+mixed5"),  # no path
        ("loss 1/2", "loss 1/2"),
    ],
)
def test_paths_are_hidden(text: str, expected: str) -> None:
    """Paths go, settings stay."""
    assert expected == hide_paths(text)


def test_values_of_any_shape_become_words() -> None:
    """Entries keep interval and n; nested mappings, lists and nothing are told as well."""
    entry = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}
    value = {"hits": entry, "blocks": ["a", "b"], "passed": True, "p": None}
    expected = "hits: 0.500 (95 % interval 0.400 to 0.600), n = 9; blocks: a, b; passed: yes; p: not known"
    assert expected == describe_value(value)


def test_calibration_that_decided_nothing_is_told(facts: ReportFacts) -> None:
    """Without calibrators and thresholds the page stands and says so."""
    empty = Calibration(3, 1, {})
    levels = evaluate(facts.cases, empty, resamples=20)
    text = render_card(replace(facts, calibration=empty, metrics={**facts.metrics, **levels}))
    assert "No operating point per slice" in text
    assert "Scores per slice are not calibrated" in text
