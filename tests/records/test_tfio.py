"""Claims about tensorflow-io: it hands over what is stored, or the file is another decoder's; elsewhere it says so."""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from bcdx.errors import DicomError, RecordsError
from bcdx.imaging.dicom import read_header
from bcdx.records import tfio
from bcdx.records.tfio import decode_stored, is_rendered_as_stored, open_tfio


def tfio_is_installed() -> bool:
    """Whether this environment is that of the extra `tfio`."""
    try:
        return version("tensorflow-io") == "0.37.1" and tuple(map(int, version("tensorflow").split(".")[:2])) < (2, 18)
    except PackageNotFoundError:
        return False


needs_tfio = pytest.mark.skipif(not tfio_is_installed(), reason="wants the environment of the extra tfio")
RAMP = np.arange(30, dtype=np.uint16).reshape(5, 6) * 137


def decode(path: Path) -> np.ndarray | None:
    return decode_stored(path, read_header(path))


def test_open_tfio_gives_a_decoder_or_says_what_to_install() -> None:
    """In one line: never another decoder in its place."""
    if tfio_is_installed():
        assert decode_stored is open_tfio()
        return
    with pytest.raises(RecordsError, match=r"TensorFlow 2\.16 and 2\.17 alone.*below 3\.13.*bcdx\[tfio\]") as caught:
        open_tfio()
    assert "\n" not in str(caught.value)


def shift(content: bytes, **_: Any) -> tf.Tensor:
    """An op that renders unsigned values as DCMTK does signed ones."""
    return tf.constant(pydicom.dcmread(BytesIO(content)).pixel_array[None, :, :, None] + np.uint16(32768))


def test_open_tfio_refuses_an_op_that_gives_other_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """An op that answers is not yet one that reads."""
    monkeypatch.setattr(tfio, "_load_op", lambda: shift)
    with pytest.raises(RecordsError, match="other values"):
        open_tfio()


@needs_tfio
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bits=st.integers(1, 16),
    wide=st.booleans(),
    shape=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    implicit=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_decode_stored_equals_pydicom(  # type: ignore[no-untyped-def]
    write_dicom, bits, wide, shape, implicit, seed
) -> None:
    """For any depth and size, odd lengths among them."""
    kind = np.uint16 if wide or bits > 8 else np.uint8
    pixels = np.random.default_rng(seed).integers(0, 2**bits, shape).astype(kind)
    path = write_dicom(f"{seed}.dcm", pixels, BitsStored=bits, HighBit=bits - 1)
    if implicit:
        convert(path, ImplicitVRLittleEndian)
    found = decode(path)
    assert found is not None
    assert found.dtype == kind
    np.testing.assert_array_equal(pydicom.dcmread(path).pixel_array, found)
    np.testing.assert_array_equal(pixels, found)


def convert(path: Path, syntax: UID) -> None:
    """Write a file anew in another transfer syntax."""
    ds = pydicom.dcmread(path)
    if syntax == RLELossless:
        ds.compress(syntax)
    ds.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    plain = syntax != RLELossless
    pydicom.dcmwrite(
        path,
        ds,
        implicit_vr=syntax == ImplicitVRLittleEndian if plain else None,
        little_endian=syntax != ExplicitVRBigEndian if plain else None,
        force_encoding=plain,
    )


