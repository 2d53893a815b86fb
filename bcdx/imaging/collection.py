"""A folder and its labels in; studies of labelled samples, and a reason for all that is left out, out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bcdx._work import Tick, ignore
from bcdx.config import Dataset
from bcdx.errors import BcdxError, LabelError
from bcdx.imaging.frames import Frame
from bcdx.imaging.identity import Pseudonyms
from bcdx.imaging.labels import CONFLICT, UNUSED, LabelTable, read_labels
from bcdx.imaging.lesions import mark_frames, read_lesions
from bcdx.imaging.phases import (
    AGAINST_TIME,
    choose_phases,
    count_phases,
    count_usual,
    group_phases,
    is_against_time,
    needed_phases,
    usual_phases,
)
from bcdx.imaging.placement import rank_slices
from bcdx.imaging.plain import NO_PATIENT
from bcdx.imaging.reading import Door, Read, drop_copies, leave_out, list_files, read_all
from bcdx.imaging.sample import Exclusion, Mark
from bcdx.imaging.selection import name_phases, remark, select_series, select_slices, spell_phase

LESION_CLASSES = ("no_tumour", "tumour")
"""Negative and positive class where labels follow from lesions and the recipe names none."""

Groups = list[tuple[Frame, ...]]


@dataclass(frozen=True)
class Item:
    """One sample to be: a frame, or one frame per phase in order of time.

    Attributes:
        frames: All of one study.
        label: Index into the class names; -1 where unlabelled.
        slice_index: Rank of its position within its stack.
        mark: What is known of its label; None where unlabelled.
        phase: pre, early, between, late, post (early or late) or "", of a single frame.
    """

    frames: tuple[Frame, ...]
    label: int
    slice_index: int = 0
    mark: Mark | None = None
    phase: str = ""

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
        exclusions: Files, frames and label rows that take no part, and what is odd about those that do.
        files: Files looked at.
        images: Images to be accounted for: frames, and files of which no frame could be read.
        patient_is_file: Files that name nobody were taken for one patient each.
    """

    studies: tuple[Study, ...]
    classes: tuple[str, ...]
    exclusions: tuple[Exclusion, ...]
    files: int
    images: int
    patient_is_file: bool = False

    @property
    def items(self) -> dict[str, Item]:
        """All samples to be, by key."""
        return {item.key: item for study in self.studies for item in study.items}


@dataclass(frozen=True)
class _Labelled:
    """Frames that have a label, sample -> what is known of it, and why others have none."""

    frames: list[Frame]
    marks: Mapping[str, Mark]
    exclusions: list[Exclusion]


def scan(
    dataset: Dataset,
    *,
    source: Path | Sequence[Path],
    pseudonyms: Pseudonyms,
    labelled: bool = True,
    executor: Executor | None = None,
    tick: Tick = ignore,
) -> Collection:
    """Read all headers below `source`, select, label and group them. The order of files makes no difference.

    Args:
        source: A folder, or files and folders.
        labelled: Whether each image must have a label.
        executor: Reads files in parallel.
        tick: Told how many files were read.

    Raises:
        BcdxError: The labels cannot be read, or nothing is usable; the message counts the reasons.
    """
    paths = [source] if isinstance(source, Path) else list(source)
    by_table = labelled and not dataset.labels.from_lesions
    table = read_labels(dataset, source=paths[0], pseudonyms=pseudonyms) if by_table else None
    door = Door(pseudonyms, dataset.split.salt, dataset.patient, table.patients if table else {})
    names = dict(list_files(paths, table=dataset.labels.file))
    read = read_all(names, door, executor, tick)
    exclusions = list(read.exclusions)
    unused = [] if table is None else _list_unused(table, read.frames, names, pseudonyms)
    frames, refused = select_series(read.frames, dataset.select)
    exclusions += [*unused, *refused]
    stacks = frames
    if table is not None:
        found = _label(frames, names, table, keep_copies=table.by_file and dataset.channels == "grey")
    else:
        found = _label_by_lesions(frames, dataset, read, pseudonyms) if labelled else _leave_unlabelled(frames)
    marks = found.marks
    exclusions += found.exclusions
    frames, refused = select_slices(found.frames, stacks, dataset.select)
    groups, ungrouped = _group(frames, marks, dataset)
    exclusions += [*refused, *ungrouped]
    if not groups:
        raise BcdxError(_explain_nothing(paths, len(names), exclusions))
    exclusions += remark([frame for group in groups for frame in group], stacks)
    classes = _name_classes(dataset, marks, groups, exclusions) if labelled else dataset.classes
    by_file = any(frame.patient_is_file for group in groups for frame in group)
    known = [replace(one, label=marks[one.key].label) if one.key in marks else one for one in exclusions]
    ordered = tuple(sorted(known, key=lambda one: (one.key, one.reason)))
    phases = name_phases(stacks) if dataset.channels == "grey" else {}
    studies = _make_studies(groups, classes, {"mark": marks, "rank": rank_slices(stacks), "phase": phases})
    return Collection(studies, classes, ordered, len(names), read.images, by_file)


