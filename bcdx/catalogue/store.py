"""An S3 endpoint that needs no account: a series in, its objects out; an object in, its file out, whole and verified.

A request that fails is repeated by botocore. A body that breaks off, or arrives damaged, is repeated here, with pauses
that double.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bcdx.catalogue.client import open_client, passing_errors
from bcdx.catalogue.extra import import_extra
from bcdx.catalogue.series import Series
from bcdx.config import Catalogue
from bcdx.errors import BcdxError

T = TypeVar("T")

PAUSE_SECONDS = 0.5
"""Before the second try; doubled before each later one."""

LONGEST_PAUSE_SECONDS = 60.0

CHUNK_BYTES = 2**16
"""Read at a time; between two chunks a slow line notices that it is to stop."""

SIZE_TOLERANCE_BYTES = 5_001
"""How far a series's size may be from `series_size_MB`, MB of 10**6 bytes: releases up to 22 round it to 0.01 MB, later
ones not at all."""

PART = ".part"
"""How the name of an unfinished file ends; it begins with a dot."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system says where a file cannot grow."""

Tick = Callable[[int], object]
"""Called with bytes as they arrive, not verified yet; a negative number takes back what came to nothing."""


class Stopped(Exception):  # noqa: N818  # nothing is wrong: another file failed, or the user stopped
    """Somebody asked to stop."""


class _DamagedError(Exception):
    """What arrived is not what the store holds."""


class _Counter:
    """Bytes of one try at a file, told to whoever shows progress and taken back where they came to nothing."""

    def __init__(self, tick: Tick) -> None:
        self._tick, self.bytes = tick, 0

    def add(self, count: int) -> None:
        """Count bytes that arrived."""
        self.bytes += count
        self._tick(count)

    def undo(self) -> None:
        """Take all of them back."""
        self._tick(-self.bytes)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One file in the store.

    Attributes:
        bucket: Where it is.
        key: Its whole name there.
        size: Bytes.
        md5: Of its bytes, hexadecimal; None where the store gives none (uploads in several parts).
    """

    bucket: str
    key: str
    size: int
    md5: str | None

    @property
    def name(self) -> str:
        """The last part of its key."""
        return self.key.rpartition("/")[2]


class Store:
    """Reads from S3.

    Args:
        settings: Endpoint, connections and tries.
        stop: Set it to make whatever runs raise `Stopped` soon.
    """

    def __init__(self, settings: Catalogue, stop: threading.Event) -> None:
        self._client = open_client(settings)
        self._endpoint, self._attempts, self._stop = settings.endpoint_url, settings.attempts, stop

    def list_series(self, series: Series) -> tuple[StoredObject, ...]:
        """Return a series's objects by name, after comparing number and size with the catalogue.

        Raises:
            BcdxError: They differ, or the store cannot be read.
        """
        what = f"series {series.uid}"
        found = self._repeat(lambda: self._list(series.bucket, f"{series.prefix}/"), what)
        size = sum(one.size for one in found)
        advice = "update idc-index-data, or leave the series out: add it to catalogue.skip_series"
        if len(found) != series.images:
            raise BcdxError(f"{what}: the store holds {len(found)} files, the catalogue says {series.images}; {advice}")
        if abs(size - series.megabytes * 1e6) > SIZE_TOLERANCE_BYTES:
            raise BcdxError(
                f"{what}: the store holds {size} bytes, the catalogue says {series.megabytes * 1e6:.0f}; {advice}"
            )
        return found

    def fetch(self, item: StoredObject, path: Path, tick: Tick) -> str:
        """Put an object's bytes into a file that appears when they are all there; return their MD5.

        Raises:
            BcdxError: All tries failed.
            Stopped: Somebody asked to.
        """
        return self._repeat(lambda: self._fetch_once(item, path, tick), f"{item.bucket}/{item.key}")

    def _list(self, bucket: str, prefix: str) -> tuple[StoredObject, ...]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        found = [
            StoredObject(bucket, one["Key"], int(one["Size"]), _plain_md5(one.get("ETag", "")))
            for page in pages
            for one in page.get("Contents", ())
        ]
        for one in found:
            if not re.fullmatch(r"[\w=+-][\w.=+-]*", one.key.removeprefix(prefix)):
                raise BcdxError(f"{bucket}/{one.key}: no name for a file; is {self._endpoint} the right endpoint_url?")
        return tuple(sorted(found, key=lambda one: one.name))

    def _fetch_once(self, item: StoredObject, path: Path, tick: Tick) -> str:
        part = name_part(path)
        counter = _Counter(tick)
        try:
            md5 = self._receive(item, part, counter)
            part.replace(path)
        except BaseException as error:
            counter.undo()
            part.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno in FULL:
                raise BcdxError(
                    f"{path}: {error.strerror}; make room, the same command goes on where it stopped"
                ) from error
            raise
        return md5

    def _receive(self, item: StoredObject, part: Path, counter: _Counter) -> str:
        answer = self._client.get_object(Bucket=item.bucket, Key=item.key)
        digest = hashlib.md5(usedforsecurity=False)
        with closing(answer["Body"]) as body, part.open("wb") as file:
            for chunk in body.iter_chunks(CHUNK_BYTES):
                if self._stop.is_set():
                    raise Stopped
                digest.update(chunk)
                counter.add(file.write(chunk))
                if counter.bytes > item.size:
                    raise _DamagedError(f"more bytes than the {item.size} that were listed")
            file.flush()
            os.fsync(file.fileno())
        expected = (item.size, item.md5 or digest.hexdigest())
        if (counter.bytes, digest.hexdigest()) != expected:
            raise _DamagedError(f"{counter.bytes} bytes with MD5 {digest.hexdigest()} instead of {expected}")
        return digest.hexdigest()

    def _repeat(self, task: Callable[[], T], what: str) -> T:
        """Return what `task` returns, tried again where the network may be to blame."""
        passing: tuple[type[Exception], ...] = (*passing_errors(), _DamagedError)
        refusal = import_extra("botocore.exceptions").ClientError
        pause, fault = PAUSE_SECONDS, ""
        for attempt in range(self._attempts):
            if self._stop.wait(pause if attempt else 0.0):
                raise Stopped
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS) if attempt else pause
            try:
                return task()
            except passing as error:
                fault = _describe(error)
            except refusal as error:
                fault = _describe(error)
                status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
                if status < 500 and status not in {408, 429}:
                    raise BcdxError(f"{what}: {self._endpoint} refuses: {fault}") from error
        raise BcdxError(
            f"{what}: {self._attempts} tries failed, the last one with: {fault}; the same command goes on where it "
            "stopped"
        )


def name_part(path: Path) -> Path:
    """Return where this process puts what has arrived of a file; without locks another one may be at work there."""
    return path.with_name(f".{path.name}.{os.getpid()}{PART}")


def _describe(error: Exception) -> str:
    return f"{type(error).__name__.lstrip('_')}: {' '.join(str(error).split())[:200]}"


def _plain_md5(etag: str) -> str | None:
    """Return the MD5 that an ETag is, or None: that of an upload in parts ends in a dash and their number."""
    text = etag.strip('"').lower()
    return text if re.fullmatch(r"[0-9a-f]{32}", text) else None
