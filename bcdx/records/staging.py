"""Studies prepared by workers and kept until the shards are written; a killed run finds them again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bcdx._files import write_bytes, write_json
from bcdx.imaging.sample import Exclusion, Prepared, Sample


class HasKey(Protocol):
    """What staging needs of a study."""

    @property
    def key(self) -> str:
        """Code of the study."""


Prepare = Callable[[Any], Prepared]
"""study -> its samples; must be picklable."""


@dataclass(frozen=True)
class Entry:
    """One staged sample without its pixels.

    Attributes:
        pixels: Hex SHA-256 of shape and stored pixels.
        source_pixels: Of each channel before normalisation; never leaves the staging folder.
        file: Name of the staged file that holds the pixels.
        offset: Where they start in it, bytes.
        shape: Height, width, channels.
    """

    label: int
    patient: str
    split_digest: str
    study: str
    sample: str
    laterality: str
    plane: str
    scanner: str
    site: str
    slice_index: int
    spacing_mm: tuple[float, float]
    source_pixels: tuple[str, ...]
    label_origin: str
    lesion_mm2: float
    lesion_box: tuple[float, float, float, float]
    likeness: str
    pixels: str
    file: str
    offset: int
    shape: tuple[int, int, int]

    @property
    def size_bytes(self) -> int:
        """Bytes of the image."""
        return 2 * int(np.prod(self.shape))


TUPLES = ("spacing_mm", "source_pixels", "lesion_box", "shape")
"""Fields of an entry that JSON turns into lists."""


@dataclass(frozen=True)
class Staged:
    """What staging a study gave; no path of a source file, for a killed run leaves it lying about."""

    entries: tuple[Entry, ...]
    exclusions: tuple[Exclusion, ...]
    normalisation: tuple[dict[str, Any], ...]


def stage_study(study: HasKey, prepare: Prepare, folder: Path) -> Staged:
    """Prepare one study and keep it in `folder`; one that is already there is only read."""
    index = folder / f"{study.key}.json"
    if index.exists():
        return _read_index(index)
    prepared = prepare(study)
    images = [np.ascontiguousarray(sample.image, dtype="<u2").tobytes() for sample in prepared.samples]
    name, offset, entries = f"{study.key}.raw", 0, []
    for sample, image in zip(prepared.samples, images, strict=True):
        entries.append(_make_entry(sample, image, (name, offset)))
        offset += len(image)
    write_bytes(folder / name, b"".join(images))
    exclusions = tuple(replace(one, path="") for one in prepared.exclusions)
    staged = Staged(tuple(entries), exclusions, prepared.normalisation)
    write_json(index, asdict(staged), mode=0o600)
    return staged


def read_image(folder: Path, entry: Entry) -> bytes:
    """Return a staged sample's pixels."""
    with (folder / entry.file).open("rb") as file:
        file.seek(entry.offset)
        return file.read(entry.size_bytes)


def _make_entry(sample: Sample, image: bytes, place: tuple[str, int]) -> Entry:
    height, width, channels = sample.image.shape
    digest = hashlib.sha256(f"{height}x{width}x{channels}:".encode() + image).hexdigest()
    known = {name: value for name, value in vars(sample).items() if name != "image"}
    return Entry(**known, pixels=digest, file=place[0], offset=place[1], shape=(height, width, channels))


def _read_index(path: Path) -> Staged:
    values = json.loads(path.read_text())
    entries = tuple(Entry(**{**one, **{name: tuple(one[name]) for name in TUPLES}}) for one in values["entries"])
    exclusions = tuple(Exclusion(**one) for one in values["exclusions"])
    return Staged(entries, exclusions, tuple(values["normalisation"]))
