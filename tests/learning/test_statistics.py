"""Claims about what a model takes from its images before the first step."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from bcdx.config import Network
from bcdx.learning.network import build_model
from bcdx.learning.statistics import adapt


def adapted(weights: str = "random") -> tuple[keras.Model, np.ndarray]:
    images = np.random.default_rng(0).random((24, 75, 75, 1), np.float32)
    model = build_model(Network(depth="none/mixed0"), input_shape=(75, 75, 1), classes=2, policy="float32", seed=0)
    adapt(model, tf.data.Dataset.from_tensor_slices(images).batch(8), weights=weights)
    return model, images


def test_each_batchnorm_has_the_statistics_of_its_own_input() -> None:
    """Layer by layer: in inference mode every one gives zero mean and unit variance per channel."""
    model, images = adapted()
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    outputs = keras.Model(model.inputs, [layer.output for layer in layers])(images)
    for output in outputs:
        mean, variance = np.mean(output, axis=(0, 1, 2)), np.var(output, axis=(0, 1, 2))
        np.testing.assert_allclose(mean, 0.0, atol=2e-3)
        np.testing.assert_array_less(variance, 1.01)


def test_features_are_normalised_on_the_training_images() -> None:
    """`feature_norm` gives zero mean and unit variance for every feature that varies."""
    model, images = adapted()
    output = np.asarray(keras.Model(model.inputs, model.get_layer("feature_norm").output)(images))
    varied = output.std(axis=0) > 1e-3
    assert varied.mean() > 0.9
    np.testing.assert_allclose(output.mean(axis=0)[varied], 0.0, atol=1e-3)
    np.testing.assert_allclose(output.std(axis=0)[varied], 1.0, atol=1e-2)


def test_batchnorm_stays_untrainable_and_keeps_pretrained_statistics() -> None:
    """Weights that bring statistics keep them."""
    model, _ = adapted(weights="some/path.h5")
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {False} == {layer.trainable for layer in layers}
    assert {0.0} == {float(np.abs(layer.moving_mean).max()) for layer in layers}
    model, _ = adapted()
    assert {False} == {layer.trainable for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)}


def test_features_that_hardly_vary_are_not_blown_up() -> None:
    """Flat images leave most features constant; one that shows something new stays within a bounded scale."""
    model = build_model(Network(depth="none/mixed0"), input_shape=(75, 75, 1), classes=2, policy="float32", seed=0)
    flat = np.random.default_rng(0).random((24, 1, 1, 1), np.float32) * np.ones((24, 75, 75, 1), np.float32)
    flat[0] = np.random.default_rng(1).random((75, 75, 1))
    adapt(model, tf.data.Dataset.from_tensor_slices(flat).batch(8), weights="random")
    variance = np.asarray(model.get_layer("feature_norm").variance)
    assert variance.min() >= 0.0099 * np.median(variance) > 0.0
