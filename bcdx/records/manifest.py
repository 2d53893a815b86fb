"""The manifest: written last, so that its presence means complete shards; read before anything else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from bcdx.config import Dataset
from bcdx.errors import RecordsError
from bcdx.records.ledger import EXCLUSIONS

MANIFEST = "manifest.json"
CARD = ("card.json", "card.html")
PATIENT_IS_FILE = (
    "every file was taken for a patient of its own: images of one person may stand in several splits, and intervals "
    "are too narrow"
)
SPLIT_BY_IMAGE = (
    "LEAKING: split by image, so that other images of a tested patient were in training; these figures say nothing of "
    "new patients"
)
PLACE_AND_PACE = {"source", "out", "workers", "overwrite", "catalogue", "dry_run"}
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
    """How much was left out, or is odd, for one reason; `exclusions.csv` says what, by key."""

    action: str
    reason: str
    count: int
    images: int


class Manifest(_Facts):
    """What a folder of shards holds and how it came about; no identifier, path or date.

    Attributes:
        image_shape: Height, width, channels of every image.
        positive: The class that is looked for.
        recipe: The dataset recipe without its paths.
        fingerprint: SHA-256 of that recipe and of its labels; another one means stale shards.
        data_hash: SHA-256 over the shards' own.
        preparation: Steps from stored values to a record.
        normalisation: Per unit the real values mapped to 0 and 65535.
        exclusions: All that was left out or flagged, by reason.
        files: Files looked at.
        images: Images to be accounted for: used + those that `exclusions` stand for.
        used: Images that went into samples, each phase counted.
        patient_is_file: Every plain image was taken for a patient of its own.
        leaking: Images, not patients, were dealt to the splits.
        key_check: A keyed hash of nothing, the same under the same private key: else codes cannot be compared.
    """

    format: Literal[3] = 3
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
    images: int
    used: int
    patient_is_file: bool
    leaking: bool
    key_check: str = ""
    versions: dict[str, str]

    def summary(self) -> str:
        """Return a table for the terminal: patients and samples per split and class."""
        lines = [f"{'split':<12}{'patients':>10}{'samples':>10}   samples per class"]
        for name, facts in self.splits.items():
            per_class = ", ".join(f"{label} {count}" for label, count in facts.samples_per_class.items())
            lines.append(f"{name:<12}{facts.patients:>10}{facts.samples:>10}   {per_class}")
        left = self.images - self.used
        lines.append(f"{self.images} images: {self.used} used, {left} left out ({EXCLUSIONS} says why)")
        lines += [f"WARNING: {text}" for text in self.warnings().values()]
        return "\n".join(lines)

    def warnings(self) -> dict[str, str]:
        """Return what must stand beside every figure of such shards, by name; see `warn_of_split`."""
        return warn_of_split(patient_is_file=self.patient_is_file, leaking=self.leaking)


def warn_of_split(*, patient_is_file: bool, leaking: bool) -> dict[str, str]:
    """Return `warning` and `leak_warning` as far as they apply."""
    warnings = {"warning": PATIENT_IS_FILE} if patient_is_file else {}
    return {**warnings, **({"leak_warning": SPLIT_BY_IMAGE} if leaking else {})}


def describe_recipe(dataset: Dataset) -> dict[str, Any]:
    """Return the recipe as it may be published: without paths."""
    recipe = dataset.model_dump(mode="json", exclude=PLACE_AND_PACE)
    for name in ("file", "source", "page"):
        recipe["labels"].pop(name)
    if dataset.source != "phantom":
        recipe.pop("phantom")
    return recipe


def fingerprint_recipe(dataset: Dataset, labels: str = "") -> str:
    """Return what tells stale shards: SHA-256 of the recipe and of the hash of its labels."""
    text = json.dumps(describe_recipe(dataset), sort_keys=True)
    return hashlib.sha256(f"{text}\0{labels}".encode()).hexdigest()


def is_fresh(manifest: Manifest, dataset: Dataset, labels: str | None) -> bool:
    """Return whether shards are those of a recipe.

    Args:
        manifest: Of the shards.
        dataset: The recipe.
        labels: The hash of the labels; None: they are not at hand and taken as unchanged.
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