ACCEPTED: dict[str, dict[str, Any]] = {
    "window": {"WindowCenter": 50, "WindowWidth": 20},
    "identity": {"RescaleSlope": 1, "RescaleIntercept": 0, "RescaleType": "US"},
    "empty rescale": {"RescaleSlope": "", "RescaleIntercept": ""},
    "intercept alone": {"RescaleIntercept": 0},
    "padding": {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 500},
    "extremes": {"SmallestImagePixelValue": 5, "LargestImagePixelValue": 100},
    "aspect": {"PixelAspectRatio": [2, 1]},
    "one frame": {"NumberOfFrames": 1},
    "as it is": {"PresentationLUTShape": "IDENTITY"},
    "an X-ray": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.2", "Modality": "MG", "PixelIntensityRelationshipSign": -1},
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_does_not_touch_stored_values_is_accepted(write_dicom: Any, name: str) -> None:
    """And read as stored, where the op works."""
    path = write_dicom("a.dcm", RAMP, **ACCEPTED[name])
    assert is_rendered_as_stored(read_header(path))
    if tfio_is_installed():
        np.testing.assert_array_equal(RAMP, decode(path))


def lut() -> Sequence:
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [4096, 0, 16], np.arange(4096, dtype="<u2")[::-1].tobytes()
    item["LUTData"].VR = "OW"
    return Sequence([item])


OVERLAY = (
    (0x0010, "US", 5),
    (0x0011, "US", 6),
    (0x0040, "CS", "G"),
    (0x0050, "SS", [1, 1]),
    (0x0100, "US", 1),
    (0x0102, "US", 0),
    (0x3000, "OW", b"\xff" * 4),
)
"""An overlay plane that covers `RAMP`: element, VR, value."""

REFUSED: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "signed": (RAMP.astype(np.int16), {}),
    "no sign": (RAMP, {"PixelRepresentation": None}),
    "MONOCHROME1": (RAMP, {"PhotometricInterpretation": "MONOCHROME1"}),
    "colour": (RAMP, {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}),
    "slope": (RAMP, {"RescaleSlope": 2, "RescaleIntercept": 0}),
    "intercept": (RAMP, {"RescaleSlope": 1, "RescaleIntercept": -7}),
    "Modality LUT": (RAMP, {"ModalityLUTSequence": lut()}),
    "presentation LUT": (RAMP, {"PresentationLUTSequence": lut()}),
    "inverse": (RAMP, {"PresentationLUTShape": "INVERSE"}),
    "several frames": (np.stack([RAMP, RAMP]), {"NumberOfFrames": 2}),
    "functional groups": (RAMP, {"SharedFunctionalGroupsSequence": Sequence([Dataset()])}),
    "32 bits": (RAMP.astype(np.uint32), {}),
    "a bit": (RAMP, {"BitsStored": 12, "HighBit": 12}),
    "no HighBit": (RAMP, {"HighBit": None}),
    "too many bits": (RAMP, {"BitsStored": 17, "HighBit": 16}),
    "no bits": (RAMP, {"BitsStored": None}),
    "no pixels": (RAMP, {"PixelData": None}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_rendered_otherwise_is_refused(write_dicom: Any, name: str) -> None:
    """Another decoder reads it."""
    pixels, elements = REFUSED[name]
    path = write_dicom("r.dcm", pixels, **elements)
    assert not is_rendered_as_stored(read_header(path))
    if tfio_is_installed():
        assert decode(path) is None


def add_overlay(path: Path, group: int) -> Path:
    """Lay a plane of ones over the image."""
    ds = pydicom.dcmread(path)
    for element, vr, value in OVERLAY:
        ds.add_new((group, element), vr, value)
    ds.save_as(path)
    return path


@pytest.mark.parametrize("group", [0x6000, 0x6002, 0x601E])
def test_overlays_are_refused(write_dicom: Any, group: int) -> None:
    """In whichever of the groups they stand."""
    path = add_overlay(write_dicom("o.dcm", RAMP), group)
    assert not is_rendered_as_stored(read_header(path))


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless])
def test_other_transfer_syntaxes_are_refused(write_dicom: Any, syntax: UID) -> None:
    """Whatever is packed, or in the other byte order."""
    path = write_dicom("s.dcm", RAMP)
    convert(path, syntax)
    assert not is_rendered_as_stored(read_header(path))


@needs_tfio
@pytest.mark.parametrize("name", ["signed", "MONOCHROME1", "inverse", "overlay"])
def test_refusing_is_not_overdone(write_dicom: Any, name: str) -> None:
    """The op does give other values for such files, without a word."""
    pixels, elements = REFUSED.get(name, (RAMP, {}))
    path = write_dicom("r.dcm", pixels, **elements)
    if name == "overlay":
        add_overlay(path, 0x6000)
    shown = tfio._render(tfio._load_op(), path.read_bytes())[0, :, :, 0]
    assert (shown != pixels).any()


