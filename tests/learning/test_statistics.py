"""Claims about what a network takes from its images before the first step."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from bcdx.config import Network
from bcdx.learning.network import build_body
from bcdx.learning.statistics import measure_features, normalise, set_batchnorm, set_normalisation


def test_each_batchnorm_has_the_statistics_of_its_own_input() -> None:
    """Layer by layer: in inference mode every one gives zero mean and unit variance per channel, and none trains."""
    images = np.random.default_rng(0).random((24, 75, 75, 1), np.float32)
    body = build_body(Network(), input_shape=(75, 75, 1), policy="float32", seed=0)
    body = keras.Model(body.inputs, body.get_layer("mixed0").output)
    layers = [layer for layer in body.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in layers:
        layer.trainable = False

    set_batchnorm(body, tf.data.Dataset.from_tensor_slices(images).batch(8))

    for output in keras.Model(body.inputs, [layer.output for layer in layers])(images):
        mean, variance = np.mean(output, axis=(0, 1, 2)), np.var(output, axis=(0, 1, 2))
        np.testing.assert_allclose(mean, 0.0, atol=2e-3)
        np.testing.assert_array_less(variance, 1.01)
    assert {False} == {layer.trainable for layer in layers}


def test_normalised_features_have_zero_mean_and_unit_variance() -> None:
    """Those that vary as most do."""
    features = np.random.default_rng(0).normal(3.0, 5.0, (200, 6)).astype(np.float32)
    output = normalise(features, *measure_features(features))
    np.testing.assert_allclose(output.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(output.std(axis=0), 1.0, atol=1e-4)


def test_features_that_hardly_vary_are_not_blown_up() -> None:
    """One that shows something new later stays within a bounded scale."""
    features = np.random.default_rng(0).normal(size=(50, 5)).astype(np.float32)
    features[:, 2] = 7.0
    _, variance = measure_features(features)
    assert variance.min() == np.float32(0.01) * np.median(variance) > 0.0


def test_layer_normalises_as_the_function_does() -> None:
    """What the probe sees is what the head will see."""
    features = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    layer = keras.layers.Normalization(dtype="float32")
    layer.build((None, 4))
    mean, variance = measure_features(features)
    set_normalisation(layer, mean, variance)
    np.testing.assert_allclose(normalise(features, mean, variance), np.asarray(layer(features)), rtol=1e-6, atol=1e-6)
