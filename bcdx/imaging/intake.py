"""New files and a run's recipe in; images prepared as the run's own were, and who was refused why, out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bcdx.config import Dataset
from bcdx.errors import BcdxError, DicomError
from bcdx.imaging.collection import Collection, Study, scan
from bcdx.imaging.frames import Frame
from bcdx.imaging.identity import Pseudonyms
from bcdx.imaging.prepare import prepare_study
from bcdx.imaging.reading import Door, list_files, read_frames
from bcdx.imaging.sample import Exclusion, Sample

CAPTURE = "secondary capture: a picture of a screen or page, which no model here is made for"
OTHER_SHAPE = "another size or number of channels than the model's"
PLAIN = "plain images"
CODE = re.compile(r"[A-Z]{2,16}")
"""What a Modality looks like; anything else in its place might name somebody."""


@dataclass(frozen=True)
class Refusal:
    """A study of which nothing is left to be judged.

    Attributes:
        study, patient: Codes.
        reasons: Reason -> images that it cost, the most first.
    """

    study: str
    patient: str
    reasons: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        reasons = [{"reason": reason, "images": count} for reason, count in self.reasons.items()]
        return {"study": self.study, "patient": self.patient, "reasons": reasons}


@dataclass(frozen=True)
class Intake:
    """What became of the files.

    Attributes:
        samples: Images that the model takes, in order of study.
        sources: Sample -> its files, one per phase, in order of time.
        exclusions: What was left out or is odd.
        refused: Studies of which nothing is left, in order of code.
        patient_is_file: Files that name nobody were taken for one patient each.
    """

    samples: tuple[Sample, ...]
    sources: Mapping[str, tuple[Frame, ...]]
    exclusions: tuple[Exclusion, ...]
    refused: tuple[Refusal, ...]
    patient_is_file: bool


def narrow_recipe(recipe: Dataset, *, channels: int, modalities: Sequence[str]) -> Dataset:
    """Return the recipe of a run as it applies to new files.

    Args:
        recipe: Of the run's shards.
        channels: Of the model's images; that many phases a sample takes where channels are phases.
        modalities: Modality values that the run has learned from, "" for plain images; empty: not known.
    """
    changes: dict[str, Any] = {"patient": recipe.patient or "file"}  # a new plain image has no label table
    if recipe.channels == "phases":
        changes["phases"] = channels  # as many as the model takes, not as many as these files have
    if not recipe.select.modality:
        changes["select"] = recipe.select.model_copy(update={"modality": tuple(modalities)})
    return recipe.model_copy(update=changes)


def take_in(
    dataset: Dataset, paths: Sequence[Path], pseudonyms: Pseudonyms, *, image_shape: tuple[int, int, int]
) -> Intake:
    """Read, select and prepare all images that the model was made for.

    Args:
        dataset: What `narrow_recipe` gives.
        paths: Files and folders.
        pseudonyms: Turns identifiers into codes.
        image_shape: Height, width and channels that the model takes.

    Raises:
        BcdxError: Nothing is left; the message counts the reasons.
    """
    try:
        found = scan(dataset, source=list(paths), pseudonyms=pseudonyms, labelled=False)
    except BcdxError as error:
        raise BcdxError(f"{error}; this model takes {describe_wanted(dataset)}") from error
    studies, captures = _drop_captures(found)
    exclusions = [*found.exclusions, *captures]
    samples: list[Sample] = []
    for study in studies:
        prepared = prepare_study(study, dataset)
        samples += prepared.samples
        exclusions += prepared.exclusions
    fitting = tuple(one for one in samples if one.image.shape == tuple(image_shape))
    items = found.items
    exclusions += [
        Exclusion(one.sample, OTHER_SHAPE, items[one.sample].frames[0].path, images=len(items[one.sample].frames))
        for one in samples
        if one.image.shape != tuple(image_shape)
    ]
    frames = {frame.sample: frame for item in items.values() for frame in item.frames}
    frames |= _read_left_out(exclusions, frames, dataset, paths, pseudonyms)
    exclusions = [_explain(one, frames.get(one.key), dataset) for one in exclusions]
    refused = _list_refused(exclusions, frames, {one.study for one in fitting})
    if not fitting:
        reasons = Counter(one.reason for one in exclusions if not one.flagged)
        shown = ", ".join(f"{reason} ({count})" for reason, count in reasons.most_common(5))
        raise BcdxError(f"none of the files became an image that this model takes: {shown}")
    sources = {one.sample: items[one.sample].frames for one in fitting}
    return Intake(fitting, sources, tuple(exclusions), refused, found.patient_is_file)


def describe_wanted(dataset: Dataset) -> str:
    """Return in words what images a recipe takes."""
    select = dataset.select
    parts = ["/".join(one or PLAIN for one in select.modality) or "images"]
    parts += [f"{'/'.join(select.plane)} slices"] if select.plane else []
    parts += [f"breast {'/'.join(select.laterality)}"] if select.laterality else []
    if dataset.channels == "phases":
        parts += [f"{dataset.phases} dynamic phases of each slice position"]
    elif not isinstance(dataset.channels, str):
        parts += [f"the dynamic phases that {', '.join(dataset.channels)} are made of"]
    return ", ".join(parts)


def _drop_captures(found: Collection) -> tuple[list[Study], list[Exclusion]]:
    """Leave out pictures of screens: words, marks and verdicts may be burned in."""
    studies, captures = [], []
    for study in found.studies:
        kept = tuple(item for item in study.items if not any(frame.is_capture for frame in item.frames))
        captures += [item for item in study.items if any(frame.is_capture for frame in item.frames)]
        studies += [replace(study, items=kept)] if kept else []
    return studies, [Exclusion(one.key, CAPTURE, one.frames[0].path, images=len(one.frames)) for one in captures]


def _read_left_out(
    exclusions: Iterable[Exclusion],
    known: Mapping[str, Frame],
    dataset: Dataset,
    paths: Sequence[Path],
    pseudonyms: Pseudonyms,
) -> dict[str, Frame]:
    """Return the frames that the scan has left out, by code: to which study they belong is not in an exclusion."""
    names = dict(list_files(paths))
    door = Door(pseudonyms, dataset.split.salt, dataset.patient)
    files = {one.path for one in exclusions if one.key not in known and one.path in names}
    unread = {one.path for one in exclusions if one.key == pseudonyms.code("file", names.get(one.path, ""))}
    frames: dict[str, Frame] = {}
    for path in sorted(files - unread):
        try:
            frames |= {frame.sample: frame for frame in read_frames(Path(path), names[path], door)}
        except DicomError:
            continue  # no frame of it could be read, so it belongs to no study
    return frames


def _explain(one: Exclusion, frame: Frame | None, dataset: Dataset) -> Exclusion:
    """Say with a rule's name what an image is and what the model was made for."""
    if frame is None:
        return one
    select = dataset.select
    is_, wanted = {
        "modality not selected": (_name_modality(frame), "/".join(each or PLAIN for each in select.modality)),
        "plane not selected": (f"plane {frame.plane}", "/".join(select.plane)),
        "laterality not selected": (f"breast {frame.laterality}", "/".join(select.laterality)),
    }.get(one.reason, ("", ""))
    return replace(one, reason=f"{is_}: the model was made for {wanted}") if is_ else one


def _name_modality(frame: Frame) -> str:
    if frame.is_plain:
        return "plain image"
    return f"Modality {frame.modality}" if CODE.fullmatch(frame.modality) else "another Modality"


def _list_refused(
    exclusions: Iterable[Exclusion], frames: Mapping[str, Frame], judged: set[str]
) -> tuple[Refusal, ...]:
    patients: dict[str, str] = {}
    reasons: dict[str, Counter[str]] = {}
    for one in exclusions:
        frame = frames.get(one.key)
        if frame is not None and not one.flagged and frame.study not in judged:
            patients[frame.study] = frame.patient
            reasons.setdefault(frame.study, Counter())[one.reason] += one.images
    return tuple(Refusal(key, patients[key], dict(reasons[key].most_common())) for key in sorted(reasons))
