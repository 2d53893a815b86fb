"""Claims about samples: they equal a NumPy reference of the recorded steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bcdx.config import Dataset, Labels, Normalise, Select
from bcdx.errors import BcdxError
from bcdx.imaging import prepare as prepare_module
from bcdx.imaging.collection import Item, Study, scan
from bcdx.imaging.compose import describe_preparation, place_box
from bcdx.imaging.frames import Frame
from bcdx.imaging.identity import Pseudonyms
from bcdx.imaging.prepare import BY_PYDICOM, REPEATED, prepare_study
from bcdx.imaging.sample import NO_BOX, Mark, Prepared


def scan_studies(folder: Path, dataset: Dataset) -> tuple[Study, ...]:
    return scan(dataset, source=folder, pseudonyms=Pseudonyms(b"k"), labelled=False).studies


def take_all(study: Study, dataset: Dataset, **options: Any) -> Prepared:
    stream = prepare_study(study, dataset, **options)
    samples = tuple(stream.samples)
    return Prepared(samples, stream.exclusions, stream.normalisation)


def prepare(folder: Path, **settings: Any) -> tuple[list[Prepared], Dataset]:
    dataset = Dataset(**settings)
    return [take_all(study, dataset) for study in scan_studies(folder, dataset)], dataset


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


def test_what_was_left_out_is_known_at_the_end_only(study: tuple[Path, list[np.ndarray]]) -> None:
    """Asking earlier is a mistake that shows."""
    dataset = Dataset(size=8)
    stream = prepare_study(scan_studies(study[0], dataset)[0], dataset)
    with pytest.raises(RuntimeError, match="all its samples"):
        _ = stream.exclusions
    assert 3 == len(list(stream.samples))
    assert () == stream.exclusions


@pytest.mark.parametrize("kept_bytes", [0, 200, 2**20])
def test_samples_are_the_same_however_much_is_kept_between_the_readings(
    study: tuple[Path, list[np.ndarray]], monkeypatch: pytest.MonkeyPatch, kept_bytes: int
) -> None:
    """What is not kept is decoded again."""
    (expected,), _ = prepare(study[0], size=8)
    monkeypatch.setattr(prepare_module, "KEPT_BYTES", kept_bytes)
    (found,), _ = prepare(study[0], size=8)
    assert [one.image.tobytes() for one in expected.samples] == [one.image.tobytes() for one in found.samples]
    assert expected.normalisation == found.normalisation


PLACE = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [1, 1], "FrameOfReferenceUID": "1.9"}


def write_phases(write_dicom: Any, phases: list[np.ndarray], **elements: Any) -> list[Path]:
    """One position, seen several times."""
    return [
        write_dicom(
            f"in/{number}.dcm", pixels, TemporalPositionIdentifier=number, InstanceNumber=number,
            ImagePositionPatient=[0, 0, 0], **{**STACK, **PLACE, **elements},
        )
        for number, pixels in enumerate(phases, 1)
    ]  # fmt: skip


def join_phases(folder: Path, dataset: Dataset, **facts: Any) -> Study:
    """Return a study of one sample that has all files of a folder for its phases."""
    (study,) = scan_studies(folder, dataset.model_copy(update={"channels": "grey"}))
    frames = sorted((item.frames[0] for item in study.items), key=lambda frame: frame.instance_number)
    return Study(study.key, (Item(tuple(frames), 0, **facts),))


def test_computed_channels_share_the_range_of_the_study(write_dicom: Any, tmp_path: Path) -> None:
    """A difference is counted in units of all phases that are read; others take no part."""
    rng = np.random.default_rng(0)
    phases = [rng.integers(0, top, (8, 8)).astype(np.uint16) for top in (100, 300, 60000, 200)]
    write_phases(write_dicom, phases)
    dataset = Dataset(size=8, channels=("pre", "early-pre", "late"))
    prepared = take_all(join_phases(tmp_path / "in", dataset), dataset)
    used = [phases[0], phases[1], phases[3]]
    low, high = np.percentile(np.stack(used), (0.5, 99.5))
    pre, early, late = (np.clip((one - low) / (high - low), 0, 1) for one in used)
    expected = np.stack([pre, (early - pre + 1) / 2, late], axis=-1) * 65535
    np.testing.assert_allclose(prepared.samples[0].image, expected, atol=1)
    assert 3 == len(prepared.samples[0].source_pixels)


def test_difference_has_its_middle_beside_the_image(write_dicom: Any, tmp_path: Path) -> None:
    """Where there is nothing, nothing changes."""
    write_phases(write_dicom, [np.arange(32, dtype=np.uint16).reshape(4, 8) * n for n in (1, 2)])
    dataset = Dataset(size=8, channels=("pre", "early-pre"))
    image = take_all(join_phases(tmp_path / "in", dataset), dataset).samples[0].image
    assert [{0}, {32768}] == [set(image[[0, 1, 6, 7], :, channel].ravel().tolist()) for channel in (0, 1)]


def test_sample_left_out_counts_all_its_phases(write_dicom: Any, tmp_path: Path) -> None:
    """No image is lost from the account."""
    ramp = np.arange(64, dtype=np.uint16).reshape(8, 8)
    path = write_phases(write_dicom, [ramp, ramp * 2, ramp * 3])[1]
    path.write_bytes(path.read_bytes()[:-20])
    dataset = Dataset(size=8, channels="phases")
    prepared = take_all(join_phases(tmp_path / "in", dataset), dataset)
    assert [(3, "pixel data cannot be decoded")] == [(one.images, one.reason) for one in prepared.exclusions]


@pytest.mark.parametrize(("least", "expected"), [(0.0, 2), (0.2, 2), (0.3, 1)])
def test_slice_with_too_little_tissue_is_empty(write_dicom: Any, tmp_path: Path, least: float, expected: int) -> None:
    """A quarter of one is brighter than a tenth of the range, all of the other."""
    full = np.random.default_rng(0).integers(500, 1000, (8, 8)).astype(np.uint16)
    quarter = full.copy()
    quarter[4:] = quarter[:, 4:] = 3
    write_dicom("in/full.dcm", full, **STACK)
    write_dicom("in/quarter.dcm", quarter, **STACK)
    (prepared,), _ = prepare(tmp_path / "in", size=16, select=Select(min_tissue=least))
    assert expected == len(prepared.samples)
    assert ["empty: tissue on less than the wanted share"] * (2 - expected) == [o.reason for o in prepared.exclusions]


def test_sample_knows_where_its_label_comes_from(write_dicom: Any, tmp_path: Path) -> None:
    """The lesion's box moves with the image into its square."""
    write_dicom("in/a.dcm", np.arange(200, dtype=np.uint16).reshape(10, 20), **STACK)
    dataset = Dataset(size=40)
    mark = Mark("tumour", "lesion", 12.5, (2.0, 4.0, 5.0, 10.0))
    sample = take_all(join_phases(tmp_path / "in", dataset, mark=mark), dataset).samples[0]
    assert ("lesion", 12.5, (14.0, 8.0, 20.0, 20.0)) == (sample.label_origin, sample.lesion_mm2, sample.lesion_box)
    unmarked = take_all(join_phases(tmp_path / "in", dataset), dataset).samples[0]
    assert ("", -1.0, NO_BOX) == (unmarked.label_origin, unmarked.lesion_mm2, unmarked.lesion_box)
    assert NO_BOX == place_box(NO_BOX, (10, 20), 40)


