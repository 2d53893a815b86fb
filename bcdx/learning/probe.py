"""A linear probe: logistic regression on a model's initial features, as the start of its head.

Source: Kumar et al. 2022, "Fine-tuning can distort pretrained features and underperform out-of-distribution", ICLR: a
head that already fits keeps the first steps of fine-tuning from spoiling the features.
"""

from __future__ import annotations

from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf
from sklearn.linear_model import LogisticRegression

from bcdx.learning.network import FEATURE_NORM, HEAD
from bcdx.learning.statistics import layer_reader

ITERATIONS = 300


def start_head(model: keras.Model, batches: Iterable[tuple[tf.Tensor, tf.Tensor]], *, c: float, balanced: bool) -> None:
    """Set the head to a logistic regression on the normalised features of `batches`, in place.

    Args:
        model: As `network.build_model` returns it, its normalisation adapted.
        batches: (images in [0, 1], class indices).
        c: Inverse strength of the L2 penalty, as scikit-learn has it.
        balanced: Let all classes count alike.
    """
    read = layer_reader(model, FEATURE_NORM)
    found = [(read(images), np.asarray(labels)) for images, labels in batches]
    features, labels = (np.concatenate(columns) for columns in zip(*found, strict=True))
    weights = "balanced" if balanced else None
    fitted = LogisticRegression(C=c, max_iter=ITERATIONS, class_weight=weights).fit(features, labels)
    model.get_layer(HEAD).set_weights([fitted.coef_.T.astype(np.float32), fitted.intercept_.astype(np.float32)])
