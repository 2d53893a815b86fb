"""A small collection on a real S3 server on loopback, its catalogue, and a proxy that breaks connections."""

from __future__ import annotations

import hashlib
import http.client
import ipaddress
import os
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

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
        fault_every: The body of each n-th file arrives with a fault; 0: of none.
        fault: cut: it breaks off half-way; spoilt: its bits are turned; long: 16 MiB follow; record: half-way comes
            what is no TLS record.
        seconds: How long each file waits.
        files: Keys asked for, in order.
    """

    url: str = ""
    fault_every: int = 0
    fault: Literal["cut", "spoilt", "long", "record"] = "cut"
    seconds: float = 0.0
    files: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def treat(self, path: str, body: bytes) -> bytes:
        """Return what goes on to the client."""
        if "list-type" in path:
            return body
        with self.lock:
            self.files.append(path)
            hit = self.fault_every and len(self.files) % self.fault_every == 0
        time.sleep(self.seconds)
        if not hit:
            return body
        if self.fault == "spoilt":
            return bytes(255 - byte for byte in body)
        return body + bytes(2**24) if self.fault == "long" else body[: len(body) // 2]


@pytest.fixture
def proxy(s3: tuple[str, Any]) -> Iterator[Proxy]:
    """A proxy before the S3 server."""
    with _run_proxy(s3[0], None) as state:
        yield state


@pytest.fixture
def tls_proxy(s3: tuple[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """One that speaks TLS, with a certificate that clients trust."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*_write_certificate(tmp_path))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "certificate.pem"))
    with _run_proxy(s3[0], context) as state:
        yield state


@contextmanager
def _run_proxy(upstream: str, context: ssl.SSLContext | None) -> Iterator[Proxy]:
    state = Proxy()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(upstream.removeprefix("http://"), state))
    server.handle_error = lambda *_: None  # clients are killed on purpose
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    state.url = "{}://{}:{}".format("http" if context is None else "https", *server.server_address)
    yield state
    server.shutdown()
    server.server_close()


def _write_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    pytest.importorskip("cryptography")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now, day = datetime.now(timezone.utc), timedelta(days=1)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, plain)
    )
    return paths


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
            self.send_header("Content-Length", str(max(len(whole), len(sent))))
            self.end_headers()
            with suppress(ConnectionError):  # a client that was killed, or has enough
                self.wfile.write(sent)
                if len(sent) < len(whole) and state.fault == "record":
                    os.write(self.connection.fileno(), b"\x17\x03\x03\x00\x40" + bytes(64))
            self.close_connection = len(sent) != len(whole)
            connection.close()

    return Handler
