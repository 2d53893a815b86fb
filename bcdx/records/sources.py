"""What is known of the source files in; their formats, sizes in pixels and sizes in kB by class, out."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class SourceFile(NamedTuple):
    """One file that an image comes from.

    Attributes:
        label: Class name; a file that holds images of two classes is given once for each.
        format: Such as "DICOM, MR, Explicit VR Little Endian" or "PNG".
        rows, columns: Of one frame, pixels.
        bytes: Size of the whole file.
    """

    label: str
    format: str
    rows: int
    columns: int
    bytes: int


@dataclass(frozen=True)
class ClassSource:
    """The files of one class.

    Attributes:
        formats: Format -> files, the most frequent first.
        usual_size: Rows and columns that most files have; of equally frequent ones the smallest.
        rows, columns: Least and most.
        kb_median: Median size of a file, kB of 1,000 bytes.
        kb_range: Least and most.
    """

    label: str
    files: int
    formats: dict[str, int]
    usual_size: tuple[int, int]
    rows: tuple[int, int]
    columns: tuple[int, int]
    kb_median: float
    kb_range: tuple[float, float]


@dataclass(frozen=True)
class SourceFacts:
    """All source files of a data set, and the account of the images in them.

    Attributes:
        classes: In the order of first appearance.
        images_in: Images found; an unreadable file is one. None: not counted.
        images_used: Images that went into samples.
    """

    classes: tuple[ClassSource, ...]
    images_in: int | None = None
    images_used: int | None = None


def gather_source(
    files: Iterable[SourceFile], *, images_in: int | None = None, images_used: int | None = None
) -> SourceFacts:
    """Return the facts of files, class by class."""
    members: dict[str, list[SourceFile]] = {}
    for file in files:
        members.setdefault(file.label, []).append(file)
    classes = tuple(_describe_class(label, found) for label, found in members.items())
    return SourceFacts(classes, images_in, images_used)


def _describe_class(label: str, files: list[SourceFile]) -> ClassSource:
    sizes = Counter((file.rows, file.columns) for file in files)
    formats = Counter(file.format for file in files)
    kilobytes = [file.bytes / 1000 for file in files]
    return ClassSource(
        label=label,
        files=len(files),
        formats=dict(sorted(formats.items(), key=lambda pair: (-pair[1], pair[0]))),
        usual_size=min(sizes, key=lambda size: (-sizes[size], size)),
        rows=(min(file.rows for file in files), max(file.rows for file in files)),
        columns=(min(file.columns for file in files), max(file.columns for file in files)),
        kb_median=round(statistics.median(kilobytes), 1),
        kb_range=(round(min(kilobytes), 1), round(max(kilobytes), 1)),
    )
