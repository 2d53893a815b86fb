"""What TensorBoard shows: scalars and hyperparameters per trial, augmented samples, how long training waits."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorboard.plugins.hparams import api as hparams_api

METRIC = "val_auc"


class InputWait:
    """Counts the seconds that the training loop spends waiting for its next batch.

    A dataset between two clocks: `zip` pulls its parts in order, so the difference of the clocks is the
    time for which the last prefetch had nothing ready.
    """

    def __init__(self) -> None:
        with tf.device("CPU"):  # where tf.data runs
            self._seconds = tf.Variable(0.0, dtype=tf.float64, trainable=False)

    def watch(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Return the same batches, timed."""
        as_it_is = tf.autograph.experimental.do_not_convert  # rewriting them takes half a second of every trial
        clock = tf.data.Dataset.counter().map(as_it_is(_read_clock))
        options = tf.data.Options()
        options.experimental_optimization.inject_prefetch = False  # it would hide the wait from the clocks
        return tf.data.Dataset.zip((clock, batches, clock)).map(as_it_is(self._add)).with_options(options)

    def _add(self, before: tf.Tensor, batch: Any, after: tf.Tensor) -> Any:
        with tf.control_dependencies([self._seconds.assign_add(after - before)]):
            return tf.nest.map_structure(tf.identity, batch)

    def take(self) -> float:
        """Return the seconds counted since the last call."""
        seconds = float(self._seconds.numpy())
        self._seconds.assign(0.0)
        return seconds


def _read_clock(_: tf.Tensor) -> tf.Tensor:
    return tf.timestamp()


class TrainingFacts(keras.callbacks.Callback):
    """Add the learning rate, the time of a step and the share of it spent waiting for input to each epoch's logs."""

    def __init__(self, wait: InputWait) -> None:
        super().__init__()
        self._wait = wait
        self._began = 0.0
        self._steps = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start the epoch's clock."""
        self._wait.take()
        self._began, self._steps = time.monotonic(), 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Count the step."""
        self._steps += 1

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the figures where the callbacks that follow find them."""
        if logs is not None:
            seconds = max(time.monotonic() - self._began, 1e-9)
            logs["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
            logs["step_seconds"] = seconds / max(self._steps, 1)
            logs["input_wait_share"] = min(self._wait.take() / seconds, 1.0)


def watch_training(folder: Path) -> keras.callbacks.Callback:
    """Return Keras's own TensorBoard callback: scalars each epoch, no graph and no profile."""
    return keras.callbacks.TensorBoard(folder, write_graph=False, update_freq="epoch", profile_batch=0)


def declare_hyperparameters(folder: Path, candidates: Mapping[str, Any]) -> None:
    """Tell TensorBoard's HParams page which columns there are."""
    with _writer(folder).as_default():
        hparams_api.hparams_config(
            hparams=[hparams_api.HParam(name) for name in candidates],
            metrics=[hparams_api.Metric(METRIC, display_name="validation AUC")],
        )


def record_hyperparameters(folder: Path, trial: str, values: Mapping[str, Any], score: float) -> None:
    """Write one line of TensorBoard's HParams page."""
    with _writer(folder).as_default():
        hparams_api.hparams(dict(values), trial_id=trial)
        tf.summary.scalar(METRIC, score, step=0)


def show_images(folder: Path, images: Mapping[str, NDArray[Any]], *, step: int = 0) -> None:
    """Write pictures, uint8 (height, width, 3 or 4) each, under their names, as of one step."""
    with _writer(folder).as_default():
        for name, image in images.items():
            tf.summary.image(name, image[np.newaxis], step=step)


def tile_images(batch: NDArray[np.float32], *, most: int = 16) -> NDArray[np.uint8]:
    """Return up to `most` images, (n, height, width, channels) in [0, 1], as one square picture of tiles."""
    shown = batch[:most]
    side = math.ceil(math.sqrt(len(shown)))
    rgb = shown if shown.shape[-1] == 3 else np.repeat(shown[..., :1], 3, axis=-1)
    height, width = rgb.shape[1:3]
    sheet = np.zeros((side * height, side * width, 3), np.uint8)
    for index, image in enumerate(rgb):
        row, column = divmod(index, side)
        tile = np.round(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8)
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = tile
    return sheet


def _writer(folder: Path) -> tf.summary.SummaryWriter:
    return tf.summary.create_file_writer(str(folder))
