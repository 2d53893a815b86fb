"""Statistics that a model takes from its training images before the first step."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from bcdx.learning.network import FEATURE_NORM, FEATURES

BATCHNORM_IMAGES = 128
VARIANCE_FLOOR = 0.01
"""Of the median: what hardly varies on the plain images would outweigh all else in a view in which it does."""


def adapt(model: keras.Model, images: tf.data.Dataset, *, weights: str) -> None:
    """Fit the model's normalisations to the training images, in place.

    With random weights the moving statistics of every BatchNormalization are those of its own input; then
    `feature_norm` takes mean and variance of the features of the initial body.

    Args:
        model: As `network.build_model` returns it, not compiled yet.
        images: Batches of plain training images in [0, 1].
        weights: The setting; "random" has no statistics of its own.
    """
    if weights == "random":
        _set_batchnorm(keras.Model(model.inputs, model.get_layer(FEATURES).output), images)
    read = layer_reader(model, FEATURES)
    norm = model.get_layer(FEATURE_NORM)
    norm.adapt(np.concatenate([read(batch) for batch in images]))
    variance = np.asarray(norm.adapt_variance)
    norm.adapt_variance.assign(np.maximum(variance, VARIANCE_FLOOR * np.median(variance)))
    norm.finalize_state()


def layer_reader(model: keras.Model, name: str) -> Callable[[tf.Tensor], NDArray[np.float32]]:
    """Return a function images -> output of the named layer in inference mode, run as a graph: 4 times as fast here."""
    body = keras.Model(model.inputs, model.get_layer(name).output)
    run = tf.function(lambda images: body(images, training=False), reduce_retracing=True)
    return lambda images: np.asarray(run(images))


def _set_batchnorm(body: keras.Model, images: tf.data.Dataset) -> None:
    """Set all moving statistics in one pass.

    In training mode a layer normalises by its batch, so each sees inputs that those before it have normalised; with
    momentum 0 the moving statistics become the batch's own.
    """
    layers = [layer for layer in body.layers if isinstance(layer, keras.layers.BatchNormalization)]
    settings = [(layer.momentum, layer.trainable) for layer in layers]
    for layer in layers:
        layer.momentum, layer.trainable = 0.0, True
    sample = tf.concat(list(islice(images, _batches_for(images))), axis=0)[:BATCHNORM_IMAGES]
    body(sample, training=True)
    for layer, (momentum, trainable) in zip(layers, settings, strict=True):
        layer.momentum, layer.trainable = momentum, trainable


def _batches_for(images: tf.data.Dataset) -> int:
    size = int(next(iter(images)).shape[0])
    return -(-BATCHNORM_IMAGES // size)
