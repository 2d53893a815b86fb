"""Bytes that arrive in; a bar on the terminal out, or a line a minute where stderr goes to a file."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bcdx.catalogue.store import Tick

logger = logging.getLogger(__name__)

EVERY_SECONDS = 60.0


class Report:
    """Logs what is there and how long the rest will take at the speed since the last line. Threads may share it.

    Args:
        total: Bytes to come.
        clock: Seconds that only grow.
    """

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._clock, self._lock = total, clock, threading.Lock()
        self._there, self._told, self._told_at = 0, 0, clock()

    def add(self, count: int) -> None:
        """Count bytes; log a line where the last one is a minute old."""
        with self._lock:
            self._there += count
            seconds = self._clock() - self._told_at
            if seconds < EVERY_SECONDS:
                return
            speed = (self._there - self._told) / seconds
            self._told, self._told_at = self._there, self._told_at + seconds
            logger.info("%.2f of %.2f GB%s", self._there / 1e9, self._total / 1e9, self._describe_rest(speed))

    def _describe_rest(self, speed: float) -> str:
        if speed <= 0.0:
            return ""
        minutes = max(1, round((self._total - self._there) / speed / 60))
        return f", {speed / 1e6:.1f} MB/s, about {minutes // 60} h {minutes % 60:02d} min left"


@contextmanager
def show_bytes(total: int) -> Iterator[Tick]:
    """Yield a function to be told of bytes.

    Args:
        total: Bytes to come.
    """
    if not sys.stderr.isatty():
        yield Report(total).add
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("fetching"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("fetching", total=total)
        yield lambda count: bar.advance(task, count)
