"""Decoded records in; batches of (image float32 in [0, 1], label) for training or evaluation out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import reduce
from typing import Any

import tensorflow as tf

from bcdx.config import Augment, Stream
from bcdx.learning.augment import augment_image

logger = logging.getLogger(__name__)

MEMORY_BYTES = 2 * 2**30
"""Splits up to this size are kept in memory and shuffled as a whole; larger ones through a buffer of this size."""


def open_training(
    records: tf.data.Dataset,
    *,
    stream: Stream,
    augment: Augment,
    seed: int,
    samples: int,
    epochs: range,
) -> tf.data.Dataset:
    """Return one dataset over `epochs`, each with its own order and view.

    Order and views depend on (seed, epoch) alone, so a stream that starts at epoch k equals the rest of one that
    started at 0. An epoch has ceil(samples / batch size) batches; the last one may be smaller.
    """
    batch_size = effective_batch_size(stream.batch_size, samples)
    image_bytes = 2 * int(records.element_spec["image"].shape.num_elements())
    kept = records.map(lambda record: {name: record[name] for name in ("image", "label", "sample_seed")})

    def show(shuffled: tf.data.Dataset, epoch: tf.Tensor) -> tf.data.Dataset:
        def load(record: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
            image = to_float(record["image"])
            return augment_image(image, augment, seed, record["sample_seed"], epoch % stream.views), record["label"]

        return shuffled.map(load, num_parallel_calls=tf.data.AUTOTUNE).batch(batch_size)

    if samples * image_bytes <= MEMORY_BYTES:
        shuffle = _shuffle_in_memory(kept, samples, seed)
        batches = tf.data.Dataset.range(epochs.start, epochs.stop).flat_map(lambda epoch: show(shuffle(epoch), epoch))
    else:
        buffer = max(MEMORY_BYTES // image_bytes, 1)  # Dataset.shuffle takes no tensor for a seed: one dataset an epoch
        parts = [
            show(kept.shuffle(buffer, seed=epoch + seed * 2**20, reshuffle_each_iteration=False), tf.constant(epoch))
            for epoch in epochs
        ]
        batches = reduce(lambda left, right: left.concatenate(right), parts)
    return batches.prefetch(tf.data.AUTOTUNE).with_options(_ordered())


def _shuffle_in_memory(records: tf.data.Dataset, samples: int, seed: int) -> Callable[[tf.Tensor], tf.data.Dataset]:
    """Return a function epoch -> all records in that epoch's order, from memory."""
    columns = next(iter(records.batch(samples)))

    def shuffle(epoch: tf.Tensor) -> tf.data.Dataset:
        seeds = tf.stack([tf.constant(seed, tf.int64), tf.cast(epoch, tf.int64)])
        order = tf.random.experimental.stateless_shuffle(tf.range(samples), seeds)
        return tf.data.Dataset.from_tensor_slices(order).map(
            lambda index: {name: tf.gather(column, index) for name, column in columns.items()}
        )

    return shuffle


def open_evaluation(records: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
    """Return every sample once, in stored order, without augmentation."""
    return (
        records.map(lambda record: (to_float(record["image"]), record["label"]), num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size)
        .prefetch(tf.data.AUTOTUNE)
        .with_options(_ordered())
    )


def to_float(image: tf.Tensor) -> tf.Tensor:
    """Return uint16 as float32 in [0, 1]."""
    return tf.cast(image, tf.float32) / 65535.0


def effective_batch_size(batch_size: int, samples: int) -> int:
    """Return the batch size, reduced to the split with a warning where it is larger."""
    if batch_size > samples:
        logger.warning("stream.batch_size %d is larger than the split; using %d", batch_size, samples)
    return min(batch_size, samples)


def _ordered() -> Any:
    options = tf.data.Options()
    options.deterministic = True
    return options
