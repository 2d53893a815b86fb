"""VERB: DICOM files (or an image folder) and labels in; TFRecord shards and their manifest out."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bcdx import __version__
from bcdx._files import staged_folder
from bcdx._recipes import expand_path
from bcdx._versions import installed_versions
from bcdx._work import show_progress, with_workers
from bcdx.config import Dataset
from bcdx.errors import RecordsError, SettingsError
from bcdx.records.ledger import EXCLUSIONS, report_exclusions
from bcdx.records.manifest import (
    MANIFEST,
    Left,
    Manifest,
    describe_recipe,
    fingerprint_recipe,
    is_fresh,
    read_manifest,
)

if TYPE_CHECKING:
    from bcdx.imaging.collection import Collection, Item
    from bcdx.imaging.sample import Exclusion
    from bcdx.records.staging import Entry, Staged

logger = logging.getLogger(__name__)


def write_records(dataset: Dataset) -> Manifest:
    """Read, label, split and shard a collection; complete shards of the same recipe are left alone.

    Raises:
        BcdxError: Nothing is usable, the split would leak, or other shards are in the way.
    """
    out = _output_folder(dataset)
    if (out / MANIFEST).exists() and not dataset.overwrite:
        return _keep_fresh(dataset, out)
    if out.exists() and any(out.iterdir()) and not (out / MANIFEST).exists():
        raise RecordsError(f"{out}: not empty, and no shards of ours; choose another --out")
    with staged_folder(out) as stage:
        manifest, exclusions, paths = _write_all(dataset, stage, out)
    report_exclusions(exclusions)
    _index_privately(out, manifest, paths)
    logger.info("%s: wrote %d shards", out, sum(len(facts.shards) for facts in manifest.splits.values()))
    return manifest


def _output_folder(dataset: Dataset) -> Path:
    if dataset.out is not None:
        return expand_path(dataset.out)
    if dataset.source == "phantom":
        return Path("tfrecords/phantom")
    raise SettingsError("`out` names no folder for the shards")


def _keep_fresh(dataset: Dataset, out: Path) -> Manifest:
    from bcdx.imaging.freshness import hash_labels

    manifest = read_manifest(out)
    if not is_fresh(manifest, dataset, hash_labels(dataset)):
        raise RecordsError(f"{out}: stale: other settings or labels made these shards; shard again with --overwrite")
    logger.info("%s: complete shards of the same recipe; nothing to do", out)
    return manifest


def _write_all(dataset: Dataset, stage: Path, out: Path) -> tuple[Manifest, list[Exclusion], dict[str, str]]:
    """Write phantom (if asked for), shards, card and manifest into `stage`; return what is for the private index."""
    from bcdx.imaging.collection import scan
    from bcdx.imaging.freshness import hash_labels
    from bcdx.imaging.identity import Pseudonyms, load_key

    fingerprint = fingerprint_recipe(dataset, hash_labels(dataset) or "")
    source, labelled = _find_source(dataset, stage)
    look = partial(scan, labelled, source=source, pseudonyms=Pseudonyms(load_key()))
    with show_progress("reading headers") as tick:
        found = with_workers(dataset.workers, lambda executor: look(executor=executor, tick=tick))
    logger.info("%d files, %d studies, classes %s", found.files, len(found.studies), ", ".join(found.classes))
    stamped = dataset.source != "phantom"  # it is written anew each time, always the same
    with _staging_folder(out, f"{__version__} {fingerprint} {_describe_found(found, stamped=stamped)}") as staging:
        manifest, exclusions = _shard(dataset, found, fingerprint, (staging, stage, source))
    paths = {key: item.frames[0].path for key, item in found.items.items()}
    paths.update({one.key: one.path for one in exclusions if one.path})
    return manifest, exclusions, {key: path.replace(str(stage), str(out)) for key, path in paths.items()}


def _find_source(dataset: Dataset, stage: Path) -> tuple[Path, Dataset]:
    if dataset.source != "phantom":
        return expand_path(dataset.source), dataset
    from bcdx.imaging.phantom import write_phantom

    write_phantom(stage / "dicom", dataset.phantom)
    labels = dataset.labels.model_copy(update={"file": "labels.csv"})
    return stage / "dicom", dataset.model_copy(update={"labels": labels})


def _shard(
    dataset: Dataset, found: Collection, fingerprint: str, places: tuple[Path, Path, Path]
) -> tuple[Manifest, list[Exclusion]]:
    """Stage, split and write; `places` are the folders of what is staged, of the shards and of the images."""
    from bcdx.imaging.collection import list_reasons
    from bcdx.imaging.compose import describe_preparation
    from bcdx.imaging.identity import Pseudonyms, load_key
    from bcdx.records import sharding
    from bcdx.records.card import write_card
    from bcdx.records.gathering import gather_card
    from bcdx.records.ledger import check_account, summarise, write_exclusions

    staging, stage, source = places
    items = found.items
    staged = _stage(dataset, found, staging)
    left_out = (_name_left(one, items[one.key], found) for study in staged for one in study.exclusions)
    exclusions = [*found.exclusions, *left_out]
    entries = [entry for one in staged for entry in one.entries]
    if not entries:
        raise RecordsError(f"no image is usable: {list_reasons(exclusions)}")
    entries, alike = _look_for_likeness(dataset, entries, staging, items)
    exclusions += [_name_left(one, items[one.key], found) for one in alike]
    used = sum(len(items[entry.sample].frames) for entry in entries)
    check_account(found.images, used, exclusions)
    plan = sharding.plan_shards(entries, dataset, found.classes)
    with ThreadPoolExecutor(dataset.workers) as threads:
        written = sharding.write_shards(plan, staging, stage, executor=threads)
    manifest = Manifest(
        image_shape=entries[0].shape,
        classes=found.classes,
        positive=dataset.positive or found.classes[-1],
        splits={
            name: sharding.describe_split(shards, written[name], found.classes) for name, shards in plan.splits.items()
        },
        recipe=describe_recipe(dataset),
        fingerprint=fingerprint,
        data_hash=sharding.hash_shards(written),
        preparation=describe_preparation(dataset),
        normalisation=tuple(pair for one in staged for pair in one.normalisation),
        exclusions=tuple(Left(**asdict(line)) for line in summarise(exclusions)),
        files=found.files,
        images=found.images,
        used=used,
        patient_is_file=found.patient_is_file,
        leaking=dataset.split.unit == "image",
        key_check=Pseudonyms(load_key()).check(),
        versions=installed_versions(("tensorflow", "numpy", "pydicom", "pillow")),
    )
    write_exclusions(stage / EXCLUSIONS, exclusions)
    write_card(stage, gather_card(dataset, manifest, found, (entries, exclusions), folders=(staging, source)))
    sharding.write_manifest(stage, manifest)
    return manifest, exclusions


def _name_left(one: Exclusion, item: Item, found: Collection) -> Exclusion:
    """Return the note on a sample with the path and the class that its staged form does without."""
    label = "" if item.label < 0 else found.classes[item.label]
    return replace(one, path=item.frames[0].path, label=label)


def _stage(dataset: Dataset, found: Collection, staging: Path) -> list[Staged]:
    from bcdx.imaging.prepare import prepare_study
    from bcdx.records.sharding import stage_studies

    decode = None
    if dataset.decoder == "tfio":
        from bcdx.records.tfio import open_tfio

        decode = open_tfio()
    prepare = partial(prepare_study, dataset=dataset, decode=decode)

    def stage(executor: Executor) -> list[Staged]:
        with show_progress("preparing studies", len(found.studies)) as tick:
            return stage_studies(found.studies, prepare, staging, executor=executor, tick=tick)

    return with_workers(dataset.workers, stage, fork=decode is None)


def _look_for_likeness(
    dataset: Dataset, entries: list[Entry], staging: Path, items: Mapping[str, Item]
) -> tuple[list[Entry], list[Exclusion]]:
    """Return the entries that stay, and notes on slices of two patients that look alike."""
    from bcdx.records.likeness import confirm, find_alike, note_alike
    from bcdx.records.staging import read_image

    action = dataset.select.near_duplicates
    if action == "ignore":
        return entries, []
    pairs = confirm(find_alike(entries), partial(read_image, staging))
    notes, dropped = note_alike(pairs, action, {key: len(item.frames) for key, item in items.items()})
    return [entry for entry in entries if entry.sample not in dropped], notes


def _describe_found(found: Collection, *, stamped: bool) -> str:
    """Return SHA-256 over all samples to be, and over sizes and times of their files where these are stamped."""
    digest = hashlib.sha256()
    for study in found.studies:
        for item in study.items:
            files = [(frame.sample, _stamp(frame.path) if stamped else ()) for frame in item.frames]
            mark = None if item.mark is None else asdict(item.mark)
            digest.update(json.dumps([study.key, item.label, item.slice_index, mark, files]).encode())
    return digest.hexdigest()


@contextmanager
def _staging_folder(out: Path, content: str) -> Iterator[Path]:
    """Yield a folder for prepared studies that outlives a kill, named after all that decides its content."""
    folder = out.parent / f".{out.name}.staging-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    for other in out.parent.iterdir():
        if re.fullmatch(rf"\.{re.escape(out.name)}\.staging-[0-9a-f]{{16}}", other.name) and other != folder:
            shutil.rmtree(other, ignore_errors=True)  # of other files or settings: nobody will take it over
    try:
        yield folder
    except Exception:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def _stamp(path: str) -> tuple[int, int]:
    stat = Path(path).stat()
    return stat.st_size, stat.st_mtime_ns


def _index_privately(out: Path, manifest: Manifest, paths: dict[str, str]) -> None:
    from bcdx.imaging.identity import write_private_index

    try:
        path = write_private_index(f"{out.name}-{manifest.data_hash[:12]}", paths)
        logger.info("which file is behind a key: %s", path)
    except OSError as error:
        logger.warning("no private index could be written: %s", error.strerror)


if __name__ == "__main__":
    from bcdx._cli import run_verb

    sys.exit(run_verb("shard"))
