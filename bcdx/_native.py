"""Packages that are imported late: TensorFlow, without the lines of its native code, and those of the extras."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bcdx.errors import BcdxError


def import_tensorflow() -> None:
    """Import TensorFlow quietly; whoever imports it later finds it there.

    Its greeting (oneDNN is on, no GPU was found) goes straight to file descriptor 2, before any log level is heeded.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with muted_stderr():
        importlib.import_module("tensorflow")


def import_extra(name: str, *, user: str, advice: str) -> Any:
    """Return a module that only some users need.

    Args:
        name: Its name, such as `botocore.config`.
        user: What needs it, as the error says.
        advice: What to do.

    Raises:
        BcdxError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BcdxError(f"{user} needs {name.partition('.')[0]}, which is not installed; {advice}") from error


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
