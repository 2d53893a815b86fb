"""A model and images in; what its head reads of each image, and raw class probabilities, out, from one forward pass."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from bcdx.learning.network import with_features
from bcdx.learning.prediction import average_views


def read_features(model: keras.Model, images: tf.data.Dataset) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return normalised features and raw class probabilities, rows in the order of `images`.

    Args:
        model: Takes images in [0, 1], as `network.build_model` returns it.
        images: Batches of float32 images, (batch, height, width, channels); at least one.

    Returns:
        Outputs of the layer `feature_norm`, shape (images, features); probabilities, shape (images, classes).
    """
    reader = with_features(model)
    signature = [tf.TensorSpec(model.inputs[0].shape, tf.float32)]
    run: Any = tf.function(lambda batch: reader(batch, training=False), input_signature=signature)
    scores, features = zip(*([part.numpy() for part in run(batch)] for batch in images), strict=True)
    return np.concatenate(features), average_views(np.concatenate(scores), 1)
