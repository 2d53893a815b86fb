"""Studies in, a folder of shards and its manifest out: whole or not at all, the same bytes whatever the order.

Stage (parallel, one task a study; workers have no TensorFlow) -> plan (pure: gate, split, order, shards) -> write.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread

import numpy as np

from bcdx._files import hash_file, write_json
from bcdx._native import import_tensorflow
from bcdx.config import Dataset
from bcdx.errors import RecordsError
from bcdx.records.gate import check_leakage, join_duplicates
from bcdx.records.manifest import MANIFEST, SPLIT_BY_IMAGE, Manifest, Shard, SplitFacts
from bcdx.records.split import SPLITS, assign_splits, check_classes
from bcdx.records.staging import Entry, HasKey, Prepare, Staged, read_image, stage_study

logger = logging.getLogger(__name__)

Tick = Callable[[int], None]


@dataclass(frozen=True)
class PlannedShard:
    """One shard to be: its name, and (entry, sample_seed) of each record in order."""

    name: str
    records: tuple[tuple[Entry, int], ...]


@dataclass(frozen=True)
class Plan:
    """All shards, by split."""

    splits: Mapping[str, tuple[PlannedShard, ...]]


def stage_studies(
    studies: Sequence[HasKey], prepare: Prepare, folder: Path, *, executor: Executor, tick: Tick
) -> list[Staged]:
    """Prepare all studies in parallel; what a killed run left in `folder` is taken over.

    Args:
        studies: What to prepare.
        prepare: Turns a study into samples.
        folder: Where they are kept.
        executor: Runs one task a study; tasks may run twice.
        tick: Called with 1 after each study.
    """
    folder.mkdir(parents=True, exist_ok=True)
    task = partial(stage_study, prepare=prepare, folder=folder)
    futures: list[Future[Staged]] = []
    for study in studies:
        futures.append(executor.submit(task, study))
        futures[-1].add_done_callback(lambda _: tick(1))  # at once where the work is done in this process
    with _loading_tensorflow():
        for future in as_completed(futures):
            future.result()
    return [future.result() for future in futures]


@contextmanager
def _loading_tensorflow() -> Iterator[None]:
    """Import TensorFlow beside the block, whose workers have been started: writing needs it, and it takes seconds."""

    def load() -> None:
        with suppress(Exception):  # whoever needs it imports it again and says what is wrong
            import_tensorflow()

    thread = Thread(target=load, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()  # it mutes stderr meanwhile


def plan_shards(entries: Sequence[Entry], dataset: Dataset, classes: Sequence[str]) -> Plan:
    """Return which record goes where: a pure function of the entries as a set.

    Raises:
        RecordsError: The split would leak or cannot be made.
    """
    if len({entry.shape for entry in entries}) > 1:
        raise RecordsError("images differ in shape; with phases as channels set `phases`")
    splits = deal_images(entries, dataset) if dataset.split.unit == "image" else deal_patients(entries, dataset)
    ordered = order_records(entries, dataset.split.salt)
    members = {name: [one for one in ordered if splits[one[0].sample] == name] for name in SPLITS}
    counts = {
        name: np.bincount([one.label for one, _ in found], minlength=len(classes)).tolist() if found else []
        for name, found in members.items()
    }
    check_classes(counts, classes)
    size, least = dataset.shard_bytes, dataset.min_shards
    return Plan({name: cut_shards(name, members[name], shard_bytes=size, min_shards=least) for name in SPLITS})


def deal_patients(entries: Sequence[Entry], dataset: Dataset) -> dict[str, str]:
    """Return sample -> split, all samples of a patient in one.

    Raises:
        RecordsError: There are too few patients, or two of them share something and are not merged.
    """
    groups = join_duplicates(entries) if dataset.merge_duplicates else {}
    labels: dict[str, set[int]] = {}
    for entry in entries:
        labels.setdefault(groups.get(entry.split_digest, entry.split_digest), set()).add(entry.label)
    assigned = assign_splits({digest: frozenset(found) for digest, found in labels.items()}, dataset.split)
    splits = {entry.split_digest: assigned[groups.get(entry.split_digest, entry.split_digest)] for entry in entries}
    check_leakage(entries, splits)
    return {entry.sample: splits[entry.split_digest] for entry in entries}


def deal_images(entries: Sequence[Entry], dataset: Dataset) -> dict[str, str]:
    """Return sample -> split, each image on its own: what leaks, for comparison with studies that did so."""
    logger.warning("WARNING: %s", SPLIT_BY_IMAGE)
    salt = dataset.split.salt
    digests = {
        entry.sample: hashlib.sha256(f"{salt}:{entry.split_digest}:{entry.pixels}".encode()).hexdigest()
        for entry in entries
    }
    labels = {digests[entry.sample]: frozenset({entry.label}) for entry in entries}
    assigned = assign_splits(labels, dataset.split)
    return {sample: assigned[digest] for sample, digest in digests.items()}


def order_records(entries: Iterable[Entry], salt: str) -> list[tuple[Entry, int]]:
    """Return entries with their seeds, ordered by SHA-256 of (salt, stored pixels, occurrence).

    Neither order nor seed depends on the private key; identical images are told apart by their occurrence.
    """
    known = sorted(
        entries, key=lambda one: (one.pixels, one.label, one.split_digest, one.laterality, one.slice_index, one.sample)
    )
    keyed = []
    occurrence, last = 0, ""
    for entry in known:
        occurrence = occurrence + 1 if entry.pixels == last else 0
        last = entry.pixels
        digest = hashlib.sha256(f"{salt}:{entry.pixels}:{occurrence}".encode()).hexdigest()
        keyed.append((digest, entry))
    return [(entry, int(digest[:16], 16) >> 1) for digest, entry in sorted(keyed, key=lambda pair: pair[0])]


def cut_shards(
    split: str, records: Sequence[tuple[Entry, int]], *, shard_bytes: int, min_shards: int
) -> tuple[PlannedShard, ...]:
    """Cut a split into shards of about `shard_bytes`, at least `min_shards`, at most one a record."""
    if not records:
        return ()
    total = sum(entry.size_bytes for entry, _ in records)
    count = min(max(min_shards, -(-total // shard_bytes)), len(records))
    bounds = [index * len(records) // count for index in range(count + 1)]
    return tuple(
        PlannedShard(f"{split}-{index:05d}-of-{count:05d}.tfrecord", tuple(records[bounds[index] : bounds[index + 1]]))
        for index in range(count)
    )


def write_shards(plan: Plan, staging: Path, out: Path, *, executor: Executor) -> dict[str, list[Shard]]:
    """Write all planned shards into `out`.

    Args:
        plan: What goes where.
        staging: Folder of the staged studies.
        out: Folder for the shards.
        executor: Threads; TensorFlow stays in this process.
    """
    import_tensorflow()
    task = partial(write_shard, staging=staging, out=out)
    return {name: list(executor.map(task, shards)) for name, shards in plan.splits.items()}


def write_shard(shard: PlannedShard, *, staging: Path, out: Path) -> Shard:
    """Write one shard and return its facts.

    Raises:
        RecordsError: TensorFlow could not write it, as on a full disk.
    """
    import tensorflow as tf

    from bcdx.records.schema import encode

    path = out / shard.name
    try:
        with tf.io.TFRecordWriter(str(path)) as writer:
            for entry, sample_seed in shard.records:
                writer.write(encode(entry, read_image(staging, entry), sample_seed))
    except tf.errors.OpError as error:
        raise RecordsError(f"{shard.name}: cannot be written: {error.message}") from error
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return Shard(name=shard.name, sha256=hash_file(path), bytes=path.stat().st_size, samples=len(shard.records))


def describe_split(shards: Sequence[PlannedShard], written: Sequence[Shard], classes: Sequence[str]) -> SplitFacts:
    """Return the manifest's facts of one split."""
    entries = [entry for shard in shards for entry, _ in shard.records]
    samples = {name: sum(one.label == index for one in entries) for index, name in enumerate(classes)}
    patients = {name: len({one.patient for one in entries if one.label == index}) for index, name in enumerate(classes)}
    return SplitFacts(
        shards=tuple(written),
        samples=len(entries),
        patients=len({one.patient for one in entries}),
        samples_per_class=samples,
        patients_per_class=patients,
    )


def hash_shards(written: Mapping[str, Sequence[Shard]]) -> str:
    """Return one SHA-256 over those of all shards in order."""
    text = "\n".join(f"{shard.name} {shard.sha256}" for shards in written.values() for shard in shards)
    return hashlib.sha256(text.encode()).hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest; whoever sees it may rely on the shards."""
    write_json(folder / MANIFEST, manifest.model_dump(mode="json"))
