"""Claims about the store: what several processes, full disks, read-only disks and killed writers make of it."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from bcdx.errors import StoreFullError
from bcdx.learning.entries import DATA, ENTRY
from bcdx.learning.store import Spec, Store, entry_key

KIB = 2**10
ROWS = 4


def facts(name: str) -> dict[str, Any]:
    return {"tensor": name, "weights": "abc"}


def values(name: str, kib: int = 4) -> np.ndarray:
    """Return four rows of `kib` KiB together, other ones for another name."""
    seed = int(entry_key({"seed": name})[:8], 16)
    return np.random.default_rng(seed).normal(size=(ROWS, kib * KIB // 4 // ROWS)).astype(np.float32)


def spec(name: str, place: Literal["memory", "disk"] = "disk", kib: int = 4) -> Spec:
    return Spec(facts(name), values(name, kib).shape, "float32", place)


def open_store(folder: Path | None, *, memory: int = 1024, disk: int = 1024) -> Store:
    return Store(folder, memory_bytes=memory * KIB, disk_bytes=disk * KIB)


def write(store: Store, *specs: Spec) -> None:
    with store.write({one.facts["tensor"]: one for one in specs}) as writers:
        for name, writer in writers.items():
            for row in values(name, writer.spec.nbytes // KIB):
                writer.append(row[None])


def holds(store: Store, name: str, kib: int = 4) -> bool:
    """Return whether it is there; wrong values are an error, not an absence."""
    found = store.get(facts(name))
    if found is None:
        return False
    np.testing.assert_array_equal(values(name, kib), found)
    assert not found.flags.writeable
    return True


def entries(folder: Path) -> set[str]:
    """Return what lies in the folder, but for locks."""
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")}


def used_at(folder: Path, name: str, seconds: int) -> None:
    os.utime(folder / entry_key(facts(name)) / ENTRY, (seconds, seconds))


def start(folder: Path, script: str) -> subprocess.Popen[str]:
    """Start another process that has the store as `store` and these helpers, and says and hears lines."""
    program = (
        "import importlib.util, os, sys\n"
        f"found = importlib.util.spec_from_file_location('claims', {__file__!r})\n"
        "claims = importlib.util.module_from_spec(found)\n"
        "found.loader.exec_module(claims)\n"
        f"store = claims.open_store(claims.Path({str(folder)!r}))\n"
        f"{script}\n"
    )
    command = [sys.executable, "-c", program]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


HALF_WRITTEN = """
with store.write({"a": claims.spec("a")}) as writers:
    writers["a"].append(claims.values("a")[:2])
    print("half", flush=True)
    sys.stdin.readline()
    writers["a"].append(claims.values("a")[2:])
