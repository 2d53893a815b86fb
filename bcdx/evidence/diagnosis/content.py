"""Verdicts in; `diagnosis.json` as its published schema says, and `diagnosis.csv`, out."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from typing import Any

from bcdx.evidence.diagnosis.caveats import Caveats
from bcdx.evidence.diagnosis.verdicts import DIGITS, Images, StudyVerdict, Verdict

FORMAT = 1
CONTENT, TABLE, SCHEMA = "diagnosis.json", "diagnosis.csv", "diagnosis.schema.json"
NOTICE = "Research use only: not a medical device. What stands here is a model's output, not a diagnosis."
COLUMNS = (
    "level", "patient", "laterality", "study", "sample", "plane", "slice_index", "probability", "calibrated", "score",
    "threshold", "call", "abstained", "refused", "distance", "distance_limit", "learned", "images_left_out", "remarks",
    "reason",
)  # fmt: skip


def read_schema() -> str:
    """Return the JSON schema of `diagnosis.json`, draft 2020-12."""
    return resources.files("bcdx.evidence.diagnosis").joinpath(SCHEMA).read_text()


def describe_patients(
    verdicts: Iterable[StudyVerdict], images: Images, classes: tuple[str, ...], caveats: Mapping[str, Caveats]
) -> list[dict[str, Any]]:
    """Return the entries of `patients`, one for each study of each, with its breasts and slices.

    Args:
        verdicts: Of each study.
        images: What they are about.
        classes: Names.
        caveats: By study.
    """
    return [
        {
            "patient": one.patient,
            "study": one.study,
            **caveats.get(one.study, Caveats()).to_json(),
            **describe_unit(one.whole, images, classes),
            "breasts": [
                {"laterality": side, **describe_unit(breast, images, classes)} for side, breast in one.breasts.items()
            ],
            "slices": [_describe_slice(found, images, classes) for found in one.slices],
        }
        for one in verdicts
    ]


def describe_unit(verdict: Verdict, images: Images, classes: tuple[str, ...]) -> dict[str, Any]:
    """Return the verdict on a breast or patient: what every level says, and which slices decided."""
    return {
        **describe_verdict(verdict, classes),
        "slices_averaged": len(verdict.deciding),
        "deciding": [images.sample[one] for one in verdict.deciding],
    }


def describe_verdict(verdict: Verdict, classes: tuple[str, ...]) -> dict[str, Any]:
    """Return what the schema calls a verdict.

    Where the model abstains there is no number and no call, so that nobody takes one for an answer.
    """
    silent = verdict.abstained
    several = dict(zip(classes, (round(one, DIGITS) for one in verdict.probabilities), strict=False))
    return {
        "probability": None if silent else round(verdict.probability, DIGITS),
        "calibrated": not verdict.calibration_reason,
        "calibration_reason": verdict.calibration_reason,
        "score": None if silent else round(verdict.score, DIGITS),
        "threshold": verdict.threshold,
        "call": verdict.call,
        "abstained": silent,
        "reason": verdict.reason,
        "distance": _to_number(verdict.distance),
        **({"probabilities": several} if several and not silent else {}),
    }


def _to_number(distance: float | None) -> float | None:
    """Return what JSON can hold: features that are not finite lie infinitely far away."""
    return None if distance is None or not math.isfinite(distance) else round(distance, DIGITS)


def _describe_slice(verdict: Verdict, images: Images, classes: tuple[str, ...]) -> dict[str, Any]:
    index = verdict.members[0]
    return {
        "sample": images.sample[index],
        "study": images.study[index],
        "laterality": images.laterality[index],
        "plane": images.plane[index],
        "slice_index": images.slice_index[index],
        **describe_verdict(verdict, classes),
    }


def write_rows(content: Mapping[str, Any]) -> str:
    """Return `diagnosis.csv`: a row per patient, breast and slice, then one per refused study."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    limit = content["judging"]["distance_limit"]
    for row in _list_rows(content):
        shown = {name: _to_cell(value) for name, value in row.items()}
        writer.writerow({"refused": "false", "distance_limit": _to_cell(limit), **shown})
    return text.getvalue()


def _list_rows(content: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for patient in content["patients"]:
        known = {"patient": patient["patient"], "study": patient["study"], **_count_caveats(patient)}
        yield {"level": "patient", **patient, **known}
        for breast in patient["breasts"]:
            yield {"level": "breast", **breast, **known}
        for one in patient["slices"]:
            yield {"level": "slice", **one, **known}
    for refused in content["refused"]:
        reasons = "; ".join(f"{one['reason']} ({one['images']})" for one in refused["reasons"])
        yield {"level": "study", **refused, "refused": True, "reason": reasons}


def _count_caveats(patient: Mapping[str, Any]) -> dict[str, Any]:
    """Return what must be known of a study in each of its rows; counts, for the reasons stand in the other file."""
    left_out, remarks = (sum(one["images"] for one in patient[name]) for name in ("left_out", "remarks"))
    return {"learned": patient["learned"], "images_left_out": left_out, "remarks": remarks}


def _to_cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def dump(content: Mapping[str, Any]) -> str:
    """Return the text of `diagnosis.json`; NaN and infinity are refused, for JSON has neither."""
    return json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
