"""Series of a plan in, their verified files below a folder out: FOLDER/PatientID/Modality-SeriesInstanceUID/NAME.

Files of an earlier attempt are kept where size and hash are right. They are read again for that: MD5 takes about two
seconds a GB, which is little beside fetching, and a list of what was finished could not tell a file that was damaged
since. Series that `provenance.json` lists were verified when they were complete; of them, number and size are checked.
"""

from __future__ import annotations

import logging
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from bcdx._files import hash_file
from bcdx.catalogue.provenance import PROVENANCE, Entry, make_entry
from bcdx.catalogue.series import Series
from bcdx.catalogue.store import PART, Stopped, Store, StoredObject, Tick
from bcdx.config import Catalogue
from bcdx.errors import BcdxError

T = TypeVar("T")

logger = logging.getLogger(__name__)

SPARE = 0.05
"""Share of the missing bytes that must be free on top: file systems round up, and others write, too."""


@dataclass(frozen=True)
class Listing:
    """What the store holds of a series.

    Attributes:
        series: As the catalogue has it.
        objects: By name.
        folder: Where they go.
    """

    series: Series
    objects: tuple[StoredObject, ...]
    folder: Path

    @property
    def size(self) -> int:
        """Bytes of all objects."""
        return sum(one.size for one in self.objects)


def series_folder(source: Path, series: Series) -> Path:
    """Return where a series's files go. What no folder can be called by is replaced."""
    return source / _clean(series.patient) / _clean(f"{series.modality}-{series.uid}")


def _clean(name: str) -> str:
    return re.sub(r"[^\w.=+ -]|^\.+", "_", name) or "_"


def is_whole(source: Path, series: Series, entry: Entry | None) -> bool:
    """Return whether a series is recorded as verified and its files are there: their number and their size."""
    if entry is None or entry.revision != series.prefix:
        return False
    sizes = [size for name, size in _list_files(series_folder(source, series)).items()]
    return (len(sizes), sum(sizes)) == (entry.images, entry.bytes)


def discard_leftovers(source: Path) -> None:
    """Remove the unfinished files of a process that was killed."""
    for path in (*source.glob(f"*/*/.*{PART}"), *source.glob(f".{PROVENANCE}.*")):
        path.unlink(missing_ok=True)


def list_all(series: Sequence[Series], source: Path, settings: Catalogue) -> list[Listing]:
    """Return what the store holds of each series, checked against catalogue and folder.

    Raises:
        BcdxError: Number or size differ, the store cannot be read, or files are in the way.
    """
    stop = threading.Event()
    store = Store(settings, stop)

    def look(one: Series) -> Listing:
        return Listing(one, store.list_series(one), series_folder(source, one))

    found = sorted(
        _run([partial(look, one) for one in series], settings.connections, stop), key=lambda one: one.series.uid
    )
    _check_strangers(found)
    return found


def _check_strangers(listings: Iterable[Listing]) -> None:
    """Check that no folder holds files that its series does not: they would be read as some of it."""
    strangers = [
        one.folder / min(names)
        for one in listings
        if (names := set(_list_files(one.folder)) - {item.name for item in one.objects})
    ]
    if not strangers:
        return
    for path in strangers:
        logger.info("%s: no file of its series", path)
    raise BcdxError(
        f"{len(strangers)} series folders hold files of another revision, or of something else, such as "
        f"{strangers[0]}; move these folders away"
    )


def count_missing(listings: Iterable[Listing]) -> int:
    """Return the bytes that are not there yet."""
    missing = 0
    for one in listings:
        there = _list_files(one.folder)
        missing += sum(item.size for item in one.objects if there.get(item.name) != item.size)
    return missing


def check_disk(source: Path, missing: int) -> None:
    """Check that the disk has room for what is missing.

    Raises:
        BcdxError: It has not.
    """
    home = next(folder for folder in (source, *source.absolute().parents) if folder.exists())
    free, needed = shutil.disk_usage(home).free, int(missing * (1 + SPARE))
    if free < needed:
        raise BcdxError(
            f"{source}: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free; make room, narrow the rules, "
            "or choose another --source"
        )


def fetch_all(listings: Sequence[Listing], settings: Catalogue, tick: Tick) -> list[Entry]:
    """Fetch what is not there; return an entry for each series.

    Args:
        listings: What is to be there.
        settings: Endpoint, connections and tries.
        tick: Called, from several threads, with bytes as they arrive and with those of files that are there and right.

    Raises:
        BcdxError: A file could not be had; what arrived stays.
    """
    stop = threading.Event()
    store = Store(settings, stop)
    hashes: dict[str, dict[str, str]] = {one.series.uid: {} for one in listings}

    def ensure(listing: Listing, item: StoredObject) -> tuple[str, str, str]:
        path = listing.folder / item.name
        md5 = _keep(item, path, tick)
        return listing.series.uid, item.name, md5 or store.fetch(item, path, tick)

    for one in listings:
        one.folder.mkdir(parents=True, exist_ok=True)
    tasks = (partial(ensure, one, item) for one in listings for item in one.objects)
    for uid, name, md5 in _run(tasks, settings.connections, stop):
        hashes[uid][name] = md5
    return [make_entry(one.series, hashes[one.series.uid], one.size) for one in listings]


def _keep(item: StoredObject, path: Path, tick: Tick) -> str | None:
    """Return the MD5 of a file that is there and right, else None."""
    try:
        if path.stat().st_size != item.size:
            return None
    except FileNotFoundError:
        return None
    md5 = hash_file(path, "md5")
    if item.md5 not in {None, md5}:
        return None
    tick(item.size)
    return md5


def _list_files(folder: Path) -> dict[str, int]:
    """Return name -> size of a folder's files, hidden ones left out."""
    if not folder.is_dir():
        return {}
    return {path.name: path.stat().st_size for path in folder.iterdir() if not path.name.startswith(".")}


def _run(tasks: Iterable[Callable[[], T]], threads: int, stop: threading.Event) -> Iterator[T]:
    """Yield what tasks return, in the order in which they end; the first one that fails stops the others.

    A few more tasks than threads are under way at a time: a collection may have a million files.
    """
    with ThreadPoolExecutor(threads) as executor:
        waiting: set[Future[T]] = set()
        try:
            for task in tasks:
                waiting.add(executor.submit(task))
                if len(waiting) >= 4 * threads:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from _results(done)
            yield from _results(wait(waiting).done)
        except BaseException:
            stop.set()
            logger.info("stopping; waiting for open connections")
            executor.shutdown(wait=False, cancel_futures=True)
            raise


def _results(done: Iterable[Future[T]]) -> list[T]:
    """Return the results; of several failures the one that made the others stop is raised."""
    faults = [error for one in done if (error := one.exception()) is not None]
    for error in sorted(faults, key=lambda error: isinstance(error, Stopped)):
        raise error
    return [one.result() for one in done]
