"""Claims about one record: it comes back as it was, and holds what the contract lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from bcdx.records.schema import FEATURES, decode, decode_facts, encode


def test_record_comes_back_as_it_was(make_entry: Any) -> None:
    """Every feature; pixels as little-endian uint16, whatever the machine's order."""
    image = np.arange(2 * 3 * 3, dtype=np.uint16).reshape(2, 3, 3) * 3000
    entry = make_entry(5, shape=(2, 3, 3), scanner="SIEMENS Avanto 1.5T", spacing_mm=(0.5, 0.25), slice_index=7)
    serialized = encode(entry, image.astype("<u2").tobytes(), 2**63 - 1)
    found = {name: value.numpy() for name, value in decode(tf.constant(serialized), (2, 3, 3)).items()}
    np.testing.assert_array_equal(image, found["image"])
    assert (2**63 - 1, 1, 7) == (found["sample_seed"], found["label"], found["slice_index"])
    assert (b"patient5", b"SIEMENS Avanto 1.5T") == (found["patient"], found["scanner"])
    assert [0.5, 0.25] == found["spacing_mm"].tolist()
    assert set(FEATURES) - {"image"} == set(decode_facts(tf.constant(serialized)))


def test_record_is_the_same_bytes_every_time_and_keeps_hashes_of_pixels_out(make_entry: Any) -> None:
    """What ties an image to its source stays in the staging folder."""
    entry = make_entry(1, source_pixels=("SOURCEHASH",), pixels="STOREDHASH", split_digest="DIGEST", shape=(1, 2, 1))
    first, second = (encode(entry, b"\0\0\0\0", 1) for _ in range(2))
    assert first == second
    assert not [word for word in (b"SOURCEHASH", b"STOREDHASH", b"DIGEST") if word in first]
