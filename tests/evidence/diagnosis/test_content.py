"""Claims about verdicts on new images, and what is written of them."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcdx.config.use import Diagnose
from bcdx.evidence.calibration import Calibration, Calibrator, LevelCalibration
from bcdx.evidence.diagnosis import content as diagnosis
from bcdx.evidence.diagnosis.caveats import LEARNED, Caveats
from bcdx.evidence.diagnosis.rules import (
    OTHER_SLICES,
    OTHER_VIEWS,
    Rules,
    ask_otherwise,
    describe_calibration,
    describe_rules,
)
from bcdx.evidence.diagnosis.table import draw_table
from bcdx.evidence.diagnosis.verdicts import Images, StudyVerdict, Verdict, judge_studies, list_deciding
from bcdx.evidence.operating import OPERATING_POINTS
from bcdx.evidence.scores import aggregate

CLASSES = ("none", "tumour")
CAVEATS = {"e" * 32: Caveats(True, {"plane axial: the model was made for sagittal": 3}, {"laterality: two words": 2})}
ENTRY = {"value": 0.75, "low": 0.5, "high": 0.9, "n": 20, "method": "as it was"}
METRICS = {"patient": {"operating_points": {"youden": {"threshold": 0.5, "sensitivity": ENTRY, "specificity": ENTRY}}}}


def make_rules(**changes: Any) -> Rules:
    """Slices by temperature, patients by nothing, breasts by what validation lacked."""
    points = dict.fromkeys(OPERATING_POINTS, 0.5)
    levels = {
        "slice": LevelCalibration(Calibrator("temperature", 0.5, 0.0, 80), {**points, "specificity_98": 0.9}),
        "patient": LevelCalibration(Calibrator(n=9, reason="too few to fit on"), points),
        "breast": LevelCalibration(operating_points=dict.fromkeys(OPERATING_POINTS)),
    }
    return replace(Rules(Calibration(2, 1, levels), "youden", 1), **changes)


def make_images(scores: list[float], *, distances: list[float] | None = None, sides: str = "") -> Images:
    """Slices of one patient."""
    count = len(scores)
    return Images(
        sample=[f"{number:032x}" for number in range(count)],
        patient=["f" * 32] * count,
        study=["e" * 32] * count,
        laterality=list(sides or "L" * count),
        plane=["sagittal"] * count,
        slice_index=list(range(count)),
        scores=np.array([[1.0 - score, score] for score in scores]),
        distances=None if distances is None else np.array(distances),
    )


def make_content(images: Images, rules: Rules) -> dict[str, Any]:
    """The content of `diagnosis.json`."""
    return {
        "$schema": diagnosis.SCHEMA,
        "format": diagnosis.FORMAT,
        "notice": diagnosis.NOTICE,
        "warnings": {"familiarity_warning": "nobody knows"},
        "model": {
            **dict.fromkeys(("fingerprint", "sha256", "data_hash"), "0" * 64),
            "classes": list(CLASSES),
            "positive": "tumour",
            "versions": {"bcdx": "0"},
        },
        "judging": describe_rules(rules, METRICS),
        "data": {"samples": len(images.sample), "pixels_sha256": "0" * 64},
        "patients": diagnosis.describe_patients(judge_studies(images, rules), images, CLASSES, CAVEATS),
        "refused": [{"study": "d" * 32, "patient": "c" * 32, "reasons": [{"reason": "plain image", "images": 3}]}],
        "dicom": [{"study": "e" * 32, "files": [], "reason": "not a DICOM file"}],
        "exclusions": [{"key": "a", "reason": "empty file"}],
        "remarks": [],
    }


def judge_whole(images: Images, rules: Rules) -> StudyVerdict:
    """All that is said of the only study."""
    (found,) = judge_studies(images, rules)
    return found


def judge_one(images: Images, rules: Rules) -> Verdict:
    """The only patient's verdict in it."""
    return judge_whole(images, rules).whole


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=8))
def test_patient_score_is_that_of_evaluation(scores: list[float]) -> None:
    """A patient gets the same score here as where the model was tested."""
    images = make_images(scores)
    blank = np.zeros(len(scores), np.int64)
    expected = aggregate(images.scores, blank, np.array(images.patient), positive=1, top=2)[0][0, 1]
    assert expected == pytest.approx(judge_one(images, make_rules()).score)


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=8, unique=True))
def test_deciding_slices_are_the_highest(scores: list[float]) -> None:
    """Their mean is the score, in order of height."""
    verdict = judge_one(make_images(scores), make_rules())
    assert sorted(scores, reverse=True)[:2] == [scores[index] for index in verdict.deciding]
    assert np.mean([scores[index] for index in verdict.deciding]) == pytest.approx(verdict.score)


