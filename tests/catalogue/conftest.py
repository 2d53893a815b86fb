"""A small collection on a real S3 server on loopback, its catalogue, and a proxy that breaks connections."""

from __future__ import annotations

import hashlib
import http.client
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bcdx import config
from bcdx.catalogue.series import CatalogueFile, Series

BUCKET, COLLECTION = "open-data", "small_brca"


def make_series(uid: str = "1.2.1", **changes: Any) -> Series:
    """A series of MR."""
    plain = Series("P1", "1.2", uid, "MR", "SAG T1 LT", 3, 0.003, BUCKET, f"prefix-{uid}", "CC BY 3.0", "10.1/a")
    return replace(plain, **changes)


def write_catalogue(
    path: Path, series: list[Series], collection: str = COLLECTION, version: str = "test 1"
) -> CatalogueFile:
    """A parquet file with the columns of the real one."""
    duckdb = pytest.importorskip("duckdb")
    columns = {
        "collection_id": "VARCHAR", "PatientID": "VARCHAR", "StudyInstanceUID": "VARCHAR",
        "SeriesInstanceUID": "VARCHAR", "Modality": "VARCHAR", "SeriesDescription": "VARCHAR",
        "instanceCount": "BIGINT", "series_size_MB": "DOUBLE", "aws_bucket": "VARCHAR", "crdc_series_uuid": "VARCHAR",
        "license_short_name": "VARCHAR", "source_DOI": "VARCHAR", "SOPClassUID": "VARCHAR",
    }  # fmt: skip
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE rows ({', '.join(f'{name} {kind}' for name, kind in columns.items())})")
        for one in series:
            row = list(asdict(one).values())[:-1]
            sop_class = "1.2.840.10008.5.1.4.1.1.13.1.3" if one.multi_frame else "1.2.840.10008.5.1.4.1.1.4"
            marks = ", ".join("?" for _ in columns)
            connection.execute(f"INSERT INTO rows VALUES ({marks})", [collection, *row, sop_class])
        connection.execute(f"COPY rows TO '{path}' (FORMAT parquet)")
    return CatalogueFile(path, version)


def make_bytes(name: str, size: int) -> bytes:
    """Bytes that depend on the name alone."""
    return hashlib.shake_128(name.encode()).digest(size)


@dataclass
class World:
    """A server with a collection, and what belongs to it."""

    url: str
    client: Any
    catalogue: CatalogueFile
    series: list[Series]

    def settings(self, source: Path, url: str | None = None, **changes: Any) -> config.Acquire:
        """What a recipe would say."""
        catalogue = config.Catalogue(
            collection=COLLECTION, endpoint_url=url or self.url, connections=4, attempts=changes.pop("attempts", 8)
        )
        return config.Acquire(source=str(source), catalogue=catalogue, **changes)

    @staticmethod
    def files(folder: Path) -> dict[str, bytes]:
        """Every file below a folder, hidden ones too."""
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fill_store(client: Any, count: int, files: int, size: int) -> list[Series]:
    """Put some series into the store; return their rows."""
    series = []
    for number in range(count):
        uid = f"1.2.{number + 1}"
        prefix = f"uuid-{number}"
        for index in range(files):
            body = make_bytes(f"{uid}/{index}", size + index)
            client.put_object(Bucket=BUCKET, Key=f"{prefix}/{index:03d}.dcm", Body=body, ACL="public-read")
        megabytes = sum(size + index for index in range(files)) / 1e6
        patient = f"P{number // 2}"
        series.append(make_series(uid, patient=patient, images=files, megabytes=megabytes, prefix=prefix))
    return series


@pytest.fixture(scope="session")
def new_series() -> Callable[..., Series]:
    """A function (SeriesInstanceUID, **changes) -> a series of MR."""
    return make_series


@pytest.fixture(scope="session")
def save_catalogue() -> Callable[..., CatalogueFile]:
    """A function (path, series) -> a catalogue of the collection `small_brca` in that file."""
    return write_catalogue


@pytest.fixture(scope="session")
def s3() -> Iterator[tuple[str, Any]]:
    """URL of an S3 server on loopback, and a client that may write."""
    boto3, moto = pytest.importorskip("boto3"), pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    client = boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    yield url, client
    server.stop()


@pytest.fixture
def world(s3: tuple[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Four series of five files each, of two patients."""
    url, client = s3
    client.create_bucket(Bucket=BUCKET)
    series = fill_store(client, count=4, files=5, size=3000)
    path = tmp_path_factory.mktemp("catalogue") / "index.parquet"
    yield World(url, client, write_catalogue(path, series), series)
    urllib.request.urlopen(urllib.request.Request(f"{url}/moto-api/reset", method="POST")).close()


@dataclass
class Proxy:
    """Stands before a server.

    Attributes:
        url: Its own address.
        cut_every: The body of each n-th file breaks off half-way; 0: of none.
        spoil: Whether it turns the bits of the bodies that it would cut, instead.
        seconds: How long each file waits.
        files: Keys asked for, in order.
    """

    url: str = ""
    cut_every: int = 0
    spoil: bool = False
    seconds: float = 0.0
    files: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def treat(self, path: str, body: bytes) -> bytes:
        """Return what goes on to the client."""
        if "list-type" in path:
            return body
        with self.lock:
            self.files.append(path)
            hit = self.cut_every and len(self.files) % self.cut_every == 0
        time.sleep(self.seconds)
        if not hit:
            return body
        return bytes(255 - byte for byte in body) if self.spoil else body[: len(body) // 2]


@pytest.fixture
def proxy(s3: tuple[str, Any]) -> Iterator[Proxy]:
    """A proxy before the S3 server."""
    state = Proxy()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(s3[0].removeprefix("http://"), state))
    server.handle_error = lambda *_: None  # clients are killed on purpose
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    state.url = "http://{}:{}".format(*server.server_address)
    yield state
    server.shutdown()
    server.server_close()


def _handler(upstream: str, state: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        log_message: Callable[..., None] = lambda *_: None

        def do_GET(self) -> None:
            connection = http.client.HTTPConnection(upstream)
            connection.request("GET", self.path)
            answer = connection.getresponse()
            whole = answer.read()
            sent = state.treat(self.path, whole)
            self.send_response(answer.status)
            for name in ("Content-Type", "ETag"):
                if value := answer.headers[name]:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(whole)))
            self.end_headers()
            with suppress(ConnectionError):  # a client that was killed
                self.wfile.write(sent)
            self.close_connection = len(sent) < len(whole)
            connection.close()

    return Handler
