"""Claims about the verb that makes shards: the same bytes whatever the way, whole or not at all."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bcdx import config
from bcdx._recipes import load_recipe
from bcdx.errors import RecordsError
from bcdx.shard import write_records


def settings_for(collection: Path, out: Path, **changes: object) -> config.Dataset:
    dataset = load_recipe(collection / "small.toml", config.Dataset)
    return dataset.model_copy(update={"out": str(out), **changes})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def sharded(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards made by one process."""
    out = tmp_path_factory.mktemp("sharded") / "one"
    write_records(settings_for(collection, out, workers=1))
    return out


@pytest.mark.parametrize("workers", [2, 3])
def test_shards_are_the_same_bytes_whatever_the_workers(
    sharded: Path, collection: Path, tmp_path: Path, workers: int
) -> None:
    """Under one key."""
    write_records(settings_for(collection, tmp_path / "out", workers=workers))
    assert contents(sharded) == contents(tmp_path / "out")


def test_shards_are_the_same_bytes_when_files_lie_elsewhere(sharded: Path, collection: Path, tmp_path: Path) -> None:
    """A moved collection is the same collection; nothing depends on inode order or absolute paths."""
    names = sorted((collection / "dicom").iterdir(), reverse=True)
    (tmp_path / "moved").mkdir()
    for path in names:
        copy = shutil.copytree if path.is_dir() else shutil.copy
        copy(path, tmp_path / "moved" / path.name)
    write_records(settings_for(collection, tmp_path / "out", source=str(tmp_path / "moved"), workers=1))
    assert contents(sharded) == contents(tmp_path / "out")


def test_another_key_changes_codes_but_neither_order_nor_split(
    sharded: Path, collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everyone with the data trains on the same order and views."""
    from bcdx.records.manifest import read_manifest
    from bcdx.records.reader import read_table

    monkeypatch.setenv("BCDX_PSEUDONYM_KEY", "another key")
    write_records(settings_for(collection, tmp_path / "out", workers=1))
    for split in ("train", "validation", "test"):
        one, other = (read_table(folder, read_manifest(folder), (split,)) for folder in (sharded, tmp_path / "out"))
        assert one.sample_seed.tolist() == other.sample_seed.tolist()
        assert one.label.tolist() == other.label.tolist()
        assert not set(one.patient) & set(other.patient)


def test_complete_shards_are_left_alone_and_stale_ones_refused(collection: Path, tmp_path: Path) -> None:
    """The same recipe is done; another one needs --overwrite."""
    dataset = settings_for(collection, tmp_path / "out", workers=1)
    write_records(dataset)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    write_records(dataset)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    with pytest.raises(RecordsError, match="stale"):
        write_records(dataset.model_copy(update={"size": 80}))
    write_records(dataset.model_copy(update={"size": 80, "overwrite": True}))
    assert [80, 80, 1] == json.loads((tmp_path / "out" / "manifest.json").read_text())["image_shape"]


def test_folder_that_holds_something_else_is_refused(collection: Path, tmp_path: Path) -> None:
    """Nobody's files are overwritten."""
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(RecordsError, match="not empty"):
        write_records(settings_for(collection, tmp_path, workers=1, overwrite=True))
    assert ["thesis.txt"] == [path.name for path in tmp_path.iterdir()]


def start(collection: Path, out: Path, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bcdx.shard", str(collection / "small.toml"), "--out", str(out), "--workers", "1"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, **options)  # type: ignore[call-overload,no-any-return]


def test_killed_run_leaves_no_folder_and_goes_on(sharded: Path, collection: Path, tmp_path: Path) -> None:
    """A SIGKILL among the studies: no output, what was prepared is used again, the result is the same."""
    process = start(collection, tmp_path / "out")
    staged: list[Path] = []
    for _ in range(2000):
        staged = list(tmp_path.glob(".out.staging-*/*.json"))
        if len(staged) >= 3:
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert staged
    assert not (tmp_path / "out").exists()
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob(".out.staging-*/*.raw")}

    again = start(collection, tmp_path / "out")
    assert 0 == again.wait(), again.stderr.read() if again.stderr else ""
    assert kept
    assert contents(sharded) == contents(tmp_path / "out")
    assert not list(tmp_path.glob(".out.staging-*"))


def limit_file_size() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def test_full_disk_is_one_error_and_no_folder(collection: Path, tmp_path: Path) -> None:
    """A limit on file size stands in for a full disk: writing fails half-way."""
    process = start(collection, tmp_path / "out", preexec_fn=limit_file_size)
    _, said = process.communicate()
    assert 2 == process.returncode
    assert "bcdx.shard: error: " in said.strip().splitlines()[-1]
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_place_is_one_error(collection: Path, tmp_path: Path) -> None:
    """The message names the place."""
    tmp_path.chmod(0o500)
    process = start(collection, tmp_path / "out")
    _, said = process.communicate()
    assert (2, True) == (process.returncode, "Permission denied" in said.strip().splitlines()[-1])


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("recipe", "samples", "patients"), [("breast_dce_patches", 526, 84), ("mini_mias", 32, 16), ("busi", 120, 120)]
)
def test_recipe_for_real_images_runs(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str, samples: int, patients: int
) -> None:
    """The tracked recipes, on the images that they are for."""
    monkeypatch.setenv("BCDX_DATA", str(shared_data))
    dataset = load_recipe(Path(__file__).parents[1] / "tfrecords" / f"{recipe}.toml", config.Dataset)
    manifest = write_records(dataset.model_copy(update={"out": str(tmp_path / "out"), "workers": 1}))
    found = manifest.splits.values()
    assert (samples, patients) == (sum(one.samples for one in found), sum(one.patients for one in found))
    assert manifest.patient_is_file == (recipe == "busi")
