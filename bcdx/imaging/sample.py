"""What the imaging room hands on: finished samples, the studies they come from, and what was left out."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]
NO_BOX: Box = (-1.0, -1.0, -1.0, -1.0)
ORIGINS = ("table", "folder", "lesion", "same breast", "other breast")


@dataclass(frozen=True)
class Mark:
    """What is known of one image's label.

    Attributes:
        label: Class name.
        origin: Where it comes from, one of `ORIGINS`: a label table or folder; a lesion drawn on the slice; a slice
            without lesion of a breast with one; a slice of the other breast, on which nobody has drawn.
        lesion_mm2: Area that lesions cover; 0 where there are none, -1 where it is not known.
        lesion_box: First row, first column, one past the last row and column of what they cover, in pixels of the
            source image from 0; `NO_BOX` where there is none.
    """

    label: str
    origin: str = "table"
    lesion_mm2: float = -1.0
    lesion_box: Box = NO_BOX


@dataclass(frozen=True)
class Sample:
    """One labelled image without any identifier, ready to be stored.

    Attributes:
        image: uint16, shape (height, width, channels); where padded 0, in differences 32768, no change.
        label: Index into the class names; -1 where unlabelled.
        patient: Keyed hash of PatientID.
        split_digest: Hex SHA-256 of "salt:PatientID"; decides the split, the same for everyone with the data.
        study: Keyed hash of StudyInstanceUID.
        sample: Keyed hash of the SOPInstanceUIDs (and frame numbers) or of a plain image's relative path.
        laterality: "L", "R" or "unknown".
        plane: "sagittal", "axial", "coronal" or "unknown".
        phase: Of a sample of one frame: pre, early, between, late, or post (early or late); "" if unknown.
        scanner: Manufacturer, model and field strength in clear, such as "SIEMENS Avanto 1.5T"; "" if unknown.
        site: Keyed code of the institution; "" if unknown.
        slice_index: Position in the stack, from 0.
        spacing_mm: Row and column spacing of the stored image, mm; (0, 0) if unknown.
        source_pixels: Hex SHA-256 of each channel's pixels before normalisation; tells copies of one source image,
            which a study's percentiles make look different. Never published.
        label_origin: One of `ORIGINS`; "" where unlabelled.
        lesion_mm2: Area that lesions cover, mm2; 0: none, -1: not known.
        lesion_box: Rows and columns that lesions cover, as in `Mark`, in pixels of the stored image.
        likeness: 16 hexadecimal digits of the perceptual hash of the first channel; near images differ in few bits.
    """

    image: NDArray[np.uint16] = field(repr=False)
    label: int
    patient: str
    split_digest: str
    study: str
    sample: str
    laterality: str = "unknown"
    plane: str = "unknown"
    phase: str = ""
    scanner: str = ""
    site: str = ""
    slice_index: int = 0
    spacing_mm: tuple[float, float] = (0.0, 0.0)
    source_pixels: tuple[str, ...] = ()
    label_origin: str = ""
    lesion_mm2: float = -1.0
    lesion_box: Box = NO_BOX
    likeness: str = ""


@dataclass(frozen=True)
class Exclusion:
    """One file, frame or sample that does not take part, or does although something about it is odd.

    Attributes:
        key: Keyed hash of what was left out.
        reason: Free of identifiers: a fixed phrase and numbers only; safe in any output.
        path: Where it lies; for the terminal and the private index only, "" where it is not at hand.
        images: Images it stands for: each phase of a sample counts, an unreadable file is one, a label row none.
        flagged: It takes part all the same; `images` then does not count.
        label: Its class, "" where it has none or none is known.
    """

    key: str
    reason: str
    path: str = ""
    images: int = 1
    flagged: bool = False
    label: str = ""


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
