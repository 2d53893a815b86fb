"""A second opinion on pixels: GDCM alone, without pydicom's decoding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

DecodeWithGdcm = Callable[[Path], np.ndarray]


@pytest.fixture(scope="session")
def decode_with_gdcm() -> DecodeWithGdcm:
    """A function path -> float32 pixels, shape (frames, rows, columns): raw buffer, then rescale and negation by hand.

    The header's RescaleSlope and RescaleIntercept are read with pydicom, for GDCM takes others for dose.
    """
    import gdcm
    import pydicom

    kinds = {
        gdcm.PixelFormat.UINT8: "u1", gdcm.PixelFormat.INT8: "i1", gdcm.PixelFormat.UINT16: "<u2",
        gdcm.PixelFormat.INT16: "<i2", gdcm.PixelFormat.UINT12: "<u2", gdcm.PixelFormat.INT12: "<i2",
        gdcm.PixelFormat.UINT32: "<u4", gdcm.PixelFormat.INT32: "<i4",
    }  # fmt: skip

    def decode(path: Path) -> np.ndarray:
        reader = gdcm.ImageReader()
        reader.SetFileName(str(path))
        assert reader.Read(), path
        image = reader.GetImage()
        buffer = image.GetBuffer().encode("utf-8", "surrogateescape")
        stored = np.frombuffer(buffer, kinds[image.GetPixelFormat().GetScalarType()]).astype(np.float64)
        stored = stored.reshape(-1, image.GetDimension(1), image.GetDimension(0))
        header = pydicom.dcmread(path, stop_before_pixels=True)
        real = stored * float(header.get("RescaleSlope", 1)) + float(header.get("RescaleIntercept", 0))
        return (-real if header.PhotometricInterpretation == "MONOCHROME1" else real).astype(np.float32)

    return decode
