"""What a folder of fetched files came from: verified series in, `provenance.json` out, and back.

The file is written when all series of a plan are whole and verified; that they are in it says so. It holds no date and
no path, and what it says of several plans does not depend on their order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bcdx._files import PROVENANCE, write_json
from bcdx.catalogue.series import Series
from bcdx.errors import BcdxError

IDC_CITATION = (
    "Fedorov A, et al. National Cancer Institute Imaging Data Commons: toward transparency, reproducibility, and "
    "scalability in imaging artificial intelligence. RadioGraphics 2023;43(12):e230180. "
    "https://doi.org/10.1148/rg.230180"
)
"""What users of the Imaging Data Commons are asked to cite beside each collection's own DOI."""


@dataclass(frozen=True)
class Entry:
    """A series that is there, whole and verified; the names are those in the file.

    Attributes:
        SeriesInstanceUID: Of the series.
        Modality: Of the series.
        revision: Its prefix in the catalogue, another one for each revision.
        images: Files.
        bytes: Their size.
        sha256: SHA-256 over the sorted lines "NAME MD5" of its files.
        licence: Short name of the licence.
        doi: What to cite.
    """

    SeriesInstanceUID: str
    Modality: str
    revision: str
    images: int
    bytes: int
    sha256: str
    licence: str
    doi: str


@dataclass(frozen=True)
class Provenance:
    """What a folder holds.

    Attributes:
        acquisitions: Of each plan that was carried out catalogue, collection, rules, counts, and SHA-256 over the
            sorted SeriesInstanceUIDs, a line each.
        series: SeriesInstanceUID -> what is there.
    """

    acquisitions: tuple[Mapping[str, Any], ...] = ()
    series: Mapping[str, Entry] = field(default_factory=dict)

    @property
    def entries(self) -> dict[str, Entry]:
        """All series by SeriesInstanceUID, in order."""
        return dict(sorted(self.series.items()))

    @property
    def licences(self) -> list[str]:
        """Short names, sorted."""
        return sorted({one.licence for one in self.entries.values()} - {""})

    @property
    def dois(self) -> list[str]:
        """DOIs of the sources, sorted."""
        return sorted({one.doi for one in self.entries.values()} - {""})

    def extended(self, acquisition: Mapping[str, Any], entries: Iterable[Entry]) -> Provenance:
        """Return this with one more plan carried out."""
        known = {_canonical(one): one for one in (*self.acquisitions, acquisition)}
        series = {**self.entries, **{one.SeriesInstanceUID: one for one in entries}}
        return Provenance(tuple(known[text] for text in sorted(known)), series)


def list_citations(dois: Iterable[str]) -> list[str]:
    """Return what users must cite: the DOI of each source, then the Imaging Data Commons."""
    return [*(f"https://doi.org/{doi}" for doi in sorted(set(dois) - {""})), IDC_CITATION]


def digest_files(hashes: Mapping[str, str]) -> str:
    """Return SHA-256 over the sorted lines "NAME MD5" of a series's files.

    Args:
        hashes: File name -> MD5 of its bytes, hexadecimal.
    """
    lines = "".join(f"{name} {md5}\n" for name, md5 in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def digest_names(names: Iterable[str]) -> str:
    """Return SHA-256 over sorted names, a line each."""
    return hashlib.sha256("".join(f"{name}\n" for name in sorted(names)).encode()).hexdigest()


def make_entry(series: Series, hashes: Mapping[str, str], size: int) -> Entry:
    """Return what is to be recorded of a series that is whole: `hashes` of its files, and their size in bytes."""
    return Entry(
        SeriesInstanceUID=series.uid,
        Modality=series.modality,
        revision=series.prefix,
        images=len(hashes),
        bytes=size,
        sha256=digest_files(hashes),
        licence=series.licence,
        doi=series.doi,
    )


def write_provenance(folder: Path, provenance: Provenance) -> None:
    """Write the file, whole or not at all."""
    content = {
        "acquisitions": list(provenance.acquisitions),
        "licences": provenance.licences,
        "dois": provenance.dois,
        "citations": list_citations(provenance.dois),
        "series": [asdict(one) for one in provenance.entries.values()],
    }
    write_json(folder / PROVENANCE, content)


def read_provenance(folder: Path) -> Provenance:
    """Return what a folder's file says; nothing where there is none.

    Raises:
        BcdxError: There is one, but not one of ours.
    """
    path = folder / PROVENANCE
    try:
        content = json.loads(path.read_bytes())
        entries = [Entry(**one) for one in content["series"]]
        acquisitions = tuple(dict(one) for one in content["acquisitions"])
    except (FileNotFoundError, NotADirectoryError):
        return Provenance()
    except (ValueError, KeyError, TypeError) as error:
        raise BcdxError(f"{path}: not what acquire writes ({type(error).__name__}); move it away") from error
    return Provenance(acquisitions, {one.SeriesInstanceUID: one for one in entries})


def _canonical(content: Mapping[str, Any]) -> str:
    return json.dumps(content, sort_keys=True)
