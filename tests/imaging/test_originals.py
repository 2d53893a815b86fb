"""Claims about objects of a source's own study: whose they are, what they do not tell, that real tools take them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from highdicom.sr import srread
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage

from bcdx.config import Phantom
from bcdx.errors import DicomError
from bcdx.imaging.heat_series import HeatMap, write_heat_series
from bcdx.imaging.originals import (
    STUDY,
    ImageReference,
    Maker,
    check_study,
    find_plane,
    read_original,
    read_originals,
)
from bcdx.imaging.phantom import write_phantom
from bcdx.imaging.structured_report import Finding, Findings, write_structured_report

MAKER = Maker(model="0123456789abcdef" * 4, moment=datetime(2024, 5, 6, 7, 8, 9))
PIXELS = np.full((16, 12), 4321, np.uint16)
PLACE = {
    "FrameOfReferenceUID": "1.2.3.9",
    "ImageOrientationPatient": [0, 1, 0, 0, 0, -1],
    "ImagePositionPatient": [60, -20, 15],
    "PixelSpacing": [0.5, 0.75],
}
TRACES = {
    "InstitutionName": "TRACECLINIC",
    "StationName": "TRACESTATION",
    "OperatorsName": "TRACE^OPERATOR",
    "PatientAge": "071Y",
    "OtherPatientIDs": "TRACEOTHER",
    "PatientComments": "TRACECOMMENT",
    "PatientAddress": "TRACEADDRESS",
    "StudyDescription": "TRACESTUDY",
    "SeriesDescription": "TRACESERIES",
    "DeviceSerialNumber": "TRACEDEVICE",
    "AcquisitionDate": "19310405",
    "Manufacturer": "TRACEMAKER",
    "ImageComments": "TRACEIMAGE",
}
"""What a header may hold beyond patient and study."""


def make_objects(sources: list[Dataset], maker: Maker = MAKER) -> list[Dataset]:
    """A report and heat maps on all sources, of enhanced ones on the last frame."""
    images = [ImageReference(one.SOPInstanceUID, int(one.get("NumberOfFrames") or 1) - 1) for one in sources]
    slices = tuple(Finding(0.25, 0.5, (image,), "L") for image in images)
    whole = Finding(0.75, 0.5, tuple(images[:2]))
    findings = Findings(
        whole, (replace(whole, laterality="L"),), slices, "tumour", "youden", "Youden", "None.", ("Only a test.",)
    )
    maps = [HeatMap(np.full((20, 20, 3), 7, np.uint8), (image,)) for image in images]
    report = write_structured_report(sources, findings, series_number=900, maker=maker)
    return [report, *write_heat_series(sources, maps, series_number=901, maker=maker)]


def save(ds: Dataset, path: Path) -> Path:
    """Write an object as a caller would."""
    ds.save_as(path, enforce_file_format=True)
    return path


def require(tool: str) -> None:
    """Skip the test where a program is missing; where $CI is set it fails, for there it has to be."""
    if shutil.which(tool) is None:
        leave = pytest.fail if os.environ.get("CI") else pytest.skip
        leave(f"{tool} is not installed")


def list_errors(path: Path) -> list[str]:
    """What dciodvfy and, for reports, dsrdump call an error."""
    tools = ["dciodvfy", "dsrdump"] if pydicom.dcmread(path).Modality == "SR" else ["dciodvfy"]
    found = []
    for tool in tools:
        require(tool)
        done = subprocess.run([tool, path], capture_output=True, text=True, errors="replace", check=False)
        lines = (done.stdout + done.stderr).splitlines()
        found += [line for line in lines if line.startswith(("Error", "E:", "F:"))]
        found += [f"{tool}: status {done.returncode}"] if done.returncode else []
    return found


@pytest.fixture
def list_sources(tmp_path: Path, write_dicom: Any, request: pytest.FixtureRequest) -> Callable[[str], list[Path]]:
    """A function kind -> files of one study."""

    def enhanced() -> Path:
        groups = []
        for index in range(3):
            group, place = Dataset(), Dataset()
            place.ImagePositionPatient = [70.0, 0.0, 5.0 * index]
            group.PlanePositionSequence = [place]
            groups.append(group)
        shared, orientation, measures = Dataset(), Dataset(), Dataset()
        orientation.ImageOrientationPatient, measures.PixelSpacing = [1, 0, 0, 0, 1, 0], [0.5, 0.5]
        shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
        return write_dicom(
            "e.dcm", np.stack([PIXELS] * 3), NumberOfFrames=3, SOPClassUID=EnhancedMRImageStorage,
            FrameOfReferenceUID="1.2.3.4", PerFrameFunctionalGroupsSequence=groups,
            SharedFunctionalGroupsSequence=[shared],
        )  # fmt: skip

    def phantom() -> list[Path]:
        write_phantom(tmp_path / "phantom", Phantom(patients=4, slices_per_breast=2, size=75))
        return sorted((tmp_path / "phantom" / "PHANTOM-0001").rglob("*.dcm"))

    def real(pattern: str) -> list[Path]:
        return sorted(request.getfixturevalue("shared_data").glob(pattern))[:3]

    made: dict[str, Callable[[], list[Path]]] = {
        "phantom": phantom,
        "enhanced": lambda: [enhanced()],
        "messy": lambda: [
            write_dicom(
                "m.dcm", PIXELS, PatientID="", PatientName="M\xfcller^Anna", SpecificCharacterSet="ISO_IR 999",
                StudyDate="19991399", PatientSex="female", StudyTime="noon", AccessionNumber="12345678901234567",
            )
        ],
        "mammogram": lambda: [write_dicom("g.dcm", PIXELS, Modality="MG", SOPClassUID="1.2.840.10008.5.1.4.1.1.1.2")],
        "not ASCII": lambda: [
            write_dicom("n.dcm", PIXELS, PatientID="P\xe9", PatientName="M\xfcller", SpecificCharacterSet="ISO_IR 100")
        ],
        "duke": lambda: real("duke_breast_mri_153/post1/*.dcm"),
        "tcga": lambda: real("tcga_brca/dicom/*.dcm")[:1],
        "patch": lambda: real("breast_dce_patches/Breast_MRI_014/*.dcm")[:1],
        "jpeg2000": lambda: real("dicom_syntaxes/MG1_J2KI.dcm"),
    }  # fmt: skip
    return lambda kind: made[kind]()


REAL = [pytest.param(kind, marks=pytest.mark.real_data) for kind in ("duke", "tcga", "patch", "jpeg2000")]


@pytest.mark.parametrize("kind", ["phantom", "enhanced", "messy", "mammogram", "not ASCII", *REAL])
def test_objects_are_of_the_sources_study_and_accepted(list_sources: Any, tmp_path: Path, kind: str) -> None:
    """Study and patient are the same; dciodvfy and dsrdump find no error; highdicom and pydicom read them back."""
    paths = list_sources(kind)
    sources = list(read_originals(paths).values())
    original = pydicom.dcmread(paths[0], stop_before_pixels=True)
    for number, made in enumerate(make_objects(sources)):
        path = save(made, tmp_path / f"{number}.dcm")
        assert [] == list_errors(path)
        written = pydicom.dcmread(path)
        for keyword in ("StudyInstanceUID", "PatientID"):
            assert str(original.get(keyword, "")) == str(written[keyword].value)
        assert all(keyword in written for keyword in STUDY)
        assert written.SeriesInstanceUID not in {source.SeriesInstanceUID for source in sources}
        if number:
            assert (original.get("FrameOfReferenceUID") or None) == written.get("FrameOfReferenceUID")
            assert written.Rows * written.Columns * 3 == len(written.PixelData)
        else:
            srread(path)
            assert str(original.get("FrameOfReferenceUID") or "") in str(written)


def test_nothing_else_of_a_header_is_repeated(write_dicom: Any, tmp_path: Path) -> None:
    """Neither traces nor a stored pixel value in either object."""
    path = write_dicom("a.dcm", PIXELS, **TRACES)
    ds = pydicom.dcmread(path)
    ds.private_block(0x11, "TRACECREATOR", create=True).add_new(1, "LO", "TRACEPRIVATE")
    ds.save_as(path)
    for made in make_objects([read_original(path)]):
        content = save(made, tmp_path / "made.dcm").read_bytes()
        told = [value for value in (*TRACES.values(), "TRACE") if value.encode() in content]
        assert [] == told
        assert PIXELS[0, :4].tobytes() not in content


def test_missing_or_invalid_study_elements_become_empty(list_sources: Any) -> None:
    """Nothing is guessed, cut or mended."""
    (path,) = list_sources("messy")
    header = read_original(path)
    assert dict.fromkeys(STUDY, "") == {keyword: str(header[keyword].value) for keyword in STUDY}


@pytest.mark.parametrize(
    ("charset", "name", "kept"),
    [
        ("ISO_IR 100", "M\xfcller^Anna", True),
        ("ISO_IR 192", "\u0141ucja^\u015awi\u0119ta", True),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=\u5c71\u7530^\u592a\u90ce", True),
        (None, "Muller^Anna", True),
        # bytes beyond ASCII in nobody's character set
        (None, "M\xfcller^Anna", False),
        ("ISO_IR 6", "M\xfcller^Anna", False),
    ],
)
def test_names_survive_where_their_character_set_is_known(
    write_dicom: Any, tmp_path: Path, charset: Any, name: str, kept: bool
) -> None:
    """What is written is read as it was."""
    path = write_dicom("a.dcm", PIXELS, SpecificCharacterSet=charset or "ISO_IR 100", PatientName=name)
    if charset in (None, "ISO_IR 6"):
        content = path.read_bytes()
        path.write_bytes(content.replace(b"ISO_IR 100", b"ISO_IR 6  "))
    for made in make_objects([read_original(path)]):
        assert (name if kept else "") == str(pydicom.dcmread(save(made, tmp_path / "made.dcm")).PatientName)


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"StudyInstanceUID": None}, "no StudyInstanceUID"),
        ({"SeriesInstanceUID": ""}, "no SeriesInstanceUID"),
        ({"StudyInstanceUID": "1.02.3"}, "a StudyInstanceUID that is not valid"),
        ({"SOPClassUID": "1.2.3.4"}, "a SOP class that the standard does not know"),
        ({"PatientID": "P\xe9", "SpecificCharacterSet": "ISO_IR 999"}, "a PatientID that is not valid or not certain"),
    ],
)
def test_sources_that_cannot_be_referred_to_are_refused(
    write_dicom: Any, elements: dict[str, Any], reason: str
) -> None:
    """With a reason free of values, so that the caller goes on without DICOM output for the study."""
    with pytest.raises(DicomError, match=reason):
        read_original(write_dicom("a.dcm", PIXELS, **elements))


def test_files_that_are_not_dicom_are_refused(tmp_path: Path) -> None:
    """A picture belongs to no study."""
    (tmp_path / "a.png").write_bytes(b"\x89PNG" + bytes(200))
    with pytest.raises(DicomError, match="not a DICOM file"):
        read_original(tmp_path / "a.png")


def test_several_studies_or_patients_are_refused(write_dicom: Any) -> None:
    """One object is of one study."""
    one = read_original(write_dicom("a.dcm", PIXELS, StudyInstanceUID="1.2.3"))
    for elements, what in (({"StudyInstanceUID": "1.2.4"}, "study"), ({"PatientID": "P2"}, "patient")):
        other = read_original(write_dicom("b.dcm", PIXELS, **{"StudyInstanceUID": "1.2.3", **elements}))
        with pytest.raises(DicomError, match=f"more than one {what}"):
            check_study([one, other])
    with pytest.raises(DicomError, match="no source images"):
        check_study([])


@pytest.mark.parametrize(
    ("elements", "known"),
    [
        ({}, True),
        ({"FrameOfReferenceUID": None}, False),
        ({"PixelSpacing": [0, 1]}, False),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 1, 0]}, False),
        ({"ImagePositionPatient": None}, False),
    ],
)
def test_a_place_is_known_only_where_a_header_is_whole(write_dicom: Any, elements: dict[str, Any], known: bool) -> None:
    """All four elements, and axes at right angles."""
    path = write_dicom("a.dcm", PIXELS, **{**PLACE, **{key: value for key, value in elements.items() if value}})
    header = read_original(path)
    for keyword in [key for key, value in elements.items() if value is None]:
        del header[keyword]
    assert known is (find_plane(header, 0) is not None)


def test_frames_of_enhanced_objects_have_their_own_place(list_sources: Any) -> None:
    """Per frame where it differs, shared where it does not."""
    header = read_original(list_sources("enhanced")[0])
    planes = [find_plane(header, index) for index in range(3)]
    assert [(70.0, 0.0, 0.0), (70.0, 0.0, 5.0), (70.0, 0.0, 10.0)] == [one and one.position_mm for one in planes]
    assert {(0.5, 0.5)} == {one and one.spacing_mm for one in planes}


def test_the_same_moment_gives_the_same_objects(list_sources: Any, tmp_path: Path) -> None:
    """To the byte; another moment or model gives other instances."""
    sources = list(read_originals(list_sources("phantom")).values())

    def write(maker: Maker) -> Iterator[bytes]:
        return (save(made, tmp_path / "made.dcm").read_bytes() for made in make_objects(sources, maker))

    assert list(write(MAKER)) == list(write(MAKER))
    uids = [
        {str(made.SOPInstanceUID) for made in make_objects(sources, maker)}
        for maker in (MAKER, replace(MAKER, moment=datetime(2025, 1, 1)), replace(MAKER, model="f" * 64))
    ]
    assert 3 * (1 + len(sources)) == len(set.union(*uids))


def test_no_name_is_said(write_dicom: Any, caplog: Any, recwarn: pytest.WarningsRecorder) -> None:
    """Libraries would quote a name of one component in warnings and logs."""
    path = write_dicom("a.dcm", PIXELS, PatientName="TRACENAME", StudyDate="TRACE")
    recwarn.clear()
    make_objects([read_original(path)])
    assert "TRACE" not in caplog.text + "".join(str(one.message) for one in recwarn.list)
