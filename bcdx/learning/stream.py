"""Decoded records in; batches of (image float32 in [0, 1], label) for training or evaluation out."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

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
    image_bytes = stored_bytes(records.element_spec["image"].shape)
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
        # Dataset.shuffle takes no tensor for a seed: one dataset an epoch
        parts = [show(_shuffle_in_buffer(kept, image_bytes, seed, epoch), tf.constant(epoch)) for epoch in epochs]
        batches = reduce(lambda left, right: left.concatenate(right), parts)
    return batches.prefetch(tf.data.AUTOTUNE).with_options(_ordered())


def _shuffle_in_memory(records: tf.data.Dataset, samples: int, seed: int) -> Callable[[tf.Tensor], tf.data.Dataset]:
    """Return a function epoch -> all records in that epoch's order, from memory."""
    columns = next(iter(records.batch(samples)))

    def shuffle(epoch: tf.Tensor) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices(_permute(samples, seed, epoch)).map(
            lambda index: {name: tf.gather(column, index) for name, column in columns.items()}
        )

    return shuffle


def _permute(samples: int, seed: int, epoch: tf.Tensor | int) -> tf.Tensor:
    seeds = tf.stack([tf.constant(seed, tf.int64), tf.cast(epoch, tf.int64)])
    return tf.random.experimental.stateless_shuffle(tf.range(samples), seeds)


def _shuffle_in_buffer(rows: tf.data.Dataset, image_bytes: int, seed: int, epoch: int) -> tf.data.Dataset:
    buffer = max(MEMORY_BYTES // image_bytes, 1)
    return rows.shuffle(buffer, seed=epoch + seed * 2**20, reshuffle_each_iteration=False)


def order_of_epoch(samples: int, image_bytes: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the positions of an epoch's samples in the order in which `open_training` shows them.

    Args:
        samples: How many there are.
        image_bytes: Of one stored image, as `stored_bytes` gives it: large splits are shuffled through a buffer.
        seed: Of the run.
        epoch: From 0.
    """
    if samples * image_bytes <= MEMORY_BYTES:
        return np.asarray(_permute(samples, seed, epoch), np.int64)
    order = _shuffle_in_buffer(tf.data.Dataset.range(samples), image_bytes, seed, epoch)
    return np.fromiter(order.as_numpy_iterator(), np.int64, samples)


def stored_bytes(image_shape: Sequence[int]) -> int:
    """Return the bytes of one decoded image, uint16."""
    return 2 * math.prod(image_shape)


def open_views(
    records: tf.data.Dataset, batch_size: int, *, augment: Augment, seed: int, views: Sequence[int]
) -> tf.data.Dataset:
    """Return batches of every sample in one augmented view after another, float32 in [0, 1], in stored order.

    No batch holds two views.
    """

    def show(view: tf.Tensor) -> tf.data.Dataset:
        def load(record: dict[str, tf.Tensor]) -> tf.Tensor:
            return augment_image(to_float(record["image"]), augment, seed, record["sample_seed"], view)

        return records.map(load, num_parallel_calls=tf.data.AUTOTUNE).batch(batch_size)

    numbers = tf.data.Dataset.from_tensor_slices(tf.constant(views, tf.int64))
    return numbers.flat_map(show).prefetch(tf.data.AUTOTUNE).with_options(_ordered())


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
