"""Claims about headers: what a file says of its frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from bcdx.errors import DicomError
from bcdx.imaging.dicom import Origin, is_dicom, read_dicom_frames
from bcdx.imaging.frames import Frame, TimeKeys
from bcdx.imaging.identity import Pseudonyms, split_digest

PIXELS = np.arange(16, dtype=np.uint16).reshape(4, 4)


def frames_of(path: Path, patient: str = "", *, by_file: bool = False) -> list[Frame]:
    return read_dicom_frames(Origin(path, path.name, patient, Pseudonyms(b"k"), "salt", by_file))


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"TemporalPositionIdentifier": 2, "TriggerTime": 5.5}, TimeKeys(temporal_position=2, trigger_time=5.5)),
        ({"AcquisitionNumber": 3}, TimeKeys(acquisition_number=3)),
        ({"AcquisitionTime": "000010.5"}, TimeKeys(acquisition_time=10.5)),
        ({"ContentTime": "000010"}, TimeKeys(content_time=10)),
        # both: neither hides the other
        ({"AcquisitionTime": "000010", "ContentTime": "000020"}, TimeKeys(acquisition_time=10, content_time=20)),
        ({"AcquisitionTime": "", "ContentTime": "noon"}, TimeKeys()),
    ],
)
def test_each_time_has_a_key_of_its_own(write_dicom: Any, elements: dict[str, Any], expected: TimeKeys) -> None:
    """Times are kept apart, in the order in which they are trusted."""
    (frame,) = frames_of(write_dicom("a.dcm", PIXELS, **elements))
    assert expected == frame.time_keys


@pytest.mark.parametrize(
    ("early", "late"),
    [
        ({"AcquisitionDateTime": "20200101235900"}, {"AcquisitionDateTime": "20200102000100"}),
        (
            {"AcquisitionDate": "20200131", "AcquisitionTime": "235900"},
            {"AcquisitionDate": "20200201", "AcquisitionTime": "000100"},
        ),
    ],
)
def test_a_night_does_not_turn_time_back(write_dicom: Any, early: dict[str, str], late: dict[str, str]) -> None:
    """The date counts where there is one."""
    times = [frames_of(write_dicom("a.dcm", PIXELS, **elements))[0].time_keys for elements in (early, late)]
    assert (times[0].acquisition_time or 0) < (times[1].acquisition_time or 0)


def test_enhanced_frames_have_times_of_their_own(write_dicom: Any) -> None:
    """FrameContentSequence says when each frame was acquired."""
    groups = []
    for index in range(2):
        group, content = Dataset(), Dataset()
        content.TemporalPositionIndex, content.FrameAcquisitionNumber = index + 1, 7
        content.FrameAcquisitionDateTime = f"2020010100000{index}"
        group.FrameContentSequence = Sequence([content])
        groups.append(group)
    path = write_dicom(
        "e.dcm", np.stack([PIXELS] * 2), NumberOfFrames=2, PerFrameFunctionalGroupsSequence=Sequence(groups)
    )
    first, second = (frame.time_keys for frame in frames_of(path))
    assert (1, 7, 2, 7) == (first[0], first[2], second[0], second[2])
    assert 1.0 == (second.acquisition_time or 0) - (first.acquisition_time or 0)


@pytest.mark.parametrize("claimed", [3, 2**31 - 1])
def test_more_frames_than_pixels_are_refused_at_once(write_dicom: Any, claimed: int) -> None:
    """A damaged number of frames costs neither time nor memory."""
    path = write_dicom("n.dcm", np.stack([PIXELS] * 2), NumberOfFrames=claimed)
    with pytest.raises(DicomError, match="more frames than its pixel data can hold"):
        frames_of(path)


def test_more_compressed_frames_than_the_file_has_room_for_are_refused(write_dicom: Any, tmp_path: Path) -> None:
    """Each frame is an item at least."""
    import pydicom
    from pydicom.uid import RLELossless

    ds = pydicom.dcmread(write_dicom("n.dcm", np.stack([PIXELS] * 2), NumberOfFrames=2))
    ds.compress(RLELossless)
    ds.save_as(tmp_path / "packed.dcm")
    assert 2 == len(frames_of(tmp_path / "packed.dcm"))
    ds.NumberOfFrames = 10**9
    ds.save_as(tmp_path / "packed.dcm")
    with pytest.raises(DicomError, match="more frames than its pixel data can hold"):
        frames_of(tmp_path / "packed.dcm")


def test_the_files_own_patient_wins(write_dicom: Any) -> None:
    """One from outside serves only where the file names nobody, and marks the frame if it is the file itself."""
    (own,) = frames_of(write_dicom("a.dcm", PIXELS), "other", by_file=True)
    assert (split_digest("salt", "P1"), False) == (own.split_digest, own.patient_is_file)
    nobody = write_dicom("b.dcm", PIXELS, PatientID=None)
    (other,) = frames_of(nobody, "other", by_file=True)
    assert (split_digest("salt", "other"), True) == (other.split_digest, other.patient_is_file)
    with pytest.raises(DicomError, match="no PatientID"):
        frames_of(nobody)


def test_a_header_without_preamble_is_dicom_and_text_is_not(write_dicom: Any, tmp_path: Path) -> None:
    """Told by content."""
    path = write_dicom("a.dcm", PIXELS)
    (tmp_path / "bare").write_bytes(path.read_bytes()[132:])
    (tmp_path / "text").write_text("path,label\n" * 20)
    assert [True, True, False] == [is_dicom(one) for one in (path, tmp_path / "bare", tmp_path / "text")]


def test_values_that_pydicom_warns_of_are_quoted_nowhere(
    write_dicom: Any, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    """A malformed element may hold a person's name; neither a log nor a warning repeats it."""
    path = write_dicom("w.dcm", PIXELS, StudyInstanceUID="1.2.77.1")
    path.write_bytes(path.read_bytes().replace(b"1.2.77.1", b"ANNA.1.1"))
    assert frames_of(path)
    assert "ANNA" not in caplog.text + "".join(str(one.message) for one in recwarn)


