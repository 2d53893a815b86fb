"""A recipe in; what its labels are now, as one hash, out: another one means that shards made before are stale."""

from __future__ import annotations

import hashlib
from pathlib import Path

from bcdx._files import hash_file
from bcdx._recipes import expand_path
from bcdx.config import Dataset
from bcdx.errors import SettingsError
from bcdx.imaging.les import list_les
from bcdx.imaging.segmentations import list_segmentations

NO_LABELS = ""
"""Of labels that stand in the names of folders."""


def hash_labels(dataset: Dataset) -> str | None:
    """Return SHA-256 over the label table or the files of lesions; None: they are not at hand."""
    labels = dataset.labels
    if dataset.source == "phantom" or (labels.file is None and not labels.from_lesions):
        return NO_LABELS
    try:
        place = expand_path(labels.source) if labels.source else expand_path(dataset.source) / (labels.file or "")
    except SettingsError:
        return None  # a variable that names the place is not set
    if not place.exists():
        return None
    digest = hashlib.sha256()
    for path in _list_files(place):
        name = path.relative_to(place).as_posix() if place.is_dir() else ""
        digest.update(f"{name} {hash_file(path)}\n".encode())
    return digest.hexdigest()


def _list_files(place: Path) -> list[Path]:
    """Return the files that hold labels: a table, a zip, masks in a folder, or SEG objects, be it among images."""
    if place.is_file():
        return [place]
    return list_les(place) or list_segmentations(place)