@needs_tfio
def test_bits_above_those_stored_are_cleared(write_dicom: Any) -> None:
    """As they are where pydicom decodes."""
    path = write_dicom("h.dcm", RAMP % 4096 | np.uint16(0xF000), BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(RAMP % 4096, decode(path))


@needs_tfio
def test_pixel_data_longer_than_the_image_are_left_to_another_decoder(write_dicom: Any) -> None:
    """The byte that makes a length even is no such thing."""
    odd = np.arange(15, dtype=np.uint8).reshape(3, 5)
    np.testing.assert_array_equal(odd, decode(write_dicom("even.dcm", odd, PixelData=odd.tobytes() + b"\0")))
    assert decode(write_dicom("longer.dcm", RAMP, PixelData=RAMP.tobytes() + b"\0\0")) is None


@needs_tfio
@pytest.mark.parametrize("lost", [1, 2, 31, 60])
@pytest.mark.parametrize("whole", [False, True])
def test_truncated_files_are_an_error(write_dicom: Any, lost: int, whole: bool) -> None:
    """With pixel data left on disk, or with as many of them as were read; DCMTK alone makes up the rest."""
    path = write_dicom("t.dcm", RAMP)
    path.write_bytes(path.read_bytes()[:-lost])
    header = pydicom.dcmread(path) if whole else read_header(path)
    with pytest.raises(DicomError, match="pixel data cannot be decoded"):
        decode_stored(path, header)


@needs_tfio
def test_pixel_data_shorter_than_the_image_are_an_error(write_dicom: Any) -> None:
    """Though the file is whole."""
    with pytest.raises(DicomError, match="pixel data cannot be decoded"):
        decode(write_dicom("short.dcm", RAMP, PixelData=RAMP.tobytes()[:-2]))


@needs_tfio
def test_what_the_op_cannot_load_is_an_error(write_dicom: Any) -> None:
    """Strict: no empty image."""
    path = write_dicom("d.dcm", RAMP)
    header = read_header(path)
    path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(DicomError, match="pixel data cannot be decoded"):
        decode_stored(path, header)


@needs_tfio
def test_another_size_than_the_header_says_is_an_error(write_dicom: Any) -> None:
    """Even of as many pixels."""
    path = write_dicom("z.dcm", RAMP)
    header = read_header(path)
    header.Rows, header.Columns = header.Columns, header.Rows
    with pytest.raises(DicomError, match="disagree on the size"):
        decode_stored(path, header)


@needs_tfio
def test_decoding_writes_nothing_to_the_terminal(write_dicom: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """DCMTK warns of every MR image with a rescale, and of damage twice."""
    decode(write_dicom("m.dcm", RAMP, RescaleSlope=1, RescaleIntercept=0))
    assert ("", "") == tuple(capfd.readouterr())


@needs_tfio
def test_decode_stored_works_in_a_fresh_process(write_dicom: Any) -> None:
    """Handed over by pickle, to a process that has imported nothing."""
    path = write_dicom("p.dcm", RAMP)
    assert decode_stored is pickle.loads(pickle.dumps(open_tfio()))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found = pool.submit(decode_stored, path, read_header(path)).result()
    np.testing.assert_array_equal(RAMP, found)


@pytest.mark.real_data
@needs_tfio
@pytest.mark.parametrize(("folder", "expected"), [("duke_breast_mri_153", 92), ("breast_dce_patches", 1578)])
def test_real_files_equal_what_pydicom_reads(shared_data: Path, folder: str, expected: int) -> None:
    """Pixel by pixel, of every file but the segmentation."""
    read = 0
    for path in sorted((shared_data / folder).rglob("*.dcm")):
        found = decode(path)
        if found is not None:
            np.testing.assert_array_equal(pydicom.dcmread(path).pixel_array, found)
            read += 1
    assert expected == read


@pytest.mark.real_data
@pytest.mark.parametrize("folder", ["tcga_brca", "dicom_syntaxes", "duke_breast_mri_153/seg"])
def test_real_files_that_are_signed_compressed_or_segmentations_are_refused(shared_data: Path, folder: str) -> None:
    """All of them are pydicom's."""
    paths = sorted((shared_data / folder).rglob("*.dcm"))
    assert paths
    assert not [path.name for path in paths if is_rendered_as_stored(read_header(path))]