def test_box_goes_where_the_bright_pixels_go(write_dicom: Any, tmp_path: Path) -> None:
    """Whatever the shape."""
    pixels = np.random.default_rng(0).integers(0, 9, (60, 37)).astype(np.uint16)
    pixels[20:50, 5:30] = 1000
    write_dicom("in/a.dcm", pixels, **STACK)
    dataset = Dataset(size=50)
    mark = Mark("tumour", "lesion", 1.0, (20.0, 5.0, 50.0, 30.0))
    sample = take_all(join_phases(tmp_path / "in", dataset, mark=mark), dataset).samples[0]
    bright = np.argwhere(sample.image[..., 0] > 40000)
    expected = [*bright.min(axis=0), *(bright.max(axis=0) + 1)]
    np.testing.assert_allclose(sample.lesion_box, expected, atol=1.0)


def test_jpeg_quality_leaves_eight_bits(study: tuple[Path, list[np.ndarray]]) -> None:
    """As early studies had them."""
    (prepared,), dataset = prepare(study[0], size=8, jpeg_quality=90)
    assert not any((sample.image % 257).any() for sample in prepared.samples)
    assert "8-bit JPEG of quality 90, times 257" in describe_preparation(dataset)["steps"]


def test_decoder_is_asked_before_pydicom(study: tuple[Path, list[np.ndarray]]) -> None:
    """What it leaves alone pydicom reads."""
    folder, stack = study
    dataset = Dataset(size=8, normalise=Normalise(unit="none"))
    asked = []

    def decode(path: Path, header: Any) -> np.ndarray | None:
        asked.append(header.InstanceNumber)
        return stack[0] + np.uint16(1) if path.name == "0.dcm" else None

    prepared = take_all(scan_studies(folder, dataset)[0], dataset, decode=decode)
    by_slice = sorted(prepared.samples, key=lambda sample: sample.slice_index)
    assert {1, 2, 3} == set(asked)
    np.testing.assert_array_equal(stack[0] + 1, by_slice[0].image[..., 0])
    np.testing.assert_array_equal(stack[1], by_slice[1].image[..., 0])


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("slopes", [(1, 1, 1, 1), (1, 0.5, 2, 3)])
@pytest.mark.parametrize("kind", [np.int16, np.uint8])
def test_study_of_several_kinds_equals_a_numpy_reference(
    write_dicom: Any, tmp_path: Path, photometric: str, slopes: tuple[float, ...], kind: Any
) -> None:
    """Signed, rescaled, negated and padded slices in one study, by hand from the recorded steps."""
    sign = -1 if photometric == "MONOCHROME1" else 1
    rng = np.random.default_rng(0)
    stack = [rng.integers(0, 100, (11, 16)).astype(kind) - (50 if kind is np.int16 else 0) for _ in slopes]
    for index, (pixels, slope) in enumerate(zip(stack, slopes, strict=True)):
        write_dicom(
            f"in/{index}.dcm", pixels.astype(kind), InstanceNumber=index + 1, PhotometricInterpretation=photometric,
            RescaleSlope=slope, RescaleIntercept=-7.5, PixelPaddingValue=40, PixelPaddingRangeLimit=45, **STACK,
        )  # fmt: skip
    (prepared,), _ = prepare(tmp_path / "in", size=24)
    real = [
        (sign * (one.astype(np.float64) * slope - 7.5)).astype(np.float32)
        for one, slope in zip(stack, slopes, strict=True)
    ]
    masks = [(one >= 40) & (one <= 45) for one in stack]
    low, high = np.percentile(np.concatenate([one[~mask] for one, mask in zip(real, masks, strict=True)]), (0.5, 99.5))
    assert (low, high) == (prepared.normalisation[0]["low"], prepared.normalisation[0]["high"])
    by_slice = sorted(prepared.samples, key=lambda sample: sample.slice_index)
    for one, mask, sample in zip(real, masks, by_slice, strict=True):
        np.testing.assert_array_equal(square(one, mask, low, high, 24), sample.image[..., 0])


