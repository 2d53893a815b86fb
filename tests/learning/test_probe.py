"""Claims about the probe: the head begins where a linear model on the same features ends."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.linear_model import LogisticRegression

from bcdx.config import Network
from bcdx.learning.network import FEATURE_NORM, build_model
from bcdx.learning.probe import start_head
from bcdx.learning.statistics import adapt


@pytest.mark.parametrize(("classes", "balanced"), [(2, False), (2, True), (3, False)])
def test_start_head_predicts_what_scikit_learn_does(classes: int, balanced: bool) -> None:
    """On the model's own normalised features, for two classes and for more."""
    generator = np.random.default_rng(0)
    images = generator.random((24, 75, 75, 1), np.float32)
    labels = np.arange(24) % 7 % classes
    model = build_model(Network(), input_shape=(75, 75, 1), classes=classes, policy="float32", seed=0)
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(10)
    adapt(model, batches.map(lambda image, _: image), weights="random")

    start_head(model, batches, c=0.5, balanced=balanced)

    features = np.asarray(keras.Model(model.inputs, model.get_layer(FEATURE_NORM).output)(images))
    linear = LogisticRegression(C=0.5, max_iter=1000, class_weight="balanced" if balanced else None)
    expected = linear.fit(features, labels).predict_proba(features)
    actual = np.asarray(model(images))
    np.testing.assert_allclose(expected[:, 1:] if classes == 2 else expected, actual, atol=2e-3)
