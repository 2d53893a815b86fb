"""Tasks in; their results, from one process or several, and progress on the terminal out."""

from __future__ import annotations

import logging
import multiprocessing
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
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
