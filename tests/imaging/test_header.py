"""Claims about headers: the quick way gives what pydicom gives, or nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from bcdx.imaging.header import PIXEL_DATA, read_usual_header

PIXELS = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
PACKAGED = sorted(Path(pydicom.__file__).parent.glob("data/**/*.dcm"))


def check_equal(path: Path) -> bool:
    """Hold the quick way equal to pydicom, element by element; return whether the file is a usual one."""
    found, expected = read_usual_header(path), pydicom.dcmread(path, force=True, defer_size="2 KB")
    if found is None:
        return False
    public = [tag for tag in expected.keys() if not tag.is_private and tag <= PIXEL_DATA]  # noqa: SIM118
    assert public == list(found.keys())
    place, other = (ds.get_item("PixelData", keep_deferred=True) for ds in (found, expected))
    assert isinstance(place, RawDataElement)
    assert isinstance(other, RawDataElement)
    assert (other.value_tell, other.length) == (place.value_tell, place.length)
    assert expected.file_meta == found.file_meta
    for tag in public[:-1]:
        keyword = pydicom.datadict.keyword_for_tag(tag)
        value = expected.get(keyword) if keyword else None
        listed = isinstance(value, pydicom.multival.MultiValue)
        assert (list(value) if listed else value) == (list(found.get(keyword)) if listed else found.get(keyword))
        assert expected[tag] == found[tag]
    return True


def test_usual_header_equals_that_of_pydicom(write_dicom: Any) -> None:
    """Text, numbers, lists, sequences; a missing element gives the default."""
    item = pydicom.Dataset()
    item.CodeValue = "0085X"
    path = write_dicom(
        "a.dcm", PIXELS, ImagePositionPatient=[1.5, -2, 3e-7], ImageType=["ORIGINAL", "PRIMARY"], InstanceNumber=7,
        PatientName="A^B", SpecificCharacterSet="ISO_IR 192", SeriesDescription="Gärtner ", InstitutionName="",
        ProcedureCodeSequence=[item], AcquisitionTime="101010.5", RescaleSlope="1.0", EchoTime="",
    )  # fmt: skip
    assert check_equal(path)
    found = read_usual_header(path)
    assert found is not None
    assert (5, None) == (found.get("RescaleIntercept", 5), found.get("NoSuchKeyword"))


def test_escapes_of_other_character_sets_are_left_to_pydicom(write_dicom: Any) -> None:
    """They are ASCII bytes that mean something else."""
    path = write_dicom(
        "j.dcm", PIXELS, SpecificCharacterSet=["", "ISO 2022 IR 87"], SeriesDescription="\u4e73\u623f", StationName="x"
    )
    assert check_equal(path)


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless])
def test_unusual_files_are_left_to_pydicom(write_dicom: Any, tmp_path: Path, syntax: Any) -> None:
    """Big endian, deflated, compressed."""
    ds = pydicom.dcmread(write_dicom("a.dcm", PIXELS))
    if syntax == RLELossless:
        ds.compress(syntax)
        ds.save_as(tmp_path / "u.dcm")
    else:
        ds.file_meta.TransferSyntaxUID = syntax
        pydicom.dcmwrite(tmp_path / "u.dcm", ds, implicit_vr=False, little_endian=syntax != ExplicitVRBigEndian)
    assert read_usual_header(tmp_path / "u.dcm") is None


def test_implicit_files_are_usual(write_dicom: Any, tmp_path: Path) -> None:
    """Half of what archives hold."""
    ds = pydicom.dcmread(write_dicom("a.dcm", PIXELS, PatientWeight="70.5"))
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    ds.save_as(tmp_path / "i.dcm", implicit_vr=True, little_endian=True)
    assert check_equal(tmp_path / "i.dcm")


@pytest.mark.parametrize("length", [0, 100, 131, 140, 300, 700])
def test_truncated_files_are_left_to_pydicom(write_dicom: Any, length: int) -> None:
    """It says what is wrong with them."""
    path = write_dicom("a.dcm", PIXELS)
    path.write_bytes(path.read_bytes()[:length])
    assert read_usual_header(path) is None


def test_damaged_headers_never_raise(write_dicom: Any) -> None:
    """Any byte may be anything: the answer is elements or None."""
    path = write_dicom("a.dcm", PIXELS)
    content = path.read_bytes()
    start = len(content) - PIXELS.nbytes
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(content)
        for place in rng.integers(0, start, 3):
            damaged[place] = rng.integers(256)
        path.write_bytes(bytes(damaged))
        read_usual_header(path)


@pytest.mark.parametrize("path", PACKAGED, ids=lambda path: path.name)
def test_packaged_files_give_what_pydicom_gives(path: Path) -> None:
    """Those that pydicom brings with it, odd ones among them."""
    check_equal(path)


@pytest.mark.real_data
def test_real_files_give_what_pydicom_gives(shared_data: Path) -> None:
    """And most are usual."""
    paths = sorted(shared_data.glob("tcga_brca/**/*.dcm")) + sorted(shared_data.glob("duke*/**/*.dcm"))
    assert sum(check_equal(path) for path in paths) >= 0.9 * len(paths)
