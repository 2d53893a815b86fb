"""What is known of one image without its pixels, and one image with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bcdx.imaging.stored import Layout

MAX_PIXELS = 2**26
"""Images with more pixels are left out before memory is taken for them."""


class TimeKeys(NamedTuple):
    """What may tell the phases of one position apart, the surest first; None where missing.

    Attributes:
        temporal_position: TemporalPositionIdentifier, of enhanced objects TemporalPositionIndex.
        trigger_time: TriggerTime, ms.
        acquisition_number: AcquisitionNumber.
        acquisition_time: AcquisitionDateTime, else AcquisitionDate and AcquisitionTime, seconds.
        content_time: ContentDate and ContentTime, seconds.
    """

    temporal_position: float | None = None
    trigger_time: float | None = None
    acquisition_number: float | None = None
    acquisition_time: float | None = None
    content_time: float | None = None


NO_TIMES = TimeKeys()


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
        series_number, instance_number: SeriesNumber and InstanceNumber, 0 if missing.
        scanner: Manufacturer, model and field strength in clear.
        site: Code of InstitutionName; "" if missing.
        description: SeriesDescription, for the recipe's patterns alone; free text, never stored.
        kind: What the series is, one of `config.Kind`, as description and ImageType say; "unknown" where they do not.
        contrast: "pre", "post" or "unknown", of the description.
        burned_in: BurnedInAnnotation says YES.
        is_capture: Its SOP class is a secondary capture, as of a screen; words may be burned in that no element tells.
        remarks: Fixed phrases on what is odd about it, such as geometry and description naming different breasts.
        format: Kind of the file, such as "DICOM, MR, Explicit VR Little Endian" or "PNG".
        layout: Where its pixels lie in the file; None where they are compressed or unusual.
        is_plain: Not DICOM.
        patient_is_file: Its patient is nobody but the file itself.
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
    time_keys: TimeKeys = NO_TIMES
    series_number: int = 0
    instance_number: int = 0
    scanner: str = ""
    site: str = ""
    description: str = field(default="", repr=False)
    kind: str = "unknown"
    contrast: str = "unknown"
    burned_in: bool = False
    is_capture: bool = False
    remarks: tuple[str, ...] = ()
    format: str = ""
    layout: Layout | None = None
    is_plain: bool = False
    patient_is_file: bool = False


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

    @property
    def shown(self) -> NDArray[np.float32]:
        """All pixels that are not padding, shape (pixels,)."""
        return self.pixels.ravel() if self.padding is None else self.pixels[~self.padding]

    @property
    def is_flat(self) -> bool:
        """Whether all pixels that are not padding are equal."""
        shown = self.shown
        return not shown.size or bool((shown == shown[0]).all())