def test_each_level_has_its_own_calibration() -> None:
    """Slices are softened by their temperature; a patient's raw score stays and says why."""
    patient = judge_whole(make_images([0.9]), make_rules())
    assert patient.slices[0].probability == pytest.approx(0.75)  # logit halved
    assert patient.slices[0].calibration_reason == ""
    assert patient.whole.probability == pytest.approx(0.9)
    assert patient.whole.calibration_reason == "too few to fit on"


def test_breast_without_a_threshold_has_no_call_and_says_why() -> None:
    """Nothing stands in for a threshold that validation could not give."""
    breast = judge_whole(make_images([0.9]), make_rules()).breasts["L"]
    assert breast.call is None
    assert "no threshold" in breast.reason


def test_studies_of_one_patient_are_judged_apart() -> None:
    """A tumour of this year says nothing of the images of nine years ago."""
    images = replace(make_images([0.1, 0.2, 0.9, 0.8]), study=["a" * 32] * 2 + ["b" * 32] * 2)
    earlier, later = judge_studies(images, make_rules())
    assert (0.15, 0.85) == pytest.approx((earlier.whole.score, later.whole.score))
    assert (0.15, 0.85) == pytest.approx((earlier.breasts["L"].score, later.breasts["L"].score))
    assert {0, 1} == {one for unit in (earlier.whole, *earlier.slices) for one in unit.members}
    entries = diagnosis.describe_patients((earlier, later), images, CLASSES, {})
    assert [("f" * 32, "a" * 32), ("f" * 32, "b" * 32)] == [(one["patient"], one["study"]) for one in entries]


def test_other_slices_than_on_validation_take_calibration_from_breast_and_patient() -> None:
    """A mean of other slices has other thresholds, which nobody has chosen; slices keep theirs."""
    rules = make_rules()
    rules = replace(rules, calibration=ask_otherwise(rules.calibration, top_slices=1, test_views=1))
    found = judge_whole(make_images([0.9, 0.2]), rules)
    for unit in (found.whole, found.breasts["L"]):
        assert (None, None) == (unit.call, unit.threshold)
        assert OTHER_SLICES == unit.reason == unit.calibration_reason
        assert unit.probability == pytest.approx(0.9)
    assert ["above", "below"] == [one.call for one in found.slices]


def test_other_views_than_on_validation_take_calibration_from_every_level() -> None:
    """Nothing that was decided for one view holds for the mean of eight."""
    rules = make_rules()
    rules = replace(rules, calibration=ask_otherwise(rules.calibration, top_slices=None, test_views=8))
    found = judge_whole(make_images([0.9]), rules)
    assert {(None, OTHER_VIEWS)} == {(one.call, one.reason) for one in (found.whole, *found.slices)}


def test_asking_as_validation_did_changes_nothing() -> None:
    """Nor does naming the same numbers."""
    calibration = make_rules().calibration
    for top_slices in (None, calibration.top_slices):
        assert calibration == ask_otherwise(calibration, top_slices=top_slices, test_views=calibration.test_views)


def test_rules_tell_what_a_threshold_did_on_the_test_and_which_share_it() -> None:
    """Units that it was chosen on, its figures with intervals, other points of the same threshold."""
    patient = describe_rules(make_rules(), METRICS)["levels"]["patient"]
    assert (9, {**dict.fromkeys(("value", "low", "high", "n")), "value": 0.75, "low": 0.5, "high": 0.9, "n": 20}) == (
        patient["units"],
        patient["tested"]["sensitivity"],
    )
    assert list(OPERATING_POINTS[1:]) == patient["same_threshold_as"]
    table = draw_table(make_content(make_images([0.9]), make_rules()), {})
    assert "0.500 of 9 validation patients, which is also that of 90 % specificity and" in table
    assert "sensitivity 0.750 (95 % interval 0.500 to 0.900)" in table


