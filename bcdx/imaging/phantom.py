"""Turn a seed into a small collection of real DICOM files: sagittal breast MR of no living person.

In: the `Phantom` settings. Out: `PHANTOM-0001/L/0001.dcm` and its like, one folder per patient and
breast, and `labels.csv` (`path,label`), written last: its presence means the collection is whole.

Half of the patients carry one lesion, in one breast: dense, rimmed, lobed to spiculated. Everybody
has vessels and nodes that are as bright, gland of a varying density, a coil bias and a gain of
their own, so that brightness alone does not tell the two halves apart; shape does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from bcdx.config import Phantom

LABELS = ("no_tumour", "tumour")
SCANNERS = (("Phantom 1.5T", 1.5), ("Phantom 3T", 3.0), ("Phantom 3T wide", 3.0))  # model, tesla
STORED_PER_UNIT = 900.0  # fat has about 0.25 units of signal, a lesion about 0.8
LEAST_CUT = 0.45  # of a lesion's largest radius; a slice that cuts less neither shows nor labels it
LAST_LOBE_ORDER = 4  # waves around a lesion's outline: up to here lobes, above spicules
FOV_MM = 160.0

SAME_FOR_ALL = {
    "SOPClassUID": MRImageStorage,
    "ImageType": ["DERIVED", "PRIMARY", "OTHER"],
    "Modality": "MR",
    "BodyPartExamined": "BREAST",
    "Manufacturer": "bcdx phantom",
    "SeriesDescription": "SAG T1 FS SYNTHETIC",
    "PatientComments": "Synthetic phantom; not a real patient",
    "QualityControlSubject": "YES",
    "SyntheticData": "YES",
    "PatientSex": "O",
    **dict.fromkeys(("PatientBirthDate", "StudyDate", "StudyTime", "StudyID"), ""),
    **dict.fromkeys(("AccessionNumber", "ReferringPhysicianName"), ""),
    "PositionReferenceIndicator": "",
    "ScanningSequence": "GR",
    "SequenceVariant": "SP",
    "ScanOptions": "FS",
    "MRAcquisitionType": "3D",
    "RepetitionTime": 5.0,
    "EchoTime": 2.4,
    "EchoTrainLength": 1,
    "FlipAngle": 10.0,
    "ImageOrientationPatient": [0, 1, 0, 0, 0, -1],  # columns run to the back, rows to the feet
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "BitsAllocated": 16,
    "BitsStored": 16,
    "HighBit": 15,
    "PixelRepresentation": 0,
}

Shape = tuple[int, int, int]
Stack = NDArray[np.float64]
"""Slices x rows x columns; lengths in the drawing are pixels of a 96 px slice, at any size."""


@dataclass(frozen=True)
class _Patient:
    """What is one for both breasts; the rest is drawn from the seed, the number and the breast."""

    collection: str
    seed: int
    number: int
    lesion_side: str  # empty: none
    gland_share: float
    vessel_px: float
    gain: float

    @property
    def key(self) -> str:
        return f"PHANTOM-{self.number:04d}"


def write_phantom(folder: Path, phantom: Phantom) -> None:
    """Write the collection that `phantom` describes; the same settings give the same bytes.

    Args:
        folder: Where the patients' folders and `labels.csv` go; made when missing.
        phantom: Number of patients, slices per breast, edge length in pixels, and the seed.
    """
    shape = (phantom.slices_per_breast, phantom.size, phantom.size)
    rows = ["path,label\n"]
    for patient in _plan_patients(phantom):
        for side in "LR":
            signal, shows_lesion = _draw_breast(patient, side, shape)
            series = folder / patient.key / side
            series.mkdir(parents=True, exist_ok=True)
            for data, shows in zip(_describe(patient, side, signal), shows_lesion, strict=True):
                path = series / f"{data.InstanceNumber:04d}.dcm"
                data.save_as(path, enforce_file_format=True)
                rows.append(f"{path.relative_to(folder).as_posix()},{LABELS[int(shows)]}\n")
    staged = folder / "labels.csv.partial"
    staged.write_text("".join(rows), encoding="utf-8", newline="\n")
    staged.replace(folder / "labels.csv")


def _plan_patients(phantom: Phantom) -> list[_Patient]:
    """Draw who has a lesion and where; half have none, the larger half if the number is odd."""
    rng = np.random.default_rng(phantom.seed)
    has_lesion = rng.permutation(phantom.patients) < phantom.patients // 2
    return [
        _Patient(
            collection=phantom.model_dump_json(),
            seed=phantom.seed,
            number=number,
            lesion_side=str(rng.choice(["L", "R"])) if ill else "",
            gland_share=float(rng.uniform(0.1, 0.5)),
            vessel_px=float(rng.uniform(0.5, 0.9)),
            gain=float(rng.lognormal(0.0, 0.35)),
        )
        for number, ill in enumerate(has_lesion, start=1)
    ]


def _draw_breast(patient: _Patient, side: str, shape: Shape) -> tuple[Stack, NDArray[np.bool_]]:
    """Draw outline, tissue and lesion as the scanner sees them, and say which slices show it."""
    rng = np.random.default_rng([patient.seed, patient.number, "LR".index(side)])
    breast, muscle = _draw_outline(rng, shape)
    tissue = _draw_tissue(rng, shape, patient)
    shows_lesion = np.zeros(shape[0], dtype=np.bool_)
    if side == patient.lesion_side:
        lesion, shows_lesion = _draw_lesion(rng, shape)
        tissue = np.maximum(tissue, lesion)
    skin = 4.0 * breast * (1.0 - breast)
    signal = breast * tissue + 0.35 * skin
    signal = signal + 0.3 * muscle * (1.0 + 0.3 * _correlate(rng, shape, 2.0))
    signal = _add_noise(rng, signal * _draw_bias(rng, shape))
    return STORED_PER_UNIT * patient.gain * signal, shows_lesion


def _axes(shape: Shape) -> tuple[Stack, Stack, Stack]:
    """Slices from the middle one, rows (down) and columns (to the back), ready to broadcast."""
    depth, row, column = (np.arange(n, dtype=np.float64) for n in shape)
    row, column = (row + 0.5) * 96.0 / shape[1], (column + 0.5) * 96.0 / shape[2]
    return depth[:, None, None] - (shape[0] - 1) / 2, row[None, :, None], column[None, None, :]


def _draw_outline(rng: np.random.Generator, shape: Shape) -> tuple[Stack, Stack]:
    """Soft masks in 0..1 of the breast, a half ellipse, and of the muscle behind it."""
    depth, row, column = _axes(shape)
    shrink = 1.0 - 0.12 * (2.0 * depth / shape[0]) ** 2
    wall_px = rng.uniform(76.0, 84.0) + 0.002 * (row - 48.0) ** 2
    length_px, half_height_px = rng.uniform(58.0, 70.0), rng.uniform(36.0, 43.0)
    height = (row - rng.uniform(46.0, 52.0)) / (half_height_px * shrink)
    reach_px = length_px * shrink * np.sqrt(np.clip(1.0 - height**2, 0.0, None))
    reach_px = reach_px + 1.5 * _correlate(rng, (1, shape[1], 1), 8.0)
    breast = _soften(column - (wall_px - reach_px)) * _soften(wall_px - column)
    return breast, _soften(column - wall_px) * _soften(wall_px + 7.0 - column)


def _draw_tissue(rng: np.random.Generator, shape: Shape, patient: _Patient) -> Stack:
    """Fat, gland of the patient's density, vessels and nodes."""
    texture = 0.7 * _correlate(rng, shape, 5.0) + 0.5 * _correlate(rng, shape, 1.5)
    gland = _soften(4.0 * (texture - np.quantile(texture, 1.0 - patient.gland_share)))
    tissue = 0.22 + 0.03 * _correlate(rng, shape, 1.0) + rng.uniform(0.15, 0.35) * gland
    tissue = np.maximum(tissue, _draw_vessels(rng, shape, patient.vessel_px))
    return np.maximum(tissue, _draw_nodes(rng, shape))