LEFT, RIGHT = [60.0, 0.0, 0.0], [-60.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("elements", "expected", "remarks"),
    [
        # geometry and words agree, or words alone tell
        ({"ImagePositionPatient": LEFT, "SeriesDescription": "SAG T1 LT"}, ("L", "geometry"), 0),
        ({"SeriesDescription": "SAG T1 LT"}, ("L", "description"), 0),
        ({"SeriesDescription": "SAG T1"}, ("unknown", "no laterality tag and no geometry"), 0),
        # where both tell and disagree, geometry wins and the words are reported
        ({"ImagePositionPatient": RIGHT, "SeriesDescription": "SAG T1 LT"}, ("R", "geometry"), 1),
        # a series' tag cannot speak for the other breast of a bilateral stack; that of an image can
        ({"ImagePositionPatient": RIGHT, "Laterality": "L"}, ("R", "geometry"), 1),
        ({"ImagePositionPatient": RIGHT, "ImageLaterality": "L"}, ("L", "ImageLaterality"), 1),
        ({"ImagePositionPatient": [5.0, 0.0, 0.0], "Laterality": "L"}, ("L", "Laterality"), 0),  # a coil on the midline
        ({"ImagePositionPatient": LEFT, "SeriesDescription": "SAG BILATERAL"}, ("L", "geometry"), 0),
    ],
)
def test_laterality_comes_from_the_surest_source(
    write_dicom: Any, elements: dict[str, Any], expected: tuple[str, str], remarks: int
) -> None:
    """Every other source that names the other breast costs a remark."""
    if "ImagePositionPatient" in elements:
        elements = {**elements, "ImageOrientationPatient": [0, 1, 0, 0, 0, -1], "PixelSpacing": [1.0, 1.0]}
    frame = frames_of(write_dicom("a.dcm", PIXELS, **elements))[0]
    assert expected == (frame.laterality, frame.laterality_reason)
    assert remarks == len(frame.remarks)


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"ImageLaterality": "X"}, ["ImageLaterality"]),
        ({"ImageLaterality": "left", "Laterality": "RT"}, ["ImageLaterality", "Laterality"]),
        # both breasts, and an unpaired part, are codes that the standard knows; a series of both is often marked so
        ({"ImageLaterality": "B"}, []),
        ({"ImageLaterality": "U", "Laterality": "B"}, []),
        ({"ImageLaterality": "l "}, []),
        ({"ImageLaterality": "", "Laterality": ""}, []),
        # one of the two is sure
        ({"ImageLaterality": "L", "Laterality": "?"}, ["Laterality"]),
    ],
)
def test_a_laterality_that_the_standard_does_not_know_is_reported(
    write_dicom: Any, elements: dict[str, Any], expected: list[str]
) -> None:
    """It tells nothing of the side, and nobody should think that it was missing; the code itself is not repeated."""
    (frame,) = frames_of(write_dicom("a.dcm", PIXELS, **elements))
    told = [f"laterality: {keyword} holds a code that DICOM does not know" for keyword in expected]
    assert told == list(frame.remarks)
    side = elements["ImageLaterality"].strip().upper()
    assert (side if side == "L" else "unknown") == frame.laterality


