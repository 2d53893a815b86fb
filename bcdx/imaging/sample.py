"""What the imaging room hands on: finished samples, the studies they come from, and what was left out."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Sample:
    """One labelled image without any identifier, ready to be stored.

    Attributes:
        image: uint16, shape (height, width, channels), 0 where padded.
        label: Index into the class names; -1 where unlabelled.
        patient: Keyed hash of PatientID.
        split_digest: Hex SHA-256 of "salt:PatientID"; decides the split, the same for everyone with the data.
        study: Keyed hash of StudyInstanceUID.
        sample: Keyed hash of the SOPInstanceUIDs (and frame numbers) or of a plain image's relative path.
        laterality: "L", "R" or "unknown".
        plane: "sagittal", "axial", "coronal" or "unknown".
        scanner: Manufacturer, model and field strength in clear, such as "SIEMENS Avanto 1.5T"; "" if unknown.
        site: Keyed code of the institution; "" if unknown.
        slice_index: Position in the stack, from 0.
        spacing_mm: Row and column spacing of the stored image, mm; (0, 0) if unknown.
        source_pixels: Hex SHA-256 of each channel's pixels before normalisation; tells copies of one source image,
            which a study's percentiles make look different. Never published.
    """

    image: NDArray[np.uint16] = field(repr=False)
    label: int
    patient: str
    split_digest: str
    study: str
    sample: str
    laterality: str = "unknown"
    plane: str = "unknown"
    scanner: str = ""
    site: str = ""
    slice_index: int = 0
    spacing_mm: tuple[float, float] = (0.0, 0.0)
    source_pixels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Exclusion:
    """One file, frame or sample that does not take part.

    Attributes:
        key: Keyed hash of what was left out.
        reason: Free of identifiers: a fixed phrase and numbers only; safe in any output.
        path: Where it lies; for the terminal and the private index only, "" where it is not at hand.
    """

    key: str
    reason: str
    path: str = ""


@dataclass(frozen=True)
class Prepared:
    """What one study became.

    Attributes:
        samples: In a fixed order, whatever the order of the files.
        exclusions: Files that failed while their pixels were read.
        normalisation: One entry per unit: {"unit": key, "low": real value, "high": real value}.
    """

    samples: tuple[Sample, ...]
    exclusions: tuple[Exclusion, ...] = ()
    normalisation: tuple[dict[str, float | str], ...] = ()
