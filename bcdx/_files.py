"""Files that exist only when they are whole: written beside their place, synced, then renamed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from bcdx.errors import RunError

PROVENANCE = "provenance.json"
"""Lies beside images that were fetched and says where they come from; it is no image."""


def write_bytes(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never a part."""
    with written_whole(path, mode=mode) as file:
        file.write(content)


@contextmanager
def written_whole(path: Path, *, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """Yield a file that takes its place, synced, when the block ends well, and vanishes when it does not."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def hash_file(path: Path, kind: str = "sha256") -> str:
    """Return a file's digest, hexadecimal, without holding all of it."""
    digest = hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def write_json(path: Path, content: Mapping[str, Any], *, mode: int = 0o644) -> None:
    """Write JSON, whole or not at all; NaN and infinity are refused, for JSON has neither."""
    text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)
    write_bytes(path, f"{text}\n".encode(), mode=mode)


@contextmanager
def staged_folder(out: Path) -> Iterator[Path]:
    """Yield a folder beside `out` that takes its place when the block ends well and vanishes when it does not.

    What a killed process left of an earlier attempt is removed first. Of two processes at once the later one wins: the
    other loses its folder and fails.
    """
    with _parents_for(out):
        for leftover in out.parent.iterdir():
            if re.fullmatch(rf"\.{re.escape(out.name)}\.partial-\w{{8}}", leftover.name):
                _discard(leftover, out)
        stage = _make_beside(out)
        try:
            yield stage
            _take_place(stage, out)
        finally:
            shutil.rmtree(stage, ignore_errors=True)


def _make_beside(out: Path) -> Path:
    folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.partial-"))
    folder.chmod(0o755)
    return folder


def _take_place(stage: Path, out: Path) -> None:
    """Put `stage` where `out` is; if that fails, `out` is what it was."""
    bin_ = _make_beside(out)
    try:
        if out.exists():
            out.rename(bin_ / "old")
        stage.rename(out)
    except OSError:
        if (bin_ / "old").exists():
            (bin_ / "old").rename(out)
        raise
    finally:
        shutil.rmtree(bin_, ignore_errors=True)


def _discard(folder: Path, out: Path) -> None:
    """Remove a folder: out of sight in one step, so that nobody takes what is left of it for whole."""
    bin_ = _make_beside(out)
    with suppress(FileNotFoundError):
        folder.rename(bin_ / "old")
    shutil.rmtree(bin_, ignore_errors=True)


@contextmanager
def _parents_for(folder: Path) -> Iterator[None]:
    """Make the folders that `folder` lies in; if the block fails, remove those that were made and are empty."""
    missing = [parent for parent in folder.parents if not parent.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for parent in missing:  # the innermost first
            with suppress(OSError):
                parent.rmdir()
        raise


def claim_folder(out: Path, names: Collection[str], *, overwrite: bool) -> None:
    """Check that a verb may put its files into `out`: it is missing or empty, or holds only those and may be replaced.

    Raises:
        RunError: Something is in the way.
    """
    if out.exists() and not out.is_dir():
        raise RunError(f"{out}: a file, not a folder; choose another --out")
    found = {path.name for path in out.iterdir()} if out.exists() else set()
    if strangers := found - set(names):
        raise RunError(f"{out}: holds {min(strangers)}, which this verb does not write; choose another --out")
    if found and not overwrite:
        raise RunError(f"{out}: not empty; choose another --out or give --overwrite")


@contextmanager
def removed_on_error(folder: Path) -> Iterator[Path]:
    """Make `folder` for the block; if the block fails and the folder was not there before, remove it again.

    An interrupt (Ctrl-C, SIGTERM as KeyboardInterrupt) keeps it, so that the work can be resumed.
    """
    existed = folder.exists()
    with _parents_for(folder):
        folder.mkdir(exist_ok=True)
        try:
            yield folder
        except Exception:
            if not existed:
                shutil.rmtree(folder, ignore_errors=True)
            raise
