"""Claims about samples: they equal a NumPy reference of the recorded steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bcdx.config import Dataset, Labels, Normalise
from bcdx.errors import BcdxError
from bcdx.imaging.collection import Study, scan
from bcdx.imaging.frames import Frame
from bcdx.imaging.identity import Pseudonyms
from bcdx.imaging.normalise import fit_square
from bcdx.imaging.prepare import describe_preparation, prepare_study
from bcdx.imaging.sample import Prepared


def prepare(folder: Path, **settings: Any) -> tuple[list[Prepared], Dataset]:
    dataset = Dataset(**settings)
    found = scan(dataset, source=folder, pseudonyms=Pseudonyms(b"k"), labelled=False)
    return [prepare_study(study, dataset) for study in found.studies], dataset


def reference(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    unit = np.clip((pixels.astype(np.float32) - np.float32(low)) / np.float32(high - low), 0, 1)
    return np.rint(unit * 65535).astype(np.uint16)


STACK = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4"}


@pytest.fixture
def study(write_dicom: Any, tmp_path: Path) -> tuple[Path, list[np.ndarray]]:
    """One study of three slices of very different brightness."""
    stack = [np.random.default_rng(i).integers(0, 100 * (i + 1), (8, 8)).astype(np.uint16) for i in range(3)]
    for index, pixels in enumerate(stack):
        write_dicom(f"in/{index}.dcm", pixels, InstanceNumber=index + 1, **STACK)
    return tmp_path / "in", stack


def test_one_pair_of_percentiles_for_the_whole_study(study: tuple[Path, list[np.ndarray]]) -> None:
    """What is brighter in the study stays brighter in the records."""
    folder, stack = study
    (prepared,), _ = prepare(folder, size=8)
    low, high = np.percentile(np.stack(stack), (0.5, 99.5))
    by_slice = sorted(prepared.samples, key=lambda sample: sample.slice_index)
    for pixels, sample in zip(stack, by_slice, strict=True):
        np.testing.assert_array_equal(reference(pixels, low, high), sample.image[..., 0])
    assert [low, high] == pytest.approx([prepared.normalisation[0][name] for name in ("low", "high")])


@pytest.mark.parametrize(("unit", "count"), [("study", 1), ("series", 1), ("image", 3), ("none", 1)])
def test_unit_decides_what_shares_percentiles(study: tuple[Path, list[np.ndarray]], unit: Any, count: int) -> None:
    """One recorded pair per unit."""
    (prepared,), _ = prepare(study[0], size=8, normalise=Normalise(unit=unit))
    assert count == len(prepared.normalisation)


def test_unit_none_keeps_stored_values(study: tuple[Path, list[np.ndarray]]) -> None:
    """Real units from 0 to 65535 pass unchanged."""
    folder, stack = study
    (prepared,), _ = prepare(folder, size=8, normalise=Normalise(unit="none"))
    by_slice = sorted(prepared.samples, key=lambda sample: sample.slice_index)
    np.testing.assert_array_equal(stack[2], by_slice[2].image[..., 0])


def test_padded_pixels_count_for_nothing_and_become_zero(write_dicom: Any, tmp_path: Path) -> None:
    """A scanner's padding neither stretches the range nor shows."""
    pixels = np.random.default_rng(0).integers(100, 200, (8, 8)).astype(np.int16)
    pixels[:2] = -2000
    write_dicom("in/a.dcm", pixels, PixelPaddingValue=-2000)
    (prepared,), _ = prepare(tmp_path / "in", size=8)
    assert prepared.normalisation[0]["low"] >= 100
    assert not prepared.samples[0].image[:2].any()


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.full((40, 40), 7), "no contrast: all its pixels are equal"),
        (np.pad([[9]], ((0, 39), (0, 39))), "no contrast between its percentiles"),
    ],
)
def test_slice_without_contrast_is_left_out(
    write_dicom: Any, tmp_path: Path, pixels: np.ndarray, expected: str
) -> None:
    """Equal values, or equal percentiles where one pixel stands out, cannot be stretched."""
    write_dicom("in/a.dcm", pixels.astype(np.uint16))
    (prepared,), _ = prepare(tmp_path / "in", size=8)
    assert ((), [expected]) == (prepared.samples, [one.reason for one in prepared.exclusions])


