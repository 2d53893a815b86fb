"""Claims about fetching from a real S3 server on loopback, through connections that break."""

from __future__ import annotations

import hashlib
import logging
import shutil
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bcdx import config
from bcdx.catalogue import store, transfer
from bcdx.catalogue.provenance import digest_files
from bcdx.catalogue.store import Store
from bcdx.errors import BcdxError


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between tries."""
    monkeypatch.setattr(store, "PAUSE_SECONDS", 0.001)


def settings_for(url: str, attempts: int = 8) -> config.Catalogue:
    return config.Catalogue(endpoint_url=url, connections=4, attempts=attempts)


def fetch(world: Any, source: Path, url: str = "", attempts: int = 8) -> tuple[Any, Counter[str]]:
    settings, told = settings_for(url or world.url, attempts), Counter[str]()
    listings = transfer.list_all(world.series, source, settings)
    entries = transfer.fetch_all(listings, settings, lambda count: told.update(bytes=count))
    return entries, told


def stored(world: Any) -> dict[str, bytes]:
    """What is in the store, by the place where it belongs."""
    found = {}
    for one in world.series:
        for item in world.client.list_objects_v2(Bucket=one.bucket, Prefix=one.prefix)["Contents"]:
            body = world.client.get_object(Bucket=one.bucket, Key=item["Key"])["Body"].read()
            found[f"{one.patient}/{one.modality}-{one.uid}/{item['Key'].rpartition('/')[2]}"] = body
    return found


def test_fetch_puts_every_object_in_its_place(world: Any, tmp_path: Path) -> None:
    """And nothing else; what progress was told is what there is."""
    entries, told = fetch(world, tmp_path)
    assert stored(world) == world.files(tmp_path)
    assert sum(map(len, world.files(tmp_path).values())) == told["bytes"] == sum(one.bytes for one in entries)


def test_entries_hold_the_digest_of_names_and_hashes(world: Any, tmp_path: Path) -> None:
    """Anyone can compute it again from the files."""
    entries, _ = fetch(world, tmp_path)
    for series, entry in zip(world.series, sorted(entries, key=lambda one: one.SeriesInstanceUID), strict=True):
        folder = transfer.series_folder(tmp_path, series)
        hashes = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}
        assert digest_files(hashes) == entry.sha256


def test_entries_do_not_depend_on_the_order_of_series(world: Any, tmp_path: Path) -> None:
    """Neither do the files."""
    first, _ = fetch(world, tmp_path / "a")
    world.series.reverse()
    second, _ = fetch(world, tmp_path / "b")
    assert first == second
    assert world.files(tmp_path / "a") == world.files(tmp_path / "b")


@pytest.mark.parametrize("fault", ["cut", "spoilt", "long"])
def test_fetch_survives_bodies_that_break_off_or_arrive_damaged(
    world: Any, proxy: Any, tmp_path: Path, fault: str
) -> None:
    """Every third one does."""
    proxy.fault_every, proxy.fault = 3, fault
    _, told = fetch(world, tmp_path, proxy.url)
    assert stored(world) == world.files(tmp_path)
    assert sum(map(len, world.files(tmp_path).values())) == told["bytes"]  # lost bytes were taken back
    assert len(proxy.files) > len(stored(world))


def test_fetch_survives_a_damaged_tls_record(world: Any, tls_proxy: Any, tmp_path: Path) -> None:
    """It ends the connection in the middle of a body."""
    tls_proxy.fault_every, tls_proxy.fault = 6, "record"
    _, told = fetch(world, tmp_path / "x", tls_proxy.url)
    assert stored(world) == world.files(tmp_path / "x")
    assert sum(map(len, stored(world).values())) == told["bytes"]
    assert len(tls_proxy.files) > len(stored(world))


def test_a_body_longer_than_listed_is_read_no_further(world: Any, proxy: Any, tmp_path: Path) -> None:
    """A server gone wild would fill the disk."""
    proxy.fault_every, proxy.fault = 1, "long"
    listings = transfer.list_all(world.series[:1], tmp_path, settings_for(proxy.url))
    arrived: list[int] = []
    with pytest.raises(BcdxError, match="1 tries failed, the last one with: DamagedError"):
        transfer.fetch_all(listings, settings_for(proxy.url, attempts=1), arrived.append)
    assert sum(count for count in arrived if count > 0) <= 5 * (3010 + store.CHUNK_BYTES)


def test_a_full_disk_is_an_error_that_names_the_file(world: Any, tmp_path: Path) -> None:
    """A limit on the size of files stands in for it."""
    resource = pytest.importorskip("resource")
    one, size = world.series[0], 2**22
    world.client.put_object(Bucket=one.bucket, Key="big/a.dcm", Body=bytes(size), ACL="public-read")
    world.series[:] = [replace(one, prefix="big", images=1, megabytes=size / 1e6)]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, limits[1]))
    try:
        with pytest.raises(BcdxError, match=r"a.dcm: File too large; make room, the same command goes on"):
            fetch(world, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {} == world.files(tmp_path)


def test_no_account_and_no_profile_is_looked_for(world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment names: the store is public."""
    (tmp_path / "config").write_text("nothing of the kind")
    for name, value in {"AWS_PROFILE": "no-such", "AWS_CONFIG_FILE": str(tmp_path / "config")}.items():
        monkeypatch.setenv(name, value)
    assert 5 == len(Store(settings_for(world.url), threading.Event()).list_series(world.series[0]))


