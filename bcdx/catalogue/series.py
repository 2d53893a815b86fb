"""The catalogue of the NCI Imaging Data Commons in, its series of one collection out. Uses no network.

The package `idc-index-data` carries the catalogue, a parquet file with a row a series. duckdb reads the columns and
rows that are wanted from there; `idc_index.IDCClient` would load all of it.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bcdx.catalogue.extra import ADVICE, import_extra, installed_version
from bcdx.errors import BcdxError, SettingsError

PACKAGE = "idc-index-data"
ROWS_AT_A_TIME = 10_000

MULTI_FRAME = frozenset(
    f"1.2.840.10008.5.1.4.1.1.{tail}"
    for tail in ("4.1", "4.3", "4.4", "7.1", "7.2", "7.3", "7.4", "13.1.3", "66.4", "66.7")
)
"""SOPClassUIDs whose objects hold many images each: enhanced MR, multi-frame secondary capture, breast tomosynthesis,
segmentations (PS3.4 table B.5-1)."""


@dataclass(frozen=True)
class CatalogueFile:
    """Where the catalogue is.

    Attributes:
        path: Its parquet file.
        version: What it is, such as "idc-index-data 25.0.5".
    """

    path: Path
    version: str


@dataclass(frozen=True, slots=True)
class Series:
    """What the catalogue tells of one series.

    Attributes:
        patient: PatientID.
        study: StudyInstanceUID.
        uid: SeriesInstanceUID.
        modality: Modality.
        description: SeriesDescription, empty where there is none.
        images: Objects in the series.
        megabytes: Their size, MB of 10**6 bytes.
        bucket: S3 bucket that holds them.
        prefix: What their keys begin with, up to a slash; another one for each revision of the series.
        licence: Short name of the licence.
        doi: What to cite.
        multi_frame: Whether an object holds many images, so that `images` says nothing about slices.
    """

    patient: str
    study: str
    uid: str
    modality: str
    description: str
    images: int
    megabytes: float
    bucket: str
    prefix: str
    licence: str
    doi: str
    multi_frame: bool = False


_COLUMNS = (
    "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "SeriesDescription", "instanceCount",
    "series_size_MB", "aws_bucket", "crdc_series_uuid", "license_short_name", "source_DOI",
)  # fmt: skip
"""In the order of `Series`."""

_CLASS = "SOPClassUID"
"""Releases up to 22 do not have it."""


def find_catalogue() -> CatalogueFile:
    """Return the catalogue that is installed.

    Raises:
        BcdxError: None is.
    """
    path = import_extra("idc_index_data").IDC_INDEX_PARQUET_FILEPATH
    if path is None:
        raise BcdxError(f"{PACKAGE} {installed_version(PACKAGE)} carries no catalogue; {ADVICE}")
    return CatalogueFile(Path(path), f"{PACKAGE} {installed_version(PACKAGE)}")


def read_series(catalogue: CatalogueFile, collection: str, modalities: Iterable[str]) -> tuple[Series, ...]:
    """Return a collection's series of some modalities, by PatientID and SeriesInstanceUID.

    Args:
        catalogue: Where to look.
        collection: As the catalogue spells it.
        modalities: Modality values.

    Raises:
        SettingsError: There is no such collection, or nothing of these modalities in it.
        BcdxError: The catalogue cannot be read.
    """
    wanted = sorted(set(modalities))
    with import_extra("duckdb").connect() as connection:
        table = _Table(connection, catalogue)
        series = tuple(table.select(collection, wanted))
        if not series:
            raise SettingsError(_explain_nothing(table, collection, wanted))
    return tuple(sorted(series, key=lambda one: (one.patient, one.uid)))


class _Table:
    """The catalogue as duckdb sees it."""

    def __init__(self, connection: Any, catalogue: CatalogueFile) -> None:
        self._connection, self._catalogue = connection, catalogue
        connection.execute("SET enable_progress_bar = false")  # it goes to stdout, on slow machines, in pipes too
        names = {row[0] for row in self._query("DESCRIBE SELECT * FROM read_parquet($path)")}
        if missing := {"collection_id", *_COLUMNS} - names:
            raise BcdxError(
                f"{catalogue.path} ({catalogue.version}) lacks the column {min(missing)}; pip install -U {PACKAGE}"
            )
        self._columns = ", ".join((*_COLUMNS, _CLASS if _CLASS in names else f"NULL AS {_CLASS}"))

    def select(self, collection: str, modalities: Sequence[str]) -> Iterator[Series]:
        """Yield the series; what many rows share is held once."""
        rows = self._query(
            f"SELECT {self._columns} FROM read_parquet($path) "  # noqa: S608  # the columns are those above
            "WHERE collection_id = $collection AND list_contains($modalities, Modality)",
            collection=collection,
            modalities=list(modalities),
        )
        for row in rows:
            yield _to_series(row)

    def distinct(self, column: str, collection: str | None = None) -> list[str]:
        """Return the values of `column`, in the whole catalogue or in one collection."""
        rows = self._query(
            f"SELECT DISTINCT {column} FROM read_parquet($path) "  # noqa: S608  # the column is a constant
            "WHERE $collection IS NULL OR collection_id = $collection",
            collection=collection,
        )
        return sorted(row[0] for row in rows if row[0] is not None)

    def _query(self, text: str, **values: Any) -> Iterator[tuple[Any, ...]]:
        try:
            found = self._connection.execute(text, {"path": str(self._catalogue.path), **values})
            while rows := found.fetchmany(ROWS_AT_A_TIME):
                yield from rows
        except import_extra("duckdb").Error as error:
            raise BcdxError(f"{self._catalogue.path}: cannot be read as a catalogue: {error}") from error


def _to_series(row: tuple[Any, ...]) -> Series:
    *texts, images, megabytes, bucket, prefix, licence, doi, sop_class = row
    patient, study, uid, modality, description = (text or "" for text in texts)
    return Series(
        patient=sys.intern(patient),
        study=sys.intern(study),
        uid=uid,
        modality=sys.intern(modality),
        description=sys.intern(description),
        images=int(images or 0),
        megabytes=float(megabytes or 0.0),
        bucket=sys.intern(bucket or ""),
        prefix=prefix or "",
        licence=sys.intern(licence or ""),
        doi=sys.intern(doi or ""),
        multi_frame=sop_class in MULTI_FRAME,
    )


def _explain_nothing(table: _Table, collection: str, modalities: Sequence[str]) -> str:
    """Say why there is no series: the name is unknown, or the modalities are."""
    if found := table.distinct("Modality", collection):
        return f"catalogue.collection {collection!r} holds no {' or '.join(modalities)}; it holds {', '.join(found)}"
    names = table.distinct("collection_id")
    near = difflib.get_close_matches(collection.lower().replace("-", "_").replace(" ", "_"), names, n=3, cutoff=0.5)
    meant = f"did you mean {' or '.join(near)}?" if near else "https://portal.imaging.datacommons.cancer.gov lists them"
    return f"catalogue.collection: the catalogue knows no {collection!r}; {meant}"
