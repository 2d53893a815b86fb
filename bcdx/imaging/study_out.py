"""Frames of one study in; headers and references for objects of the same study, and those objects on disk, out.

What is written here names the patient, as all files of a study do: only its owner may read it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from bcdx.imaging.frames import Frame
from bcdx.imaging.originals import ImageReference, read_originals

REPORT = "report.dcm"
FOLDER_MODE, FILE_MODE = 0o700, 0o600
REPORT_SERIES, HEAT_SERIES = 9901, 9902
"""SeriesNumber of what is added: far from those that scanners give."""


@dataclass(frozen=True)
class Sources:
    """What objects of a study refer to.

    Attributes:
        headers: One per source file.
        references: Sample -> its source images, one per phase.
    """

    headers: tuple[Dataset, ...]
    references: Mapping[str, tuple[ImageReference, ...]]


def read_sources(frames: Mapping[str, Sequence[Frame]]) -> Sources:
    """Read the headers of a study's samples.

    Args:
        frames: Sample -> its frames.

    Raises:
        DicomError: One of the files is no DICOM, or too damaged to be referred to.
    """
    headers = read_originals(sorted({frame.path for found in frames.values() for frame in found}))
    references = {
        sample: tuple(ImageReference(str(headers[frame.path].SOPInstanceUID), frame.index) for frame in found)
        for sample, found in frames.items()
    }
    return Sources(tuple(headers.values()), references)


def save_objects(folder: Path, report: Dataset, captures: Sequence[Dataset]) -> list[str]:
    """Write a report and captures where only the user can read them; return the files' names.

    Args:
        folder: Is made, and the folder above it.
        report: Becomes `report.dcm`.
        captures: Become `heat_001.dcm` and so on.
    """
    for place in (folder.parent, folder):
        place.mkdir(mode=FOLDER_MODE, exist_ok=True)
    objects = {REPORT: report, **{f"heat_{number:03d}.dcm": one for number, one in enumerate(captures, start=1)}}
    for name, one in objects.items():
        (folder / name).touch(mode=FILE_MODE)
        one.save_as(folder / name, enforce_file_format=True)
    return list(objects)
