"""A run, what validation decided, and its preparation in; what users of an exported model must know of it out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bcdx._versions import installed_versions
from bcdx.config import Dataset
from bcdx.evidence.calibration import Calibration
from bcdx.learning.exporting import OPSET, PACKAGES
from bcdx.learning.run import Run
from bcdx.learning.serving import STEPS, Preparation

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
HIGHER_LEVELS = (
    "a breast's or patient's raw score is the mean of its `top_slices` highest `score`; `calibration` has what follows"
)


def describe_export(
    run: Run, calibration: Calibration, preparation: Preparation, steps: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what is known before anything is written; no identifier and no path.

    Args:
        run: The run.
        calibration: What validation decided.
        preparation: How its images come of pixels.
        steps: The same as the manifest keeps it.
    """
    return {
        "notice": NOTICE,
        "format": 1,
        "classes": list(run.classes),
        "positive": run.positive,
        "inputs": _describe_inputs(Dataset.model_validate(run.dataset), preparation),
        "outputs": {
            name: {"type": "float32", "shape": shape, "meaning": meaning} for name, (shape, meaning) in OUTPUTS.items()
        },
        "operating_points": dict(calibration.at_level("slice").operating_points),
        "higher_levels": HIGHER_LEVELS,
        "calibration": calibration.to_json(),
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