def test_preparation_is_recorded_step_by_step() -> None:
    """The manifest tells how to repeat it."""
    recorded = describe_preparation(Dataset(voi=True))
    assert "VOI LUT or window" in recorded["steps"]
    assert recorded["percentiles"] == [0.5, 99.5]
    computed = describe_preparation(Dataset(channels=("pre", "wash-in"), select=Select(min_tissue=0.1)))
    assert ["pre", "wash-in"] == computed["channels"] == list(computed["computed"])
    assert 0.1 == computed["min_tissue"]


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
    prepared = {sample.sample: sample.image for sample in take_all(study, Dataset(size=64)).samples}
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
    prepared = take_all(study, dataset)
    raw = {frame.path: pydicom.dcmread(frame.path).pixel_array for item in study.items for frame in item.frames}
    low, high = np.percentile(np.stack(list(raw.values())).astype(np.float32), (0.5, 99.5))
    for item, sample in zip(study.items, prepared.samples, strict=True):
        for channel, frame in enumerate(item.frames):
            unit = np.clip((raw[frame.path].astype(np.float32) - np.float32(low)) / np.float32(high - low), 0, 1)
            large = np.asarray(Image.fromarray(unit).resize((96, 96), Image.Resampling.BILINEAR))
            np.testing.assert_array_equal(
                np.rint(large * np.float32(65535)).astype(np.uint16), sample.image[..., channel]
            )


def test_position_whose_phases_are_one_image_twice_is_left_out(write_dicom: Any, tmp_path: Path) -> None:
    """A series that was sent again under new identifiers would pass for a phase without any change."""
    rng = np.random.default_rng(0)
    place = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [1.0, 1.0], "StudyInstanceUID": "1.2.3"}
    for number in range(2):
        first, second = rng.integers(0, 999, (2, 8, 8)).astype(np.uint16)
        for phase, pixels in enumerate((first, first if number else second)):
            write_dicom(
                f"in/{number}{phase}.dcm", pixels, **place, ImagePositionPatient=[0.0, 0.0, 9.0 * number],
                SeriesInstanceUID=f"1.2.3.{phase}", AcquisitionTime=f"10000{phase}",
            )  # fmt: skip
    (prepared,), _ = prepare(tmp_path / "in", size=8, channels="phases", phases=2)
    assert 1 == len(prepared.samples)
    assert [(REPEATED, 2)] == [(one.reason, one.images) for one in prepared.exclusions]


def test_what_the_decoder_leaves_to_pydicom_is_kept_and_noted(study: tuple[Path, list[np.ndarray]]) -> None:
    """Another decoder is no silent fallback; what comes out is the same."""
    folder, stack = study
    dataset = Dataset(size=8)
    (found,) = scan_studies(folder, dataset)
    plain = take_all(found, dataset)
    half = take_all(found, dataset, decode=lambda path, header: None if path.stem == "0" else header.pixel_array)
    assert [sample.image.tolist() for sample in plain.samples] == [one.image.tolist() for one in half.samples]
    assert [(BY_PYDICOM, True)] == [(one.reason, one.flagged) for one in half.exclusions]
    assert len(stack) == len(half.samples)
