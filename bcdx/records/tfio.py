"""The path and the header of a DICOM file in; its stored values, as tensorflow-io reads them, or None out.

tensorflow-io hands over what DCMTK renders for a screen. That equals what is stored for some files alone: signed values
come shifted by 32768, a rescale shifts and stretches them, overlays are burned in, a presentation LUT turns grey values
round, and what a truncated file lacks is made up. So a file is given to it only where its header rules all of that out.

Source: https://www.tensorflow.org/io/api_docs/python/tfio/image/decode_dicom_image, and 0.37.1 on TensorFlow 2.17.
"""

from __future__ import annotations

import importlib
import multiprocessing
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bcdx._native import import_tensorflow, muted_stderr
from bcdx._versions import installed_versions
from bcdx.errors import DicomError, RecordsError
from bcdx.imaging.damage import translate_damage

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Decode = Callable[[Path, "Dataset"], NDArray[Any] | None]
"""From a file and its header to stored values; None: another must decode it."""

DAMAGED = "pixel data cannot be decoded"
OTHER_SIZE = "pixel data and header disagree on the size"

NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")
"""Little endian, implicit and explicit: neither compressed nor deflated, the byte order of this machine."""
UNSET = (None, "")
AS_STORED: dict[str, tuple[Any, ...]] = {
    "PhotometricInterpretation": ("MONOCHROME2",),
    "SamplesPerPixel": (1,),
    "PixelRepresentation": (0,),
    "BitsAllocated": (8, 16),
    "NumberOfFrames": (*UNSET, 1),
    "RescaleSlope": (*UNSET, 1),
    "RescaleIntercept": (*UNSET, 0),
    "PresentationLUTShape": (*UNSET, "IDENTITY"),
}
"""What these elements may hold where DCMTK renders what is stored; None: the element is missing."""
RENDERED = (
    "ModalityLUTSequence",
    "PresentationLUTSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
"""What none of these files has: each changes what is rendered, or may hold what does."""
OVERLAYS = range(0x6000, 0x6100)
"""Groups of overlay planes."""


def open_tfio() -> Decode:
    """Return `decode_stored`, once its op has read a tiny file, written here, as it is stored.

    Raises:
        RecordsError: tensorflow-io is missing or does not work with this TensorFlow; says what to install.
    """
    stored = np.array([[0, 1, 255, 256, 4095], [4096, 32767, 32768, 65534, 65535]], np.uint16)
    try:
        found = _render(_load_op(), _write_probe(stored))
    except RecordsError:
        raise
    except Exception as error:  # what it is depends on both versions: NotImplementedError, an undefined symbol
        raise RecordsError(_advise("cannot decode a DICOM file")) from error
    if found.shape != (1, *stored.shape, 1) or not np.array_equal(found[0, :, :, 0], stored):
        raise RecordsError(_advise("decodes other values than are stored in a DICOM file"))
    return decode_stored


def decode_stored(path: Path, header: Dataset) -> NDArray[Any] | None:
    """Return the stored values of the one frame of a file.

    Args:
        path: The file.
        header: Its elements, PixelData read or left on disk.

    Returns:
        uint8 or uint16 as BitsAllocated says, shape (Rows, Columns), bits above BitsStored cleared; None where the file
        is none that is rendered as stored, for another decoder.

    Raises:
        DicomError: The pixel data are cut short or damaged, or have another size than the header says.
        RecordsError: tensorflow-io is missing in this process.
    """
    op = _load_op()
    with translate_damage(path, DAMAGED):
        if not is_rendered_as_stored(header):
            return None
        expected = int(header.Rows) * int(header.Columns) * int(header.BitsAllocated) // 8
        held = _count_bytes(header, path.stat().st_size)
        if held < expected:
            raise DicomError(DAMAGED)
        if held > expected + expected % 2:  # more than the byte that makes a length even
            return None
        found = _render(op, path.read_bytes())
    if found.shape != (1, header.Rows, header.Columns, 1):
        raise DicomError(OTHER_SIZE)
    return found[0, :, :, 0].astype(np.uint8 if header.BitsAllocated == 8 else np.uint16)


def is_rendered_as_stored(header: Dataset) -> bool:
    """Return whether DCMTK renders what a file stores: unsigned, MONOCHROME2, one frame, no rescale, LUT or overlay."""
    bits = header.get("BitsStored")
    return (
        header.file_meta.get("TransferSyntaxUID") in NATIVE
        and all(header.get(keyword) in accepted for keyword, accepted in AS_STORED.items())
        and isinstance(bits, int)
        and 1 <= bits <= int(header.BitsAllocated)
        and header.get("HighBit") == bits - 1
        and "PixelData" in header
        and not any(keyword in header for keyword in RENDERED)
        and not any(tag.group in OVERLAYS for tag in list(header.keys()))
    )


def _count_bytes(header: Dataset, file_bytes: int) -> int:
    """Return how many bytes of PixelData there are, be they read or left on disk."""
    element: Any = header.get_item("PixelData", keep_deferred=True)
    if element.value is None:
        return min(int(element.length), file_bytes - int(element.value_tell))
    return len(element.value)


def _render(op: Any, content: bytes) -> NDArray[np.uint16]:
    """Return what the op makes of a file's content, shape (frames, rows, columns, samples).

    DCMTK writes its opinion of files straight to file descriptor 2: a line for each MR image with a rescale.
    """
    with muted_stderr():
        found: NDArray[np.uint16] = op(content, color_dim=True, on_error="strict", scale="preserve").numpy()
    return found


@cache
def _load_op() -> Any:
    """Return tensorflow-io's op; in a worker process TensorFlow takes no GPU for it.

    Raises:
        RecordsError: It cannot be imported.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # beside a TensorFlow that it was not built for
            import_tensorflow()
            _leave_gpu_alone()
            return importlib.import_module("tensorflow_io").image.decode_dicom_image
    except Exception as error:
        raise RecordsError(_advise("cannot be imported")) from error


def _leave_gpu_alone() -> None:
    """Hide GPUs where this process is another's worker: TensorFlow would take most of their memory, once a worker."""
    if multiprocessing.parent_process() is None:
        return
    with suppress(RuntimeError):  # TensorFlow is at work here already, and has what it has
        importlib.import_module("tensorflow").config.set_visible_devices([], "GPU")


def _write_probe(stored: NDArray[np.uint16]) -> bytes:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = SecondaryCaptureImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid(entropy_srcs=["probe"])
    ds.Rows, ds.Columns = stored.shape
    ds.PhotometricInterpretation, ds.SamplesPerPixel, ds.PixelRepresentation = "MONOCHROME2", 1, 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    ds.PixelData = stored.astype("<u2").tobytes()
    file = BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _advise(what: str) -> str:
    found = installed_versions(("tensorflow", "tensorflow-io"))
    named = ", ".join(f"{name} {found.get(name, 'missing')}" for name in ("tensorflow", "tensorflow-io", "python"))
    return (
        f"decoder = 'tfio': tensorflow-io {what} ({named}); it works with TensorFlow 2.16 and 2.17 alone, in Python "
        "below 3.13: pip install 'bcdx[tfio]' in an environment of its own, or use decoder = 'pydicom'"
    )
