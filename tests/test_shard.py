"""Claims about the verb that makes shards: the same bytes whatever the way, whole or not at all."""

from __future__ import annotations

import csv
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bcdx import config
from bcdx._recipes import load_recipe
from bcdx.errors import BcdxError, RecordsError
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


def test_absent_label_table_is_taken_as_unchanged(collection: Path, tmp_path: Path) -> None:
    """Shards outlive the disk that the images were on; another table makes them stale, other settings always do."""
    shutil.copytree(collection / "dicom", tmp_path / "in")
    dataset = settings_for(collection, tmp_path / "out", source=str(tmp_path / "in"), workers=1)
    made = write_records(dataset)
    table = tmp_path / "in" / "labels.csv"
    text = table.read_text()
    table.unlink()
    assert made == write_records(dataset)
    with pytest.raises(RecordsError, match="stale"):
        write_records(dataset.model_copy(update={"size": 80}))
    table.write_text(text.replace("no_tumour", "none"))
    with pytest.raises(RecordsError, match="stale"):
        write_records(dataset)


@pytest.mark.parametrize("step", ["bcdx.imaging.collection.scan", "bcdx.records.sharding.stage_studies"])
@pytest.mark.parametrize("deaths", [1, 2])
def test_killed_worker_is_replaced_once(
    collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, deaths: int
) -> None:
    """While headers are read as well as while studies are prepared; twice is one error and no folder."""
    module, name = step.rsplit(".", 1)
    work, calls = getattr(import_module(module), name), []

    def die_first(*args: object, **options: object) -> object:
        calls.append(1)
        if len(calls) <= deaths:
            raise BrokenProcessPool
        return work(*args, **options)

    monkeypatch.setattr(step, die_first)
    dataset = settings_for(collection, tmp_path / "out", workers=1)
    if deaths == 1:
        assert write_records(dataset).splits["test"].samples
    else:
        with pytest.raises(BcdxError, match="died twice"):
            write_records(dataset)
        assert not list(tmp_path.iterdir())


def test_folder_that_holds_something_else_is_refused(collection: Path, tmp_path: Path) -> None:
    """Nobody's files are overwritten."""
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(RecordsError, match="not empty"):
        write_records(settings_for(collection, tmp_path, workers=1, overwrite=True))
    assert ["thesis.txt"] == [path.name for path in tmp_path.iterdir()]


def start(recipe: Path, out: Path, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bcdx.shard", str(recipe), "--out", str(out), "--workers", "1"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, **options)  # type: ignore[call-overload,no-any-return]


def test_killed_run_leaves_no_folder_and_goes_on(sharded: Path, collection: Path, tmp_path: Path) -> None:
    """A SIGKILL among the studies: no output, what was prepared is used again, the result is the same."""
    kill_while_preparing(start(collection / "small.toml", tmp_path / "out"), tmp_path)
    assert not (tmp_path / "out").exists()
    left = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert not [canary for canary in (b"CANARY", b"1.2.77777", b"19010203", b"19310405") if canary in left]

    assert resumed(collection / "small.toml", tmp_path)
    assert contents(sharded) == contents(tmp_path / "out")
    assert ["out"] == [path.name for path in tmp_path.iterdir()]


def test_killed_phantom_run_goes_on(tmp_path: Path) -> None:
    """Its images are drawn anew, always the same: what was prepared from them is used again."""
    (tmp_path / "p.toml").write_text("size = 75\n[phantom]\npatients = 36\nsize = 75\nslices_per_breast = 1\n")
    place = tmp_path / "place"
    place.mkdir()
    kill_while_preparing(start(tmp_path / "p.toml", place / "out"), place)
    assert resumed(tmp_path / "p.toml", place)
    assert ["out"] == [path.name for path in place.iterdir()]


def test_what_was_prepared_under_other_settings_is_removed(collection: Path, tmp_path: Path) -> None:
    """Nobody would take it over."""
    kill_while_preparing(start(collection / "small.toml", tmp_path / "out"), tmp_path)
    write_records(settings_for(collection, tmp_path / "out", size=80, workers=1))
    assert ["out"] == [path.name for path in tmp_path.iterdir()]


def kill_while_preparing(process: subprocess.Popen[str], place: Path) -> None:
    """Kill a run once it has prepared three studies."""
    for _ in range(4000):
        if len(list(place.glob(".out.staging-*/*.json"))) >= 3:
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(place.glob(".out.staging-*/*.json"))
    assert list(place.glob(".out.partial-*"))


def resumed(recipe: Path, place: Path) -> bool:
    """Run the command again; return whether it read what the killed run had prepared, and prepared none of it anew."""
    whole = [path.with_suffix(".raw") for path in place.glob(".out.staging-*/*.json")]  # the last may be cut short
    kept = {path.name: path.stat().st_ino for path in whole}
    again = start(recipe, place / "out")
    seen: dict[str, int] = {}
    while again.poll() is None:
        with suppress(FileNotFoundError):
            seen.update({path.name: path.stat().st_ino for path in place.glob(".out.staging-*/*.raw")})
        time.sleep(0.005)
    assert 0 == again.returncode, again.stderr.read() if again.stderr else ""
    return bool(kept) and all(seen[name] == inode for name, inode in kept.items())


def limit_file_size() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def test_full_disk_is_one_error_and_no_folder(collection: Path, tmp_path: Path) -> None:
    """A limit on file size stands in for a full disk: writing fails half-way."""
    process = start(collection / "small.toml", tmp_path / "out", preexec_fn=limit_file_size)
    _, said = process.communicate()
    assert 2 == process.returncode
    assert "bcdx.shard: error: " in said.strip().splitlines()[-1]
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_place_is_one_error(collection: Path, tmp_path: Path) -> None:
    """The message names the place."""
    tmp_path.chmod(0o500)
    process = start(collection / "small.toml", tmp_path / "out")
    _, said = process.communicate()
    assert (2, True) == (process.returncode, "Permission denied" in said.strip().splitlines()[-1])


def write_patients(write_dicom: Any, count: int = 12) -> list[str]:
    """One slice each below `in/`, every other ill; return the label table's rows."""
    rows = ["path,label"]
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 999, (8, 8)).astype(np.uint16)
        write_dicom(f"in/{index}.dcm", pixels, PatientID=f"P{index}")
        rows.append(f"{index}.dcm,{'tumour' if index % 2 else 'none'}")
    return rows


