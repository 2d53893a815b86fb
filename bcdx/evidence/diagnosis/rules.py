"""What validation decided and what the user asks for in; how new slices are judged, and that in words and as data, out.

Thresholds and calibrators hold for scores that come about as validation's did. Where other slices or views are averaged
there are neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bcdx.evidence.calibration import Calibration, Calibrator, LevelCalibration
from bcdx.evidence.operating import NAMES, OPERATING_POINTS
from bcdx.evidence.scores import LEVELS
from bcdx.evidence.words import UNITS, describe_entry

NOT_CALIBRATED = "nothing could be fitted at this level: validation had no such units"
OTHER_SLICES = "as many slices are averaged as asked for, not as many as on validation: its calibration does not apply"
OTHER_VIEWS = "as many views are averaged as asked for, not as many as on validation: its calibration does not apply"
NO_THRESHOLD = "validation gave no threshold at this level: it lacked units of a class"
SEVERAL_CLASSES = "thresholds are chosen for two classes only"


@dataclass(frozen=True)
class Rules:
    """How slices are judged.

    Attributes:
        calibration: What validation decided; its `top_slices` are averaged.
        operating_point: One of `evidence.operating.OPERATING_POINTS`.
        positive: Class index that is looked for.
        limit: Distance above which an image is unfamiliar; None where the run cannot tell.
    """

    calibration: Calibration
    operating_point: str
    positive: int
    limit: float | None = None


def ask_otherwise(calibration: Calibration, *, top_slices: int | None, test_views: int) -> Calibration:
    """Return what validation decided, without what does not hold for scores that come about in another way.

    Args:
        calibration: Of the run.
        top_slices: Slices averaged for a breast or patient; None: as on validation.
        test_views: Views averaged for a slice.
    """
    top_slices = top_slices or calibration.top_slices
    reasons = dict.fromkeys(LEVELS, "")
    if top_slices != calibration.top_slices:
        reasons |= {"breast": OTHER_SLICES, "patient": OTHER_SLICES}
    if test_views != calibration.test_views:
        reasons = dict.fromkeys(LEVELS, OTHER_VIEWS)
    levels = {
        level: LevelCalibration(Calibrator(reason=reason)) if reason else calibration.at_level(level)
        for level, reason in reasons.items()
    }
    return replace(calibration, top_slices=top_slices, test_views=test_views, levels=levels)


def explain_calibration(decided: LevelCalibration) -> str:
    """Return why a level's probabilities are raw scores; empty where they are calibrated."""
    if decided.calibrator.method != "none":
        return ""
    return decided.calibrator.reason or NOT_CALIBRATED


def explain_threshold(decided: LevelCalibration, rules: Rules, *, classes: int) -> str:
    """Return why a level has no threshold; empty where it has one."""
    if decided.operating_points.get(rules.operating_point) is not None:
        return ""
    if decided.calibrator.reason in {OTHER_SLICES, OTHER_VIEWS}:
        return decided.calibrator.reason
    return SEVERAL_CLASSES if classes > 2 else NO_THRESHOLD


def describe_rules(rules: Rules, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `diagnosis.json` says of judging: the operating point, and per level calibration and threshold.

    Args:
        rules: How slices are judged.
        metrics: The run's `metrics.json`: what the thresholds did on its test.
    """
    calibration = rules.calibration
    return {
        "operating_point": rules.operating_point,
        "chosen_on": calibration.chosen_on,
        "top_slices": calibration.top_slices,
        "test_views": calibration.test_views,
        "distance_limit": rules.limit,
        "levels": {level: _describe_level(rules, level, metrics.get(level) or {}) for level in LEVELS},
    }


def _describe_level(rules: Rules, level: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    decided, point = rules.calibration.at_level(level), rules.operating_point
    threshold = decided.operating_points.get(point)
    points = (metrics.get("operating_points") or {}).get(point) or {}
    tested = threshold is not None and points.get("threshold") == threshold
    return {
        "method": decided.calibrator.method,
        "units": decided.calibrator.n,
        "positive_share": decided.calibrator.positive_share,
        "calibration_reason": explain_calibration(decided),
        "threshold": threshold,
        "same_threshold_as": [
            other
            for other in OPERATING_POINTS
            if other != point and threshold is not None and decided.operating_points.get(other) == threshold
        ],
        "tested": {name: _shorten(points[name]) for name in ("sensitivity", "specificity")} if tested else None,
    }


def _shorten(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: entry.get(name) for name in ("value", "low", "high", "n")}


def describe_calibration(rules: Rules) -> str:
    """Return in a sentence per level how probabilities were calibrated, and where that holds."""
    return " ".join(_tell_calibration(rules.calibration.at_level(level), level) for level in LEVELS)


def _tell_calibration(decided: LevelCalibration, level: str) -> str:
    why, fitted = explain_calibration(decided), decided.calibrator
    if why:
        return f"{level.capitalize()}: raw scores, not calibrated ({why})."
    said = f"{level.capitalize()}: {fitted.method} scaling on {fitted.n} validation {UNITS[level]}"
    return f"{said}{_tell_share(fitted.positive_share)}."


def _tell_share(share: float | None) -> str:
    if share is None:
        return "; probabilities hold where as large a share is positive"
    return f", {share:.0%} of them positive; probabilities hold where as large a share is"


def tell_judging(judging: Mapping[str, Any]) -> Iterator[str]:
    """Yield lines for the terminal on what `describe_rules` gave: each level's threshold, and where it comes from."""
    point = judging["operating_point"]
    yield f"Operating point: {NAMES[point]}, chosen on {judging['chosen_on']}."
    for level, one in judging["levels"].items():
        if one["threshold"] is None:
            yield f"  {level:<8}no threshold"
            continue
        same = [NAMES[name] for name in one["same_threshold_as"]]
        yield f"  {level:<8}{one['threshold']:.3f} of {one['units']} validation {UNITS[level]}" + (
            f", which is also that of {' and '.join(same)}" if same else ""
        )
        if one["tested"]:
            shown = (f"{name} {describe_entry(entry)}" for name, entry in one["tested"].items())
            yield f"          on the run's test: {', '.join(shown)}"
    shares = {level: one["positive_share"] for level, one in judging["levels"].items() if one["method"] != "none"}
    if shares:
        known = [f"{share:.0%} of {UNITS[level]}" for level, share in shares.items() if share is not None]
        where = f": {', '.join(known)}" if known else ""
        yield f"Probabilities hold where as large a share is positive as in validation{where}."
