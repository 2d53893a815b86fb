"""Claims about what TensorBoard is given."""

from __future__ import annotations

import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bcdx.learning.monitoring import InputWait, TrainingFacts, show_images, tile_images


def watched(seconds: float, wait: InputWait) -> tf.data.Dataset:
    """Three batches that each take `seconds` to come."""

    def delay(number: np.ndarray) -> np.ndarray:
        time.sleep(seconds)
        return number

    slow = tf.data.Dataset.range(3).map(lambda number: tf.numpy_function(delay, [number], tf.int64))
    return wait.watch(slow)


def test_input_wait_counts_the_time_until_batches_come() -> None:
    """And not the time that training takes between them."""
    wait = InputWait()
    for _ in watched(0.05, wait):
        time.sleep(0.2)
    assert 0.15 <= wait.take() < 0.6


def test_input_wait_starts_again_when_taken() -> None:
    """Each epoch has its own figure."""
    wait = InputWait()
    list(watched(0.01, wait))
    assert 0.0 < wait.take()
    assert 0.0 == wait.take()


def test_input_wait_leaves_the_batches_as_they_are() -> None:
    """Whatever their structure."""
    batches = tf.data.Dataset.from_tensor_slices((np.arange(4), np.arange(4) * 2)).batch(3)
    for expected, actual in zip(batches, InputWait().watch(batches), strict=True):
        for one, other in zip(expected, actual, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.gpu
def test_input_wait_counts_on_the_cpu() -> None:
    """Where tf.data runs; a variable on a GPU could not be reached from there."""
    assert "CPU" in InputWait()._seconds.device


def test_training_facts_log_rate_and_share(tmp_path: Path) -> None:
    """The share is of the epoch's time, so at most 1."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.AdamW(0.25), "mse")
    wait = InputWait()
    batches = wait.watch(tf.data.Dataset.from_tensor_slices((np.ones((4, 1)), np.ones(4))).batch(2))
    history = model.fit(batches, epochs=2, verbose=0, callbacks=[TrainingFacts(wait)]).history
    assert [0.25, 0.25] == pytest.approx(history["learning_rate"])
    assert all(0.0 <= share <= 1.0 for share in history["input_wait_share"])


@pytest.mark.parametrize(("count", "side"), [(1, 1), (2, 2), (4, 2), (5, 3), (20, 4)])
def test_tiles_make_the_smallest_square_and_stop_at_sixteen(count: int, side: int) -> None:
    """What is left of the square is black."""
    sheet = tile_images(np.ones((count, 3, 5, 1), np.float32))
    assert (side * 3, side * 5, 3) == sheet.shape
    assert min(count, 16) * 3 * 5 * 3 == np.count_nonzero(sheet == 255)


def test_tiles_show_the_first_of_two_phases_as_grey_and_three_as_colours() -> None:
    """Values are cut to [0, 1] and scaled to 255."""
    two = np.zeros((1, 2, 2, 2), np.float32)
    two[..., 0] = 2.0
    assert {255} == set(tile_images(two).ravel().tolist())
    three = np.zeros((1, 2, 2, 3), np.float32)
    three[..., 1] = 0.5
    assert [0, 128, 0] == tile_images(three)[0, 0].tolist()


def test_shown_images_are_what_tensorboard_reads(tmp_path: Path) -> None:
    """Under their name and step, pixel by pixel, whether written at once or one after the other."""
    pictures = [np.random.default_rng(step).integers(0, 256, (4, 6, 3), np.uint8) for step in range(3)]
    for step, picture in enumerate(pictures):
        show_images(tmp_path, {"validation/roc": picture}, step=step)
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    events.Reload()
    found = {event.step: event.tensor_proto.string_val[2] for event in events.Tensors("validation/roc")}
    assert [0, 1, 2] == [*found]
    for step, picture in enumerate(pictures):
        np.testing.assert_array_equal(picture, tf.io.decode_png(found[step]).numpy())
