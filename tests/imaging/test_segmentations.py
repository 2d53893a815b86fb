"""Claims about DICOM SEG: which segments are lesions, and that what is read is what another library wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from bcdx.errors import LabelError
from bcdx.imaging.drawn import EMPTY, Lesion
from bcdx.imaging.identity import Pseudonyms
from bcdx.imaging.segmentations import DAMAGED, list_segmentations, read_segmentations

NAMES = Pseudonyms(b"k")
SHAPE = (11, 7)
"""77 pixels: frames of one bit a pixel do not end on a byte."""
ALIGNED = (8, 6)
SLICES = 4

WriteSeg = Callable[..., Path]


@pytest.fixture
def write_seg(tmp_path: Path, write_dicom: Any) -> WriteSeg:
    """A function (name, masks, labels, kind) -> a SEG on `SLICES` images; axes are slice, row, column, segment."""

    def make_image(index: int, shape: tuple[int, ...]) -> pydicom.Dataset:
        path = write_dicom(
            f"images/{index}.dcm", np.full(shape, 9, np.uint16), SeriesInstanceUID="1.2.3", StudyInstanceUID="1.2.4",
            FrameOfReferenceUID="1.2.5", ImageOrientationPatient=[0, 1, 0, 0, 0, -1], PixelSpacing=[0.5, 0.75],
            ImagePositionPatient=[60 + 3 * index, -20, 15], SliceThickness=3, InstanceNumber=index + 1,
            PatientName="A^B", PatientBirthDate="", PatientSex="F", StudyDate="", StudyTime="", AccessionNumber="",
            StudyID="", ReferringPhysicianName="", Manufacturer="", SeriesNumber=1,
        )  # fmt: skip
        return pydicom.dcmread(path)

    def write(name: str, masks: np.ndarray, labels: list[str], kind: str = "BINARY", **elements: Any) -> Path:
        images = [make_image(index, masks.shape[1:3]) for index in range(SLICES)]
        descriptions = [
            highdicom.seg.SegmentDescription(
                number, label, codes.SCT.MorphologicallyAbnormalStructure,
                codes.SCT.Mass if number > 1 else codes.SCT.Lesion, highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
            )
            for number, label in enumerate(labels, start=1)
        ]  # fmt: skip
        seg = highdicom.seg.Segmentation(
            images, masks, kind, descriptions, generate_uid(entropy_srcs=[name]), 9,
            generate_uid(entropy_srcs=[name, "instance"]), 1, "M", "M", "1", "1", max_fractional_value=200,
        )  # fmt: skip
        for keyword, value in elements.items():
            setattr(seg, keyword, value)
        path = tmp_path / "seg" / name
        path.parent.mkdir(exist_ok=True)
        seg.save_as(path)
        return path

    return write


def make_masks(seed: int, segments: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Random masks without overlap; the first slice is free, as is the last of the last segment."""
    owner = np.random.default_rng(seed).integers(0, segments + 1, (SLICES, *shape))
    masks = np.stack([owner == number for number in range(1, segments + 1)], axis=-1)
    masks[0], masks[-1, ..., -1] = False, False
    return masks


