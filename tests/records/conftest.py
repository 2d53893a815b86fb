"""Entries and studies made to order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from bcdx.records.staging import Entry

MakeEntry = Callable[..., Entry]


@pytest.fixture
def make_entry() -> MakeEntry:
    """A function (number, **facts) -> an entry of its own patient and pixels unless told otherwise."""

    def make(number: int, **facts: Any) -> Entry:
        base: dict[str, Any] = {
            "label": number % 2,
            "patient": f"patient{number}",
            "split_digest": hashlib.sha256(f"P{number}".encode()).hexdigest(),
            "study": f"study{number}",
            "sample": f"sample{number}",
            "laterality": "L",
            "plane": "sagittal",
            "phase": "",
            "scanner": "",
            "site": "",
            "slice_index": 0,
            "spacing_mm": (1.0, 1.0),
            "source_pixels": (f"source{number}",),
            "label_origin": "table",
            "lesion_mm2": -1.0,
            "lesion_box": (-1.0, -1.0, -1.0, -1.0),
            "likeness": "0" * 16,
            "pixels": f"pixels{number}",
            "file": "a.raw",
            "offset": 0,
            "shape": (4, 4, 1),
        }
        return Entry(**{**base, **facts})

    return make
