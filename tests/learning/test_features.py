"""Claims about reading features: one pass gives what the head reads and what predicting gives."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from bcdx.config import Network
from bcdx.learning.features import read_features
from bcdx.learning.network import FEATURE_NORM, HEAD, attach_head, build_body
from bcdx.learning.prediction import predict

SHAPE = (75, 75, 1)


NETWORK = Network(weights="random", depth="none/mixed0", pooling="both")


@pytest.fixture(scope="module")
def body() -> keras.Model:
    """What the models share."""
    return build_body(NETWORK, input_shape=SHAPE, policy="float32", seed=0)


@pytest.fixture(params=[2, 3])
def model(body: keras.Model, request: pytest.FixtureRequest) -> keras.Model:
    """Of two classes and of three."""
    return attach_head(body, NETWORK, classes=request.param, seed=0)


def batches(size: int) -> tf.data.Dataset:
    images = np.random.default_rng(0).random((7, *SHAPE), np.float32)
    return tf.data.Dataset.from_tensor_slices(images).batch(size)


def test_read_features_gives_the_probabilities_that_predicting_gives(model: keras.Model) -> None:
    """A row an image, a column a class, in double precision."""
    _, probabilities = read_features(model, batches(3))
    np.testing.assert_allclose(predict(model, batches(3)), probabilities, rtol=0.0, atol=1e-6)
    assert np.float64 == probabilities.dtype


def test_read_features_gives_what_the_head_makes_its_logits_of(model: keras.Model) -> None:
    """The head on the features, by hand, gives the probabilities."""
    features, probabilities = read_features(model, batches(3))
    assert (7, model.get_layer(FEATURE_NORM).output.shape[-1]) == features.shape
    assert np.float32 == features.dtype
    kernel, bias = model.get_layer(HEAD).get_weights()
    logits = features @ kernel + bias
    logits = np.concatenate([np.zeros_like(logits), logits], axis=1) if logits.shape[1] == 1 else logits
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(expected, probabilities, rtol=0.0, atol=1e-5)


def test_read_features_does_not_depend_on_the_batches(model: keras.Model) -> None:
    """But for rounding: an image has its own features."""
    for one, other in zip(read_features(model, batches(2)), read_features(model, batches(7)), strict=True):
        np.testing.assert_allclose(one, other, rtol=0.0, atol=1e-4)