def test_flat_slice_is_left_out_of_a_study_that_is_not(
    study: tuple[Path, list[np.ndarray]], write_dicom: Any, tmp_path: Path
) -> None:
    """Also where padding makes the file vary; it does not count for the study's percentiles."""
    folder, _ = study
    before = prepare(folder, size=8)[0][0]
    padded = np.full((8, 8), 5000, np.uint16)
    padded[:3] = 0
    write_dicom("in/flat.dcm", padded, PixelPaddingValue=0, **STACK)
    (after,), _ = prepare(folder, size=8)
    assert ["no contrast: all its pixels are equal"] == [one.reason for one in after.exclusions]
    assert (before.normalisation, len(before.samples)) == (after.normalisation, len(after.samples))


def test_slice_that_is_black_once_normalised_is_left_out(write_dicom: Any, tmp_path: Path) -> None:
    """What lies below the study's percentiles would be stored as nothing, the same nothing for every patient."""
    bright = np.random.default_rng(0).integers(1000, 2000, (64, 64)).astype(np.uint16)
    air = np.arange(4, dtype=np.uint16).reshape(2, 2)
    write_dicom("in/bright.dcm", bright, **STACK)
    write_dicom("in/air.dcm", air, **STACK)
    (prepared,), _ = prepare(tmp_path / "in", size=8)
    assert (1, ["no contrast between its percentiles"]) == (
        len(prepared.samples), [one.reason for one in prepared.exclusions]
    )  # fmt: skip


def test_source_pixels_tell_one_image_whatever_the_rest_of_its_study(write_dicom: Any, tmp_path: Path) -> None:
    """Two patients share a slice; their percentiles, and so the stored pixels, differ."""
    shared = np.random.default_rng(0).integers(0, 100, (8, 8)).astype(np.uint16)
    for number in (1, 2):
        who = {"PatientID": f"P{number}", "StudyInstanceUID": f"1.{number}", "SeriesInstanceUID": f"1.{number}.1"}
        write_dicom(f"in/{number}a.dcm", shared, InstanceNumber=1, **who)
        write_dicom(f"in/{number}b.dcm", shared * np.uint16(number * 5), InstanceNumber=2, **who)
    prepared, _ = prepare(tmp_path / "in", size=8)
    firsts = [sample for one in prepared for sample in one.samples if sample.slice_index == 0]
    assert 2 == len({sample.image.tobytes() for sample in firsts})
    assert 1 == len({sample.source_pixels for sample in firsts})


def test_undecodable_slice_is_left_out_and_the_others_stay(study: tuple[Path, list[np.ndarray]]) -> None:
    """One broken file costs one sample."""
    folder, _ = study
    (folder / "1.dcm").write_bytes((folder / "1.dcm").read_bytes()[:-20])
    (prepared,), _ = prepare(folder, size=8)
    assert (2, ["pixel data cannot be decoded"]) == (len(prepared.samples), [o.reason for o in prepared.exclusions])


def test_phases_become_channels_in_order_of_time(write_dicom: Any, tmp_path: Path) -> None:
    """Later phases stand in later channels."""
    place = {"ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [1, 1]}
    ramp = np.arange(64, dtype=np.uint16).reshape(8, 8)
    for name, phase in (("c", 1), ("a", 2), ("b", 3)):
        write_dicom(
            f"in/{name}.dcm",
            ramp * phase,
            TemporalPositionIdentifier=phase,
            FrameOfReferenceUID="1.9",
            **STACK,
            **place,
        )
    (prepared,), _ = prepare(tmp_path / "in", size=8, channels="phases")
    means = prepared.samples[0].image.mean(axis=(0, 1))
    assert means[0] < means[1] < means[2]


@pytest.mark.parametrize(
    ("shape", "size", "inner"), [((10, 20), 20, (10, 20)), ((20, 10), 40, (40, 20)), ((5, 5), 9, (9, 9))]
)
def test_fit_square_keeps_the_aspect_ratio(shape: tuple[int, int], size: int, inner: tuple[int, int]) -> None:
    """The image is as large as it fits, centred, on zeros; untouched where no resize is needed."""
    pixels = np.random.default_rng(0).random(shape).astype(np.float32) + 0.1
    square, scale = fit_square(pixels, size)
    filled = np.argwhere(square > 0)
    assert inner == tuple(filled.max(axis=0) - filled.min(axis=0) + 1)
    assert scale == size / max(shape)
    if max(shape) == size:
        np.testing.assert_array_equal(pixels, square[square > 0].reshape(shape))


def test_preparation_is_recorded_step_by_step() -> None:
    """The manifest tells how to repeat it."""
    recorded = describe_preparation(Dataset(voi=True))
    assert "VOI LUT or window" in recorded["steps"]
    assert recorded["percentiles"] == [0.5, 99.5]


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("pattern", "least"),
    [
        ("tcga_brca", 5),
        ("duke_breast_mri_153", 90),
        ("dicom_syntaxes/*.dcm", 5),  # one at a time: they are one image in many syntaxes
    ],
)
def test_real_records_equal_a_numpy_reference(
    shared_data: Path, decode_with_gdcm: Any, pattern: str, least: int
) -> None:
    """GDCM's pixels, percentiles over the study without its padding, Pillow, rounding: all by hand."""
    compared = 0
    for source in shared_data.glob(pattern):
        try:
            found = scan(Dataset(), source=source, pseudonyms=Pseudonyms(b"k"), labelled=False)
        except BcdxError:
            continue
        for study in found.studies:
            if not any("J2KI" in item.frames[0].path for item in study.items):  # lossy: decoders differ by rounding
                compared += compare_study(study, decode_with_gdcm)
    assert compared >= least


