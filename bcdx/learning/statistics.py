"""Statistics that a network takes from its training images before the first step."""

from __future__ import annotations

from itertools import islice

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

BATCHNORM_IMAGES, LEAST_IMAGES, BATCHNORM_PIXELS = 128, 16, 128 * 96 * 96
"""A BatchNormalization is set on so many images at most, fewer where they are large: its pixels count, not they."""
VARIANCE_FLOOR = 0.01
"""Of the median: what hardly varies on the plain images would outweigh all else in a view in which it does."""

Features = NDArray[np.float32]


def measure_features(features: Features) -> tuple[Features, Features]:
    """Return mean and floored variance of each feature, shape (features,) each; `features` is (samples, features)."""
    mean = features.mean(axis=0, dtype=np.float64)
    variance = features.var(axis=0, dtype=np.float64)
    return mean.astype(np.float32), np.maximum(variance, VARIANCE_FLOOR * np.median(variance)).astype(np.float32)


def normalise(features: Features, mean: Features, variance: Features) -> Features:
    """Return what `feature_norm` makes of the features."""
    scale = np.maximum(np.sqrt(variance), keras.config.epsilon()).astype(np.float32)
    return np.asarray((features - mean) / scale)


def set_normalisation(layer: keras.layers.Normalization, mean: Features, variance: Features) -> None:
    """Give a Normalization layer its statistics, in place."""
    layer.adapt_mean.assign(mean)
    layer.adapt_variance.assign(variance)
    layer.finalize_state()


def set_batchnorm(body: keras.Model, images: tf.data.Dataset) -> None:
    """Set the moving statistics of every BatchNormalization to those of its own input, in one pass, in place.

    In training mode a layer normalises by its batch, so each sees inputs that those before it have normalised; with
    momentum 0 the moving statistics become the batch's own.

    Args:
        body: Takes images; its weights are random and bring no statistics.
        images: Batches of plain training images in [0, 1].
    """
    layers = [layer for layer in body.layers if isinstance(layer, keras.layers.BatchNormalization)]
    settings = [(layer.momentum, layer.trainable) for layer in layers]
    for layer in layers:
        layer.momentum, layer.trainable = 0.0, True
    body(_take_sample(images), training=True)
    for layer, (momentum, trainable) in zip(layers, settings, strict=True):
        layer.momentum, layer.trainable = momentum, trainable


def _take_sample(images: tf.data.Dataset) -> tf.Tensor:
    """Return as many images as there are, up to the limits above."""
    first = next(iter(images))
    wanted = min(BATCHNORM_IMAGES, max(LEAST_IMAGES, BATCHNORM_PIXELS // (first.shape[1] * first.shape[2])))
    return tf.concat(list(islice(images, -(-wanted // first.shape[0]))), axis=0)[:wanted]