def damage_nan(path: Path) -> None:
    import pydicom

    ds = pydicom.dcmread(path)
    del ds.PixelData, ds.BitsStored, ds.HighBit
    ds.BitsAllocated, ds.FloatPixelData = 32, np.full((8, 8), np.nan, np.float32).tobytes()
    ds.save_as(path)


def test_bad_images_and_labels_are_listed_and_the_run_goes_on(write_dicom: Any, tmp_path: Path) -> None:
    """Each with its reason by key in the manifest; the good ones become records."""
    rows = write_patients(write_dicom)
    noise = np.random.default_rng(99).integers(0, 999, (8, 8)).astype(np.uint16)
    for name in ("cut", "conflict", "nan", "other"):
        write_dicom(f"in/{name}.dcm", noise, PatientID=name)
    cut = tmp_path / "in" / "cut.dcm"
    cut.write_bytes(cut.read_bytes()[:-20])
    damage_nan(tmp_path / "in" / "nan.dcm")
    (tmp_path / "in" / "empty.dcm").touch()
    (tmp_path / "in" / "bmp.jpg").write_bytes(b"BM" + bytes(200))
    write_dicom("in/flat.dcm", np.full((8, 8), 7, np.uint16), PatientID="P0")  # in the study of a good slice
    write_dicom("in/tiny.dcm", np.ones((1, 1), np.uint16))
    Image.new("L", (20000, 20000)).save(tmp_path / "in" / "huge.png")
    rows += [f"{name}.dcm,tumour" for name in ("cut", "conflict", "nan", "flat", "tiny", "missing")]
    rows += ["conflict.dcm,none", "other.dcm,benign", "huge.png,none", "empty.dcm,none"]
    (tmp_path / "in" / "labels.csv").write_text("\n".join(rows))
    manifest = write_records(
        config.Dataset(
            source=str(tmp_path / "in"), out=str(tmp_path / "out"), size=8, classes=("none", "tumour"),
            labels=config.Labels(file="labels.csv"), workers=1,
        )
    )  # fmt: skip
    expected = {
        "pixel data cannot be decoded": 1,
        "two labels for one sample": 1,
        "pixels are not finite": 1,
        "label is not one of the classes": 1,
        "empty file": 1,
        "not an image of a kind that is read": 1,
        "no contrast: all its pixels are equal": 1,
        "smaller than 2 x 2 pixels": 1,
        "more than 67108864 pixels": 1,
        "label without image": 1,
    }
    assert expected == {one.reason: one.count for one in manifest.exclusions}
    assert 12 == sum(one.samples for one in manifest.splits.values())


