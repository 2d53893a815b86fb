"""Verdicts in; `diagnosis.json` as its published schema says, `diagnosis.csv` and the terminal's table out."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from bcdx.evidence.calibration import Calibration
from bcdx.evidence.diagnosis.verdicts import DIGITS, Images, PatientVerdict, Rules, Verdict, explain_calibration
from bcdx.evidence.operating import NAMES
from bcdx.evidence.scores import LEVELS

FORMAT = 1
CONTENT, TABLE, SCHEMA = "diagnosis.json", "diagnosis.csv", "diagnosis.schema.json"
NOTICE = "Research use only: not a medical device. What stands here is a model's output, not a diagnosis."
COLUMNS = (
    "level", "patient", "laterality", "study", "sample", "plane", "slice_index", "probability", "calibrated", "score",
    "threshold", "call", "abstained", "refused", "distance", "distance_limit", "score_not_for_use", "reason",
)  # fmt: skip
SHOWN_REFUSED = 4
SHOWN_SLICES = 10
"""Slices of a patient that the terminal lists, the highest first; the files have all."""


def read_schema() -> str:
    """Return the JSON schema of `diagnosis.json`, draft 2020-12."""
    return resources.files("bcdx.evidence.diagnosis").joinpath(SCHEMA).read_text()


def describe_patients(
    verdicts: Mapping[str, PatientVerdict], images: Images, classes: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Return the entries of `patients`, each with its breasts and slices."""
    return [
        {
            "patient": key,
            **describe_unit(one.whole, images, classes),
            "breasts": [
                {"laterality": side, **describe_unit(breast, images, classes)} for side, breast in one.breasts.items()
            ],
            "slices": [_describe_slice(found, images, classes) for found in one.slices],
        }
        for key, one in verdicts.items()
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

    Where the model abstains there is no probability and no call, so that nobody takes one for an answer; the raw score
    is kept under a name that says what it is.
    """
    silent, score = verdict.abstained, round(verdict.score, DIGITS)
    several = dict(zip(classes, (round(one, DIGITS) for one in verdict.probabilities), strict=False))
    return {
        "probability": None if silent else round(verdict.probability, DIGITS),
        "calibrated": not verdict.calibration_reason,
        "calibration_reason": verdict.calibration_reason,
        "score": None if silent else score,
        "threshold": verdict.threshold,
        "call": verdict.call,
        "abstained": silent,
        "reason": verdict.reason,
        "distance": _to_number(verdict.distance),
        "score_not_for_use": score if silent else None,
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


def describe_rules(rules: Rules) -> dict[str, Any]:
    """Return how verdicts come about: the operating point, and per level calibration and threshold."""
    calibration: Calibration = rules.calibration
    levels = {}
    for level in LEVELS:
        decided = calibration.at_level(level)
        levels[level] = {
            "method": decided.calibrator.method,
            "units": decided.calibrator.n,
            "calibration_reason": explain_calibration(decided),
            "threshold": decided.operating_points.get(rules.operating_point),
        }
    return {
        "operating_point": rules.operating_point,
        "chosen_on": calibration.chosen_on,
        "top_slices": calibration.top_slices,
        "test_views": calibration.test_views,
        "distance_limit": rules.limit,
        "levels": levels,
    }


def describe_calibration(rules: Rules) -> str:
    """Return in a sentence per level how probabilities were calibrated."""
    parts = []
    for level in LEVELS:
        decided = rules.calibration.at_level(level)
        why, fitted = explain_calibration(decided), decided.calibrator
        how = (
            f"raw scores, not calibrated ({why})" if why else f"{fitted.method} scaling on {fitted.n} validation units"
        )
        parts.append(f"{level.capitalize()}: {how}.")
    return " ".join(parts)


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
        yield {"level": "patient", **patient}
        for breast in patient["breasts"]:
            yield {"level": "breast", "patient": patient["patient"], **breast}
        for one in patient["slices"]:
            yield {"level": "slice", "patient": patient["patient"], **one}
    for refused in content["refused"]:
        reasons = "; ".join(f"{one['reason']} ({one['images']})" for one in refused["reasons"])
        yield {"level": "study", **refused, "refused": True, "reason": reasons}


def _to_cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def draw_table(content: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """Return the table for the terminal: patients, their breasts, their highest slices, and who was refused.

    Args:
        content: Of `diagnosis.json`.
        files: Sample -> its file, which is named here alone.
    """
    lines = [content["notice"], *(f"WARNING: {text}" for text in content["warnings"].values()), ""]
    judging = content["judging"]
    point = f"Operating point: {NAMES[judging['operating_point']]}, chosen on {judging['chosen_on']}."
    lines += [point, f"{'':<44}{'P(' + content['model']['positive'] + ')':>12}  threshold  call"]
    for patient in content["patients"]:
        lines.append(_line(f"patient {patient['patient'][:12]}", patient))
        lines += [_line(f"  breast {breast['laterality']}", breast) for breast in patient["breasts"]]
        shown, more = _choose_slices(patient)
        for one in shown:
            name = Path(files.get(one["sample"], one["sample"])).name
            lines.append(_line(f"    {name} ({one['laterality']}, {one['plane']})", one))
        lines += [f"    and {more} lower slices" if more else ""][: bool(more)]
    lines += _list_refused(content)
    return "\n".join([*lines, *_explain_marks(content)])


def _list_refused(content: Mapping[str, Any]) -> Iterator[str]:
    """Yield who was refused and why; studies refused for the same reasons together."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for one in content["refused"]:
        alike.setdefault(tuple(reason["reason"] for reason in one["reasons"]), []).append(one["study"][:12])
    for reasons, studies in alike.items():
        more = f" and {len(studies) - SHOWN_REFUSED} more" if len(studies) > SHOWN_REFUSED else ""
        yield f"REFUSED: {'study' if len(studies) == 1 else 'studies'} {', '.join(studies[:SHOWN_REFUSED])}{more}"
        yield from (f"    {reason}" for reason in reasons)


def _choose_slices(patient: Mapping[str, Any]) -> tuple[list[dict[str, Any]], int]:
    def height(one: dict[str, Any]) -> float:
        return float(one["score_not_for_use"] if one["abstained"] else one["score"])

    ordered = sorted(patient["slices"], key=height, reverse=True)
    return ordered[:SHOWN_SLICES], len(ordered[SHOWN_SLICES:])


def _line(name: str, one: Mapping[str, Any]) -> str:
    threshold = "none" if one["threshold"] is None else f"{one['threshold']:.3f}"
    if one["abstained"]:
        return f"{name:<44}{'abstained':>12}  {threshold:>9}  none: unfamiliar"
    shown = f"{one['probability']:.3f}{' ' if one['calibrated'] else '~'}"
    return f"{name:<44}{shown:>12}  {threshold:>9}  {one['call'] or 'none'}"


def _explain_marks(content: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the marks in the table mean, as far as they occur."""
    units = [unit for one in content["patients"] for unit in (one, *one["breasts"], *one["slices"])]
    answered = [unit for unit in units if not unit["abstained"]]
    for reason in sorted({unit["calibration_reason"] for unit in answered if not unit["calibrated"]}):
        yield f"~ a raw score, not calibrated: {reason}"
    for reason in sorted({unit["reason"] for unit in units if unit["reason"]}):
        yield f"no call: {reason}"
    if content["exclusions"]:
        yield f"{len(content['exclusions'])} files or frames left out; {CONTENT} says why"


def dump(content: Mapping[str, Any]) -> str:
    """Return the text of `diagnosis.json`; NaN and infinity are refused, for JSON has neither."""
    return json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
