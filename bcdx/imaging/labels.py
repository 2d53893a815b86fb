"""Label tables and label folders in; the class name (or the reason for none) of each frame out."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from bcdx.config import Dataset, Labels
from bcdx.errors import LabelError
from bcdx.imaging.frames import Frame
from bcdx.imaging.identity import Pseudonyms

KEYS = ("path", "SOPInstanceUID", "SeriesInstanceUID", "PatientID")
PATIENT_COLUMNS = ("PatientID", "patient")
SIDE_COLUMNS = ("laterality", "Laterality")
NO_LABEL = "no label"
CONFLICT = "two labels for one sample"
UNKNOWN = "label is not one of the classes"
UNUSED = "label without image"

Row = Mapping[str, str]


@dataclass(frozen=True)
class LabelTable:
    """Labels by key.

    Attributes:
        key: What the rows are keyed by, one of `KEYS`, or "folder".
        labels: Key (coded, unless it is a path) -> class name, or None where rows contradict each other.
        patients: Relative path of a plain image -> its patient.
        classes: Accepted class names; empty: all.
        names: Key -> as the table writes it, for the terminal only.
    """

    key: str
    labels: Mapping[str, str | None] = field(default_factory=dict)
    patients: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)
    sided: bool = False

    @property
    def by_file(self) -> bool:
        """Whether each file has a label of its own, so that copies of one image may both be asked for."""
        return self.key in {"path", "folder"}

    def find_key(self, frame: Frame, name: str) -> str | None:
        """Return the key under which a frame's label stands, None where the table has none for it."""
        for key in self._possible_keys(frame, name):
            if key in self.labels:
                return key
        return None

    def find_unused(self, frames: Iterable[Frame], names: Mapping[str, str]) -> list[str]:
        """Return the keys of rows that speak of no file and no frame, used or not.

        Args:
            frames: All that could be read.
            names: Path -> name of all files, damaged ones too.
        """
        used = {self.find_key(frame, names[frame.path]) for frame in frames}
        if self.key == "path":
            used.update(key for name in names.values() for key in _path_keys(name))
        return sorted(set(self.labels) - used)

    def look_up(self, frame: Frame, name: str) -> tuple[str | None, str]:
        """Return (class name, "") or (None, reason) for a frame.

        Args:
            name: The file's path relative to the source, with forward slashes.
        """
        if self.key == "folder":
            label: str | None = self._folder_label(name)
        else:
            key = self.find_key(frame, name)
            if key is None:
                return None, NO_LABEL
            label = self.labels[key]
        if label is None:
            return None, CONFLICT
        if not label:
            return None, NO_LABEL
        if self.classes and label not in self.classes:
            return None, UNKNOWN
        return label, ""

    def _possible_keys(self, frame: Frame, name: str) -> tuple[str, ...]:
        if self.key == "path":
            return _path_keys(name)
        if self.key == "PatientID":
            return (f"{frame.patient}/{frame.laterality}",) if self.sided else (f"{frame.patient}/",)
        return (frame.instance,) if self.key == "SOPInstanceUID" else (frame.series,)

    def _folder_label(self, name: str) -> str:
        """Return the nearest folder that names a class; where no classes are given, the topmost folder."""
        folders = [self.rename.get(part, part) for part in PurePosixPath(name).parts[:-1]]
        if not self.classes:
            return folders[0] if folders else ""
        return next((part for part in reversed(folders) if part in self.classes), folders[-1] if folders else "")


def _path_keys(name: str) -> tuple[str, str]:
    """Return how a table may write a file's path: with or without its suffix."""
    return name, str(PurePosixPath(name).with_suffix(""))


def read_labels(dataset: Dataset, *, source: Path, pseudonyms: Pseudonyms) -> LabelTable:
    """Read the label table that the recipe names; without one, folders name the classes.

    Raises:
        LabelError: The table cannot be read or lacks a column.
    """
    settings = dataset.labels
    if settings.file is None:
        return LabelTable("folder", classes=dataset.classes, rename=settings.rename)
    path = source / settings.file
    rows = read_rows(path, settings)
    columns = list(rows[0])
    key = _find_column(path, columns, (settings.key,) if settings.key else KEYS)
    if key not in KEYS:
        raise LabelError(f"{path}: labels.key must be one of {', '.join(KEYS)}, received {key!r}")
    _find_column(path, columns, (settings.column,))
    side = next((name for name in SIDE_COLUMNS if name in columns), None) if key == "PatientID" else None
    labels: dict[str, str | None] = {}
    names: dict[str, str] = {}
    for row in rows:
        coded = _code_key(row, (key, side), pseudonyms)
        label = row[settings.column].strip()
        label = settings.rename.get(label, label)
        names[coded] = row[key]
        labels[coded] = label if labels.get(coded, label) == label else None
    patients = _read_patients(path, rows, settings) if key == "path" else {}
    return LabelTable(key, labels, patients, dataset.classes, names, settings.rename, side is not None)


def read_rows(path: Path, settings: Labels) -> list[Row]:
    """Return a table's rows, column -> text; with a pattern its named groups are the columns.

    Raises:
        LabelError: The table cannot be read, or is empty.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise LabelError(f"{path}: no such label table") from error
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(f"{path}: cannot be read as UTF-8 text") from error
    rows = _parse_csv(text) if settings.pattern is None else _match_lines(text, settings.pattern)
    if not rows:
        raise LabelError(f"{path}: no labels in it" + (" that match labels.pattern" if settings.pattern else ""))
    return rows


def _match_lines(text: str, pattern: str) -> list[Row]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise LabelError(f"labels.pattern: not a regular expression: {error}") from error
    found = (compiled.match(line) for line in text.splitlines())
    return [{name: value or "" for name, value in match.groupdict().items()} for match in found if match]


def _parse_csv(text: str) -> list[Row]:
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.DictReader(text.splitlines(), delimiter=delimiter, restval="")
    return [{(name or "").strip(): (value or "") for name, value in row.items() if name is not None} for row in reader]


def _find_column(path: Path, columns: Iterable[str], wanted: Iterable[str]) -> str:
    for name in wanted:
        if name in columns:
            return name
    raise LabelError(f"{path}: no column {' or '.join(map(repr, wanted))}; it has {', '.join(map(repr, columns))}")


def _code_key(row: Row, columns: tuple[str, str | None], pseudonyms: Pseudonyms) -> str:
    """Return the key of a row, from its key column and, if there is one, that of the laterality."""
    key, side = columns
    value = row[key].strip()
    if key == "path":
        return str(PurePosixPath(value.replace("\\", "/")))
    coded = pseudonyms.code(key, value)
    if key != "PatientID":
        return coded
    return f"{coded}/{row[side].strip()[:1].upper() if side else ''}"


def _read_patients(path: Path, rows: list[Row], settings: Labels) -> dict[str, str]:
    columns = rows[0]
    if settings.patient is not None:
        column: str | None = _find_column(path, columns, (settings.patient,))
    else:
        column = next((name for name in PATIENT_COLUMNS if name in columns), None)
    if column is None:
        return {}
    found = {str(PurePosixPath(row["path"].strip().replace("\\", "/"))): row[column].strip() for row in rows}
    return {name: patient for name, patient in found.items() if patient}
