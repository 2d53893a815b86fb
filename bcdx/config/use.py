"""Settings of the verbs that use a finished run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bcdx.config.base import Settings

Paths = Annotated[tuple[str, ...], Field(min_length=1)]


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
    test_views: Literal[1, 8] | None = Field(None, description="Views averaged; unset: as the run was tested.")
    batch_size: int = Field(32, ge=1, description="Samples per step.")
    overwrite: bool = Field(False, description="Replace an earlier evaluation in the same folder.")


class Diagnose(Settings):
    """A trained run on new DICOM files or folders."""

    run: str = Field(description="Run folder of `tune` or `fit`.")
    paths: Paths = Field(description="DICOM files or folders, at least one.")
    out: str = Field("diagnosis", description="Folder for diagnosis.json.")
    top_slices: int | None = Field(None, ge=1, description="Slices averaged; unset: as the run was selected.")
    test_views: Literal[1, 8] | None = Field(None, description="Views averaged; unset: as the run was tested.")
    batch_size: int = Field(32, ge=1, description="Samples per step.")
    overwrite: bool = Field(False, description="Replace an earlier diagnosis in the same folder.")