print("whole", flush=True)
"""


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own; skips where that is not allowed."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@contextlib.contextmanager
def longest_file(size: int) -> Iterator[None]:
    """The system refuses to make files longer, as it refuses to fill a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody can write, root included."""
    folder = tmp_path / "read-only"
    folder.mkdir(mode=0o500)
    if not os.access(folder, os.W_OK):
        yield folder
    else:
        with mounted(tmp_path / "mounted", "ro") as folder:
            yield folder


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("place", ["memory", "disk"])
def test_store_gives_back_what_was_written(tmp_path: Path, place: Literal["memory", "disk"]) -> None:
    """Read-only, under its facts alone."""
    store = open_store(tmp_path / "kept")
    write(store, spec("a", place), spec("b", place))
    assert [True, True, False] == [holds(store, name) for name in "abc"]
    assert store.get({**facts("a"), "weights": "abd"}) is None
    assert (place == "disk") == isinstance(store.get(facts("a")), np.memmap)


def test_folder_is_its_owners_alone(tmp_path: Path) -> None:
    """Whoever makes it first: a lock is taken before anything is written."""
    store = open_store(tmp_path / "store")
    with store.lock("a view"):
        pass
    assert 0o700 == (tmp_path / "store").stat().st_mode & 0o777


def test_store_without_folder_keeps_all_in_memory(caplog: pytest.LogCaptureFixture) -> None:
    """And says so where the disk was asked for."""
    store = open_store(None)
    with store.lock("a"):
        write(store, spec("a"), spec("b", "memory"))
    assert holds(store, "a")
    assert holds(store, "b")
    assert (8 * KIB, 0) == store.used_bytes()
    assert 1 == len(warnings(caplog))


def test_later_process_finds_what_an_earlier_one_wrote(tmp_path: Path) -> None:
    """On disk, that is; memory ends with its process."""
    write(open_store(tmp_path), spec("a"), spec("b", "memory"))
    with start(tmp_path, "print(claims.holds(store, 'a'), claims.holds(store, 'b'))") as other:
        assert "True False" == hear(other)


def test_folder_appears_with_the_first_write_alone(tmp_path: Path) -> None:
    """Looking, or writing to memory, leaves no trace; the parents come along."""
    store = open_store(tmp_path / "deep" / "kept")
    write(store, spec("a", "memory"))
    assert (False, (4 * KIB, 0)) == (holds(store, "b"), store.used_bytes())
    assert not (tmp_path / "deep").exists()
    write(store, spec("b"))
    assert {entry_key(facts("b"))} == entries(tmp_path / "deep" / "kept")


def test_folder_holds_nothing_but_hashes_and_facts(tmp_path: Path) -> None:
    """No name of a tensor, a lock or a run stands in a file name."""
    store = open_store(tmp_path)
    with store.lock("features of Jane Doe"):
        write(store, spec("a"))
    names = {path.name.strip(".").removesuffix(".lock") for path in tmp_path.rglob("*")} - {DATA, ENTRY, ""}
    assert all(len(name) == 64 and set(name) <= set("0123456789abcdef") for name in names - {"lock"})


def test_store_needs_no_tensorflow() -> None:
    """It is used by processes that only read."""
    script = "import sys, bcdx.learning.store; print({'tensorflow', 'keras'} & set(sys.modules))"
    assert (
        "set()\n" == subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    )


def test_entries_appear_together_and_only_when_the_block_ends_well(tmp_path: Path) -> None:
    """After a failure neither is there, on disk or in memory, and nothing is left behind."""
    store = open_store(tmp_path)
    specs = {"a": spec("a"), "b": spec("b", "memory")}
    with contextlib.suppress(RuntimeError), store.write(specs) as writers:
        for name, writer in writers.items():
            writer.append(values(name))
            assert not holds(store, name)
        raise RuntimeError
    assert [False, False] == [holds(store, name) for name in "ab"]
    assert (0, 0) == store.used_bytes()
    assert set() == entries(tmp_path)


def test_block_that_ends_with_rows_missing_leaves_no_entry(tmp_path: Path) -> None:
    """Also not the one that is whole."""
    store = open_store(tmp_path)
    with pytest.raises(ValueError, match="expected 4 rows"), store.write({"a": spec("a"), "b": spec("b")}) as writers:
        writers["a"].append(values("a"))
    assert [False, False] == [holds(store, name) for name in "ab"]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda home: flip(home / DATA),
        lambda home: os.truncate(home / DATA, 100),
        lambda home: (home / ENTRY).unlink(),
        lambda home: (home / ENTRY).write_text("{garbage"),
    ],
)
def test_damaged_entry_is_dropped_with_one_warning_and_can_be_written_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], Any]
) -> None:
    """It is never handed out."""
    write(open_store(tmp_path), spec("a"))
    damage(tmp_path / entry_key(facts("a")))
    store = open_store(tmp_path)
    assert [False, False] == [holds(store, "a"), holds(store, "a")]
    assert 1 == len(warnings(caplog))
    assert "damaged" in warnings(caplog)[0]
    assert "computed anew" in warnings(caplog)[0]
    assert set() == entries(tmp_path)
    write(store, spec("a"))
    assert holds(store, "a")


def test_writing_replaces_a_damaged_entry_that_nobody_looked_at(tmp_path: Path) -> None:
    """What was just written is there."""
    write(open_store(tmp_path), spec("a"))
    flip(tmp_path / entry_key(facts("a")) / DATA)
    store = open_store(tmp_path)
    write(store, spec("a"))
    assert holds(store, "a")
    assert holds(open_store(tmp_path), "a")


def test_bytes_are_checked_once(tmp_path: Path) -> None:
    """Reading tens of gigabytes for every trial would cost more than it saves."""
    write(open_store(tmp_path), spec("a"))
    store = open_store(tmp_path)
    first = store.get(facts("a"))
    flip(tmp_path / entry_key(facts("a")) / DATA)
    assert first is store.get(facts("a"))
    assert open_store(tmp_path).get(facts("a")) is None


def test_reader_keeps_right_data_when_its_entry_is_evicted_and_replaced(tmp_path: Path) -> None:
    """An open map outlives the name of its file."""
    write(open_store(tmp_path, disk=10), spec("a"))
    store = open_store(tmp_path, disk=10)
    reader = store.get(facts("a"))
    used_at(tmp_path, "a", 1)
    write(open_store(tmp_path, disk=6), spec("b"))
    assert {entry_key(facts("b"))} == entries(tmp_path)
    write(open_store(tmp_path, disk=16), spec("a"))
    np.testing.assert_array_equal(values("a"), reader)
    assert holds(store, "a")


def test_memory_too_small_is_an_error_before_anything_is_computed() -> None:
    """It says how much is needed and which settings help."""
    store = open_store(None, memory=7)
    with pytest.raises(StoreFullError, match=r"b: 4,096 bytes .* room for 3,072; raise reuse.memory_gib or") as caught:
        write(store, spec("a", "memory"), spec("b", "memory"))
    assert all(setting in str(caught.value) for setting in ("reuse.folder", "reuse.disk_gib", "reuse.memory_gib"))
    assert (0, 0) == store.used_bytes()
    write(store, spec("a", "memory"))
    assert (4 * KIB, 0) == store.used_bytes()


def test_least_recently_used_entry_gives_way(tmp_path: Path) -> None:
    """Getting is using."""
    write(open_store(tmp_path), spec("a"), spec("b"))
    used_at(tmp_path, "a", 1)
    used_at(tmp_path, "b", 2)
    assert holds(open_store(tmp_path), "a")
    store = open_store(tmp_path, disk=10)
    write(store, spec("c"))
    assert [True, False, True] == [holds(store, name) for name in "abc"]


def test_entry_that_this_process_opened_or_wrote_is_not_evicted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What does not fit beside it goes to memory, or is an error."""
    write(open_store(tmp_path), spec("a"))
    store = open_store(tmp_path, memory=4, disk=10)
    assert holds(store, "a")
    write(store, spec("b"))
    write(store, spec("c"))
    assert 4 * KIB == store.used_bytes()[0]
    assert "c: kept in memory (4,096 bytes)" in "".join(warnings(caplog))
    with pytest.raises(
        StoreFullError, match=r"d: 4,096 bytes .* room for 0 and the disk cannot take it \(reuse.disk_gi"
    ):
        write(store, spec("d"))
    assert [True, True, True] == [holds(store, name) for name in "abc"]


