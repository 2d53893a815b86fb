"""Whatever a damaged file makes a library raise in, one `DicomError` with a fixed phrase out."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bcdx.errors import BcdxError, DicomError

logger = logging.getLogger(__name__)

logging.getLogger("pydicom").setLevel(logging.ERROR)  # says the same as the warnings that are silenced below


@contextmanager
def translate_damage(path: Path | str, reason: str) -> Iterator[None]:
    """Raise DicomError(reason) for anything but an error of our own that the block raises.

    pydicom, its decoders and Pillow raise nearly everything on bytes that are not what they should be: zlib.error,
    struct.error, MemoryError, and decoders written in Rust a PanicException, which is not even an Exception.

    Args:
        path: The file that is read; for the log of debugging only.
        reason: Free of identifiers.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote header values, which may name a person
            yield
    except BcdxError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise  # an interrupt is no damage
        logger.debug("%s: %s", path, error)
        raise DicomError(reason) from error
