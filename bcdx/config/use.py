"""Settings of the verbs that use a finished run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bcdx.config.base import Settings

Paths = Annotated[tuple[str, ...], Field(min_length=1)]
OperatingPoint = Literal["youden", "specificity_90", "specificity_98", "sensitivity_90", "sensitivity_97_5"]
"""As `evidence.operating.OPERATING_POINTS`."""


class Evaluate(Settings):
    """A trained run on held-out shards."""

    run: str = Field(description="Run folder of `tune` or `fit`.")
    records: str | None = Field(None, description="Folder of shards; unset: those of the run.")
    out: str | None = Field(None, description="Folder for metrics.json; unset: RUN-on-RECORDS beside the run.")
    beside: str | None = Field(
        None,
        description="Another finished run, whose own test is shown beside this result, such as one split by image.",
    )
    split: Literal["train", "validation", "test"] = Field("test", description="Split to score.")
    prevalence: float = Field(
        0.01,
        gt=0.0,
        lt=1.0,
        description="Share of patients with the positive class at which predictive values are stated.",
    )
    examples: int = Field(6, ge=0, description="Best and worst cases that the report shows, each.")
    test_views: Literal[1, 8] | None = Field(None, description="Views averaged; unset: as the run was tested.")
    batch_size: int = Field(32, ge=1, description="Samples per step.")
    overwrite: bool = Field(False, description="Replace an earlier evaluation in the same folder.")


class Diagnose(Settings):
    """A trained run on new DICOM files or folders."""

    run: str = Field(description="Run folder of `tune` or `fit`.")
    paths: Paths = Field(description="DICOM files or folders, at least one.")
    out: str = Field("diagnosis", description="Folder for diagnosis.json, diagnosis.csv, pictures and DICOM.")
    operating_point: OperatingPoint = Field(
        "youden",
        description="What a probability is held against: the threshold that reached this on validation, such as the "
        "highest sensitivity + specificity (youden) or 98 % specificity.",
    )
    top_slices: int | None = Field(None, ge=1, description="Slices averaged; unset: as the run was selected.")
    test_views: Literal[1, 8] | None = Field(None, description="Views averaged; unset: as the run was tested.")
    overlays: Literal["deciding", "all", "none"] = Field(
        "deciding", description="Slices of which a heat map is drawn: those that decide about a patient or breast."
    )
    thresholds: int = Field(
        10,
        ge=0,
        description="Patients, those of the highest probabilities, whose highest slice is drawn under classical "
        "thresholds; no part of any verdict.",
    )
    dicom: bool = Field(
        True,
        description="Write a structured report and the heat maps as DICOM into out/dicom, for each study; these alone "
        "name the patient.",
    )
    batch_size: int = Field(32, ge=1, description="Samples per step.")
    overwrite: bool = Field(False, description="Replace an earlier diagnosis in the same folder.")


class Export(Settings):
    """A trained run as SavedModel and ONNX, with the preparation of its images inside."""

    run: str = Field(description="Run folder of `tune` or `fit`.")
    out: str | None = Field(
        None, description="Folder for the models and export.json; unset: RUN-export beside the run."
    )
    records: str | None = Field(
        None, description="Shards with real slices to compare on; unset: those of the run. Their test split is read."
    )
    format: Literal["savedmodel", "onnx", "both"] = Field("both", description="What to write.")
    samples: int = Field(32, ge=1, description="Slices on which each model must say what the run says.")
    overwrite: bool = Field(False, description="Replace an earlier export in the same folder.")