def _label(frames: Iterable[Frame], names: Mapping[str, str], table: LabelTable, *, keep_copies: bool) -> _Labelled:
    """Label frames by a table or by folders; copies with other labels cost them all."""
    found, exclusions = [], []
    marks: dict[str, Mark] = {}
    claims: dict[tuple[str, int], set[str]] = {}
    for frame in frames:
        label, reason = table.look_up(frame, names[frame.path])
        if label is None:
            exclusions.append(leave_out(frame, reason))
        else:
            found.append(frame)
            marks[frame.sample] = Mark(label, "folder" if table.key == "folder" else "table")
            claims.setdefault((frame.instance, frame.index), set()).add(label)
    kept = [frame for frame in found if len(claims[frame.instance, frame.index]) == 1]
    exclusions += [leave_out(frame, CONFLICT) for frame in found if len(claims[frame.instance, frame.index]) > 1]
    # only now, for of two copies one alone may have a label
    kept, copies = (kept, []) if keep_copies else drop_copies(kept)
    return _Labelled(kept, marks, [*exclusions, *copies])


def _label_by_lesions(frames: list[Frame], dataset: Dataset, read: Read, pseudonyms: Pseudonyms) -> _Labelled:
    lesions = read_lesions(dataset.labels, pseudonyms=pseudonyms, images=read.segmentations)
    negative, positive = dataset.classes or LESION_CLASSES
    if dataset.positive == negative:
        negative, positive = positive, negative
    # whatever plane is asked for: else a lesion that was drawn on an axial stack would be found on a sagittal one
    rules = dataset.select.model_copy(update={"plane": (), "min_slices": 1})
    everything, _ = drop_copies(select_series(read.frames, rules)[0])
    marking = mark_frames(everything, lesions, dataset.labels, (negative, positive))
    known, copies = drop_copies(frames)
    paths = {lesion.key: str(lesion.path) for lesion in lesions if lesion.path.name}
    unmatched = [Exclusion(key, reason, paths.get(key, ""), images=0) for key, reason in marking.unmatched]
    unlabelled = [leave_out(one, marking.reasons[one.sample]) for one in known if one.sample not in marking.marks]
    kept = [frame for frame in known if frame.sample in marking.marks]
    return _Labelled(kept, marking.marks, [*copies, *unmatched, *unlabelled])


def _leave_unlabelled(frames: list[Frame]) -> _Labelled:
    kept, copies = drop_copies(frames)
    return _Labelled(kept, {}, copies)


def _list_unused(
    table: LabelTable, frames: Iterable[Frame], names: Mapping[str, str], pseudonyms: Pseudonyms
) -> list[Exclusion]:
    """Return the label rows that no image belongs to, selected or not."""
    unused = table.find_unused(frames, names)
    return [Exclusion(pseudonyms.code("label", key), UNUSED, table.names[key], images=0) for key in unused]