def _draw_vessels(rng: np.random.Generator, shape: Shape, width_px: float) -> Stack:
    """Thin bright tubes: the zero level of a smooth field, kept where a second one is high."""
    level, place = _correlate(rng, shape, 9.0), _correlate(rng, shape, 10.0)
    down, across = np.gradient(level, axis=(1, 2))
    slope_per_px = np.hypot(down, across) * shape[1] / 96.0 + 1e-3
    tube: Stack = np.exp(-0.5 * (level / (slope_per_px * width_px)) ** 2)
    return rng.uniform(0.7, 1.1) * tube * _soften(6.0 * (place + 0.3))


def _draw_nodes(rng: np.random.Generator, shape: Shape) -> Stack:
    """A few round bright spots, smaller than a lesion and in fewer slices."""
    depth, row, column = _axes(shape)
    nodes = np.zeros(shape)
    for _ in range(int(rng.integers(1, 5)) * shape[0] // 3 + 1):
        distance = np.hypot(row - rng.uniform(20.0, 76.0), column - rng.uniform(35.0, 78.0))
        near = np.exp(-((depth - rng.uniform(-0.5, 0.5) * shape[0]) ** 2))
        spot = np.exp(-0.5 * (distance / rng.uniform(1.0, 2.2)) ** 2)
        nodes = np.maximum(nodes, rng.uniform(0.7, 1.1) * near * spot)
    return nodes


def _draw_lesion(rng: np.random.Generator, shape: Shape) -> tuple[Stack, NDArray[np.bool_]]:
    """One lesion, its rim brighter than its core, and which slices show it.

    The outline is a radius that waves with the angle: few waves make lobes, many make spicules.
    """
    depth, row, column = _axes(shape)
    down, across = row - rng.uniform(32.0, 66.0), column - rng.uniform(44.0, 68.0)
    angle, distance = np.arctan2(down, across), np.hypot(down, across)
    order = np.arange(2, 12)[:, None, None, None]
    lobed, spiculated = rng.uniform(0.03, 0.12), rng.uniform(0.0, 0.06)
    waves = np.cos(order * angle + rng.uniform(0.0, 2.0 * np.pi, order.shape))
    outline = 1.0 + np.sum(np.where(order <= LAST_LOBE_ORDER, lobed, spiculated) * waves, axis=0)
    offset = depth / shape[0] - rng.uniform(-0.15, 0.15)
    cut = np.sqrt(np.clip(1.0 - (offset / rng.uniform(0.45, 0.7)) ** 2, 0.0, None))
    shown = cut > LEAST_CUT
    radius = rng.uniform(5.0, 10.0) * cut * outline
    core = _soften(rng.uniform(0.5, 1.2) * (radius - distance))
    core = rng.uniform(0.62, 0.85) * core * (1.0 + 0.1 * _correlate(rng, shape, 1.5))
    rim = rng.uniform(0.05, 0.2) * np.exp(-(((distance - 0.8 * radius) / 1.6) ** 2))
    return (core + rim) * shown, shown[:, 0, 0]


def _draw_bias(rng: np.random.Generator, shape: Shape) -> Stack:
    """The receive coil's sensitivity: smooth, highest at the nipple, about 1 in the middle."""
    _, row, column = _axes(shape)
    tilt = rng.uniform(-0.25, 0.25) * (row - 48.0) / 48.0
    fall = rng.uniform(0.1, 0.5) * (48.0 - column) / 48.0
    bias: Stack = np.exp(tilt + fall + 0.06 * _correlate(rng, shape, 25.0))
    return bias


def _add_noise(rng: np.random.Generator, signal: Stack) -> Stack:
    """Rician noise: the magnitude of a noisy complex signal (Gudbjartsson & Patz 1995, MRM 34)."""
    real, imaginary = rng.normal(0.0, rng.uniform(0.015, 0.035), (2, *signal.shape))
    magnitude: Stack = np.hypot(signal + real, imaginary)
    return magnitude


def _correlate(rng: np.random.Generator, shape: Shape, length_px: float) -> Stack:
    """Gaussian noise of unit variance, smooth over `length_px`; neighbouring slices share half."""
    down, across = (np.fft.fftfreq(n, d=96.0 / shape[1]) for n in shape[1:])
    squared = down[:, None] ** 2 + across[None, : shape[2] // 2 + 1] ** 2
    white = np.fft.rfft2(rng.normal(size=(shape[0] + 1, *shape[1:])))
    field = np.fft.irfft2(white * np.exp(-2.0 * (np.pi * length_px) ** 2 * squared), s=shape[1:])
    field = field[:-1] + field[1:]
    smooth: Stack = field / (field.std() + 1e-12)
    return smooth


def _soften(distance_px: Stack) -> Stack:
    """From 0 outside to 1 inside, over about a pixel on either side of distance 0."""
    return 0.5 + 0.5 * np.tanh(distance_px)


def _describe(patient: _Patient, side: str, signal: Stack) -> Iterator[Dataset]:
    """One MR image per slice, varied by patient as archives are.

    A third name the side in Laterality, a third in ImageLaterality, a third by geometry alone; half
    have a RescaleSlope.
    """
    slope = (1.0, 0.5)[patient.number % 2]
    side_tag = ("", "Laterality", "ImageLaterality")[patient.number % 3]
    for index, pixels in enumerate(np.clip(np.rint(signal / slope), 0, 65535).astype("<u2")):
        data = Dataset()
        for keyword, value in SAME_FOR_ALL.items():
            setattr(data, keyword, value)
        _identify(data, patient, side, index)
        _place(data, side, index, signal.shape[0])
        if side_tag:
            setattr(data, side_tag, side)
        if slope != 1.0:
            data.RescaleIntercept, data.RescaleSlope, data.RescaleType = 0, slope, "US"
        data.Rows, data.Columns = pixels.shape
        data.PixelSpacing = [round(FOV_MM / data.Rows, 6), round(FOV_MM / data.Columns, 6)]
        data.PixelData = pixels.tobytes()
        data.file_meta = _make_header(data.SOPInstanceUID)
        yield data


def _identify(data: Dataset, patient: _Patient, side: str, index: int) -> None:
    """Say who this is, nobody, and on which machine it was never taken."""

    def uid(*parts: str) -> str:
        return generate_uid(entropy_srcs=["bcdx", patient.collection, patient.key, *parts])

    data.PatientName, data.PatientID = f"Phantom^{patient.number:04d}", patient.key
    data.StudyInstanceUID, data.FrameOfReferenceUID = uid("study"), uid("frame")
    data.SeriesInstanceUID, data.SeriesNumber = uid(side), "LR".index(side) + 1
    data.SOPInstanceUID, data.InstanceNumber = uid(side, str(index)), index + 1
    model, tesla = SCANNERS[patient.number // 2 % len(SCANNERS)]
    data.ManufacturerModelName, data.MagneticFieldStrength = model, tesla


def _place(data: Dataset, side: str, index: int, slices: int) -> None:
    """Put a slice into the patient: the breasts' middles lie 80 mm left (+x) and right of 0."""
    thickness_mm = round(min(10.0, 60.0 / slices), 3)
    x_mm = 80.0 + thickness_mm * (index - (slices - 1) / 2)
    x_mm = round(x_mm if side == "L" else -x_mm, 3)
    data.ImagePositionPatient = [x_mm, -100.0, FOV_MM / 2]
    data.SliceThickness = data.SpacingBetweenSlices = thickness_mm
    data.SliceLocation = x_mm


def _make_header(instance_uid: UID) -> FileMetaDataset:
    """A file header that no version of a library changes."""
    header = FileMetaDataset()
    header.TransferSyntaxUID = ExplicitVRLittleEndian
    header.MediaStorageSOPClassUID = MRImageStorage
    header.MediaStorageSOPInstanceUID = instance_uid
    header.ImplementationClassUID = generate_uid(entropy_srcs=["bcdx"])
    header.ImplementationVersionName = "BCDX_PHANTOM"
    return header
