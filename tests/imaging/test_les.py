"""Claims about .les masks: how their bytes are read, in a folder or as the published zip, and where they lie."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from bcdx.errors import LabelError
from bcdx.imaging.drawn import EMPTY, Lesion
from bcdx.imaging.identity import Pseudonyms
from bcdx.imaging.les import DAMAGED, find_patient, holds_les, read_les

NAMES = Pseudonyms(b"k")


def encode(mask: np.ndarray, first: tuple[int, int, int]) -> bytes:
    """Bytes of a mask, axes (row, column, slice), whose first voxel has these numbers."""
    last = [start + length - 1 for start, length in zip(first, mask.shape, strict=True)]
    return struct.pack("<6H", *first, *last) + mask.astype(np.uint8).tobytes(order="F")


def paint(lesion: Lesion, shape: tuple[int, int, int]) -> np.ndarray:
    """The lesion in a volume, axes (row, column, slice), whose first slice is number 1."""
    volume = np.zeros(shape, bool)
    for patch in lesion.patches:
        volume[patch.row : patch.end[0], patch.column : patch.end[1], patch.number - 1] = patch.mask
    return volume


BALL = np.indices((5, 4, 3)).sum(axis=0) % 3 > 0


@settings(max_examples=50, deadline=None)
@given(
    first=st.tuples(*[st.integers(1, 9)] * 3),
    shape=st.tuples(*[st.integers(1, 5)] * 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_mask_lies_where_its_numbers_say(
    tmp_path_factory: pytest.TempPathFactory, first: tuple[int, int, int], shape: tuple[int, int, int], seed: int
) -> None:
    """Whatever was written is read, voxel by voxel; slices without any are left out."""
    mask = np.random.default_rng(seed).random(shape) < 0.3
    expected = np.zeros((16, 16, 16), bool)
    expected[tuple(slice(a - 1, a - 1 + n) for a, n in zip(first, shape, strict=True))] = mask
    path = tmp_path_factory.mktemp("les") / "TCGA-AO-A03V.les"
    path.write_bytes(encode(mask, first))
    (lesion,) = read_les(path, NAMES)
    assert (expected == paint(lesion, expected.shape)).all()
    assert (EMPTY if not mask.any() else "") == lesion.reason


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("TCGA-AO-A03V.les", "TCGA-AO-A03V"),
        ("TCGA-AO-A03M-1.les", "TCGA-AO-A03M"),
        ("TCGA_Segmented_Lesions_UofC/TCGA-AO-A0J9-S2-1.les", "TCGA-AO-A0J9"),
        ("tcga-ao-a0j9-s2-1.LES", "TCGA-AO-A0J9"),
        ("TCGA-AO-0123.les", "TCGA-AO-0123"),  # digits alone are no lesion's number
        ("Breast_MRI_153.les", "Breast_MRI_153"),
        ("P-1.les", "P-1"),
    ],
)
def test_patient_is_the_barcode_that_the_name_starts_with(name: str, patient: str) -> None:
    """What follows are numbers of lesions and such."""
    assert patient == find_patient(name)


def test_zip_is_read_as_published(tmp_path: Path) -> None:
    """An inner folder, what macOS leaves beside it, several lesions of a patient: the same as when unpacked."""
    inner = "TCGA_Segmented_Lesions_UofC"
    files = {
        f"{inner}/TCGA-AO-A03M-1.les": encode(BALL, (1, 2, 3)),
        f"{inner}/TCGA-AO-A03M-2.les": encode(BALL, (9, 9, 9)),
    }
    junk = [f"__MACOSX/{inner}/._TCGA-AO-A03M-1.les", f"{inner}/._TCGA-AO-A03M-2.les", f"{inner}/readme.txt"]
    with zipfile.ZipFile(tmp_path / "lesions.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{inner}/", b"")
        for name, data in {**files, **dict.fromkeys(junk, b"junk")}.items():
            archive.writestr(name, data)
    with zipfile.ZipFile(tmp_path / "lesions.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    zipped, unpacked = (read_les(tmp_path / name, NAMES) for name in ("lesions.zip", "unpacked"))
    assert [lesion.key for lesion in unpacked] == [lesion.key for lesion in zipped]
    assert [NAMES.code("PatientID", "TCGA-AO-A03M")] * 2 == [lesion.patient for lesion in zipped]
    for one, other in zip(unpacked, zipped, strict=True):
        assert (paint(one, (20, 20, 20)) == paint(other, (20, 20, 20))).all()
        assert BALL.sum() == paint(one, (20, 20, 20)).sum()


WHOLE = encode(BALL, (1, 2, 3))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        WHOLE[:7],
        WHOLE[:12],
        WHOLE[:-1],
        WHOLE + b"\0",
        struct.pack("<6H", 5, 1, 1, 4, 2, 2) + bytes(8),  # ends before it starts
        struct.pack("<6H", 0, 1, 1, 0, 1, 1) + bytes(1),  # counts from 0
        struct.pack("<6H", 1, 1, 1, 65535, 65535, 65535) + bytes(8),  # claims 256 TiB
    ],
)
def test_damaged_file_is_a_lesion_with_a_reason(tmp_path: Path, data: bytes) -> None:
    """Its patient has a lesion of which nothing is known; that of the file beside it is read."""
    (tmp_path / "TCGA-AO-A03V.les").write_bytes(data)
    (tmp_path / "TCGA-AO-A0JI.les").write_bytes(WHOLE)
    damaged, whole = read_les(tmp_path, NAMES)
    assert (NAMES.code("PatientID", "TCGA-AO-A03V"), DAMAGED, ()) == (damaged.patient, damaged.reason, damaged.patches)
    assert "" == whole.reason


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_checksum_of_a_zip_is_looked_at(tmp_path: Path, method: int) -> None:
    """Bytes that are not those that were packed are damage."""
    path = tmp_path / "lesions.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("TCGA-AO-A03V.les", WHOLE)
    checksum = struct.pack("<I", zlib.crc32(WHOLE))
    path.write_bytes(path.read_bytes().replace(checksum, bytes(4)))
    assert [DAMAGED] == [lesion.reason for lesion in read_les(path, NAMES)]


def test_spreadsheet_is_told_from_masks(tmp_path: Path) -> None:
    """It is a zip, too; the error says what to do."""
    with zipfile.ZipFile(tmp_path / "boxes.xlsx", "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    with pytest.raises(LabelError, match="must be saved as CSV"):
        read_les(tmp_path / "boxes.xlsx", NAMES)


def test_folder_without_masks_holds_none(tmp_path: Path) -> None:
    """Files deeper down count, hidden ones do not."""
    (tmp_path / "._TCGA-AO-A03V.les").write_bytes(WHOLE)
    assert not holds_les(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "TCGA-AO-A03V.les").write_bytes(WHOLE)
    assert holds_les(tmp_path)


def contrast(image: np.ndarray, mask: np.ndarray) -> float:
    """How far the mean inside lies above that of a ring around, in standard deviations of pixels."""
    near = ndimage.binary_dilation(mask, iterations=2)
    inside, ring = image[mask], image[ndimage.binary_dilation(mask, iterations=6) & ~near]
    return float((inside.mean() - ring.mean()) / np.sqrt((inside.var() + ring.var()) / 2))


def misread(data: bytes) -> list[np.ndarray]:
    """Volumes, axes (row, column, slice), of a file's mask in the orders of bytes that it is not in."""
    first, last = np.frombuffer(data[:12], "<u2").astype(int).reshape(2, 3)
    rows, columns, slices = last - first + 1
    stored = np.frombuffer(data[12:], np.uint8) > 0
    return [
        stored.reshape(rows, columns, slices),
        stored.reshape(slices, rows, columns).transpose(1, 2, 0),
        stored.reshape(columns, rows, slices, order="F").transpose(1, 0, 2),
    ]