def _group(frames: list[Frame], marks: Mapping[str, Mark], dataset: Dataset) -> tuple[Groups, list[Exclusion]]:
    """Return the frames of each sample: one, or one per phase."""
    if dataset.channels == "grey":
        return [(frame,) for frame in frames], []
    groups, refused = group_phases(frames)
    exclusions = [leave_out(frame, reason) for frame, reason in refused]
    usual = count_usual(groups)
    wanted = needed_phases(dataset.channels, dataset.phases or count_phases(groups))
    if groups and wanted < 2 and dataset.channels == "phases":
        raise BcdxError('channels = "phases", but no slice position has two phases; use channels = "grey"')
    kept = []
    for group in groups:
        labels = {marks[frame.sample].label for frame in group if frame.sample in marks}
        reason = ""
        if len(group) < wanted or len(group) < usual_phases(group, usual):
            reason = f"has {len(group)} of {max(wanted, usual_phases(group, usual))} phases"
        elif len(labels) > 1:
            reason = "phases of one position have different labels"
        else:
            used, rest = choose_phases(group, dataset.channels, wanted)
            kept.append(used)
            if is_against_time(group):
                exclusions += [replace(leave_out(frame, AGAINST_TIME), flagged=True) for frame in used]
            unused = f"phase after the first {wanted}" if dataset.channels == "phases" else "phase of no channel"
            exclusions += [leave_out(frame, unused) for frame in rest]
        exclusions += [leave_out(frame, reason) for frame in group if reason]
    return kept, exclusions


def _name_classes(
    dataset: Dataset, marks: Mapping[str, Mark], groups: Groups, exclusions: Iterable[Exclusion]
) -> tuple[str, ...]:
    found = sorted({marks[group[0].sample].label for group in groups})
    if len(found) < 2:
        reasons = list_reasons(exclusions)
        raise LabelError(
            f"every usable image is labelled {found[0]!r}; at least two classes are needed"
            + (f"; left out: {reasons}" if reasons else "")
        )
    missing = [name for name in dataset.classes if name not in found]
    if missing:
        raise LabelError(f"no usable image is labelled {missing[0]!r}; the classes are {', '.join(dataset.classes)}")
    if dataset.positive is not None and dataset.positive not in found:
        raise LabelError(f"positive must be one of {', '.join(found)}, received {dataset.positive!r}")
    return dataset.classes or tuple(found)


def _make_studies(
    groups: Groups, classes: tuple[str, ...], known: Mapping[str, Mapping[str, Any]]
) -> tuple[Study, ...]:
    """Return the studies; `known` gives by sample its mark, its rank in the stack and what its phase may be called."""
    studies: dict[str, list[Item]] = {}
    for group in groups:
        sample = group[0].sample
        mark = known["mark"].get(sample)
        label = -1 if mark is None else classes.index(mark.label)
        phase = spell_phase(known["phase"].get(sample, set()))
        studies.setdefault(group[0].study, []).append(Item(group, label, known["rank"][sample], mark, phase))
    return tuple(Study(key, tuple(sorted(studies[key], key=lambda item: item.key))) for key in sorted(studies))


def list_reasons(exclusions: Iterable[Exclusion]) -> str:
    """Return the five reasons that cost the most images, with their number, for a message."""
    counts: Counter[str] = Counter()
    for one in exclusions:
        if one.images and not one.flagged:
            counts[one.reason] += one.images
    return ", ".join(f"{reason} ({count})" for reason, count in counts.most_common(5))


def _explain_nothing(paths: Sequence[Path], files: int, exclusions: Sequence[Exclusion]) -> str:
    where = ", ".join(map(str, paths))
    if not files:
        return f"{where}: no files in it"
    hint = ""
    if any(one.reason == NO_PATIENT for one in exclusions):
        hint = '; name plain images\' patients by a PatientID column, a `patient` pattern, or patient = "file"'
    return f"{where}: none of {files} files is usable: {list_reasons(exclusions) or 'no reason recorded'}{hint}"
