"""TensorFlow, imported without the lines that its native code writes to the terminal before anything else."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager


def import_tensorflow() -> None:
    """Import TensorFlow quietly; whoever imports it later finds it there.

    Its greeting (oneDNN is on, no GPU was found) goes straight to file descriptor 2, before any log level is heeded.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with muted_stderr():
        importlib.import_module("tensorflow")


@contextmanager
def muted_stderr() -> Iterator[None]:
    terminal = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(nowhere)
        os.close(terminal)
