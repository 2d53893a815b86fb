"""One sample as one `tf.train.Example`, and back."""

from __future__ import annotations

import tensorflow as tf

from bcdx.records.staging import Entry

FEATURES = {
    "image": tf.io.FixedLenFeature([], tf.string),
    "shape": tf.io.FixedLenFeature([3], tf.int64),
    "label": tf.io.FixedLenFeature([], tf.int64),
    "patient": tf.io.FixedLenFeature([], tf.string),
    "study": tf.io.FixedLenFeature([], tf.string),
    "sample": tf.io.FixedLenFeature([], tf.string),
    "sample_seed": tf.io.FixedLenFeature([], tf.int64),
    "laterality": tf.io.FixedLenFeature([], tf.string),
    "plane": tf.io.FixedLenFeature([], tf.string),
    "phase": tf.io.FixedLenFeature([], tf.string),
    "scanner": tf.io.FixedLenFeature([], tf.string),
    "site": tf.io.FixedLenFeature([], tf.string),
    "slice_index": tf.io.FixedLenFeature([], tf.int64),
    "spacing_mm": tf.io.FixedLenFeature([2], tf.float32),
    "label_origin": tf.io.FixedLenFeature([], tf.string),
    "lesion_mm2": tf.io.FixedLenFeature([], tf.float32),
    "lesion_box": tf.io.FixedLenFeature([4], tf.float32),
}
"""`image` is raw little-endian uint16, height x width x channels; `imaging.sample.Sample` says what the others are."""

TEXTS = ("patient", "study", "sample", "laterality", "plane", "phase", "scanner", "site", "label_origin")


def encode(entry: Entry, image: bytes, sample_seed: int) -> bytes:
    """Return the serialized record; the same input gives the same bytes."""
    example = tf.train.Example()
    features = example.features.feature  # filled in place: three times as quick as nesting what is built
    features["image"].bytes_list.value.append(image)
    for name in TEXTS:
        features[name].bytes_list.value.append(getattr(entry, name).encode())
    numbers = {"shape": entry.shape, "label": (entry.label,), "slice_index": (entry.slice_index,)}
    for name, values in {**numbers, "sample_seed": (sample_seed,)}.items():
        features[name].int64_list.value.extend(values)
    for name, floats in {
        "spacing_mm": entry.spacing_mm, "lesion_mm2": (entry.lesion_mm2,), "lesion_box": entry.lesion_box,
    }.items():  # fmt: skip
        features[name].float_list.value.extend(floats)
    serialized: bytes = example.SerializeToString(deterministic=True)
    return serialized


def decode(serialized: tf.Tensor, shape: tuple[int, int, int]) -> dict[str, tf.Tensor]:
    """Return a record's features; `image` as uint16 of the manifest's image shape."""
    record = tf.io.parse_single_example(serialized, FEATURES)
    pixels = tf.io.decode_raw(record["image"], tf.uint16, little_endian=True)
    return {**record, "image": tf.reshape(pixels, shape)}


def decode_facts(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """Return a record's features without the image."""
    wanted = {name: kind for name, kind in FEATURES.items() if name != "image"}
    record: dict[str, tf.Tensor] = tf.io.parse_single_example(serialized, wanted)
    return record
