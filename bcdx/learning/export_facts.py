"""A run, what validation decided, and its preparation in; what users of an exported model must know of it out."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from bcdx._versions import installed_versions
from bcdx.config import Dataset
from bcdx.evidence.calibration import Calibration
from bcdx.evidence.familiarity import Reference
from bcdx.learning.exporting import OPSET, PACKAGES
from bcdx.learning.run import Run
from bcdx.learning.serving import DISTANCE, STEPS, Preparation

NOTICE = "Research use only: not a medical device, and no substitute for a radiologist."
TRACKED = ("tensorflow", "keras", "numpy", *PACKAGES)
SCOPES = {
    "study": "all selected slices and phases of the study",
    "auto": "all selected slices and phases of the study (of mammography and plain images: of the image alone)",
    "series": "all selected slices of the series",
    "image": "the image, all its phases",
}
"""`normalise.unit` -> what one range belongs to; "none" has a fixed one."""
OWN_RANGES = "phases have ranges of their own: bring each into [0, 1] by its own, then give low 0 and high 1"
OUTPUTS = {
    "probability": (["batch"], "of the positive class, calibrated for a slice; NaN where high is not above low"),
    "score": (["batch"], "of the positive class, before calibration; mean over `test_views`"),
    "probabilities": (["batch", "classes"], "calibrated, of each class"),
    "features": (["batch", "features"], "what the head reads of the plain view"),
}
"""Output -> shape and meaning."""
DISTANCE_MEANING = "from the training images; NaN where high is not above low; compare it with `familiarity`'s limit"
ABSTAIN = (
    "The model does not abstain by itself: a slice whose `distance` is above `limit` is unlike the training images, "
    "and its probability is not to be used; nor is that of a breast or patient of which one of the `top_slices` "
    "highest slices, or half of all slices, are so."
)
NO_LIMIT = "Too few training patients to set a limit of `distance`: images unlike theirs cannot be told."
NO_REFERENCE = "The run has no reference of its training images: images unlike them get a probability as any other."
HIGHER_LEVELS = (
    "a breast's or patient's raw score is the mean of its `top_slices` highest `score`; `calibration` has what follows"
)


def describe_export(
    run: Run, calibration: Calibration, preparation: Preparation, steps: Mapping[str, Any], reference: Reference | None
) -> dict[str, Any]:
    """Return what is known before anything is written; no identifier and no path.

    Args:
        run: The run.
        calibration: What validation decided.
        preparation: How its images come of pixels.
        steps: The same as the manifest keeps it.
        reference: Of its training images, where it has one.
    """
    meanings = OUTPUTS if reference is None else {**OUTPUTS, DISTANCE: (["batch"], DISTANCE_MEANING)}
    return {
        "notice": NOTICE,
        "format": 1,
        "classes": list(run.classes),
        "positive": run.positive,
        "inputs": _describe_inputs(Dataset.model_validate(run.dataset), preparation),
        "outputs": {
            name: {"type": "float32", "shape": shape, "meaning": meaning} for name, (shape, meaning) in meanings.items()
        },
        "operating_points": dict(calibration.at_level("slice").operating_points),
        "higher_levels": HIGHER_LEVELS,
        "calibration": calibration.to_json(),
        "calibrated_for": tell_share(calibration),
        "familiarity": describe_familiarity(reference),
        "preparation": dict(steps),
        "size": preparation.size,
        "test_views": calibration.test_views,
        "precision": {"run": run.precision, "exported": "float32"},
        "data_hash": run.data_hash,
        "warnings": run.warnings(),
        "versions": {**installed_versions(TRACKED), "opset": str(OPSET)},
    }


def as_metadata(content: Mapping[str, Any]) -> dict[str, str]:
    """Return the content as ONNX keeps it: texts by name, JSON for what is none."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in content.items()}


def tell_share(calibration: Calibration) -> str:
    """Return in a sentence for which share of positive slices the probabilities are meant."""
    calibrator = calibration.at_level("slice").calibrator
    if calibrator.method == "none":
        return f"A slice's probability is its raw score, not calibrated ({calibrator.reason or 'nothing was fitted'})."
    share = calibrator.positive_share
    shown = "as many slices are positive as" if share is None else f"{share:.1%} of the slices are positive, as"
    return (
        f"A slice's probability holds where {shown} on validation; where fewer are, it is too high, where more are, "
        "too low. `calibration` has each level's `positive_share`."
    )


def describe_familiarity(reference: Reference | None) -> dict[str, Any]:
    """Return the limit of `distance`, None where there is none, and what its user must do."""
    if reference is None:
        return {"limit": None, "advice": NO_REFERENCE}
    finite = math.isfinite(reference.limit)
    return {
        "limit": reference.limit if finite else None,
        "advice": ABSTAIN if finite else NO_LIMIT,
        "patients": reference.patients,
        "images": reference.images,
    }


def _describe_inputs(dataset: Dataset, preparation: Preparation) -> dict[str, Any]:
    units = "after modality LUT or rescale" + (", then VOI LUT or window" if dataset.voi else "")
    low, high = _describe_range(dataset, len(preparation.phases))
    return {
        "pixels": {
            "type": "float32",
            "shape": ["batch", "rows", "columns", len(preparation.phases)],
            "channels": list(preparation.phases),
            "units": f"{units}; MONOCHROME1 negated; NaN where the image is padded",
        },
        "low": {"type": "float32", "shape": ["batch"], "units": low},
        "high": {"type": "float32", "shape": ["batch"], "units": high},
    }


def _describe_range(dataset: Dataset, phases: int) -> tuple[str, str]:
    """Return what `low` and `high` are."""
    rule = dataset.normalise
    if rule.unit == "none":
        return "0", f"{STEPS:g}"
    advice = f"; {OWN_RANGES}" if rule.unit == "series" and phases > 1 else ""
    scope = SCOPES[rule.unit]
    return (
        f"percentile {rule.low:g} of the pixels of {scope}, without padding{advice}",
        f"percentile {rule.high:g} of the same pixels",
    )
