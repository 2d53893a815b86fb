"""A model's probabilities for stored or new images, averaged over test-time views where asked."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from bcdx.config import Augment
from bcdx.errors import SettingsError
from bcdx.evidence.calibration import Calibration
from bcdx.learning.augment import all_views
from bcdx.learning.run import Run


def predict(model: keras.Model, images: tf.data.Dataset, *, views: int = 1) -> NDArray[np.float64]:
    """Return class probabilities, shape (samples, classes), rows in the order of `images`.

    Args:
        model: Takes images in [0, 1].
        images: Batches of float32 images, (batch, height, width, channels).
        views: 1, or 8 for the mean over all flips and quarter turns of square images.
    """
    return average_views(model.predict(all_views(images, views), verbose=0), views)


def average_views(scores: NDArray[Any], views: int) -> NDArray[np.float64]:
    """Return class probabilities, shape (samples, classes), from outputs for all samples in one view after another."""
    scores = np.asarray(scores, np.float64)
    if scores.shape[1] == 1:
        scores = np.concatenate([1.0 - scores, scores], axis=1)
    mean: NDArray[np.float64] = scores.reshape(views, -1, scores.shape[1]).mean(axis=0)
    return mean


def choose_views(run: Run, calibration: Calibration, asked: int | None) -> int:
    """Return how many views a finished run's model averages: as asked, else as it was tested.

    Raises:
        SettingsError: Its training never saw them.
    """
    views = int(asked or calibration.test_views)
    try:
        Augment.model_validate(run.settings["augment"]).check_test_views(views)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    return views
