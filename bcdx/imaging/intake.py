"""New files and a run's recipe in; images prepared as the run's own were, and what became of each study, out."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bcdx._files import PROVENANCE
from bcdx.config import Dataset
from bcdx.errors import BcdxError, DicomError
from bcdx.imaging.collection import Collection, Study, scan
from bcdx.imaging.frames import Frame
from bcdx.imaging.identity import Pseudonyms
from bcdx.imaging.prepare import prepare_study
from bcdx.imaging.reading import Door, list_files, read_frames
from bcdx.imaging.sample import Exclusion, Sample

logger = logging.getLogger(__name__)

CAPTURE = "secondary capture: a picture of a screen or page, which no model here is made for"
OTHER_SHAPE = "another size or number of channels than the model's"
PLAIN = "plain images"
CODE = re.compile(r"[A-Z]{2,16}")
"""What a Modality looks like; anything else in its place might name somebody."""


@dataclass(frozen=True)
class Account:
    """What became of a study's images.

    Attributes:
        study, patient: Codes.
        judged: Images that are left to be judged, each phase counted.
        left_out: Reason -> images that it cost, the most first.
        remarks: What is odd about images -> how many, the most first.
    """

    study: str
    patient: str
    judged: int
    left_out: Mapping[str, int]
    remarks: Mapping[str, int]

    def to_refusal(self) -> dict[str, Any]:
        """Return plain data about a study of which nothing is left."""
        reasons = [{"reason": reason, "images": count} for reason, count in self.left_out.items()]
        return {"study": self.study, "patient": self.patient, "reasons": reasons}


@dataclass(frozen=True)
class Intake:
    """What became of the files.

    Attributes:
        samples: Images that the model takes, in order of study.
        sources: Sample -> its files, one per phase, in order of time.
        exclusions: What was left out or is odd.
        accounts: Of each study, in order of code.
        unread: Why files could not be read, of which nobody knows to which study they belong -> how many.
        patient_is_file: Files that name nobody were taken for one patient each.
    """

    samples: tuple[Sample, ...]
    sources: Mapping[str, tuple[Frame, ...]]
    exclusions: tuple[Exclusion, ...]
    accounts: tuple[Account, ...]
    unread: Mapping[str, int]
    patient_is_file: bool

    @property
    def refused(self) -> tuple[Account, ...]:
        """Studies of which nothing is left to be judged."""
        return tuple(one for one in self.accounts if not one.judged and one.left_out)


def narrow_recipe(
    recipe: Dataset, *, channels: int, modalities: Sequence[str] = (), planes: Sequence[str] = ()
) -> Dataset:
    """Return the recipe of a run as it applies to new files.

    Args:
        recipe: Of the run's shards.
        channels: Of the model's images; that many phases a sample takes where channels are phases.
        modalities: Modality values that the run has learned from, "" for plain images; empty: not known.
        planes: Planes that the run has learned from; empty: not known, or any.
    """
    changes: dict[str, Any] = {"patient": recipe.patient or "file"}  # a new plain image has no label table
    if recipe.channels == "phases":
        changes["phases"] = channels  # as many as the model takes, not as many as these files have
    learned = {"modality": tuple(modalities), "plane": tuple(planes)}
    wanted = {name: values for name, values in learned.items() if not getattr(recipe.select, name)}
    changes["select"] = recipe.select.model_copy(update=wanted)
    return recipe.model_copy(update=changes)


def leave_out_results(paths: Sequence[Path], marker: str) -> list[Path]:
    """Return files and folders that hold all that `paths` do, but nothing that this verb has written.

    Args:
        paths: Files and folders.
        marker: Name of a file that lies in each folder of results.

    Raises:
        BcdxError: One of `paths` does not exist, or there is nothing but results.
    """
    kept: list[Path] = []
    for path in paths:
        if not path.exists():
            raise BcdxError(f"{path}: no such file or folder")
        place = path.resolve()
        if any((one / marker).is_file() for one in (place, *place.parents)):
            raise BcdxError(f"{path}: belongs to an earlier diagnosis; its pictures and reports are not to be judged")
        results = {found.parent for found in path.rglob(marker)} if path.is_dir() else set()
        for one in sorted(results):
            logger.info("%s: an earlier diagnosis, left alone", one)
        kept += _go_around(path, results)
    if not kept:
        raise BcdxError(f"{', '.join(map(str, paths))}: nothing but earlier diagnoses")
    return kept


def _go_around(path: Path, results: set[Path]) -> list[Path]:
    """Return what a folder holds beside results; where there are none the folder itself, which files are named by."""
    if path in results:
        return []
    if not any(path in one.parents for one in results):
        return [path]
    children = (one for one in sorted(path.iterdir()) if not one.name.startswith(".") and one.name != PROVENANCE)
    return [part for child in children for part in _go_around(child, results)]


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
    fitting, exclusions = _prepare(found, dataset, image_shape)
    items = found.items
    frames = {frame.sample: frame for item in items.values() for frame in item.frames}
    frames |= _read_left_out(exclusions, frames, dataset, paths, pseudonyms)
    exclusions = [_explain(one, _find(one, frames), dataset) for one in exclusions]
    if not fitting:
        reasons = Counter(one.reason for one in exclusions if not one.flagged)
        shown = ", ".join(f"{reason} ({count})" for reason, count in reasons.most_common(5))
        raise BcdxError(f"none of the files became an image that this model takes: {shown}")
    sources = {one.sample: items[one.sample].frames for one in fitting}
    accounts = _draw_up_accounts(exclusions, frames, [frame for group in sources.values() for frame in group])
    unread = Counter(one.reason for one in exclusions if one.images and not one.flagged and _find(one, frames) is None)
    return Intake(
        tuple(fitting), sources, tuple(exclusions), accounts, dict(unread.most_common()), found.patient_is_file
    )


def _prepare(
    found: Collection, dataset: Dataset, image_shape: tuple[int, int, int]
) -> tuple[list[Sample], list[Exclusion]]:
    """Return the images that fit the model, and all that was left out or is odd until now."""
    studies, captures = _drop_captures(found)
    exclusions = [*found.exclusions, *captures]
    fitting, items = [], found.items
    for study in studies:
        prepared = prepare_study(study, dataset)
        for one in prepared.samples:
            if one.image.shape == tuple(image_shape):
                fitting.append(one)
            else:
                frames = items[one.sample].frames
                exclusions.append(Exclusion(one.sample, OTHER_SHAPE, frames[0].path, images=len(frames)))
        exclusions += prepared.exclusions  # known when all samples have been taken
    return fitting, exclusions


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


def _find(one: Exclusion, frames: Mapping[str, Frame]) -> Frame | None:
    """Return the frame that an exclusion is about; of a copy, whose code has a number, the one that it copies."""
    return frames.get(one.key) or frames.get(one.key.partition("-")[0])


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


def _draw_up_accounts(
    exclusions: Iterable[Exclusion], frames: Mapping[str, Frame], used: Sequence[Frame]
) -> tuple[Account, ...]:
    patients = {frame.study: frame.patient for frame in used}
    left_out: dict[str, Counter[str]] = {}
    remarks: dict[str, Counter[str]] = {}
    for one in exclusions:
        frame = _find(one, frames)
        if frame is not None:
            patients.setdefault(frame.study, frame.patient)
            counts = remarks if one.flagged else left_out
            counts.setdefault(frame.study, Counter())[one.reason] += 1 if one.flagged else one.images
    judged = Counter(frame.study for frame in used)

    def sort(counts: Mapping[str, Counter[str]], study: str) -> dict[str, int]:
        return dict(counts.get(study, Counter()).most_common())

    return tuple(
        Account(study, patients[study], judged[study], sort(left_out, study), sort(remarks, study))
        for study in sorted(patients)
    )
