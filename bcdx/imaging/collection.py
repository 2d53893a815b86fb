"""A folder and its labels in; studies of labelled samples, and a reason for all that is left out, out."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePath

from bcdx.config import Dataset
from bcdx.errors import BcdxError, DicomError, LabelError
from bcdx.imaging.dicom import Origin, is_dicom, read_dicom_frames
from bcdx.imaging.frames import Frame
from bcdx.imaging.identity import Pseudonyms
from bcdx.imaging.labels import CONFLICT, UNUSED, LabelTable, read_labels
from bcdx.imaging.phases import count_phases, group_phases
from bcdx.imaging.plain import NO_PATIENT, read_plain_frames
from bcdx.imaging.sample import Exclusion, Mark

logger = logging.getLogger(__name__)

FILES_PER_TASK = 64


@dataclass(frozen=True)
class Item:
    """One sample to be: a frame, or one frame per phase in order of time.

    Attributes:
        frames: All of one study.
        label: Index into the class names; -1 where unlabelled.
        slice_index: Rank of its position within its stack.
        mark: What is known of its label; None where unlabelled.
    """

    frames: tuple[Frame, ...]
    label: int
    slice_index: int = 0
    mark: Mark | None = None

    @property
    def key(self) -> str:
        """Code of the sample: that of its first frame."""
        return self.frames[0].sample


@dataclass(frozen=True)
class Study:
    """What one study holds; the unit of work."""

    key: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Collection:
    """What a folder holds.

    Attributes:
        studies: Ordered by key.
        classes: Class names in order.
        exclusions: Files, frames and label rows that take no part.
        files: Files looked at.
        patient_is_file: Files that name nobody were taken for one patient each.
    """

    studies: tuple[Study, ...]
    classes: tuple[str, ...]
    exclusions: tuple[Exclusion, ...]
    files: int
    patient_is_file: bool = False


@dataclass(frozen=True)
class _Door:
    """All that reading one file needs; travels to the workers."""

    pseudonyms: Pseudonyms
    salt: str
    pattern: str | None
    patients: Mapping[str, str] = field(default_factory=dict)

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


def scan(
    dataset: Dataset,
    *,
    source: Path | Sequence[Path],
    pseudonyms: Pseudonyms,
    labelled: bool = True,
    executor: Executor | None = None,
) -> Collection:
    """Read all headers below `source`, select, label and group them. The order of files makes no difference.

    Args:
        source: A folder, or files and folders.
        labelled: Whether each image must have a label.
        executor: Reads files in parallel.

    Raises:
        BcdxError: The labels cannot be read, or nothing is usable; the message counts the reasons.
    """
    paths = [source] if isinstance(source, Path) else list(source)
    table = read_labels(dataset, source=paths[0], pseudonyms=pseudonyms) if labelled else None
    door = _Door(pseudonyms, dataset.split.salt, _checked_pattern(dataset.patient), table.patients if table else {})
    names = dict(_list_files(paths, dataset))
    frames, exclusions = _read_all(names, door, executor)
    labels: dict[str, str] = {}
    unused = [] if table is None else _list_unused(table, frames, names, pseudonyms)
    frames, refused = _select(frames, dataset)
    exclusions += [*unused, *refused]
    if table is not None:
        frames, labels, refused = _label(frames, names, table)
        exclusions += refused
    if dataset.channels == "phases" or table is None or not table.by_file:
        frames, refused = _drop_copies(frames)
        exclusions += refused
    groups, refused = _group(frames, labels, dataset)
    exclusions += refused
    if not groups:
        raise BcdxError(_explain_nothing(paths, len(names), exclusions))
    classes = _name_classes(dataset, labels, groups) if labelled else dataset.classes
    studies = _make_studies(groups, labels, classes)
    by_file = any(frame.patient_is_file for group in groups for frame in group)
    return Collection(studies, classes, tuple(sorted(exclusions, key=lambda one: one.key)), len(names), by_file)


def _checked_pattern(pattern: str | None) -> str | None:
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise LabelError(f"patient: {pattern!r} is not a regular expression: {error}") from error
    return pattern


def _list_files(paths: Sequence[Path], dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Yield (path, name), without hidden files and the label table.

    Names are relative to the source; those of several sources to the folder that holds them all, so that they differ.
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
        table = root / dataset.labels.file if dataset.labels.file else None
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root)
            hidden = any(part.startswith(".") for part in name.parts)
            if path.is_file() and not hidden and path != table:
                yield str(path), (prefix / name).as_posix()


def _read_all(names: Mapping[str, str], door: _Door, executor: Executor | None) -> tuple[list[Frame], list[Exclusion]]:
    """Read every file; frames come back by sample code (a copy's has a number), so that no listing order shows."""
    pairs = sorted(names.items(), key=lambda pair: pair[1])
    chunks = [pairs[start : start + FILES_PER_TASK] for start in range(0, len(pairs), FILES_PER_TASK)]
    read = partial(_read_files, door=door)
    results = executor.map(read, chunks) if executor is not None else map(read, chunks)
    frames: list[Frame] = []
    exclusions: list[Exclusion] = []
    seen: Counter[str] = Counter()
    for found, refused in results:
        exclusions += refused
        for frame in found:
            copy = seen[frame.sample]
            seen[frame.sample] += 1
            frames.append(replace(frame, sample=f"{frame.sample}-{copy}") if copy else frame)
    return sorted(frames, key=lambda frame: frame.sample), exclusions


def _drop_copies(frames: Iterable[Frame]) -> tuple[list[Frame], list[Exclusion]]:
    """Keep one file per SOPInstanceUID: copies would pass for phases, and count twice where labels go by UID."""
    first: dict[tuple[str, int], Frame] = {}
    copies = [frame for frame in frames if first.setdefault((frame.instance, frame.index), frame) is not frame]
    return list(first.values()), [_exclude(frame, "same SOPInstanceUID as another file") for frame in copies]


def _read_files(pairs: Sequence[tuple[str, str]], door: _Door) -> tuple[list[Frame], list[Exclusion]]:
    frames, exclusions = [], []
    for path, name in pairs:
        try:
            frames += read_frames(Path(path), name, door)
        except DicomError as error:
            exclusions.append(Exclusion(door.pseudonyms.code("file", name), error.reason, path))
    return frames, exclusions


def read_frames(path: Path, name: str, door: _Door) -> list[Frame]:
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


def _exclude(frame: Frame, reason: str) -> Exclusion:
    return Exclusion(frame.sample, reason, frame.path)


def _select(frames: Iterable[Frame], dataset: Dataset) -> tuple[list[Frame], list[Exclusion]]:
    wanted = dataset.select
    kept, exclusions = [], []
    for frame in frames:
        for name, accepted in (
            ("modality", wanted.modality),
            ("plane", wanted.plane),
            ("laterality", wanted.laterality),
        ):
            if accepted and getattr(frame, name) not in accepted:
                exclusions.append(_exclude(frame, f"{name} not selected"))
                break
        else:
            kept.append(frame)
    return kept, exclusions


def _label(
    frames: Iterable[Frame], names: Mapping[str, str], table: LabelTable
) -> tuple[list[Frame], dict[str, str], list[Exclusion]]:
    """Return labelled frames, sample -> class name, and exclusions; copies with other labels cost them all."""
    found, exclusions = [], []
    labels: dict[str, str] = {}
    claims: dict[tuple[str, int], set[str]] = {}
    for frame in frames:
        label, reason = table.look_up(frame, names[frame.path])
        if label is None:
            exclusions.append(_exclude(frame, reason))
        else:
            found.append(frame)
            labels[frame.sample] = label
            claims.setdefault((frame.instance, frame.index), set()).add(label)
    kept = [frame for frame in found if len(claims[frame.instance, frame.index]) == 1]
    exclusions += [_exclude(frame, CONFLICT) for frame in found if len(claims[frame.instance, frame.index]) > 1]
    return kept, labels, exclusions


def _list_unused(
    table: LabelTable, frames: Iterable[Frame], names: Mapping[str, str], pseudonyms: Pseudonyms
) -> list[Exclusion]:
    """Return the label rows that no image belongs to, selected or not."""
    unused = table.find_unused(frames, names)
    return [Exclusion(pseudonyms.code("label", key), UNUSED, table.names[key]) for key in unused]


def _group(
    frames: list[Frame], labels: Mapping[str, str], dataset: Dataset
) -> tuple[list[tuple[Frame, ...]], list[Exclusion]]:
    """Return the frames of each sample: one, or one per phase."""
    if dataset.channels == "grey":
        return [(frame,) for frame in frames], []
    groups, refused = group_phases(frames)
    exclusions = [_exclude(frame, reason) for frame, reason in refused]
    wanted = dataset.phases or count_phases(groups)
    if groups and wanted < 2:
        raise BcdxError('channels = "phases", but no slice position has two phases; use channels = "grey"')
    kept = []
    for group in groups:
        named = {labels.get(frame.sample) for frame in group}
        reason = ""
        if len(group) < wanted:
            reason = f"has {len(group)} of {wanted} phases"
        elif len(named) > 1:
            reason = "phases of one position have different labels"
        else:
            kept.append(group[:wanted])
            exclusions += [_exclude(frame, f"phase after the first {wanted}") for frame in group[wanted:]]
        exclusions += [_exclude(frame, reason) for frame in group if reason]
    return kept, exclusions


def _name_classes(dataset: Dataset, labels: Mapping[str, str], groups: Iterable[Sequence[Frame]]) -> tuple[str, ...]:
    found = sorted({labels[group[0].sample] for group in groups})
    if len(found) < 2:
        raise LabelError(f"every usable image is labelled {found[0]!r}; at least two classes are needed")
    missing = [name for name in dataset.classes if name not in found]
    if missing:
        raise LabelError(f"no usable image is labelled {missing[0]!r}; the classes are {', '.join(dataset.classes)}")
    if dataset.positive is not None and dataset.positive not in found:
        raise LabelError(f"positive must be one of {', '.join(found)}, received {dataset.positive!r}")
    return dataset.classes or tuple(found)


def _make_studies(
    groups: Sequence[tuple[Frame, ...]], labels: Mapping[str, str], classes: tuple[str, ...]
) -> tuple[Study, ...]:
    studies: dict[str, list[Item]] = {}
    ranks = _rank_slices(groups)
    for group in groups:
        name = labels.get(group[0].sample)
        label = -1 if name is None else classes.index(name)
        studies.setdefault(group[0].study, []).append(Item(group, label, ranks[group[0].sample]))
    return tuple(Study(key, tuple(sorted(studies[key], key=lambda item: item.key))) for key in sorted(studies))


def _rank_slices(groups: Sequence[tuple[Frame, ...]]) -> dict[str, int]:
    """Return each sample's rank within the series of its first frame, along the stack."""
    series: dict[str, list[Frame]] = {}
    for group in groups:
        series.setdefault(group[0].series, []).append(group[0])
    ranks: dict[str, int] = {}
    for frames in series.values():
        ordered = sorted(frames, key=lambda frame: (frame.instance_number, frame.index, frame.sample))
        ranks.update({frame.sample: rank for rank, frame in enumerate(ordered)})
    return ranks


def _explain_nothing(paths: Sequence[Path], files: int, exclusions: Sequence[Exclusion]) -> str:
    where = ", ".join(map(str, paths))
    if not files:
        return f"{where}: no files in it"
    counts = Counter(one.reason for one in exclusions if one.reason != UNUSED)
    reasons = ", ".join(f"{reason} ({count})" for reason, count in counts.most_common(5))
    hint = ""
    if counts.get(NO_PATIENT):
        hint = '; name plain images\' patients by a PatientID column, a `patient` pattern, or patient = "file"'
    return f"{where}: none of {files} files is usable: {reasons or 'no reason recorded'}{hint}"
