"""Studies prepared by workers and kept until the shards are written; a killed run finds them again.

Images are written one by one as they are made; the index comes last, so that its presence means a whole study.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from bcdx._files import write_bytes, written_whole
from bcdx.imaging.sample import Exclusion, Sample


class HasKey(Protocol):
    """What staging needs of a study."""

    @property
    def key(self) -> str:
        """Code of the study."""


class Prepared(Protocol):
    """What staging takes of a prepared study: `imaging.sample.Prepared`, or a stream of the same."""

    @property
    def samples(self) -> Iterable[Sample]:
        """Taken once, before the others are asked for."""

    @property
    def exclusions(self) -> Sequence[Exclusion]:
        """What was left out."""

    @property
    def normalisation(self) -> Sequence[dict[str, float | str]]:
        """One entry per unit."""


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
    phase: str
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
    name = f"{study.key}.raw"
    with written_whole(folder / name, mode=0o600) as file:
        entries = tuple(_append(sample, file, name) for sample in prepared.samples)
    exclusions = tuple(replace(one, path="") for one in prepared.exclusions)
    staged = Staged(entries, exclusions, tuple(prepared.normalisation))
    lines = {name: [vars(one) for one in getattr(staged, name)] for name in ("entries", "exclusions")}
    content = {**lines, "normalisation": staged.normalisation}
    write_bytes(index, json.dumps(content, allow_nan=False).encode(), mode=0o600)
    return staged


def read_image(folder: Path, entry: Entry) -> bytes:
    """Return a staged sample's pixels."""
    with (folder / entry.file).open("rb", buffering=0) as file:
        file.seek(entry.offset)
        return file.read(entry.size_bytes)


def _append(sample: Sample, file: IO[bytes], name: str) -> Entry:
    """Write a sample's pixels to the end of the file and return its entry."""
    height, width, channels = sample.image.shape
    image = np.ascontiguousarray(sample.image, dtype="<u2").data
    digest = hashlib.sha256(f"{height}x{width}x{channels}:".encode())
    digest.update(image)
    offset = file.tell()
    file.write(image)
    known = {key: value for key, value in vars(sample).items() if key != "image"}
    shape = (height, width, channels)
    return Entry(**known, pixels=digest.hexdigest(), file=name, offset=offset, shape=shape)


def _read_index(path: Path) -> Staged:
    values = json.loads(path.read_text())
    entries = tuple(Entry(**{**one, **{name: tuple(one[name]) for name in TUPLES}}) for one in values["entries"])
    exclusions = tuple(Exclusion(**one) for one in values["exclusions"])
    return Staged(entries, exclusions, tuple(values["normalisation"]))
