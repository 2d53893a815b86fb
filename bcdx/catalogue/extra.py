"""The packages of the extra `acquire`, imported when they are needed: a name in, a module or one clear error out."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from bcdx import _native

ADVICE = "pip install 'bcdx[acquire]'"


def import_extra(name: str) -> Any:
    """Return a module that only `acquire` needs.

    Raises:
        BcdxError: It is not installed.
    """
    return _native.import_extra(name, user="acquire", advice=ADVICE)


def installed_version(distribution: str) -> str:
    """Return the version of a package that `import_extra` has found."""
    return metadata.version(distribution)
