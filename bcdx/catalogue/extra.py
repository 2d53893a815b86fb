"""The packages of the extra `acquire`, imported when they are needed: a name in, a module or one clear error out."""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import Any

from bcdx.errors import BcdxError

ADVICE = "pip install 'bcdx[acquire]'"


def import_extra(name: str) -> Any:
    """Return a module that only `acquire` needs.

    Raises:
        BcdxError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BcdxError(f"acquire needs {name.partition('.')[0]}, which is not installed; {ADVICE}") from error


def installed_version(distribution: str) -> str:
    """Return the version of a package that `import_extra` has found."""
    return metadata.version(distribution)
