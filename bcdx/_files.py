"""Files that exist only when they are whole: written beside their place, synced, then renamed."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_bytes(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never a part."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Mapping[str, Any], *, mode: int = 0o644) -> None:
    """Write JSON, whole or not at all; NaN and infinity are refused, for JSON has neither."""
    text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)
    write_bytes(path, f"{text}\n".encode(), mode=mode)


@contextmanager
def staged_folder(out: Path) -> Iterator[Path]:
    """Yield a folder beside `out` that takes its place when the block ends well and vanishes when it does not."""
    out.parent.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    stage.chmod(0o755)
    try:
        yield stage
        if out.exists():
            shutil.rmtree(out)
        stage.replace(out)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


@contextmanager
def removed_on_error(folder: Path) -> Iterator[Path]:
    """Make `folder` for the block; if the block fails and the folder was not there before, remove it again.

    An interrupt (Ctrl-C, SIGTERM as KeyboardInterrupt) keeps it, so that the work can be resumed.
    """
    existed = folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    except Exception:
        if not existed:
            shutil.rmtree(folder, ignore_errors=True)
        raise
