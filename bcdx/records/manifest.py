"""The manifest: written last, so that its presence means complete shards; read before anything else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from bcdx.config import Dataset
from bcdx.errors import RecordsError

MANIFEST = "manifest.json"
PLACE_AND_PACE = {"source", "out", "workers", "overwrite"}
"""Settings that change where and how fast shards are written, not what is in them."""


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Shard(_Facts):
    """One file of records."""

    name: str
    sha256: str
    bytes: int
    samples: int


class SplitFacts(_Facts):
    """One split."""

    shards: tuple[Shard, ...]
    samples: int
    patients: int
    samples_per_class: dict[str, int]
    patients_per_class: dict[str, int]


class Left(_Facts):
    """What was left out, by key."""

    key: str
    reason: str


class Manifest(_Facts):
    """What a folder of shards holds and how it came about; no identifier, path or date.

    Attributes:
        image_shape: Height, width, channels of every image.
        positive: The class that is looked for.
        recipe: The dataset recipe without its paths.
        fingerprint: SHA-256 of that recipe and of the label table; another one means stale shards.
        data_hash: SHA-256 over the shards' own.
        preparation: Steps from stored values to a record.
        normalisation: Per unit the real values mapped to 0 and 65535.
        exclusions: All that was left out.
        files: Files looked at.
        patient_is_file: Every plain image was taken for a patient of its own.
    """

    format: Literal[2] = 2
    image_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    positive: str
    splits: dict[str, SplitFacts]
    recipe: dict[str, Any]
    fingerprint: str
    data_hash: str
    preparation: dict[str, Any]
    normalisation: tuple[dict[str, Any], ...]
    exclusions: tuple[Left, ...]
    files: int
    patient_is_file: bool
    versions: dict[str, str]

    def summary(self) -> str:
        """Return a table for the terminal: patients and samples per split and class."""
        lines = [f"{'split':<12}{'patients':>10}{'samples':>10}   samples per class"]
        for name, facts in self.splits.items():
            per_class = ", ".join(f"{label} {count}" for label, count in facts.samples_per_class.items())
            lines.append(f"{name:<12}{facts.patients:>10}{facts.samples:>10}   {per_class}")
        reasons = len(self.exclusions)
        return "\n".join([*lines, f"left out: {reasons} (by key in {MANIFEST})" if reasons else "left out: nothing"])


def describe_recipe(dataset: Dataset) -> dict[str, Any]:
    """Return the recipe as it may be published: without paths."""
    recipe = dataset.model_dump(mode="json", exclude=PLACE_AND_PACE)
    recipe["labels"].pop("file")
    if dataset.source != "phantom":
        recipe.pop("phantom")
    return recipe


def fingerprint_recipe(dataset: Dataset, labels: bytes = b"") -> str:
    """Return what tells stale shards: SHA-256 of the recipe and the label table's bytes."""
    text = json.dumps(describe_recipe(dataset), sort_keys=True)
    return hashlib.sha256(text.encode() + b"\0" + labels).hexdigest()


def is_fresh(manifest: Manifest, dataset: Dataset, labels: bytes | None) -> bool:
    """Return whether shards are those of a recipe.

    Args:
        manifest: Of the shards.
        dataset: The recipe.
        labels: The label table's bytes; None: it is not at hand and taken as unchanged.
    """
    if labels is None:
        return manifest.recipe == describe_recipe(dataset)
    return manifest.fingerprint == fingerprint_recipe(dataset, labels)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a folder of shards and check that the shards are there.

    Raises:
        RecordsError: It is missing or damaged, or a shard is missing or of another size.
    """
    path = folder / MANIFEST
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise RecordsError(f"{folder}: no shards; write them with python -m bcdx.shard") from error
    except (ValidationError, OSError) as error:
        raise RecordsError(f"{path}: damaged, or written by another version of bcdx") from error
    for facts in manifest.splits.values():
        for shard in facts.shards:
            place = folder / shard.name
            if not place.is_file() or place.stat().st_size != shard.bytes:
                raise RecordsError(f"{place}: missing or not {shard.bytes} bytes long; shard again with --overwrite")
    return manifest
