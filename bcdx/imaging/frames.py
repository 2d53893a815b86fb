"""What is known of one image without its pixels, and one image with them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

MAX_PIXELS = 2**26
"""Images with more pixels are left out before memory is taken for them."""

TimeKeys = tuple[float | None, float | None, float | None, float | None]
"""TemporalPositionIdentifier, TriggerTime, AcquisitionNumber, AcquisitionTime or ContentTime."""


@dataclass(frozen=True)
class Frame:
    """One two-dimensional image in a file; identifiers are keyed codes, only `path` names anything.

    Attributes:
        path: The file.
        index: Frame within the file, from 0.
        patient, study, series, instance: Codes of PatientID and of the instance UIDs.
        sample: Code of this very frame.
        split_digest: Hex SHA-256 of salt and PatientID.
        modality: DICOM Modality; "" for plain images.
        plane: "sagittal", "axial", "coronal" or "unknown".
        laterality: "L", "R" or "unknown", with the reason.
        frame_of_reference: Code of FrameOfReferenceUID; "" if missing.
        orientation: ImageOrientationPatient or None.
        position_mm: ImagePositionPatient or None.
        shape: Rows and columns.
        spacing_mm: Row and column spacing; (0, 0) if unknown.
        time_keys: For ordering phases; never stored.
        instance_number: InstanceNumber, 0 if missing.
        scanner: Manufacturer, model and field strength in clear.
        site: Code of InstitutionName; "" if missing.
        is_plain: Not DICOM.
    """

    path: str
    index: int
    patient: str
    study: str
    series: str
    instance: str
    sample: str
    split_digest: str
    modality: str = ""
    plane: str = "unknown"
    laterality: str = "unknown"
    laterality_reason: str = ""
    frame_of_reference: str = ""
    orientation: tuple[float, ...] | None = None
    position_mm: tuple[float, ...] | None = None
    shape: tuple[int, int] = (0, 0)
    spacing_mm: tuple[float, float] = (0.0, 0.0)
    time_keys: TimeKeys = (None, None, None, None)
    instance_number: int = 0
    scanner: str = ""
    site: str = ""
    is_plain: bool = False


@dataclass(frozen=True)
class Slice:
    """One image in real units.

    Attributes:
        frame: What is known of it.
        pixels: float32, shape (rows, columns): rescaled stored values, negated for MONOCHROME1.
        padding: bool, same shape, True where the scanner padded; None: nowhere.
    """

    frame: Frame
    pixels: NDArray[np.float32] = field(repr=False)
    padding: NDArray[np.bool_] | None = field(default=None, repr=False)