@pytest.mark.real_data
@pytest.mark.parametrize("patient", ["TCGA-AO-A03V", "TCGA-AO-A0JI", "TCGA-AO-A12D", "TCGA-AO-A12E"])
def test_masks_lie_on_the_tumours(shared_data: Path, patient: str) -> None:
    """The tumour is brighter than what is around; a pixel further, in another order or transposed it is less so."""
    path = shared_data / "tcga_brca" / "lesions" / f"{patient}.les"
    ds = pydicom.dcmread(shared_data / "tcga_brca" / "dicom" / f"{patient}.dcm")
    image = ds.pixel_array.astype(float)
    (lesion,) = read_les(path, NAMES)
    mask = paint(lesion, (*image.shape, 64))[:, :, ds.InstanceNumber - 1]
    right = contrast(image, mask)
    assert right > 3
    for shift in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        assert right > contrast(image, np.roll(mask, shift, (0, 1)))
    first = np.frombuffer(path.read_bytes()[:12], "<u2").astype(int)[:3]
    for volume in misread(path.read_bytes()):
        wrong = np.zeros_like(mask)
        part = volume[:, :, ds.InstanceNumber - first[2]]
        wrong[first[0] - 1 : first[0] - 1 + part.shape[0], first[1] - 1 : first[1] - 1 + part.shape[1]] = part
        assert right > 1.2 * contrast(image, wrong)
    assert right > 1.2 * contrast(image, mask.T)
