"""A fit under way in; pictures of how it does on validation, for TensorBoard, out.

Scores in the pictures are the network's own: calibration follows the search. They are of single samples.
"""

from __future__ import annotations

import hashlib
import logging
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from bcdx.evidence.pictures.curves import draw_confusion, draw_precision_recall, draw_reliability, draw_roc
from bcdx.evidence.pictures.overlays import draw_overlay
from bcdx.learning.data import Data
from bcdx.learning.monitoring import show_images, tile_images
from bcdx.learning.saliency import find_explainer
from bcdx.learning.stream import to_float
from bcdx.learning.trainee import Trainee

logger = logging.getLogger(__name__)

SPLIT = "validation"
EXAMPLES = 8
"""Samples whose heat maps are shown, half of them positive: with their images they make a square of 16."""


class Portraits(keras.callbacks.Callback):
    """Write ROC, precision-recall, reliability, confusion and heat maps of validation every few epochs.

    `report.images_every` says how often; the last epoch that is trained is always shown, of a rung too. Training is
    what it is without: weights are read alone, and nothing is drawn by chance. Keras Tuner, which copies the callbacks
    that it is given, never sees this one.

    Args:
        trainee: That is about to be trained.
        folder: For TensorBoard; the step is the epoch, from 0, as of Keras's own scalars.
    """

    def __init__(self, trainee: Trainee, folder: Path) -> None:
        super().__init__()
        self._trainee, self._folder = trainee, folder

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Show this epoch if it is one of those to be shown."""
        fit = self._trainee.fit
        last = epoch + 1 == self.params["epochs"] or self.model.stop_training
        if not last and (epoch + 1) % fit.report.images_every:
            return
        if self.model is not self._trainee.model:  # what was kept had no room: another network goes on from images
            logger.info("%s: no pictures of validation after epoch %d", self._folder.name, epoch + 1)
            return
        scores = self._trainee.predict(SPLIT)
        if np.isfinite(scores).all():  # else training ends with an error of its own
            pictures = {**draw_scores(scores, self._trainee.data), "grad_cam": self._draw_heat()}
            named = {f"{SPLIT}/{name}": picture for name, picture in pictures.items()}
            show_images(self._folder, named, step=epoch)

    @cached_property
    def _examples(self) -> NDArray[np.float32]:
        data = self._trainee.data
        table, positive = data.table((SPLIT,)), data.manifest.classes.index(data.manifest.positive)
        return read_images(data, choose_samples(table.sample, table.label == positive))

    def _draw_heat(self) -> NDArray[np.uint8]:
        manifest = self._trainee.data.manifest
        explainer = find_explainer(self._trainee.joined)
        heat = explainer.explain(self._examples, positive=manifest.classes.index(manifest.positive))
        return draw_pairs(self._examples, heat)


def draw_scores(scores: NDArray[np.float64], data: Data) -> dict[str, NDArray[np.uint8]]:
    """Return the pictures of validation's raw scores, shape (samples, classes) in stored order, by name."""
    labels, manifest = data.table((SPLIT,)).label, data.manifest
    positive = manifest.classes.index(manifest.positive)
    title = f"{SPLIT}, per sample, not calibrated"
    shown, hits, named = scores[:, positive], labels == positive, f"{title}: {manifest.positive}"
    return {
        "roc": draw_roc(shown, hits, title=named),
        "precision_recall": draw_precision_recall(shown, hits, title=named),
        "reliability": draw_reliability(shown, hits, title=named),
        "confusion": draw_confusion(scores.argmax(axis=1), labels, manifest.classes, title=title),
    }


def draw_pairs(images: NDArray[np.float32], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return one picture: each image beside itself under its heat."""
    tiles: list[NDArray[np.float32]] = []
    for image, warmth in zip(images, heat, strict=True):
        colours = image if image.shape[-1] == 3 else np.repeat(image[..., :1], 3, axis=-1)
        tiles += [colours, draw_overlay(image, warmth).astype(np.float32) / 255.0]
    return tile_images(np.stack(tiles))


def choose_samples(codes: NDArray[np.str_], hits: NDArray[np.bool_], count: int = EXAMPLES) -> list[int]:
    """Return rows of the samples to show: those of the lowest SHA-256 of their code, half of them positive, first.

    The same in every epoch, trial and run on the same shards.
    """
    digests = [hashlib.sha256(code.encode()).hexdigest() for code in codes.tolist()]
    halves = [sorted(np.flatnonzero(mine).tolist(), key=digests.__getitem__) for mine in (hits, ~hits)]
    return [row for half in halves for row in half[: count // 2]]


def read_images(data: Data, rows: list[int]) -> NDArray[np.float32]:
    """Return validation's images of these rows, in [0, 1], shape (rows, height, width, channels)."""
    wanted = tf.constant(rows, tf.int64)
    records = data.records((SPLIT,)).enumerate().filter(lambda row, _: tf.reduce_any(row == wanted))
    found = {int(row): np.asarray(to_float(record["image"])) for row, record in records}
    return np.stack([found[row] for row in rows])
