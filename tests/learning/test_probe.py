"""Claims about the probe: a head begins where a linear model on the same features ends."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from bcdx.learning.probe import fit_probe


@pytest.mark.parametrize(("classes", "balanced"), [(2, False), (2, True), (3, False)])
def test_fit_probe_gives_a_layer_that_predicts_what_scikit_learn_does(classes: int, balanced: bool) -> None:
    """For two classes and for more."""
    features = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    labels = np.arange(60) % 7 % classes
    layer = keras.layers.Dense(classes if classes > 2 else 1, "softmax" if classes > 2 else "sigmoid")
    layer.build((None, 5))

    layer.set_weights([*fit_probe(features, labels, c=0.5, balanced=balanced)])

    linear = LogisticRegression(C=0.5, max_iter=1000, class_weight="balanced" if balanced else None)
    expected = linear.fit(features, labels).predict_proba(features)
    actual = np.asarray(layer(features))
    np.testing.assert_allclose(expected[:, 1:] if classes == 2 else expected, actual, atol=2e-3)
