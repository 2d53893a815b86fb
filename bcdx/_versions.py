"""Which versions of what decides about results are installed."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

from bcdx import __version__


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of bcdx, Python and the named distributions, as far as they are installed."""
    found = {"bcdx": __version__, "python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # TensorFlow has other names: tensorflow-cpu, tensorflow-macos
            continue
    return found