def test_rules_take_no_test_of_another_threshold() -> None:
    """Metrics of a run whose thresholds have changed since are not its."""
    rules = replace(make_rules(), operating_point="specificity_98")
    assert describe_rules(rules, METRICS)["levels"]["patient"]["tested"] is None


def test_calibration_is_said_to_hold_where_as_many_are_positive() -> None:
    """In the report and on the terminal: validation's share is not that of a clinic."""
    fitted = Calibrator("platt", 1.5, 1.0, n=40, positive_share=0.25)
    rules = replace(make_rules(), calibration=Calibration(2, 1, {"patient": LevelCalibration(fitted)}))
    assert "platt scaling on 40 validation patients, 25% of them positive" in describe_calibration(rules)
    table = draw_table(make_content(make_images([0.9]), rules), {})
    assert "Probabilities hold where as large a share is positive as in validation: 25% of patients." in table


def test_caveats_are_told_beside_the_study_everywhere() -> None:
    """In the table, in each row, and in sentences for the report; whether the patient was learned first."""
    content = make_content(make_images([0.9]), make_rules())
    (patient,) = content["patients"]
    assert [{"reason": "plane axial: the model was made for sagittal", "images": 3}] == patient["left_out"]
    rows = list(csv.DictReader(io.StringIO(diagnosis.write_rows(content))))[:-1]
    assert {("true", "3", "2")} == {(row["learned"], row["images_left_out"], row["remarks"]) for row in rows}
    table = draw_table(content, {})
    assert f"WARNING: {LEARNED}" in table
    assert "  left out: plane axial: the model was made for sagittal (3)" in table
    first, *others = CAVEATS["e" * 32].tell()
    assert first == LEARNED
    assert ["plane axial", "laterality"] == [word for word in ("plane axial", "laterality") if word in " ".join(others)]
    assert Caveats().tell() == ()


def test_table_lists_abstained_slices_last() -> None:
    """They have no height to be listed by."""
    images = make_images([0.9, 0.3, 0.2], distances=[9.0, 1.0, 1.0])
    lines = draw_table(make_content(images, make_rules(limit=2.0)), {}).splitlines()
    shown = [line.split()[0] for line in lines if line.startswith("    0")]
    assert [images.sample[index] for index in (1, 2, 0)] == shown


def test_slices_of_unknown_side_make_no_breast() -> None:
    """They count for the patient alone."""
    patient = judge_whole(replace(make_images([0.9, 0.2]), laterality=["unknown", "R"]), make_rules())
    assert list(patient.breasts) == ["R"]
    assert patient.breasts["R"].score == pytest.approx(0.2)
    assert len(patient.whole.members) == 2


def test_operating_point_decides_the_call() -> None:
    """The same probability is above one threshold and below another."""
    images = make_images([0.9])
    calls = [
        judge_whole(images, make_rules(operating_point=point)).slices[0].call for point in ("youden", "specificity_98")
    ]
    assert calls == ["above", "below"]


def test_settings_name_the_operating_points_of_evidence() -> None:
    """Two lists, one truth."""
    assert OPERATING_POINTS == Diagnose.model_fields["operating_point"].annotation.__args__  # type: ignore[union-attr]


def test_unfamiliar_unit_gives_no_probability_and_no_call() -> None:
    """No number is left that somebody could take for an answer."""
    images, rules = make_images([0.9, 0.1], distances=[9.0, 1.0]), make_rules(limit=2.0)
    entry = diagnosis.describe_patients(judge_studies(images, rules), images, CLASSES, CAVEATS)[0]
    assert (True, None, None, None) == tuple(entry[name] for name in ("abstained", "probability", "score", "call"))
    assert {"threshold", "distance"} == {name for name, value in entry.items() if isinstance(value, float)}
    assert "unlike" in entry["reason"]
    assert [one["abstained"] for one in entry["slices"]] == [True, False]


def test_slices_that_do_not_decide_do_not_make_a_patient_unfamiliar() -> None:
    """A strange slice that the score does not rest on is abstained from alone."""
    images = make_images([0.9, 0.8, 0.1], distances=[1.0, 1.0, 9.0])
    patient = judge_whole(images, make_rules(limit=2.0))
    assert not patient.whole.abstained
    assert [one.abstained for one in patient.slices] == [False, False, True]