@pytest.mark.slow
def test_ten_kills_at_random_moments_end_in_the_same_bytes(sharded: Path, collection: Path, tmp_path: Path) -> None:
    """Before, while and after studies are staged and shards are written; nothing but the shards is left."""
    out, rng = tmp_path / "out", random.Random(2019)
    started = time.monotonic()
    start(collection / "small.toml", tmp_path / "timed").communicate()
    whole = time.monotonic() - started
    killed = 0
    for _ in range(10):
        process = start(collection / "small.toml", out, start_new_session=True)
        try:
            process.communicate(timeout=rng.uniform(0.1, 1.0) * whole)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            killed += 1
        if (out / "manifest.json").exists():
            assert contents(sharded) == contents(out)
            shutil.rmtree(out)
    assert killed
    assert 0 == start(collection / "small.toml", out).wait()
    assert contents(sharded) == contents(out)
    assert {"out", "timed"} == {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("patients", "change", "words"),
    [
        (12, ("none", "tumour"), "every usable image is labelled 'tumour'"),
        (2, None, "2 patients cannot fill 3 splits"),
        (4, ("label", "class"), "no column 'label'"),
        (0, ("path,label", "path,label\ngone.dcm,tumour"), "no files in it"),
    ],
)
def test_collection_that_cannot_be_used_is_one_error_and_no_folder(
    write_dicom: Any, tmp_path: Path, patients: int, change: tuple[str, str] | None, words: str
) -> None:
    """Status 2, the last line says why, and not even a parent of the output is left."""
    rows = write_patients(write_dicom, patients)
    (tmp_path / "in").mkdir(exist_ok=True)
    text = "\n".join(rows)
    (tmp_path / "in" / "labels.csv").write_text(text.replace(*change) if change else text)
    (tmp_path / "r.toml").write_text('source = "in"\nsize = 8\n[labels]\nfile = "labels.csv"\n')
    process = start(tmp_path / "r.toml", tmp_path / "a" / "b")
    _, said = process.communicate()
    assert (2, True) == (process.returncode, words in said.strip().splitlines()[-1]), said
    assert {"in", "r.toml"} == {path.name for path in tmp_path.iterdir()}


def test_pydicoms_packaged_files_run_to_the_end(tmp_path: Path) -> None:
    """Each file becomes records or is listed by key with its reason, and the private index names it."""
    import pydicom

    shutil.copytree(Path(pydicom.__file__).parent / "data" / "test_files", tmp_path / "in")
    files = sorted(path for path in (tmp_path / "in").rglob("*") if path.is_file())
    rows = ["path,label", *(f"{path.relative_to(tmp_path / 'in')},{label_of(path)}" for path in files)]
    (tmp_path / "in" / "labels.csv").write_text("\n".join(rows))
    manifest = write_records(
        config.Dataset(
            source=str(tmp_path / "in"), out=str(tmp_path / "out"), size=16, workers=1, patient="file",
            split=config.Split(validation=0, test=0), labels=config.Labels(file="labels.csv"),
        )
    )  # fmt: skip
    private = Path(os.environ["XDG_STATE_HOME"]) / "bcdx" / f"out-{manifest.data_hash[:12]}.json"
    index = json.loads(private.read_text())
    rows = [row for row in read_exclusions(tmp_path / "out") if row["action"] == "excluded"]
    left_out = {index[row["key"]]: row["reason"] for row in rows}
    used = {path for key, path in index.items() if key not in {row["key"] for row in rows}}
    assert {str(path) for path in files} == used | set(left_out)
    assert not used & set(left_out)
    assert len(files) == manifest.files
    assert "no contrast" not in " ".join(left_out.values())
    assert manifest.images == manifest.used + sum(int(row["images"]) for row in rows)


def read_exclusions(folder: Path) -> list[dict[str, str]]:
    with (folder / "exclusions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def label_of(path: Path) -> str:
    """One class for all copies of an instance."""
    import pydicom

    try:
        name = str(pydicom.dcmread(path, force=True).get("SOPInstanceUID", ""))
    except Exception:  # noqa: BLE001  # broken on purpose
        name = ""
    return "even" if sum(name.encode()) % 2 == 0 else "odd"


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
