"""A linear probe: logistic regression on a model's initial features, as the start of its head.

Source: Kumar et al. 2022, "Fine-tuning can distort pretrained features and underperform out-of-distribution", ICLR: a
head that already fits keeps the first steps of fine-tuning from spoiling the features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

ITERATIONS = 300


def fit_probe(
    features: NDArray[np.float32], labels: NDArray[np.int64], *, c: float, balanced: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return kernel and bias of a dense layer that predicts what a logistic regression does.

    Args:
        features: Normalised, shape (samples, features).
        labels: Class indices, shape (samples,).
        c: Inverse strength of the L2 penalty, as scikit-learn has it.
        balanced: Let all classes count alike.
    """
    weights = "balanced" if balanced else None
    fitted = LogisticRegression(C=c, max_iter=ITERATIONS, class_weight=weights).fit(features, labels)
    return fitted.coef_.T.astype(np.float32), fitted.intercept_.astype(np.float32)
