"""Files and folders in; what is known of every frame in them, and a reason for each file that holds none, out."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePath

from bcdx._files import PROVENANCE
from bcdx._work import Tick, ignore
from bcdx.errors import BcdxError, DicomError, LabelError
from bcdx.imaging.dicom import SEGMENTATION, Origin, is_dicom, read_dicom_frames
from bcdx.imaging.frames import Frame
from bcdx.imaging.identity import Pseudonyms
from bcdx.imaging.plain import read_plain_frames
from bcdx.imaging.sample import Exclusion

FILES_PER_TASK = 64


@dataclass(frozen=True)
class Door:
    """All that reading one file needs; travels to the workers.

    Attributes:
        pseudonyms: Turns identifiers into codes.
        salt: Of the split.
        pattern: Finds the patient in the name of a file that names none; `file`: the file itself stands for one.
        patients: Name of a file -> its patient, as the label table says.
    """

    pseudonyms: Pseudonyms
    salt: str
    pattern: str | None
    patients: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern or "")
        except re.error as error:
            raise LabelError(f"patient: {self.pattern!r} is not a regular expression: {error}") from error

    def find_origin(self, path: Path, name: str) -> Origin:
        """Return where a file comes from; who it is of, if it names nobody, the label table says, else the pattern."""
        stem = str(Path(name).with_suffix("").as_posix())
        patient = self.patients.get(name) or self.patients.get(stem) or ""
        by_file = not patient and self.pattern == "file"
        if not patient and self.pattern is not None:
            patient = name if by_file else match_patient(self.pattern, name)
        return Origin(path, name, patient, self.pseudonyms, self.salt, by_file)


def match_patient(pattern: str, name: str) -> str:
    """Return the patient that a pattern finds in a path: group `pair` or `patient`, else the first, else all of it."""
    match = re.search(pattern, name)
    if match is None:
        return ""
    groups = match.groupdict()
    if groups.get("pair"):
        return f"pair {(int(groups['pair']) + 1) // 2}"
    return groups.get("patient") or (match.group(1) if match.re.groups else match.group(0)) or ""


def list_files(paths: Sequence[Path], *, table: str | None = None) -> Iterator[tuple[str, str]]:
    """Yield (path, name) of all files that may be images: without hidden ones and the label table.

    Names are relative to the source; those of several sources to the folder that holds them all, so that they differ.

    Raises:
        BcdxError: One of `paths` does not exist.
    """
    missing = [root for root in paths if not root.exists()]
    if missing:
        raise BcdxError(f"{missing[0]}: no such file or folder")
    base = Path(os.path.commonpath([root.resolve().parent for root in paths])) if len(paths) > 1 else None
    for root in paths:
        prefix = PurePath() if base is None else root.resolve().relative_to(base)
        if root.is_file():
            yield str(root), root.name if base is None else prefix.as_posix()
            continue
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root)
            hidden = any(part.startswith(".") for part in name.parts)
            left = hidden or str(name) == PROVENANCE or (table is not None and path == root / table)
            if not left and path.is_file():
                yield str(path), (prefix / name).as_posix()


@dataclass(frozen=True)
class Read:
    """What reading a collection gave.

    Attributes:
        frames: By sample code (that of a copy has a number), so that no listing order shows.
        exclusions: Files without a usable frame.
        segmentations: DICOM SEG objects among the files.
    """

    frames: list[Frame]
    exclusions: list[Exclusion]
    segmentations: tuple[Path, ...]

    @property
    def images(self) -> int:
        """Images that must be accounted for: frames, and files of which no frame could be read."""
        return len(self.frames) + sum(one.images for one in self.exclusions)


def read_all(names: Mapping[str, str], door: Door, executor: Executor | None, tick: Tick = ignore) -> Read:
    """Read every file.

    Args:
        names: Path -> name.
        executor: Reads files in parallel; None: one after the other.
        tick: Told how many files were read.
    """
    pairs = sorted(names.items(), key=lambda pair: pair[1])
    chunks = [pairs[start : start + FILES_PER_TASK] for start in range(0, len(pairs), FILES_PER_TASK)]
    read = partial(_read_files, door=door)
    results = executor.map(read, chunks) if executor is not None else map(read, chunks)
    frames: list[Frame] = []
    exclusions: list[Exclusion] = []
    seen: Counter[str] = Counter()
    for chunk, (found, refused) in zip(chunks, results, strict=True):
        tick(len(chunk))
        exclusions += refused
        for frame in found:
            copy = seen[frame.sample]
            seen[frame.sample] += 1
            frames.append(replace(frame, sample=f"{frame.sample}-{copy}") if copy else frame)
    segmentations = tuple(Path(one.path) for one in exclusions if one.reason == SEGMENTATION)
    return Read(sorted(frames, key=lambda frame: frame.sample), exclusions, segmentations)


def _read_files(pairs: Sequence[tuple[str, str]], door: Door) -> tuple[list[Frame], list[Exclusion]]:
    frames, exclusions = [], []
    for path, name in pairs:
        try:
            frames += read_frames(Path(path), name, door)
        except DicomError as error:
            exclusions.append(Exclusion(door.pseudonyms.code("file", name), error.reason, path))
    return frames, exclusions


def read_frames(path: Path, name: str, door: Door) -> list[Frame]:
    """Return the frames of one file of any kind.

    Raises:
        DicomError: It holds none that can be used.
    """
    try:
        if path.stat().st_size == 0:
            raise DicomError("empty file")
        looks_like_dicom = is_dicom(path)
    except OSError as error:
        raise DicomError("cannot be opened") from error
    origin = door.find_origin(path, name)
    return read_dicom_frames(origin) if looks_like_dicom else read_plain_frames(origin)


def drop_copies(frames: Iterable[Frame]) -> tuple[list[Frame], list[Exclusion]]:
    """Keep one file per SOPInstanceUID: copies would pass for phases, and count twice where labels go by UID."""
    first: dict[tuple[str, int], Frame] = {}
    copies = [frame for frame in frames if first.setdefault((frame.instance, frame.index), frame) is not frame]
    return list(first.values()), [leave_out(frame, "same SOPInstanceUID as another file") for frame in copies]


def leave_out(frame: Frame, reason: str) -> Exclusion:
    """Return the note that a frame takes no part."""
    return Exclusion(frame.sample, reason, frame.path)