def compare_study(study: Study, decode: Any) -> int:
    """Hold a study's samples equal to the reference; return how many there are."""
    prepared = {sample.sample: sample.image for sample in prepare_study(study, Dataset(size=64)).samples}
    frames = [item.frames[0] for item in study.items if item.key in prepared]
    pixels = [decode(Path(frame.path))[frame.index] for frame in frames]
    padded = [find_padded(frame, one) for frame, one in zip(frames, pixels, strict=True)]
    shown = [one[~mask] for one, mask in zip(pixels, padded, strict=True)]
    whole = np.percentile(np.concatenate(shown), (0.5, 99.5)) if shown else ()
    for frame, one, mask, values in zip(frames, pixels, padded, shown, strict=True):
        low, high = np.percentile(values, (0.5, 99.5)) if frame.modality == "MG" else whole
        np.testing.assert_array_equal(square(one, mask, low, high), prepared[frame.sample][..., 0])
    return len(frames)


def find_padded(frame: Frame, pixels: np.ndarray) -> np.ndarray:
    import pydicom

    ds = pydicom.dcmread(frame.path)
    value = ds.get("PixelPaddingValue")
    return np.zeros(pixels.shape, bool) if value is None else ds.pixel_array.reshape(pixels.shape) == value


def square(pixels: np.ndarray, mask: np.ndarray, low: float, high: float, size: int = 64) -> np.ndarray:
    unit = np.clip((pixels - np.float32(low)) / np.float32(high - low), 0, 1).astype(np.float32)
    unit[mask] = 0
    scale = size / max(pixels.shape)
    rows, columns = (max(1, round(side * scale)) for side in pixels.shape)
    resized = np.asarray(Image.fromarray(unit).resize((columns, rows), Image.Resampling.BILINEAR))
    canvas = np.zeros((size, size), np.float32)
    canvas[(size - rows) // 2 :, (size - columns) // 2 :][:rows, :columns] = resized
    return np.rint(np.clip(canvas, 0, 1) * np.float32(65535)).astype(np.uint16)


@pytest.mark.real_data
def test_real_patches_equal_a_numpy_reference(shared_data: Path) -> None:
    """One patient's study, computed by hand from the recorded steps."""
    import pydicom

    dataset = Dataset(channels="phases", labels=Labels(file="labels.csv"), size=96)
    found = scan(dataset, source=shared_data / "breast_dce_patches", pseudonyms=Pseudonyms(b"k"))
    study = found.studies[0]
    prepared = prepare_study(study, dataset)
    raw = {frame.path: pydicom.dcmread(frame.path).pixel_array for item in study.items for frame in item.frames}
    low, high = np.percentile(np.stack(list(raw.values())).astype(np.float32), (0.5, 99.5))
    for item, sample in zip(study.items, prepared.samples, strict=True):
        for channel, frame in enumerate(item.frames):
            unit = np.clip((raw[frame.path].astype(np.float32) - np.float32(low)) / np.float32(high - low), 0, 1)
            large = np.asarray(Image.fromarray(unit).resize((96, 96), Image.Resampling.BILINEAR))
            np.testing.assert_array_equal(
                np.rint(large * np.float32(65535)).astype(np.uint16), sample.image[..., channel]
            )