def paint(lesion: Lesion, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """The lesion's masks, shape (slices, rows, columns), by the position of each."""
    volume = np.zeros((SLICES, *shape), bool)
    for patch in lesion.patches:
        index = 0 if patch.place is None else round((patch.place.position_mm[0] - 60) / 3)
        volume[index, patch.row : patch.end[0], patch.column : patch.end[1]] |= patch.mask
    return volume


@pytest.mark.parametrize("shape", [SHAPE, ALIGNED])
@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_segments_are_read_as_written(write_seg: WriteSeg, kind: str, shape: tuple[int, int]) -> None:
    """Pixel by pixel and slice by slice, with the images they were drawn on, whatever the type of the object."""
    masks = make_masks(1, 2, shape)
    written = masks.astype(np.float32 if kind == "FRACTIONAL" else np.uint8)
    path = write_seg("a.dcm", written, ["left", "right"], kind)
    lesions = read_segmentations([path], ["left", "right"], NAMES)
    assert [NAMES.code("PatientID", "P1")] * 2 == [lesion.patient for lesion in lesions]
    assert 2 == len({lesion.key for lesion in lesions})
    for number, lesion in enumerate(lesions):
        assert (masks[..., number] == paint(lesion, shape)).all()
    patch = lesions[0].patches[0]
    assert (shape, (0.5, 0.75)) == (patch.shape, patch.place and patch.place.spacing_mm)
    instance = pydicom.dcmread(path.parent.parent / "images" / "1.dcm").SOPInstanceUID
    assert ((NAMES.code("SOPInstanceUID", instance), None),) in {one.images for one in lesions[0].patches}


@pytest.mark.parametrize(("numbers", "expected"), [(None, [None]), (3, [2]), ([2, 3], [1, 2])])
def test_frames_that_were_drawn_on_count_from_0(write_seg: WriteSeg, numbers: Any, expected: list[int | None]) -> None:
    """DICOM's count from 1; without one the image is all of the object."""
    ds = pydicom.dcmread(path := write_seg("a.dcm", make_masks(1, 1), ["x"]))
    for group in ds.PerFrameFunctionalGroupsSequence:
        (source,) = group.DerivationImageSequence[0].SourceImageSequence
        source.ReferencedSOPInstanceUID = "1.2.3"
        if numbers is not None:
            source.ReferencedFrameNumber = numbers
    ds.save_as(path)
    (lesion,) = read_segmentations([path], ["x"], NAMES)
    code = NAMES.code("SOPInstanceUID", "1.2.3")
    assert {tuple((code, one) for one in expected)} == {patch.images for patch in lesion.patches}


def test_half_of_a_fraction_is_in(write_seg: WriteSeg) -> None:
    """From 0.5 on a voxel belongs to the segment."""
    shares = np.zeros((SLICES, *SHAPE), np.float32)
    shares[1, 2, 1:5] = [0.25, 0.49, 0.5, 1.0]
    (lesion,) = read_segmentations([write_seg("a.dcm", shares, ["x"], "FRACTIONAL")], ["x"], NAMES)
    assert [(2, 3, (3, 5))] == [(patch.row, patch.column, patch.end) for patch in lesion.patches]


@pytest.mark.parametrize("name", ["tumour 1", "TUMOUR 1", " Tumour 1 ", "lesion"])
def test_segment_is_chosen_by_label_or_property_type(write_seg: WriteSeg, name: str) -> None:
    """Whatever the case."""
    masks = make_masks(2, 2)
    (lesion,) = read_segmentations([write_seg("a.dcm", masks, ["Tumour 1", "fat"])], [name], NAMES)
    assert (masks[..., 0] == paint(lesion)).all()


@pytest.mark.parametrize(
    ("segments", "words"),
    [([], "name those segments that are lesions"), (["fat", "tumor"], "no segment is called 'tumor'")],
)
def test_segments_must_be_named(write_seg: WriteSeg, segments: list[str], words: str) -> None:
    """None is a lesion by default; the error lists what there is."""
    path = write_seg("a.dcm", make_masks(2, 2), ["Tumour 1", "fat"])
    with pytest.raises(LabelError, match=f"{words}; .*'fat', 'Lesion', 'Mass', 'Tumour 1'"):
        read_segmentations([path], segments, NAMES)


def test_object_without_the_segment_gives_none(write_seg: WriteSeg) -> None:
    """As long as another one has it: not every patient has every segment."""
    paths = [write_seg(f"{name}.dcm", make_masks(3, 1), [name]) for name in ("fat", "tumour")]
    assert [paths[1]] == [lesion.path for lesion in read_segmentations(paths, ["tumour"], NAMES)]


def test_empty_segment_is_a_lesion_with_a_reason(write_seg: WriteSeg) -> None:
    """It may mean that nothing was found, or that nothing was drawn."""
    path = write_seg("a.dcm", make_masks(4, 1) & False, ["x"])
    assert [EMPTY] == [lesion.reason for lesion in read_segmentations([path], ["x"], NAMES)]


def test_damaged_object_is_a_lesion_with_a_reason(write_seg: WriteSeg) -> None:
    """Whatever of it is missing; of its patient nothing is known."""
    whole, short = (write_seg(name, make_masks(5, 1), ["x"]) for name in ("a.dcm", "b.dcm"))
    ds = pydicom.dcmread(short)
    ds.PixelData = ds.PixelData[:2]
    ds.save_as(short)
    nobody = write_seg("c.dcm", make_masks(5, 1), ["x"], PatientID="")
    (rubbish := short.parent / "d.dcm").write_bytes(whole.read_bytes()[:300])
    lesions = read_segmentations([whole, short, nobody, rubbish], ["x"], NAMES)
    patient = NAMES.code("PatientID", "P1")
    found = [(lesion.patient, lesion.reason) for lesion in lesions]
    assert [(patient, ""), (patient, DAMAGED), ("", "a segmentation without PatientID"), ("", DAMAGED)] == found
    assert 4 == len({lesion.key for lesion in lesions})


def test_folder_is_searched_for_objects(write_seg: WriteSeg, tmp_path: Path) -> None:
    """Images and other files in it are passed over; a file stands for itself."""
    path = write_seg("a.dcm", make_masks(6, 1), ["x"])
    (tmp_path / "notes.txt").write_text("nothing")
    assert [path] == list_segmentations(tmp_path) == list_segmentations(path)


@pytest.mark.real_data
def test_published_tissue_lies_on_its_images(shared_data: Path) -> None:
    """Gland is brighter than its surroundings where it is said to lie, and less so six pixels further."""
    folder = shared_data / "duke_breast_mri_153"
    paths = list_segmentations(folder)
    lesions = read_segmentations(paths, ["mammary FIBROGLANDULAR tissue"], NAMES)
    headers = {code_image(ds): ds for ds in map(pydicom.dcmread, folder.glob("pre/*.dcm"))}
    drawn = [(patch, headers.get(patch.images[0][0])) for lesion in lesions for patch in lesion.patches]
    seen = [(patch, ds) for patch, ds in drawn if ds is not None]  # the others' images are not in the folder
    assert (1, 2, 2) == (len(paths), len(lesions), len(seen))
    for patch, ds in seen:
        assert patch.place is not None
        assert np.allclose(ds.ImagePositionPatient, patch.place.position_mm, atol=1e-3)
        mask = np.zeros(ds.pixel_array.shape, bool)
        mask[patch.row : patch.end[0], patch.column : patch.end[1]] = patch.mask
        for shift in ((6, 0), (-6, 0), (0, 6), (0, -6)):
            assert ds.pixel_array[mask].mean() > 1.1 * ds.pixel_array[np.roll(mask, shift, (0, 1))].mean()


def code_image(ds: pydicom.Dataset) -> str:
    """Code of an image as a frame has it."""
    return NAMES.code("SOPInstanceUID", ds.SOPInstanceUID)
