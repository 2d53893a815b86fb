"""VERB: DICOM files (or an image folder) and labels in; TFRecord shards and their manifest out."""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from bcdx import __version__
from bcdx._files import staged_folder
from bcdx._recipes import expand_path
from bcdx._versions import installed_versions
from bcdx.config import Dataset
from bcdx.errors import BcdxError, RecordsError, SettingsError
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
    from bcdx.imaging.collection import Collection
    from bcdx.imaging.sample import Exclusion
    from bcdx.records.sharding import Tick
    from bcdx.records.staging import Prepare, Staged

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger(__name__)

SHOWN_FILES = 5


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
    _report(exclusions)
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
    manifest = read_manifest(out)
    if not is_fresh(manifest, dataset, _read_label_table(dataset)):
        raise RecordsError(f"{out}: stale: other settings or labels made these shards; shard again with --overwrite")
    logger.info("%s: complete shards of the same recipe; nothing to do", out)
    return manifest


def _read_label_table(dataset: Dataset) -> bytes | None:
    """Return the label table's bytes, none where the recipe names no table, None where it is not at hand."""
    if dataset.labels.file is None or dataset.source == "phantom":
        return b""
    path = expand_path(dataset.source) / dataset.labels.file
    return path.read_bytes() if path.is_file() else None


def _fingerprint(dataset: Dataset) -> str:
    return fingerprint_recipe(dataset, _read_label_table(dataset) or b"")


def _write_all(dataset: Dataset, stage: Path, out: Path) -> tuple[Manifest, list[Exclusion], dict[str, str]]:
    """Write phantom (if asked for), shards and manifest into `stage`; return what is for the private index."""
    from bcdx.imaging.collection import scan
    from bcdx.imaging.identity import Pseudonyms, load_key

    source, labelled = _find_source(dataset, stage)
    look = partial(scan, labelled, source=source, pseudonyms=Pseudonyms(load_key()))
    found = _with_workers(dataset.workers, lambda executor: look(executor=executor))
    logger.info("%d files, %d studies, classes %s", found.files, len(found.studies), ", ".join(found.classes))
    with _staging_folder(dataset, found, out) as staging:
        manifest, exclusions = _shard(dataset, found, staging, stage)
    paths = {item.key: item.frames[0].path for study in found.studies for item in study.items}
    paths.update({one.key: one.path for one in exclusions})
    return manifest, exclusions, {key: path.replace(str(stage), str(out)) for key, path in paths.items()}


def _find_source(dataset: Dataset, stage: Path) -> tuple[Path, Dataset]:
    if dataset.source != "phantom":
        return expand_path(dataset.source), dataset
    from bcdx.imaging.phantom import write_phantom

    write_phantom(stage / "dicom", dataset.phantom)
    labels = dataset.labels.model_copy(update={"file": "labels.csv"})
    return stage / "dicom", dataset.model_copy(update={"labels": labels})


def _shard(dataset: Dataset, found: Collection, staging: Path, stage: Path) -> tuple[Manifest, list[Exclusion]]:
    from bcdx.imaging.prepare import describe_preparation, prepare_study
    from bcdx.records import sharding

    staged = _stage(found, partial(prepare_study, dataset=dataset), staging, dataset.workers)
    entries = [entry for one in staged for entry in one.entries]
    paths = {item.key: item.frames[0].path for study in found.studies for item in study.items}
    left_out = (replace(left, path=paths[left.key]) for one in staged for left in one.exclusions)
    exclusions = [*found.exclusions, *left_out]
    if not entries:
        counts = Counter(one.reason for one in exclusions)
        raise RecordsError(f"no image is usable: {', '.join(f'{why} ({n})' for why, n in counts.most_common(5))}")
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
        fingerprint=_fingerprint(dataset),
        data_hash=sharding.hash_shards(written),
        preparation=describe_preparation(dataset),
        normalisation=tuple(pair for one in staged for pair in one.normalisation),
        exclusions=tuple(Left(key=one.key, reason=one.reason) for one in sorted(exclusions, key=lambda one: one.key)),
        files=found.files,
        patient_is_file=found.patient_is_file,
        versions=installed_versions(("tensorflow", "numpy", "pydicom", "pillow")),
    )
    sharding.write_manifest(stage, manifest)
    return manifest, exclusions


def _stage(found: Collection, prepare: Prepare, staging: Path, workers: int) -> list[Staged]:
    from bcdx.records.sharding import stage_studies

    def stage(executor: Executor) -> list[Staged]:
        with _progress(len(found.studies)) as tick:
            return stage_studies(found.studies, prepare, staging, executor=executor, tick=tick)

    return _with_workers(workers, stage)


def _with_workers(count: int, task: Callable[[Executor], T]) -> T:
    """Return what a task returns that may run twice; if a worker is killed, go on once with new ones."""

    def attempt() -> T:
        with _workers(count) as executor:
            return task(executor)

    try:
        return attempt()
    except BrokenProcessPool:
        logger.warning("a worker was killed; going on with new ones")
    try:
        return attempt()
    except BrokenProcessPool as error:
        raise BcdxError(
            "a worker died twice, for want of memory perhaps; try workers = 1 (a script that calls bcdx needs "
            'if __name__ == "__main__": around its start)'
        ) from error


@contextmanager
def _staging_folder(dataset: Dataset, found: Collection, out: Path) -> Iterator[Path]:
    """Yield a folder for prepared studies that outlives a kill, named after all that decides its content."""
    digest = hashlib.sha256(f"{__version__} {_fingerprint(dataset)}".encode())
    stamped = dataset.source != "phantom"  # it is written anew each time, always the same
    for study in found.studies:
        for item in study.items:
            facts = [(frame.sample, _stamp(frame.path) if stamped else ()) for frame in item.frames]
            digest.update(json.dumps([study.key, item.label, facts]).encode())
    folder = out.parent / f".{out.name}.staging-{digest.hexdigest()[:16]}"
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


class _InTurn(Executor):
    """Runs tasks in this process, one after the other: nothing to start, and tracebacks stay whole."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run the task now."""
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001  # handed to whoever asks for the result, as executors do
            future.set_exception(error)
        return future


@contextmanager
def _workers(count: int) -> Iterator[Executor]:
    if count == 1:
        yield _InTurn()
        return
    # forking is cheap and safe until TensorFlow has started its threads
    method = "fork" if sys.platform == "linux" and "tensorflow" not in sys.modules else "spawn"
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context(method)) as executor:
        yield executor


@contextmanager
def _progress(total: int) -> Iterator[Tick]:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("reading studies", total=total)
        yield lambda count: bar.advance(task, count)


def _report(exclusions: Sequence[Exclusion]) -> None:
    """Tell the terminal what was left out and why; files are named here and in the private index alone."""
    paths: dict[str, list[str]] = {}
    for one in exclusions:
        paths.setdefault(one.reason, []).append(one.path)
    for reason, found in sorted(paths.items(), key=lambda pair: -len(pair[1])):
        more = f" and {len(found) - SHOWN_FILES} more" if len(found) > SHOWN_FILES else ""
        logger.warning("left out %d: %s: %s%s", len(found), reason, ", ".join(sorted(found)[:SHOWN_FILES]), more)


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
