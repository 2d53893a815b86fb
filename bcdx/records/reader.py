"""Shards in; decoded records in stored order, or all that is known of them but their pixels, out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from bcdx.errors import RecordsError
from bcdx.records import schema
from bcdx.records.manifest import Manifest

NUMBERS = ("label", "sample_seed", "slice_index", "lesion_mm2", "lesion_box")


@dataclass(frozen=True)
class Table:
    """One row a sample, in stored order; every attribute has shape (samples,), `lesion_box` (samples, 4).

    Texts are str arrays, numbers int64 arrays, `lesion_mm2` a float32 array (-1 where it is not known), `lesion_box`
    another of first row, first column, one past the last row and column, in pixels of the stored image (-1 where there
    is none).
    """

    sample: NDArray[np.str_]
    patient: NDArray[np.str_]
    study: NDArray[np.str_]
    laterality: NDArray[np.str_]
    plane: NDArray[np.str_]
    phase: NDArray[np.str_]
    scanner: NDArray[np.str_]
    site: NDArray[np.str_]
    label_origin: NDArray[np.str_]
    label: NDArray[np.int64]
    sample_seed: NDArray[np.int64]
    slice_index: NDArray[np.int64]
    lesion_mm2: NDArray[np.float32]
    lesion_box: NDArray[np.float32]


def shard_paths(folder: Path, manifest: Manifest, splits: Sequence[str]) -> list[str]:
    """Return the shards of the splits in order."""
    return [str(folder / shard.name) for name in splits for shard in manifest.splits[name].shards]


def open_records(folder: Path, manifest: Manifest, splits: Sequence[str]) -> tf.data.Dataset:
    """Return decoded records, one at a time in stored order; `schema.FEATURES` lists what each holds."""
    shape = manifest.image_shape
    samples = sum(manifest.splits[name].samples for name in splits)
    return (
        tf.data.TFRecordDataset(shard_paths(folder, manifest, splits))
        .map(lambda serialized: schema.decode(serialized, shape), num_parallel_calls=tf.data.AUTOTUNE)
        .apply(tf.data.experimental.assert_cardinality(samples))
    )


def read_table(folder: Path, manifest: Manifest, splits: Sequence[str]) -> Table:
    """Read every record of the splits and return what is known of them but their pixels.

    Raises:
        RecordsError: A shard is damaged.
    """
    dataset = tf.data.TFRecordDataset(shard_paths(folder, manifest, splits)).map(schema.decode_facts).batch(1024)
    try:
        batches = list(dataset.as_numpy_iterator())
    except tf.errors.OpError as error:
        raise RecordsError(
            f"{folder}: a shard of {', '.join(splits)} is damaged; shard again with --overwrite"
        ) from error
    columns: dict[str, Any] = {}
    for name in schema.TEXTS:
        values = np.concatenate([batch[name] for batch in batches]) if batches else np.empty(0, object)
        columns[name] = np.array([value.decode() for value in values], dtype=np.str_)
    for name in NUMBERS:
        columns[name] = np.concatenate([batch[name] for batch in batches]) if batches else np.empty(0, np.int64)
    return Table(**columns)
