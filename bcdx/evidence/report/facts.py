"""What the report and the model card are told: plain data of a finished run, and trials as a run folder holds them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bcdx.errors import RunError
from bcdx.evidence.calibration import Calibration
from bcdx.evidence.cases import Cases

Pixels = NDArray[np.uint8]
Origin = Literal["own test", "own split", "other shards"]
"""The tested split: the run's own test; training or validation of the shards that it learned from; or other shards."""


@dataclass(frozen=True)
class TrialFacts:
    """One trial of the search.

    Attributes:
        name: Such as `08`.
        values: Hyperparameter -> value, Keras Tuner's own (`tuner/epochs`, ...) among them.
        score: Validation AUC; None where training came to nothing.
        seconds: It took.
        failure: Why it came to nothing; else empty.
        whole: Whether it was trained to the end of its schedule.
    """

    name: str
    values: Mapping[str, Any]
    score: float | None
    seconds: float
    failure: str = ""
    whole: bool = True


@dataclass(frozen=True)
class Example:
    """One tested slice that is shown.

    Attributes:
        picture: uint8, shape (height, width, 3).
        overlay: The same with its heat map, or None.
        label: True class.
        probability: Calibrated, of the positive class.
        kind: `right` or `wrong`.
        level: What is right or wrong: `slice`, `breast` or `patient`.
        code: First characters of the sample's code.
        note: What else to say.
    """

    picture: Pixels = field(repr=False)
    overlay: Pixels | None = field(repr=False)
    label: str
    probability: float
    kind: str
    level: str = "slice"
    code: str = ""
    note: str = ""


@dataclass(frozen=True)
class Plate:
    """A picture with its words.

    Attributes:
        picture: uint8, shape (height, width, 3 or 4).
        note: What is seen.
    """

    picture: Pixels = field(repr=False)
    note: str


@dataclass(frozen=True)
class Saliency:
    """How far heat maps can be trusted.

    Attributes:
        randomised: What `learning.saliency.check_by_randomising` gives; empty: not checked.
        pointing: What `evidence.pointing.score_pointing` gives, one a tolerance.
    """

    randomised: Mapping[str, Any] = field(default_factory=dict)
    pointing: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class ReportFacts:
    """All that the report says.

    Attributes:
        title: Heading; no path.
        run: Content of `run.json`.
        metrics: Content of `metrics.json`.
        calibration: Chosen on validation.
        cases: Raw scores of the tested split.
        validation: Raw scores of validation before the refit, or None.
        origin: What the tested split is to the run.
        card: Content of the tested shards' `card.json`, or None.
        training_card: The same of the shards that the run learned from; its own test's are `card` once more.
        trials: Of the search; empty where nothing was searched.
        probes: What `evidence.probes.run_probes` gives.
        examples: Tested slices to show.
        saliency: What is known of heat maps.
        thresholding: Thresholds side by side, or None.
        commands: Shell lines that make the run again.
    """

    title: str
    run: Mapping[str, Any]
    metrics: Mapping[str, Any]
    calibration: Calibration
    cases: Cases
    validation: Cases | None = None
    origin: Origin = "own test"
    card: Mapping[str, Any] | None = None
    training_card: Mapping[str, Any] | None = None
    trials: tuple[TrialFacts, ...] = ()
    probes: Mapping[str, Any] = field(default_factory=dict)
    examples: tuple[Example, ...] = ()
    saliency: Saliency = Saliency()
    thresholding: Plate | None = None
    commands: tuple[str, ...] = ()


def read_trials(folder: Path) -> tuple[TrialFacts, ...]:
    """Return the trials of a run folder, by name; none where nothing was searched.

    Raises:
        RunError: A record cannot be understood.
    """
    return tuple(_read_trial(path) for path in sorted((folder / "trials").glob("*/record.json")))


def _read_trial(path: Path) -> TrialFacts:
    try:
        found = json.loads(path.read_text())
        score = None if found["score"] is None else float(found["score"])
        seconds, whole = float(found["seconds"]), bool(found["whole"])
        return TrialFacts(
            path.parent.name.removeprefix("trial_"), dict(found["values"]), score, seconds, str(found["failure"]), whole
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path}: damaged, or written by another version of bcdx") from error
