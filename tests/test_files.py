"""Claims about files that exist only when whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bcdx._files import removed_on_error, staged_folder, write_bytes, write_json


def test_write_bytes_leaves_the_old_content_when_it_fails(tmp_path: Path) -> None:
    """Content that cannot be written replaces nothing and leaves no partial file."""
    path = tmp_path / "a"
    write_bytes(path, b"old")
    with pytest.raises(TypeError):
        write_bytes(path, "not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_write_json_refuses_what_json_has_not(tmp_path: Path) -> None:
    """NaN would be read differently by every reader."""
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"value": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_write_json_sets_the_mode_asked_for(tmp_path: Path) -> None:
    """Private files are private from the start."""
    write_json(tmp_path / "a.json", {"b": 1}, mode=0o600)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o600
    assert json.loads((tmp_path / "a.json").read_text()) == {"b": 1}


def test_staged_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    """A failure leaves nothing; success replaces what was there."""
    with pytest.raises(RuntimeError), staged_folder(tmp_path / "out") as stage:
        (stage / "half").touch()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []

    for name in ("first", "second"):
        with staged_folder(tmp_path / "out") as stage:
            (stage / name).touch()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["out", "out/second"]


@pytest.mark.parametrize("existed", [True, False])
def test_removed_on_error_keeps_what_was_there_before(tmp_path: Path, *, existed: bool) -> None:
    """A new folder goes when the work fails; an older one stays for another try."""
    folder = tmp_path / "run"
    if existed:
        folder.mkdir()
    with pytest.raises(RuntimeError), removed_on_error(folder):
        raise RuntimeError
    assert folder.exists() == existed