def test_fetch_gives_up_after_so_many_tries_and_keeps_what_is_whole(world: Any, proxy: Any, tmp_path: Path) -> None:
    """Without unfinished files."""
    proxy.fault_every = 1
    with pytest.raises(BcdxError, match=r"3 tries failed, .*the same command goes on where it stopped"):
        fetch(world, tmp_path, proxy.url, attempts=3)
    assert {} == world.files(tmp_path)
    assert max(Counter(proxy.files).values()) <= 3


def test_fetch_keeps_whole_files_and_replaces_damaged_and_short_ones(world: Any, proxy: Any, tmp_path: Path) -> None:
    """A byte that has flipped on disk is found by its hash."""
    fetch(world, tmp_path)
    flipped, short, gone = sorted(path for path in tmp_path.rglob("*.dcm"))[:3]
    flipped.write_bytes(bytes([flipped.read_bytes()[0] ^ 1]) + flipped.read_bytes()[1:])
    short.write_bytes(short.read_bytes()[:-1])
    gone.unlink()
    _, told = fetch(world, tmp_path, proxy.url)
    assert 3 == len(proxy.files)
    assert stored(world) == world.files(tmp_path)
    assert sum(map(len, world.files(tmp_path).values())) == told["bytes"]


def test_an_upload_in_parts_is_checked_by_size(world: Any, tmp_path: Path) -> None:
    """Its ETag is no MD5; that of its bytes is recorded all the same."""
    one = world.series[0]
    key, body = f"{one.prefix}/000.dcm", bytes(3000)
    upload = world.client.create_multipart_upload(Bucket=one.bucket, Key=key, ACL="public-read")["UploadId"]
    part = world.client.upload_part(Bucket=one.bucket, Key=key, UploadId=upload, PartNumber=1, Body=body)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    world.client.complete_multipart_upload(Bucket=one.bucket, Key=key, UploadId=upload, MultipartUpload=parts)
    listed = Store(settings_for(world.url), threading.Event()).list_series(one)
    assert [True, False, False, False, False] == [item.md5 is None for item in listed]
    fetch(world, tmp_path)
    assert stored(world) == world.files(tmp_path)