def test_a_frame_laterality_that_the_standard_does_not_know_is_reported(write_dicom: Any) -> None:
    """Of an enhanced object, each frame for itself."""
    groups = []
    for code in ("L", "Q"):
        anatomy, group = Dataset(), Dataset()
        anatomy.FrameLaterality = code
        group.FrameAnatomySequence = [anatomy]
        groups.append(group)
    path = write_dicom("e.dcm", np.stack([PIXELS] * 2), NumberOfFrames=2, PerFrameFunctionalGroupsSequence=groups)
    one, other = frames_of(path)
    assert () == one.remarks
    assert ("laterality: FrameLaterality holds a code that DICOM does not know",) == other.remarks


def test_plane_comes_from_geometry_and_words_that_disagree_are_reported(write_dicom: Any) -> None:
    """The words of a series are often left over from another protocol."""
    place = {"ImagePositionPatient": LEFT, "ImageOrientationPatient": [0, 1, 0, 0, 0, -1], "PixelSpacing": [1.0, 1.0]}
    frame = frames_of(write_dicom("a.dcm", PIXELS, SeriesDescription="AX T1 VIBRANT", **place))[0]
    assert ("sagittal", ("plane: description axial, geometry sagittal",)) == (frame.plane, frame.remarks)
    assert "axial" == frames_of(write_dicom("b.dcm", PIXELS, SeriesDescription="AX T1 VIBRANT"))[0].plane


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"SeriesDescription": "SAG T1 FS", "ImageType": ["DERIVED", "SECONDARY", "MIP"]}, "mip"),
        ({"SeriesDescription": "3 plane loc"}, "localizer"),
        ({"SeriesDescription": "SUB 1", "Modality": "MG"}, "unknown"),  # words on mammograms mean other things
    ],
)
def test_kind_of_series_comes_from_words_and_image_type(
    write_dicom: Any, elements: dict[str, Any], expected: str
) -> None:
    """Of magnetic resonance alone."""
    assert expected == frames_of(write_dicom("a.dcm", PIXELS, **elements))[0].kind


def test_burned_in_annotation_is_seen(write_dicom: Any) -> None:
    """YES in any spelling; NO and silence are no."""
    values = {"YES": True, "yes ": True, "NO": False, None: False}
    for number, (value, expected) in enumerate(values.items()):
        elements = {} if value is None else {"BurnedInAnnotation": value}
        assert expected is frames_of(write_dicom(f"{number}.dcm", PIXELS, **elements))[0].burned_in
