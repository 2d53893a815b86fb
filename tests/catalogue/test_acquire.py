"""Claims about the verb that fetches a collection: whole or resumable, the same bytes whatever happened on the way."""

from __future__ import annotations

import json
import logging
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bcdx import acquire, config
from bcdx.acquire import LOCK, acquire_collection, acquire_from
from bcdx.catalogue import store
from bcdx.catalogue.provenance import PROVENANCE
from bcdx.config import Select
from bcdx.errors import BcdxError, SettingsError

LEFT = Select(laterality=("L",))


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between tries."""
    monkeypatch.setattr(store, "PAUSE_SECONDS", 0.001)


def test_acquire_fetches_what_the_rules_keep(world: Any, tmp_path: Path) -> None:
    """The tables, the files, and where they are from."""
    done = acquire_from(world.catalogue, world.settings(tmp_path / "new" / "here", select=LEFT))
    found = world.files(tmp_path / "new" / "here")
    assert 4 * 5 + 1 == len(found)
    assert done.summary().endswith("4 series, 20 images, 0.0 GB; whole by size and hash (provenance.json)")
    content = json.loads(found[PROVENANCE])
    assert ["CC BY 3.0"] == content["licences"]
    assert "https://doi.org/10.1/a" == content["citations"][0]
    assert [one.uid for one in world.series] == [one["SeriesInstanceUID"] for one in content["series"]]
    assert {"catalogue": "test 1", "collection": "small_brca", "patients": "all", "series": 4, "images": 20} == {
        name: value for name, value in content["acquisitions"][0].items() if name not in {"rules", "sha256"}
    }
    assert ["L"] == content["acquisitions"][0]["rules"]["laterality"]


def test_provenance_holds_no_patient_path_or_date(world: Any, tmp_path: Path) -> None:
    """Patients are counted where they were named."""
    settings = world.settings(tmp_path / "x")
    catalogue = settings.catalogue.model_copy(update={"patients": ("P1",)})
    acquire_from(world.catalogue, settings.model_copy(update={"catalogue": catalogue}))
    text = (tmp_path / "x" / PROVENANCE).read_text()
    assert 1 == json.loads(text)["acquisitions"][0]["patients"]
    assert [] == re.findall(r'"P1"|tmp|\b(?:19|20)\d\d-\d\d|127\.0\.0\.1', text)


def test_dry_run_writes_nothing_and_asks_nobody(world: Any, tmp_path: Path) -> None:
    """Nor does it need a folder."""
    before = world.files(tmp_path)
    settings = world.settings(tmp_path / "x", url="http://127.0.0.1:9", dry_run=True)
    text = acquire_from(world.catalogue, settings).summary()
    assert "kept by the rules" in text
    assert text.endswith("dry run: nothing was fetched")
    assert text == acquire_from(world.catalogue, settings.model_copy(update={"source": "phantom"})).summary()
    assert before == world.files(tmp_path)
    assert not (tmp_path / "x").exists()


def test_a_complete_acquisition_is_left_alone(world: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without the network; the answer is the same."""
    first = acquire_from(world.catalogue, world.settings(tmp_path))
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path, *tmp_path.rglob("*"))}
    with caplog.at_level(logging.INFO, "bcdx"):
        second = acquire_from(world.catalogue, world.settings(tmp_path, url="http://127.0.0.1:9"))
    assert (first.plan, first.entries) == (second.plan, second.entries)
    assert second.summary().endswith("; whole by number and size (provenance.json)")
    assert "nothing to do" in caplog.text
    assert stamps == {path: path.stat().st_mtime_ns for path in (tmp_path, *tmp_path.rglob("*"))}


