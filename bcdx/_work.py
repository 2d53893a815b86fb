"""Tasks in; their results, from one process or several, progress on the terminal, and what each part took, out."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar

from bcdx.errors import BcdxError

P = ParamSpec("P")
T = TypeVar("T")

Tick = Callable[[int], None]

logger = logging.getLogger(__name__)


def ignore(_: int) -> None:
    """Tell nobody of a step done."""


def with_workers(count: int, task: Callable[[Executor], T], *, fork: bool = True) -> T:
    """Return what a task returns that may run twice; if a worker is killed, go on once with new ones.

    Args:
        count: Processes; with one, the work is done in this process.
        task: Is given the executor.
        fork: Whether workers may be forks of this process, which starts them at once.

    Raises:
        BcdxError: Workers died twice.
    """

    def attempt() -> T:
        with _open_workers(count, fork=fork) as executor:
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


class _InTurn(Executor):
    """Runs tasks in this process, one after the other: nothing to start, and tracebacks stay whole."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run the task now; what it raises goes straight up, for the tasks behind it would only delay that."""
        future: Future[T] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@contextmanager
def _open_workers(count: int, *, fork: bool) -> Iterator[Executor]:
    if count == 1:
        yield _InTurn()
        return
    # forking is cheap and safe until TensorFlow has started its threads
    safe = fork and sys.platform == "linux" and "tensorflow" not in sys.modules
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("fork" if safe else "spawn")) as executor:
        try:
            yield executor
        except BaseException:
            executor.shutdown(wait=True, cancel_futures=True)  # what has not begun would only delay the error
            raise


@contextmanager
def show_progress(title: str, total: int | None = None) -> Iterator[Tick]:
    """Yield a function to be told of each step done; a terminal on stderr shows them with the time that remains.

    Args:
        title: What is being done.
        total: Steps; None: not known.
    """
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(title, total=total)
        yield lambda count: bar.advance(task, count)


def _count_seconds() -> float:
    """Return how long ago this process began, in seconds; 0 where nothing tells."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])  # `starttime` of proc(5)
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError):
        return 0.0


@dataclass
class Stages:
    """How long each part of the work took, in seconds."""

    seconds: dict[str, float] = field(default_factory=lambda: {"before (Python, libraries)": _count_seconds()})

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add what the block takes to a stage."""
        began = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

    def report(self, images: int) -> None:
        """Say each stage's share, where more than the usual is asked for."""
        total = sum(self.seconds.values())
        logger.debug("%d slices, %.1f s since the process began:", images, total)
        for name, seconds in self.seconds.items():
            logger.debug("  %-26s%7.2f s%5.0f %%", name, seconds, 100.0 * seconds / total)