def test_patient_is_unfamiliar_where_half_of_the_slices_are() -> None:
    """Though those that decide look usual: another kind of study."""
    images = make_images([0.9, 0.8, 0.1, 0.2], distances=[1.0, 1.0, 9.0, np.inf])
    entry = diagnosis.describe_patients(judge_studies(images, make_rules(limit=2.0)), images, CLASSES, {})[0]
    assert entry["abstained"]
    assert "half" in entry["reason"]
    assert entry["distance"] == pytest.approx(1.0)


def test_run_without_reference_never_abstains() -> None:
    """Where nothing is known of familiarity, nothing is claimed."""
    verdict = judge_one(make_images([0.9]), make_rules())
    assert verdict.distance is None
    assert not verdict.abstained


def test_slices_that_decide_about_any_class_can_make_a_patient_unfamiliar() -> None:
    """Of three classes each score is the mean of its own highest slices: the strange one decides about another."""
    images = make_images([0.9, 0.8, 0.7, 0.1, 0.1, 0.1, 0.1, 0.1], distances=[0.5] * 7 + [9.0])
    others = np.linspace(0.0, 0.8, 8)
    positive = images.scores[:, 1]
    scores = np.stack([(1 - positive) * (1 - others), positive, (1 - positive) * others], axis=1)
    rules = make_rules(limit=1.0)
    assert not judge_whole(images, rules).whole.abstained
    assert judge_whole(replace(images, scores=scores), rules).whole.abstained


def test_list_deciding_names_each_slice_once() -> None:
    """Breasts and patient share slices."""
    verdicts = judge_studies(make_images([0.1, 0.9, 0.8, 0.2], sides="LLRR"), make_rules())
    assert [1, 2, 0, 3] == list(list_deciding(verdicts))


def test_schema_is_itself_valid() -> None:
    """Draft 2020-12."""
    jsonschema.Draft202012Validator.check_schema(json.loads(diagnosis.read_schema()))


@given(
    st.lists(st.floats(0.0, 1.0), min_size=1, max_size=5),
    st.lists(st.floats(0.0, 10.0), min_size=5, max_size=5),
    st.sampled_from([None, 2.0]),
)
def test_content_follows_its_schema(scores: list[float], distances: list[float], limit: float | None) -> None:
    """With answers, abstentions, refusals, and what is not known."""
    found = None if limit is None else distances[: len(scores)]
    content = make_content(make_images(scores, distances=found), make_rules(limit=limit))
    validator = jsonschema.Draft202012Validator(json.loads(diagnosis.read_schema()))
    validator.validate(json.loads(diagnosis.dump(content)))


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("probability", 0.9),  # of a patient that is abstained from
        ("call", "above"),
        ("score", 0.9),
        ("PatientName", "CANARY"),
        ("patient", "Breast_MRI_014"),
    ],
)
def test_schema_refuses_what_must_not_be_said(where: str, value: Any) -> None:
    """No answer beside an abstention, no unknown field, no identifier in place of a code."""
    content = make_content(make_images([0.9], distances=[9.0]), make_rules(limit=2.0))
    content["patients"][0][where] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, json.loads(diagnosis.read_schema()))


def test_rows_are_one_per_unit_and_refused_study() -> None:
    """Two breasts, three slices, a patient, a refused study; an abstained unit's probability is empty."""
    images = make_images([0.9, 0.8, 0.1], distances=[9.0, 1.0, 1.0], sides="LRR")
    rows = list(csv.DictReader(io.StringIO(diagnosis.write_rows(make_content(images, make_rules(limit=2.0))))))
    assert ["patient", "breast", "breast", "slice", "slice", "slice", "study"] == [row["level"] for row in rows]
    assert ("", "", "true") == tuple(rows[1][name] for name in ("probability", "score", "abstained"))
    assert ("true", "plain image (3)") == (rows[-1]["refused"], rows[-1]["reason"])


def test_table_marks_raw_scores_and_names_who_was_refused() -> None:
    """A reader of the terminal is told the same as a reader of the file."""
    table = draw_table(make_content(make_images([0.9]), make_rules()), {"0" * 32: "/secret/0001.dcm"})
    assert "0.900~" in table
    assert "~ a raw score, not calibrated: too few to fit on" in table
    assert "REFUSED: study dddddddddddd" in table
    assert "0001.dcm" in table
    assert "/secret" not in table
