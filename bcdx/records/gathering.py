"""A collection, its records and what was left out in; all that its dataset card says and shows out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bcdx.catalogue.provenance import Provenance, list_citations, read_provenance
from bcdx.config import Dataset
from bcdx.errors import BcdxError, DicomError
from bcdx.imaging.collection import Collection
from bcdx.imaging.decode import read_slice
from bcdx.imaging.identity import Pseudonyms
from bcdx.imaging.reading import Door, read_frames
from bcdx.imaging.sample import Exclusion
from bcdx.records.card import MOST_EXCLUDED, Card, Rights, describe_card
from bcdx.records.manifest import Manifest
from bcdx.records.pictures import MOST_PICTURES, Picture, show_kept
from bcdx.records.sources import SourceFile, gather_source
from bcdx.records.staging import Entry, read_image

TRIED = 4 * MOST_EXCLUDED
"""Left-out images that are looked at for pictures: many of them are no images."""
SHOWN_PERCENTILES = (0.5, 99.5)
UNLABELLED = "unlabelled"


def gather_card(
    dataset: Dataset,
    manifest: Manifest,
    found: Collection,
    parts: tuple[Sequence[Entry], Sequence[Exclusion]],
    *,
    folders: tuple[Path, Path],
) -> Card:
    """Return the card of shards that are about to be finished.

    Args:
        dataset: The recipe.
        manifest: Of the shards.
        found: What the folder of images holds.
        parts: Samples in the shards; all that was left out or flagged.
        folders: Where samples are staged; where the images lie.
    """
    entries, exclusions = parts
    staging, source = folders
    flagged = {one.key for one in exclusions if one.flagged}
    flagged |= {
        item.key
        for item in found.items.values()
        if any(frame.sample in flagged or frame.is_capture for frame in item.frames)
    }
    kept = show_kept(entries, manifest.classes, partial(read_image, staging), hidden=flagged)
    return describe_card(
        manifest,
        entries,
        exclusions,
        source=gather_source(_list_sources(found, entries), images_in=manifest.images, images_used=manifest.used),
        rights=find_rights(dataset, source),
        pictures=[*kept, *_draw_excluded(exclusions, dataset)],
    )


def find_rights(dataset: Dataset, source: Path) -> Rights:
    """Return licence and citations: those of the recipe, else those that `acquire` wrote beside the images."""
    try:
        known = read_provenance(source)
    except BcdxError:
        known = Provenance()
    citations = tuple(list_citations(known.dois)) if known.entries else ()
    plans = ((name, one[name]) for one in known.acquisitions for name in ("collection", "catalogue") if name in one)
    return Rights(
        dataset.licence or ", ".join(known.licences),
        dataset.citations or citations,
        {name: str(value) for name, value in plans},
    )


def _list_sources(found: Collection, entries: Sequence[Entry]) -> Iterator[SourceFile]:
    """Yield each file of a sample once for each class that it holds."""
    samples = {entry.sample for entry in entries}
    seen: set[tuple[str, int]] = set()
    for key, item in found.items.items():
        for frame in item.frames if key in samples else ():
            if (frame.path, item.label) not in seen:
                seen.add((frame.path, item.label))
                size = Path(frame.path).stat().st_size
                yield SourceFile(found.classes[item.label], frame.format, *frame.shape, size)


def _draw_excluded(exclusions: Sequence[Exclusion], dataset: Dataset) -> list[Picture]:
    """Return pictures of some images that were left out, drawn by the SHA-256 of their codes."""
    candidates = [one for one in exclusions if one.path and one.images and not one.flagged]
    ordered = sorted(candidates, key=lambda one: hashlib.sha256(one.key.encode()).digest())
    door = Door(Pseudonyms(b"for pictures, which have no code"), dataset.split.salt, "file")
    pictures: list[Picture] = []
    labels = sorted({one.label for one in ordered}, reverse=True)  # unlabelled ones last
    most = max(1, min(MOST_EXCLUDED, MOST_PICTURES // 2 // max(1, len(labels))))
    for label in labels:
        members = [one for one in ordered if one.label == label][:TRIED]
        drawn = (_draw(one, door) for one in members)
        pictures += islice((one for one in drawn if one is not None), most)
    return pictures


def _draw(one: Exclusion, door: Door) -> Picture | None:
    pixels = _read_picture(Path(one.path), door)
    return None if pixels is None else Picture(one.label or UNLABELLED, one.reason, pixels)


def _read_picture(path: Path, door: Door) -> NDArray[np.uint8] | None:
    """Return a file's first frame in 8 bits; None where it cannot be read, or may carry words burned in."""
    try:
        frame = read_frames(path, path.name, door)[0]
        if frame.burned_in or frame.is_capture or frame.kind == "cad":
            return None
        pixels = read_slice(frame).pixels
    except DicomError:
        return None
    low, high = np.percentile(pixels, SHOWN_PERCENTILES)
    scaled = np.clip((pixels - low) / max(high - low, 1e-6), 0.0, 1.0)
    grey: NDArray[np.uint8] = np.rint(scaled * 255.0).astype(np.uint8)
    return grey