def test_listing_takes_all_pages(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server hands out few objects at a time."""
    reader = Store(settings_for(world.url), threading.Event())
    make = reader._client.get_paginator

    def in_small_pages(name: str) -> Any:
        paginate = make(name).paginate
        return SimpleNamespace(paginate=lambda **asked: paginate(**asked, PaginationConfig={"PageSize": 2}))

    monkeypatch.setattr(reader._client, "get_paginator", in_small_pages)
    assert [f"{index:03d}.dcm" for index in range(5)] == [one.name for one in reader.list_series(world.series[0])]


def test_a_series_that_is_not_what_the_catalogue_says_is_an_error(world: Any, tmp_path: Path) -> None:
    """Before any byte is fetched."""
    one = world.series[2]
    body = world.client.get_object(Bucket=one.bucket, Key=f"{one.prefix}/004.dcm")["Body"].read()
    world.client.put_object(Bucket=one.bucket, Key=f"{one.prefix}/004.dcm", Body=body + bytes(6000))
    with pytest.raises(BcdxError, match=f"series {one.uid}: the store holds 21010 bytes, the catalogue says 15010"):
        fetch(world, tmp_path)
    world.client.delete_object(Bucket=one.bucket, Key=f"{one.prefix}/004.dcm")
    with pytest.raises(BcdxError, match=r"the store holds 4 files, .*: add it to catalogue.skip_series"):
        fetch(world, tmp_path)
    assert {} == world.files(tmp_path)


def test_sizes_rounded_to_the_hundredth_of_a_megabyte_agree(world: Any, tmp_path: Path) -> None:
    """As catalogues up to release 22 have them."""
    world.series[:] = [replace(one, megabytes=round(one.megabytes, 2)) for one in world.series]
    fetch(world, tmp_path)
    assert stored(world) == world.files(tmp_path)


def test_a_store_that_refuses_is_an_error_at_once(world: Any, tmp_path: Path) -> None:
    """Trying again would not help."""
    world.series[:] = [replace(world.series[0], bucket="no-such-bucket")]
    with pytest.raises(BcdxError, match="refuses: NoSuchBucket"):
        fetch(world, tmp_path)


def test_nobody_there_is_an_error(world: Any, tmp_path: Path) -> None:
    """One line that names the series and what failed."""
    with pytest.raises(BcdxError, match="2 tries failed, the last one with: EndpointConnectionError"):
        fetch(world, tmp_path, "http://127.0.0.1:9", attempts=2)
    with pytest.raises(BcdxError, match="endpoint_url 'nonsense' cannot be used"):
        fetch(world, tmp_path, "nonsense")


@pytest.mark.parametrize("name", ["deeper/000.dcm", ".hidden", "..", "a b"])
def test_a_key_that_is_no_file_name_is_an_error(world: Any, tmp_path: Path, name: str) -> None:
    """Nothing is written outside its folder."""
    world.client.put_object(Bucket=world.series[0].bucket, Key=f"{world.series[0].prefix}/{name}", Body=b"x")
    with pytest.raises(BcdxError, match="no name for a file"):
        fetch(world, tmp_path)


def test_a_stranger_in_a_series_folder_is_an_error(world: Any, tmp_path: Path) -> None:
    """It would be read as one of the series; all folders are told at once; hidden files are nobody's business."""
    fetch(world, tmp_path)
    folders = [transfer.series_folder(tmp_path, one) for one in world.series[:2]]
    (folders[0] / ".DS_Store").touch()
    fetch(world, tmp_path)
    for folder in folders:
        (folder / "copy.dcm").touch()
    with pytest.raises(BcdxError, match=r"2 series folders hold files of another revision.*1.2.1/copy.dcm; move these"):
        fetch(world, tmp_path)


@pytest.mark.parametrize(
    ("patient", "folder"),
    [("TCGA-AO-A03M", "TCGA-AO-A03M"), ("DRO_Bo=15T", "DRO_Bo=15T"), ("../a/b", "__a_b"), ("", "_")],
)
def test_a_patient_is_a_folder_of_the_source(new_series: Any, patient: str, folder: str) -> None:
    """Whatever the PatientID, and the UID."""
    assert Path("s", folder, "MR-1.2") == transfer.series_folder(Path("s"), new_series("1.2", patient=patient))
    assert Path("s", folder, "MR-.._.._x") == transfer.series_folder(Path("s"), new_series("../../x", patient=patient))


def test_check_disk_wants_room_for_what_is_missing(world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And five per cent on top; the folder need not exist."""
    listings = transfer.list_all(world.series, tmp_path, settings_for(world.url))
    missing = transfer.count_missing(listings)
    assert sum(one.size for one in listings) == missing
    fetch(world, tmp_path)
    assert 0 == transfer.count_missing(listings)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10_500_000_000))
    transfer.check_disk(tmp_path / "not" / "yet", 10_000_000_000)
    with pytest.raises(BcdxError, match=r"10.6 GB are needed, 10.5 GB are free"):
        transfer.check_disk(tmp_path / "not" / "yet", 10_100_000_000)


def test_fetch_stops_when_one_file_fails(
    world: Any, proxy: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is wrong on disk is not tried again, and its error is the one that is told."""
    caplog.set_level(logging.INFO, "bcdx")
    listings = transfer.list_all(world.series, tmp_path, settings_for(proxy.url))
    blocked = store.name_part(listings[0].folder / listings[0].objects[0].name)
    blocked.mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        transfer.fetch_all(listings, settings_for(proxy.url), lambda _: None)
    assert 1 == Counter(proxy.files)[f"/{listings[0].objects[0].bucket}/{listings[0].objects[0].key}"]
    assert "stopping; waiting for open connections" in caplog.text
