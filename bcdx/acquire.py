"""VERB: a public collection and the recipe's rules in; DICOM files in `source`, and where they are from, out."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from bcdx._recipes import KEYWORDS, expand_path
from bcdx.catalogue.plan import Plan, make_plan, wanted_modalities
from bcdx.catalogue.provenance import PROVENANCE, Entry, Provenance, digest_names, read_provenance, write_provenance
from bcdx.catalogue.series import CatalogueFile, Series, find_catalogue, read_series
from bcdx.catalogue.tables import show_plan
from bcdx.config import Acquire, Catalogue
from bcdx.errors import BcdxError, SettingsError

if TYPE_CHECKING:
    from bcdx.catalogue.transfer import Listing

logger = logging.getLogger(__name__)

LOCK = ".acquire.lock"


@dataclass(frozen=True)
class Acquisition:
    """What `acquire` planned and, unless it was a dry run, what is in the folder now.

    Attributes:
        plan: What the collection holds and what the rules keep.
        source: The folder; None after a dry run.
        entries: The plan's series, all of them whole.
        hashed: How many of them were fetched or read again now; the others were verified by an earlier run, and now
            their number of files and size are right.
    """

    plan: Plan
    source: Path | None = None
    entries: tuple[Entry, ...] = ()
    hashed: int = 0

    def summary(self) -> str:
        """Return the tables for the terminal, and what is in the folder."""
        text = show_plan(self.plan)
        if self.source is None:
            return f"{text}\n\ndry run: nothing was fetched"
        images, size = sum(one.images for one in self.entries), sum(one.bytes for one in self.entries)
        return (
            f"{text}\n\n{self.source}: {len(self.entries):,} series, {images:,} images, {size / 1e9:.1f} GB; "
            f"{self._say_checked()} ({PROVENANCE})"
        )

    def _say_checked(self) -> str:
        others = len(self.entries) - self.hashed
        if self.hashed and others:
            return f"whole: {self.hashed:,} by size and hash, {others:,} by number and size"
        return "whole by size and hash" if self.hashed else "whole by number and size"


def acquire_collection(settings: Acquire) -> Acquisition:
    """Fetch what the rules keep of a collection; what is there already is kept.

    Raises:
        BcdxError: The settings cannot be used, the disk is too small, or the store cannot be read.
    """
    return acquire_from(find_catalogue(), settings)


def plan_acquisition(catalogue: CatalogueFile, settings: Acquire) -> Plan:
    """Return what the rules keep of a collection, without using the network.

    Raises:
        BcdxError: The settings name nothing that the catalogue has.
    """
    collection = settings.catalogue.collection
    if collection is None:
        raise SettingsError(
            "no collection is named; give a recipe such as tfrecords/tcga_brca.toml, or --catalogue.collection NAME"
        )
    whole = read_series(catalogue, collection, wanted_modalities(settings.select))
    return make_plan(
        whole,
        settings.select,
        collection=collection,
        catalogue=catalogue.version,
        patients=settings.catalogue.patients,
        skip_series=settings.catalogue.skip_series,
    )


def acquire_from(catalogue: CatalogueFile, settings: Acquire) -> Acquisition:
    """Do what `acquire_collection` does, from a given catalogue."""
    plan = plan_acquisition(catalogue, settings)
    if settings.dry_run:
        return Acquisition(plan)
    source = _find_destination(settings)
    if not plan.kept:
        raise SettingsError(f"the rules keep nothing of {plan.collection}; --dry-run shows why")
    entries, hashed = _make_whole(plan, source, settings.catalogue)
    return Acquisition(plan, source, tuple(entries[one.uid] for one in plan.kept), hashed)


def _find_destination(settings: Acquire) -> Path:
    if settings.source in KEYWORDS:
        raise SettingsError(
            f"source is {settings.source!r}; give the folder that the files shall go to, in the recipe or by --source"
        )
    source = expand_path(settings.source)
    if source.exists() and not source.is_dir():
        raise SettingsError(f"source {source}: a file, not a folder")
    return source


def _make_whole(plan: Plan, source: Path, settings: Catalogue) -> tuple[dict[str, Entry], int]:
    """Fetch and record what is not there; return what the folder holds then, and how many series that were."""
    earlier = read_provenance(source)
    if _describe(plan) in earlier.acquisitions and not _find_missing(plan, source, earlier):
        logger.info("%s: a complete acquisition of the same plan; nothing to do", source)
        _drop_lock(source)
        return earlier.entries, 0
    with _held(source):
        earlier = read_provenance(source)  # again: another process may just have ended
        _tell_others(source, plan, earlier)
        todo = _find_missing(plan, source, earlier)
        entries = _fetch(_list(todo, source, settings), settings, source) if todo else []
        provenance = earlier.extended(_describe(plan), entries)
        write_provenance(source, provenance)
    return provenance.entries, len(todo)


def _find_missing(plan: Plan, source: Path, earlier: Provenance) -> list[Series]:
    from bcdx.catalogue.transfer import is_whole

    known = earlier.entries
    return [one for one in plan.kept if not is_whole(source, one, known.get(one.uid))]


def _describe(plan: Plan) -> dict[str, Any]:
    """Return what is recorded of a plan: no patient, no path, no date."""
    return {
        "catalogue": plan.catalogue,
        "collection": plan.collection,
        "rules": dict(plan.rules),
        "patients": "all" if plan.patients is None else plan.patients,
        "series": len(plan.kept),
        "images": sum(one.images for one in plan.kept),
        "sha256": digest_names(one.uid for one in plan.kept),
    }


def _tell_others(source: Path, plan: Plan, earlier: Provenance) -> None:
    """Say what else the folder holds: it stays there, and `shard` will read it, too."""
    if earlier.acquisitions and _describe(plan) not in earlier.acquisitions:
        logger.info("%s: holds what other rules kept; that stays, and this plan is added", source)
    expected = {f"{one.modality}-{one.uid}" for one in plan.kept}
    expected |= {f"{one.Modality}-{uid}" for uid, one in earlier.entries.items()}
    strangers = [path for path in source.glob("*/*-*/") if path.name not in expected]
    if strangers:
        logger.warning(
            "%s: %d folders are neither of this plan nor of a finished one, such as %s; they stay, complete or not",
            source,
            len(strangers),
            min(strangers),
        )


def _list(todo: Sequence[Series], source: Path, settings: Catalogue) -> list[Listing]:
    """Return what the store holds of the series, once it is known that there is room for it."""
    from bcdx.catalogue.transfer import check_disk, count_missing, list_all

    logger.info("comparing %d series with the catalogue", len(todo))
    listings = list_all(todo, source, settings)
    missing, size = count_missing(listings), sum(one.size for one in listings)
    check_disk(source, missing)
    logger.info("%s: %.2f of %.2f GB are missing", source, missing / 1e9, size / 1e9)
    return listings


def _fetch(listings: Sequence[Listing], settings: Catalogue, source: Path) -> list[Entry]:
    from bcdx.catalogue.progress import show_bytes
    from bcdx.catalogue.transfer import discard_leftovers, fetch_all

    discard_leftovers(source)
    with show_bytes(sum(one.size for one in listings)) as tick:
        return fetch_all(listings, settings, tick)


@contextmanager
def _held(source: Path) -> Iterator[None]:
    """Make the folder and keep other processes out of it; a new folder that stays empty goes again.

    Raises:
        BcdxError: One is at work there.
    """
    new = [folder for folder in (source, *source.parents) if not folder.exists()]
    source.mkdir(parents=True, exist_ok=True)
    lock = FileLock(source / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise BcdxError(f"{source}: another acquire is at work there; wait for it, or stop it") from error
    except NotImplementedError:  # a file system without locks
        logger.debug("%s: no lock", source)
    try:
        yield
    finally:
        with suppress(OSError):  # Windows keeps it while it is held
            (source / LOCK).unlink()  # while it is held: afterwards it may be another's
        lock.release()
        for folder in new:  # the innermost first
            with suppress(OSError):
                folder.rmdir()


def _drop_lock(source: Path) -> None:
    """Remove the lock file of a process that was killed as it ended; one that is held stays."""
    if (source / LOCK).exists():
        with suppress(BcdxError, OSError), _held(source):
            pass


if __name__ == "__main__":
    from bcdx._cli import run_verb

    sys.exit(run_verb("acquire"))