def test_a_complete_acquisition_that_lost_a_file_is_made_whole(world: Any, proxy: Any, tmp_path: Path) -> None:
    """That file alone is fetched, and its series alone is read again."""
    acquire_from(world.catalogue, world.settings(tmp_path))
    before = world.files(tmp_path)
    next(tmp_path.rglob("*.dcm")).unlink()
    done = acquire_from(world.catalogue, world.settings(tmp_path, url=proxy.url))
    assert "; whole: 1 by size and hash, 3 by number and size (provenance.json)" in done.summary()
    assert before == world.files(tmp_path)
    assert 1 == len(proxy.files)


def test_other_rules_extend_the_folder_in_either_order(
    world: Any, proxy: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is there is not fetched again, and the bytes are the same both ways."""
    rules = [Select(), Select(min_slices=2)]
    patient = world.settings(tmp_path).catalogue.model_copy(update={"patients": ("P0",), "endpoint_url": proxy.url})
    for folder, order in (("a", rules), ("b", rules[::-1])):
        for select in order:
            settings = world.settings(tmp_path / folder, url=proxy.url, select=select)
            changes = {"catalogue": patient} if select == rules[0] else {}
            with caplog.at_level(logging.INFO, "bcdx"):
                acquire_from(world.catalogue, settings.model_copy(update=changes))
    assert world.files(tmp_path / "a") == world.files(tmp_path / "b")
    assert 2 * 4 * 5 == len(proxy.files)
    assert 2 == caplog.text.count("that stays, and this plan is added")


def test_two_patients_fetched_one_by_one_are_two_plans(world: Any, tmp_path: Path) -> None:
    """Their counts are the same, their series are not."""
    for name in ("P0", "P1"):
        settings = world.settings(tmp_path)
        catalogue = settings.catalogue.model_copy(update={"patients": (name,)})
        acquire_from(world.catalogue, settings.model_copy(update={"catalogue": catalogue}))
    plans = json.loads((tmp_path / PROVENANCE).read_text())["acquisitions"]
    assert [2, 2] == [one["series"] for one in plans]


def test_the_order_of_the_catalogue_makes_no_difference(world: Any, save_catalogue: Any, tmp_path: Path) -> None:
    """Rows may come in any."""
    turned = save_catalogue(tmp_path / "turned.parquet", world.series[::-1])
    acquire_from(world.catalogue, world.settings(tmp_path / "a"))
    acquire_from(turned, world.settings(tmp_path / "b"))
    assert world.files(tmp_path / "a") == world.files(tmp_path / "b")


def test_a_failed_attempt_goes_on_to_the_same_bytes(world: Any, proxy: Any, tmp_path: Path) -> None:
    """Without a record in between, and without fetching what had arrived."""
    acquire_from(world.catalogue, world.settings(tmp_path / "whole"))
    proxy.fault_every = 7
    with pytest.raises(BcdxError, match="1 tries failed"):
        acquire_from(world.catalogue, world.settings(tmp_path / "broken", url=proxy.url, attempts=1))
    arrived = world.files(tmp_path / "broken")
    assert arrived.items() < world.files(tmp_path / "whole").items()
    assert PROVENANCE not in arrived
    proxy.fault_every, proxy.files[:] = 0, []
    acquire_from(world.catalogue, world.settings(tmp_path / "broken", url=proxy.url))
    assert world.files(tmp_path / "whole") == world.files(tmp_path / "broken")
    assert 20 - len(arrived) == len(proxy.files)


def test_acquire_refuses_a_disk_that_is_too_small(
    world: Any, proxy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first byte, and before the first folder."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=60_000))
    with pytest.raises(BcdxError, match=r"0.0 GB are needed, 0.0 GB are free"):
        acquire_from(world.catalogue, world.settings(tmp_path / "x", url=proxy.url))
    assert not (tmp_path / "x").exists()
    assert [] == proxy.files


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "phantom"}, "source is 'phantom'; give the folder"),
        (
            {"catalogue": config.Catalogue()},
            "no collection is named; give a recipe such as tfrecords/tcga_brca.toml",
        ),
        ({"select": Select(modality=("mr",))}, "select.modality 'mr': DICOM writes MR"),
        ({"select": Select(description=("nothing",))}, "the rules keep nothing of small_brca; --dry-run shows why"),
        ({"source": "$BCDX_NO_SUCH_VARIABLE"}, "needs the environment variable BCDX_NO_SUCH_VARIABLE"),
    ],
)
def test_settings_that_name_nothing_are_an_error(
    world: Any, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    """One line that says which setting."""
    with pytest.raises(SettingsError, match=re.escape(message)):
        acquire_from(world.catalogue, world.settings(tmp_path / "x").model_copy(update=changes))
    assert not (tmp_path / "x").exists()


def test_acquire_refuses_a_file_for_a_folder(world: Any, tmp_path: Path) -> None:
    """It stays."""
    (tmp_path / "x").write_text("mine")
    with pytest.raises(SettingsError, match="a file, not a folder"):
        acquire_from(world.catalogue, world.settings(tmp_path / "x"))


def test_two_processes_do_not_share_a_folder(world: Any, tmp_path: Path) -> None:
    """The second one says so."""
    from filelock import FileLock

    with FileLock(tmp_path / LOCK), pytest.raises(BcdxError, match="another acquire is at work there"):
        acquire_from(world.catalogue, world.settings(tmp_path))


def test_the_lock_is_held_until_all_is_recorded(world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that came in between would remove what is half written."""
    write = acquire.write_provenance

    def look(folder: Path, record: Any) -> None:
        with pytest.raises(BcdxError, match="another acquire is at work there"):
            acquire_from(world.catalogue, world.settings(tmp_path))
        write(folder, record)

    monkeypatch.setattr(acquire, "write_provenance", look)
    acquire_from(world.catalogue, world.settings(tmp_path))
    assert 21 == len(world.files(tmp_path))


def test_the_lock_comes_before_any_question_to_the_store(world: Any, tmp_path: Path) -> None:
    """What is missing is known only to whoever works alone."""
    from filelock import FileLock

    with FileLock(tmp_path / LOCK), pytest.raises(BcdxError, match="another acquire is at work there"):
        acquire_from(world.catalogue, world.settings(tmp_path, url="http://127.0.0.1:9", attempts=1))


def test_a_kill_as_the_last_thing_leaves_no_lock_file_behind(world: Any, tmp_path: Path) -> None:
    """All is recorded, the lock file is still there: the next run drops it, unless it is held."""
    from filelock import FileLock

    acquire_from(world.catalogue, world.settings(tmp_path))
    before = world.files(tmp_path)
    with FileLock(tmp_path / LOCK):
        acquire_from(world.catalogue, world.settings(tmp_path))
        assert (tmp_path / LOCK).exists()
    (tmp_path / LOCK).touch()
    acquire_from(world.catalogue, world.settings(tmp_path))
    assert before == world.files(tmp_path)


def test_folders_that_are_of_no_finished_plan_are_named(
    world: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They are of an attempt with other rules that never ended, perhaps."""
    (tmp_path / "P9" / "MR-9.9").mkdir(parents=True)
    acquire_from(world.catalogue, world.settings(tmp_path))
    assert "1 folders are neither of this plan nor of a finished one" in caplog.text


def test_a_revised_series_is_not_mixed_with_its_former_self(world: Any, save_catalogue: Any, tmp_path: Path) -> None:
    """A new release of the catalogue may point to other objects of the same SeriesInstanceUID."""
    from dataclasses import replace

    acquire_from(world.catalogue, world.settings(tmp_path / "x"))
    one = world.series[0]
    for index in range(one.images):
        body = bytes([index]) * 3000
        world.client.put_object(Bucket=one.bucket, Key=f"new/r{index}.dcm", Body=body, ACL="public-read")
    revised = [replace(one, prefix="new", megabytes=0.015), *world.series[1:]]
    newer = save_catalogue(tmp_path / "newer.parquet", revised)
    with pytest.raises(BcdxError, match=r"1 series folders hold files of another revision.*000.dcm; move"):
        acquire_from(newer, world.settings(tmp_path / "x"))


def test_acquire_collection_reads_the_installed_catalogue(tmp_path: Path) -> None:
    """A dry run of the origin's collection, as the recipe would have it."""
    pytest.importorskip("idc_index_data")
    catalogue = config.Catalogue(collection="tcga_brca")
    select = Select(modality=("MR",), plane=("sagittal",), laterality=("L",))
    plan = acquire_collection(config.Acquire(catalogue=catalogue, select=select, dry_run=True)).plan
    assert 0 < len(plan.kept) < len(plan.whole)
    assert {"MR"} == {one.modality for one in plan.kept}


SCRIPT = """
import sys
from pathlib import Path
from bcdx import config
from bcdx.acquire import acquire_from
from bcdx.catalogue.series import CatalogueFile
path, version, settings = sys.argv[1:]
print("ready", flush=True)
acquire_from(CatalogueFile(Path(path), version), config.Acquire.model_validate_json(settings))
"""


def start(world: Any, source: Path, url: str) -> subprocess.Popen[str]:
    """Start an acquire in a process of its own; return when it has begun."""
    settings = world.settings(source, url=url).model_dump_json()
    command = [sys.executable, "-c", SCRIPT, str(world.catalogue.path), world.catalogue.version, settings]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert "ready\n" == process.stdout.readline()
    return process


def kill_often(world: Any, proxy: Any, source: Path, moments: Iterable[int]) -> Iterator[int]:
    """Start an acquire and kill it when it has asked for so many files; yield how many are whole then."""
    chance = random.Random(2019)
    for moment in moments:
        proxy.files.clear()
        process = start(world, source, proxy.url)
        while len(proxy.files) < moment and process.poll() is None:
            time.sleep(0.001)
        time.sleep(chance.uniform(0.0, 2 * proxy.seconds))
        process.kill()
        assert process.wait(60) in {-signal.SIGKILL, 0}
        yield len(list(source.rglob("*.dcm")))


TEN = random.Random(2).choices(range(6), k=10)
"""At 0 there is nothing but imports and the catalogue; four files are on their way at a time."""


@pytest.mark.parametrize("moments", [[6, 5], pytest.param(TEN, marks=pytest.mark.slow)], ids=["two", "ten"])
def test_a_killed_acquire_resumes_to_the_same_bytes(world: Any, proxy: Any, tmp_path: Path, moments: list[int]) -> None:
    """Kill -9 at random moments; nothing unfinished stays, and whole files do."""
    acquire_from(world.catalogue, world.settings(tmp_path / "whole"))
    proxy.seconds = 0.05
    left = list(kill_often(world, proxy, tmp_path / "killed", moments))
    last = start(world, tmp_path / "killed", proxy.url)
    assert ("", 0) == (last.communicate(timeout=120)[1], last.returncode)
    assert sorted(left) == left
    assert any(0 < count < 20 for count in left)
    assert world.files(tmp_path / "whole") == world.files(tmp_path / "killed")


def test_an_interrupt_stops_soon_and_can_be_resumed(world: Any, proxy: Any, tmp_path: Path) -> None:
    """Ctrl-C; whole files stay, unfinished ones do not."""
    proxy.seconds = 0.2
    process = start(world, tmp_path, proxy.url)
    while len(proxy.files) < 6:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    process.wait(30)
    assert process.stderr is not None
    assert "KeyboardInterrupt" in process.stderr.read()
    left = world.files(tmp_path)
    assert 0 < len(left) < 20
    assert all(name.endswith(".dcm") and "/." not in name for name in left)
    acquire_from(world.catalogue, world.settings(tmp_path))
    assert 21 == len(world.files(tmp_path))