def test_nothing_is_evicted_where_that_would_not_make_room(tmp_path: Path) -> None:
    """A needless loss."""
    write(open_store(tmp_path), spec("a"))
    store = open_store(tmp_path, disk=10)
    write(store, spec("b", kib=12))
    assert (12 * KIB, True) == (store.used_bytes()[0], holds(store, "b", 12))
    assert holds(open_store(tmp_path), "a")


def test_room_that_another_process_is_filling_is_taken(tmp_path: Path) -> None:
    """In full, though it has written half."""
    with start(tmp_path, HALF_WRITTEN) as other:
        assert "half" == hear(other)
        store = open_store(tmp_path, disk=7)
        write(store, spec("b"))
        assert 4 * KIB == store.used_bytes()[0]
        other.communicate("\n")
    assert holds(store, "a")


def test_writer_goes_on_in_memory_when_files_can_grow_no_further(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With the rows already on disk, and with one warning."""
    store = open_store(tmp_path)
    with store.write({"a": spec("a"), "b": spec("b")}) as writers:
        for name, writer in writers.items():
            writer.append(values(name)[:2])
        with longest_file(2 * KIB + 100):
            for name, writer in writers.items():
                writer.append(values(name)[2:])
    assert [True, True] == [holds(store, name) for name in "ab"]
    assert 8 * KIB == store.used_bytes()[0]
    assert ["a: kept in memory (4,096 bytes) instead of on disk: File too large"] == warnings(caplog)
    assert set() == entries(tmp_path)


def test_writer_without_disk_or_memory_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    """Half-written rows vanish."""
    store = open_store(tmp_path, memory=3)
    with pytest.raises(StoreFullError, match="File too large"), store.write({"a": spec("a")}) as writers:
        writers["a"].append(values("a")[:2])
        with longest_file(2 * KIB + 100):
            writers["a"].append(values("a")[2:])
    assert (False, (0, 0), set()) == (holds(store, "a"), store.used_bytes(), entries(tmp_path))


def test_writer_goes_on_in_memory_when_the_disk_fills_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Other programs fill it too, long after there was room."""
    with mounted(tmp_path / "disk", "size=256k") as disk:
        store = open_store(disk / "kept")
        with store.write({"a": spec("a", kib=128)}) as writers:
            writers["a"].append(values("a", 128)[:1])
            with contextlib.suppress(OSError), (disk / "other").open("wb", buffering=0) as other:
                while True:
                    other.write(bytes(4 * KIB))
            writers["a"].append(values("a", 128)[1:])
        assert holds(store, "a", 128)
        assert ["a: kept in memory (131,072 bytes) instead of on disk: No space left on device"] == warnings(caplog)


def test_disk_that_is_full_to_begin_with_is_not_begun(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An hour of computing would end in an error that could be known."""
    with mounted(tmp_path / "disk", "size=64k") as disk:
        store = open_store(disk / "kept", memory=64)
        with pytest.raises(StoreFullError, match="the disk itself"):
            write(store, spec("a", kib=128))
        write(store, spec("a", kib=64))
        assert (64 * KIB, True) == (store.used_bytes()[0], holds(store, "a", 64))
        assert 1 == len(warnings(caplog))


def test_read_only_folder_is_done_without(read_only: Path, caplog: pytest.LogCaptureFixture) -> None:
    """There is one warning, and no lock."""
    store = open_store(read_only / "kept")
    with store.lock("a"):
        write(store, spec("a"), spec("b"))
    assert [True, True] == [holds(store, name) for name in "ab"]
    assert (8 * KIB, 0) == store.used_bytes()
    assert 1 == len(warnings(caplog))


def test_entries_in_a_read_only_folder_are_read_and_damaged_ones_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The damaged one cannot be removed: it is warned of once, and kept anew in memory."""
    with mounted(tmp_path / "disk", "size=1m") as disk:
        write(open_store(disk), spec("a"), spec("b"))
        flip(disk / entry_key(facts("b")) / DATA)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        store = open_store(disk)
        assert [True, False, False] == [holds(store, name) for name in "abb"]
        assert 1 == len(warnings(caplog))
        write(store, spec("b"))
        assert holds(store, "b")


def test_killed_writer_leaves_nothing_and_the_next_one_tidies_up(tmp_path: Path) -> None:
    """Its half lies in a folder that no reader looks at."""
    with start(tmp_path, HALF_WRITTEN) as other:
        assert "half" == hear(other)
        other.send_signal(signal.SIGKILL)
    assert 1 == len(entries(tmp_path))
    store = open_store(tmp_path)
    assert not holds(store, "a")
    write(store, spec("b"))
    assert {entry_key(facts("b"))} == entries(tmp_path)


def test_writers_of_one_key_in_two_processes_both_succeed(tmp_path: Path) -> None:
    """Neither tidies the other away, and the later one takes the copy that is there."""
    with start(tmp_path, HALF_WRITTEN) as other:
        assert "half" == hear(other)
        store = open_store(tmp_path)
        write(store, spec("a"))
        assert holds(store, "a")
        assert "whole\n" == other.communicate("\n")[0]
    assert holds(open_store(tmp_path), "a")
    assert (0, {entry_key(facts("a"))}) == (store.used_bytes()[0], entries(tmp_path))


LOCKED = """
with store.lock("features"):
    print("locked", flush=True)
    sys.stdin.readline()
    claims.write(store, claims.spec("a"))
"""


def test_lock_makes_a_second_process_wait_and_find_the_first_one_s_work(tmp_path: Path) -> None:
    """So nothing is computed twice; other names are free."""
    waiting = "print('ready', flush=True)\nwith store.lock('features'):\n    print(claims.holds(store, 'a'))"
    with start(tmp_path, LOCKED) as first:
        assert "locked" == hear(first)
        with open_store(tmp_path).lock("other features"), start(tmp_path, waiting) as second:
            assert "ready" == hear(second)
            first.communicate("\n")
            assert "True" == hear(second)


def test_lock_ends_with_a_killed_process(tmp_path: Path) -> None:
    """Nobody waits for the dead."""
    with start(tmp_path, LOCKED) as other:
        assert "locked" == hear(other)
        other.send_signal(signal.SIGKILL)
    store = open_store(tmp_path)
    with store.lock("features"):
        assert not holds(store, "a")


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    """A folder that holds more than entries loses none of it, and it is not counted."""
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter").write_bytes(bytes(20 * KIB))
    store = open_store(tmp_path, disk=5)
    write(store, spec("a"))
    assert (0, {"thesis", entry_key(facts("a"))}) == (store.used_bytes()[0], entries(tmp_path))
