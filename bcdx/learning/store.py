"""Arrays kept by what decides about them, in memory or in a folder that processes, searches and resumed runs share."""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout
from numpy.typing import NDArray

from bcdx.errors import StoreFullError
from bcdx.learning.entries import ENTRY, HIDDEN, Spec, Writer, discard_entry, entry_key, open_entry, reason

logger = logging.getLogger(__name__)

HASH, PARTIAL = r"[0-9a-f]{64}", rf"{re.escape(HIDDEN)}\w{{8}}"
"""Names of the folders that are the store's; whatever else lies beside them is left alone."""


class Store:
    """Keeps arrays under `entry_key` of their facts; nothing else than those and hashes lies in the folder.

    Args:
        folder: Where entries on disk lie, made when it is first needed; None: memory alone.
        memory_bytes: Memory that entries may take.
        disk_bytes: What the folder may hold.
    """

    def __init__(self, folder: Path | None, *, memory_bytes: int, disk_bytes: int) -> None:
        self.folder = folder
        self.memory_bytes = memory_bytes
        self.disk_bytes = disk_bytes
        self._memory: dict[str, NDArray[Any]] = {}
        self._booked: dict[str, int] = {}  # bytes of memory by key, of entries being written too
        self._mapped: dict[str, NDArray[Any]] = {}
        self._own: set[str] = set()  # written here, perhaps not opened yet: not to be evicted
        self._bad: set[str] = set()  # damaged or unreadable, and it stays there
        self._warned: set[str] = set()

    def get(self, facts: Mapping[str, Any]) -> NDArray[Any] | None:
        """Return the array of these facts, read-only; None: it is not there, or was damaged and is dropped.

        The bytes of an entry on disk are checked when this store first opens it; from then on its array stays good,
        even when the entry is evicted or replaced.
        """
        key = entry_key(facts)
        if (kept := self._memory.get(key)) is not None:
            return kept
        if self.folder is None or key in self._bad:
            return None
        if key not in self._mapped and (found := self._open(self.folder / key, facts)) is not None:
            self._mapped[key] = found
        with suppress(OSError):
            os.utime(self.folder / key / ENTRY)  # used just now: the last to be evicted
        return self._mapped.get(key)

    @contextmanager
    def write(self, specs: Mapping[str, Spec]) -> Iterator[dict[str, Writer]]:
        """Yield a writer for each spec; all entries appear when the block ends well, none when it does not.

        Where the disk has no room or fails, an entry is kept in memory instead, after a warning. A process killed
        while the finished entries move to their places leaves the first of them, each whole.

        Raises:
            StoreFullError: Memory has no room; before the block wherever that can be known.
        """
        with ExitStack() as stack:
            stack.callback(self._settle, specs)
            writers = self._open_writers(specs, stack)
            yield writers
            for writer in writers.values():
                writer.finish()
            for writer in writers.values():
                self._publish(writer)

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Keep other processes that share the folder out of their blocks of this name; look with `get` again inside.

        The lock ends with its process, even a killed one. Without a folder that can be written there is none.
        """
        with _held(self.folder and self.folder / f".{entry_key({'lock': name})}.lock"):
            yield

    def forget(self) -> None:
        """Drop what is held in memory; arrays in use stay good."""
        for key in self._memory:
            self._booked.pop(key, None)
        self._memory.clear()

    def used_bytes(self) -> tuple[int, int]:
        """Return the bytes taken in memory and, by all processes, on disk; what is being written counts in full."""
        return sum(self._booked.values()), sum(_size(path) for path in self._folders(rf"{HASH}|{PARTIAL}"))

    def _open(self, path: Path, facts: Mapping[str, Any]) -> NDArray[Any] | None:
        try:
            return open_entry(path, facts)
        except OSError as error:
            logger.warning("%s: %s; computed anew", path, reason(error))
            self._bad.add(path.name)
        except ValueError as error:
            logger.warning("%s: damaged (%s); dropped and computed anew", path, error)
            try:
                discard_entry(path)
            except OSError:
                self._bad.add(path.name)
        return None

    def _open_writers(self, specs: Mapping[str, Spec], stack: ExitStack) -> dict[str, Writer]:
        folder = self.folder if any(spec.place == "disk" for spec in specs.values()) else None
        with _held(folder and folder / ".lock"):  # two processes must not count on the same room
            stage, obstacle = None, "there is no reuse.folder"
            if folder is not None:
                try:
                    stage, obstacle = self._make_stage(folder, stack), ""
                except OSError as error:
                    obstacle = reason(error)
            return {name: self._open_writer(name, spec, stage, obstacle) for name, spec in specs.items()}

    def _make_stage(self, folder: Path, stack: ExitStack) -> Path:
        """Return a folder for entries being written, locked, and gone when `stack` unwinds."""
        _make_folder(folder)
        for left in self._folders(PARTIAL):  # by a killed process, unless its lock is held
            with suppress(OSError, NotImplementedError):
                FileLock(left / "lock").acquire(timeout=0).lock.release()
                shutil.rmtree(left, ignore_errors=True)
        stage = Path(tempfile.mkdtemp(dir=folder, prefix=HIDDEN))
        stack.callback(shutil.rmtree, stage, ignore_errors=True)
        stack.enter_context(_held(stage / "lock"))
        return stage

    def _open_writer(self, name: str, spec: Spec, stage: Path | None, obstacle: str) -> Writer:
        book = partial(self._book, name, spec)
        if spec.place == "memory" or spec.nbytes == 0:  # no file of 0 bytes can be mapped
            obstacle = ""
        elif stage is not None and not (obstacle := self._make_room(spec.nbytes)):
            return Writer(spec, stage / spec.key, book)
        book(obstacle)
        return Writer(spec, None, book)

    def _book(self, name: str, spec: Spec, obstacle: str) -> None:
        """Set memory aside for an entry, which goes there for its own sake or because of an obstacle on disk."""
        room = self.memory_bytes - sum(self._booked.values())
        if spec.nbytes > room:
            disk = f" and the disk cannot take it ({obstacle})" if obstacle else ""
            raise StoreFullError(
                f"{name}: {spec.nbytes:,} bytes are to be kept, but memory has room for {room:,}{disk}; raise "
                "reuse.memory_gib or reuse.disk_gib, or set reuse.folder to a disk with room or reuse.keep to none"
            )
        if obstacle and obstacle not in self._warned:
            logger.warning("%s: kept in memory (%s bytes) instead of on disk: %s", name, f"{spec.nbytes:,}", obstacle)
            self._warned.add(obstacle)
        self._booked[spec.key] = spec.nbytes

    def _settle(self, specs: Mapping[str, Spec]) -> None:
        """Give back the memory of entries that came to nothing."""
        for spec in specs.values():
            if spec.key not in self._memory:
                self._booked.pop(spec.key, None)

    def _publish(self, writer: Writer) -> None:
        key = writer.spec.key
        for _ in range(2):  # an entry that another process put there first stays, unless it is damaged
            try:
                writer.publish((self.folder or Path()) / key)
                break
            except OSError as error:
                if self.get(writer.spec.facts) is not None:
                    return
                failure = error
        else:
            writer.go_to_memory(failure)
        if writer.array is not None:
            writer.array.flags.writeable = False
            self._memory[key] = writer.array
        self._own.add(key)
        self._bad.discard(key)

    def _make_room(self, needed: int) -> str:
        """Evict the entries used longest ago, if that helps; return what is still in the way, "" for nothing."""
        try:
            oldest = sorted(self._evictable())
            if self._room() + sum(size for _, size, _ in oldest) >= needed:
                for _, _, path in oldest:
                    if self._room() >= needed:
                        break
                    with suppress(OSError):  # gone already, or another user's
                        discard_entry(path)
                        logger.info("%s: evicted to make room", path)
            room = self._room()
        except OSError as error:
            return reason(error)
        return "" if room >= needed else f"reuse.disk_gib and the disk itself have room for {room:,} bytes"

    def _room(self) -> int:
        free = shutil.disk_usage(self.folder or Path()).free
        return min(self.disk_bytes - self.used_bytes()[1], free)

    def _evictable(self) -> Iterator[tuple[float, int, Path]]:
        """Yield time of last use, size and folder of each entry that this process neither opened nor wrote."""
        for path in self._folders(HASH):
            if path.name not in self._own and path.name not in self._mapped:
                with suppress(FileNotFoundError):  # evicted by another process
                    yield (path / ENTRY).stat().st_mtime, _size(path), path

    def _folders(self, name: str) -> list[Path]:
        if self.folder is None or not self.folder.is_dir():
            return []
        return [path for path in self.folder.iterdir() if re.fullmatch(name, path.name)]


def _make_folder(folder: Path) -> None:
    """Make a folder that its owner alone may read: maps of early blocks look like their images."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _size(folder: Path) -> int:
    with suppress(OSError):  # just removed by another process
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return 0


@contextmanager
def _held(path: Path | None) -> Iterator[None]:
    """Hold the lock file `path`; where the folder is read-only or knows no locks, hold none."""
    lock = None if path is None else _acquire(path)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def _acquire(path: Path) -> BaseFileLock | None:
    lock = FileLock(path)
    try:
        _make_folder(path.parent)
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("waiting for another process that works on the same")
        lock.acquire()
    except (OSError, NotImplementedError):
        return None
    return lock
