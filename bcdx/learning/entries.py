"""One kept array: the facts that name it, its rows being written, the folder `<key>/` they become, and back."""

from __future__ import annotations

import hashlib
import json
import math
import secrets
import shutil
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from bcdx._files import write_json
from bcdx.errors import StoreFullError

Place = Literal["memory", "disk"]
"""Where an array is kept."""

FORMAT = 1
DATA, ENTRY = "data.bin", "entry.json"
DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
HIDDEN = ".partial-"
"""Prefix of folders that hold nothing whole: being written, or on their way out."""
CHUNK_BYTES = 2**20


def entry_key(facts: Mapping[str, Any]) -> str:
    """Return SHA-256, in hexadecimal, of all that decides about an array: other facts, other key."""
    return hashlib.sha256(_canonical(facts)).hexdigest()


@dataclass(frozen=True)
class Spec:
    """What is about to be written.

    Attributes:
        facts: All that decides about the values, as JSON has it; stored readable beside them.
        shape: (rows, ...).
        dtype: A key of `DTYPES`.
        place: Where it is kept if there is room.
    """

    facts: Mapping[str, Any]
    shape: tuple[int, ...]
    dtype: str
    place: Place

    @property
    def key(self) -> str:
        """Name of the entry."""
        return entry_key(self.facts)

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize

    def empty(self) -> NDArray[Any]:
        """Return memory for the values."""
        return np.empty(self.shape, DTYPES[self.dtype])

    def describe(self, checksum: int) -> dict[str, Any]:
        """Return what `entry.json` says."""
        facts = json.loads(_canonical(self.facts))  # a tuple is read back as a list
        shape = list(self.shape)
        return {"format": FORMAT, "facts": facts, "shape": shape, "dtype": self.dtype, "checksum": checksum}

    def seed(self) -> int:
        """Return the checksum before the first row; it covers the description, so that no shape is mistaken."""
        return zlib.crc32(_canonical(self.describe(0)))


