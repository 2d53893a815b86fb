"""Drawn lesions and the frames of all patients in; the label of each frame, or the reason for none, out.

A slice is positive where lesions cover a stated area. Left out are slices where they cover less, slices near a lesion's
end, and stacks that nobody has drawn on. What remains of the breast is negative; of the other breast only where the
recipe says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from bcdx._recipes import expand_path
from bcdx.config import Labels
from bcdx.errors import LabelError, SettingsError
from bcdx.imaging.boxes import read_boxes
from bcdx.imaging.dicom import is_dicom
from bcdx.imaging.drawn import Lesion
from bcdx.imaging.frames import Frame
from bcdx.imaging.identity import Pseudonyms
from bcdx.imaging.labels import NO_LABEL, UNUSED
from bcdx.imaging.les import holds_les, read_les
from bcdx.imaging.phases import Key
from bcdx.imaging.sample import Mark
from bcdx.imaging.segmentations import list_segmentations, read_segmentations
from bcdx.imaging.stacks import Stack, find_slices, group_stacks
from bcdx.imaging.verdicts import Fit, Rules, Verdict, judge_stack

T = TypeVar("T", Frame, Lesion)


@dataclass(frozen=True)
class Marking:
    """What drawn lesions say of frames; each frame has either a mark or a reason.

    Attributes:
        marks: Sample code -> label and where it comes from.
        reasons: Sample code -> fixed phrase on why there is no label.
        unmatched: (lesion's key, reason) of each lesion that fits no images or cannot be read.
    """

    marks: Mapping[str, Mark] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    unmatched: tuple[tuple[str, str], ...] = ()


def read_lesions(labels: Labels, *, pseudonyms: Pseudonyms, images: Sequence[Path] = ()) -> tuple[Lesion, ...]:
    """Return all lesions that the recipe's labels name.

    Args:
        labels: With `from_lesions`.
        images: DICOM SEG objects of the collection, read where `labels.source` is unset.

    Raises:
        LabelError: `source` is not at hand or holds no lesions; the message names `page`, where there is one.
    """
    if labels.source is None:
        return _read_own_segmentations(labels, pseudonyms, images)
    source = _find_source(labels, labels.source)
    kind = _find_format(source) if labels.format == "auto" else labels.format
    if kind == "les":
        return read_les(source, pseudonyms)
    if kind == "boxes":
        return read_boxes(source, labels, pseudonyms)
    paths = list_segmentations(source)
    if not paths:
        raise LabelError(f"{source}: no .les file and no DICOM SEG in it")
    return read_segmentations(paths, labels.segments, pseudonyms)


def _read_own_segmentations(labels: Labels, pseudonyms: Pseudonyms, images: Sequence[Path]) -> tuple[Lesion, ...]:
    if labels.format not in {"auto", "seg"}:
        raise LabelError(f"labels.source: name the lesions; without it format = {labels.format!r} has none to read")
    if not images:
        raise LabelError("no DICOM SEG among the images; name the lesions in labels.source")
    return read_segmentations(images, labels.segments, pseudonyms)


def _find_source(labels: Labels, text: str) -> Path:
    hint = f"; it can be had from {labels.page}" if labels.page else ""
    try:
        source = expand_path(text)
    except SettingsError as error:
        raise LabelError(f"labels.source: {error}{hint}") from error
    if not source.exists():
        raise LabelError(f"labels.source: {source}: no such file or folder{hint}")
    return source


def _find_format(source: Path) -> str:
    try:
        if holds_les(source):
            return "les"
        return "seg" if source.is_dir() or is_dicom(source) else "boxes"
    except OSError as error:
        raise LabelError(f"labels.source: {source}: cannot be opened") from error


def mark_frames(
    frames: Sequence[Frame], lesions: Sequence[Lesion], labels: Labels, classes: tuple[str, str]
) -> Marking:
    """Label frames by the lesions drawn on them; all frames of a slice position are labelled alike.

    Args:
        frames: Whole stacks, before phases, breasts or slices are chosen from them: a lesion counts as drawn on a stack
            only where all its slices are there, and which is the dynamic stack its phases tell.
        classes: Names of negative and positive.
    """
    rules = Rules(labels, classes)
    drawn = _by_patient(sorted(lesions, key=lambda one: one.key))
    patients = _by_patient(frames)
    unmatched = [(one.key, one.reason or UNUSED) for name in drawn.keys() - patients for one in drawn[name]]
    marks: dict[str, Mark] = {}
    reasons: dict[str, str] = {}
    for patient, own in patients.items():
        stacks = group_stacks(own)
        fits, failed = _match(drawn.get(patient, []), stacks)
        unmatched += failed
        for frame, verdict in _judge_patient(stacks, fits, failed, rules):
            if isinstance(verdict, Mark):
                marks[frame.sample] = verdict
            else:
                reasons[frame.sample] = verdict
    return Marking(marks, reasons, tuple(sorted(unmatched)))


def _by_patient(things: Iterable[T]) -> dict[str, list[T]]:
    patients: dict[str, list[T]] = {}
    for one in things:
        patients.setdefault(one.patient, []).append(one)
    return patients


def _match(lesions: Sequence[Lesion], stacks: Sequence[Stack]) -> tuple[list[Fit], list[tuple[str, str]]]:
    """Return where the lesions lie, and (key, reason) of those of which that cannot be told."""
    fits: list[Fit] = []
    failed: list[tuple[str, str]] = []
    for lesion in lesions:
        found = lesion.reason or find_slices(lesion, stacks)
        if isinstance(found, str):
            failed.append((lesion.key, found))
        else:
            fits.append(Fit(lesion, *found))
    return fits, failed


def _judge_patient(
    stacks: Sequence[Stack], fits: Sequence[Fit], failed: Sequence[tuple[str, str]], rules: Rules
) -> Iterator[tuple[Frame, Verdict]]:
    """Yield each frame of a patient and what it is; a lesion that may lie anywhere leaves nothing to say."""
    for stack in stacks:
        if failed:
            verdicts: dict[Key, Verdict] = dict.fromkeys(stack.frames, min(reason for _, reason in failed))
        elif not fits:
            verdicts = dict.fromkeys(stack.frames, NO_LABEL)
        else:
            verdicts = judge_stack(stack, fits, rules)
        for position, frames in stack.frames.items():
            yield from ((frame, verdicts[position]) for frame in frames)
