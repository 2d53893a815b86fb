"""Claims about files that exist only when whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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


def test_staged_folder_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    """And nothing that only looks alike."""
    (tmp_path / ".out.partial-abcd1234").mkdir()
    (tmp_path / ".out.partial-abcd1234" / "half").touch()
    others = {".out2.partial-abcd1234", ".out.partial-notes"}
    for name in others:
        (tmp_path / name).mkdir()
    with staged_folder(tmp_path / "out"):
        pass
    assert {"out", *others} == {path.name for path in tmp_path.iterdir()}


def test_a_folder_that_another_process_took_away_does_not_come_back_in_part(tmp_path: Path) -> None:
    """Two processes at once: the later one wins whole, the earlier one fails."""
    with pytest.raises(OSError), staged_folder(tmp_path / "out") as first:
        (first / "first").touch()
        with staged_folder(tmp_path / "out") as second:
            (second / "second").touch()
    assert ["out", "out/second"] == sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))


@pytest.mark.parametrize("manager", [staged_folder, removed_on_error])
def test_a_failure_leaves_no_parent_that_was_made_for_it(tmp_path: Path, manager: Any) -> None:
    """Neither does it touch one that was there or holds something."""
    (tmp_path / "there").mkdir()
    with pytest.raises(RuntimeError), manager(tmp_path / "there" / "a" / "b" / "out"):
        (tmp_path / "there" / "a" / "kept").touch()
        raise RuntimeError
    assert ["there", "there/a", "there/a/kept"] == sorted(
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")
    )
    with pytest.raises(RuntimeError), manager(tmp_path / "c" / "d" / "out"):
        raise RuntimeError
    assert ["there"] == [path.name for path in tmp_path.iterdir()]


def test_an_interrupt_keeps_a_run_folder_and_its_parents(tmp_path: Path) -> None:
    """So that the work can be resumed."""
    with pytest.raises(KeyboardInterrupt), removed_on_error(tmp_path / "a" / "run"):
        raise KeyboardInterrupt
    assert (tmp_path / "a" / "run").is_dir()


@pytest.mark.parametrize("existed", [True, False])
def test_removed_on_error_keeps_what_was_there_before(tmp_path: Path, *, existed: bool) -> None:
    """A new folder goes when the work fails; an older one stays for another try."""
    folder = tmp_path / "run"
    if existed:
        folder.mkdir()
    with pytest.raises(RuntimeError), removed_on_error(folder):
        raise RuntimeError
    assert folder.exists() == existed