class Writer:
    """Takes the rows of one entry in order, to disk as long as that works, else to memory.

    Args:
        spec: What is written.
        home: Folder to be made for it; None: memory.
        book: Called with the reason before rows move from disk to memory; raises where memory has no room.
    """

    def __init__(self, spec: Spec, home: Path | None, book: Callable[[str], None]) -> None:
        self.spec = spec
        self.array = spec.empty() if home is None else None
        self._file = None if home is None else _File(home, spec)
        self._book = book
        self._rows = 0
        self._on_disk(_File.reserve)

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows, shape (any number, ...), in the dtype of the spec.

        Raises:
            ValueError: They are not what the spec says, or too many.
            StoreFullError: The disk failed, and memory has no room.
        """
        rows = np.ascontiguousarray(rows)
        shape, dtype, end = self.spec.shape, DTYPES[self.spec.dtype], self._rows + len(rows)
        if rows.dtype != dtype or rows.shape[1:] != shape[1:] or end > shape[0]:
            raise ValueError(f"expected {dtype}, {shape} in all. Received: {rows.dtype}, {rows.shape} at {self._rows}")
        self._on_disk(lambda file: file.write(rows))
        if self.array is not None:
            self.array[self._rows : end] = rows
        self._rows = end

    def finish(self) -> None:
        """Check that all rows are there, and make those on disk last.

        Raises:
            ValueError: Rows are missing.
            StoreFullError: The disk failed, and memory has no room.
        """
        if self._rows != self.spec.shape[0]:
            raise ValueError(f"expected {self.spec.shape[0]} rows. Received: {self._rows}")
        self._on_disk(_File.seal)

    def publish(self, path: Path) -> None:
        """Move the finished folder, if there is one, to `path`; OSError: another is there, or it cannot be moved."""
        if self._file is not None:
            self._file.home.rename(path)

    def go_to_memory(self, error: OSError) -> None:
        """Leave the disk because of `error`, and take along the rows already written.

        Raises:
            StoreFullError: Memory has no room, or the rows cannot be read back.
        """
        self._book(reason(error))
        array = self.spec.empty()
        try:
            if self._file is not None:
                self._file.read_into(array)
        except (OSError, ValueError) as second:
            raise StoreFullError(
                f"the disk failed ({reason(error)}), and what had been written of {self.spec.nbytes:,} bytes cannot be "
                "read back; set reuse.folder to another disk"
            ) from second
        self.array, self._file = array, None

    def _on_disk(self, act: Callable[[_File], None]) -> None:
        try:
            if self._file is not None:
                act(self._file)
        except OSError as error:  # full, read-only, over quota, unplugged: memory minds none of it
            self.go_to_memory(error)


class _File:
    """The bytes of one entry on disk, while they are written.

    The checksum is CRC-32: it finds every flipped bit and all but one in 2^32 of other damage, nobody needs keeping
    from forging entries, and it is the fastest that the standard library has: 3.8 GiB/s a core (zlib of Python 3.11,
    Xeon) against 1.3 for sha256, even with SHA instructions, 0.7 for blake2b and 2.2 for the weaker adler32.
    """

    def __init__(self, home: Path, spec: Spec) -> None:
        self.home = home
        self.size = 0
        self._spec = spec
        self._checksum = spec.seed()

    def reserve(self) -> None:
        """Make the file as long as it will be (sparse), so that others see how much of the budget is taken."""
        self.home.mkdir()
        with (self.home / DATA).open("wb") as file:
            file.truncate(self._spec.nbytes)

    def write(self, rows: NDArray[Any]) -> None:
        """Write plainly: on a full disk a writable memory map would kill the process (SIGBUS)."""
        data = _bytes(rows)
        with (self.home / DATA).open("r+b") as file:
            file.seek(self.size)
            file.write(data)
        self._checksum = zlib.crc32(data, self._checksum)
        self.size += data.nbytes

    def seal(self) -> None:
        """Write the description; nothing waits for the disk: after a power cut the checksum tells what is lost."""
        write_json(self.home / ENTRY, self._spec.describe(self._checksum))

    def read_into(self, array: NDArray[Any]) -> None:
        """Fill the beginning of `array` with what was written; ValueError: the disk gives back other bytes."""
        if not self.size:
            return
        written = _bytes(array)[: self.size]
        with (self.home / DATA).open("rb") as file:
            file.readinto(written)
        if zlib.crc32(written, self._spec.seed()) != self._checksum:
            raise ValueError("other bytes than were written")


def open_entry(path: Path, facts: Mapping[str, Any]) -> NDArray[Any] | None:
    """Return the array of an entry, read-only and mapped, once all its bytes are checked; None: there is no entry.

    Raises:
        ValueError: It is damaged; the message says how.
        OSError: It cannot be read.
    """
    try:
        content = json.loads((path / ENTRY).read_text(encoding="utf-8"))
        spec = Spec(facts, tuple(content["shape"]), content["dtype"], "disk")
        if content != spec.describe(content["checksum"]):
            raise ValueError(f"{ENTRY} has another format or other facts")
        _check_data(path / DATA, spec, content["checksum"])
        return np.memmap(path / DATA, DTYPES[spec.dtype], "r", shape=spec.shape)
    except (FileNotFoundError, NotADirectoryError) as error:
        if path.is_dir():
            raise ValueError("half written") from error
        return None
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{ENTRY} is garbled") from error


def discard_entry(path: Path) -> None:
    """Remove an entry: out of sight in one step, so that nobody opens what is left of it; open maps stay good."""
    gone = path.with_name(f"{HIDDEN}{secrets.token_hex(4)}")
    path.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def reason(error: OSError) -> str:
    """Return what the system says, without the path, which names a temporary folder."""
    return error.strerror or type(error).__name__


def _check_data(path: Path, spec: Spec, expected: int) -> None:
    """Read the file plainly, not through a map, where an unreadable sector would kill the process."""
    if path.stat().st_size != spec.nbytes:
        raise ValueError(f"{DATA} has {path.stat().st_size:,} bytes instead of {spec.nbytes:,}")
    checksum = spec.seed()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            checksum = zlib.crc32(chunk, checksum)
    if checksum != expected:
        raise ValueError("its checksum differs")


def _bytes(array: NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _canonical(content: Mapping[str, Any]) -> bytes:
    """Return the one JSON that content has, whatever the order of its keys."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
