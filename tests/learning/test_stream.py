"""Claims about batches: which samples, in which order, the same on every way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from bcdx.config import Augment, Stream
from bcdx.learning import stream as module
from bcdx.learning.stream import open_evaluation, open_training, open_views, order_of_epoch, stored_bytes

SAMPLES = 10


@pytest.fixture
def records() -> tf.data.Dataset:
    """Ten records whose label is their number."""
    images = np.random.default_rng(0).integers(0, 65535, (SAMPLES, 8, 8, 1)).astype(np.uint16)
    columns = {"image": images, "label": np.arange(SAMPLES), "sample_seed": np.arange(SAMPLES) * 1000}
    return tf.data.Dataset.from_tensor_slices(columns)


def batches(records: tf.data.Dataset, epochs: range, batch_size: int = 4, **settings: Any) -> list[Any]:
    opened = open_training(
        records,
        stream=Stream(batch_size=batch_size, views=settings.pop("views", 3)),
        augment=Augment(),
        seed=settings.pop("seed", 5),
        samples=SAMPLES,
        epochs=epochs,
    )
    return [(image.numpy(), label.numpy()) for image, label in opened]


def test_each_epoch_shows_every_sample_once_in_an_order_of_its_own(records: tf.data.Dataset) -> None:
    """Three batches an epoch, the last one smaller."""
    labels = [label.tolist() for _, label in batches(records, range(2))]
    assert [4, 4, 2, 4, 4, 2] == [len(label) for label in labels]
    first, second = sum(labels[:3], []), sum(labels[3:], [])
    assert list(range(SAMPLES)) == sorted(first) == sorted(second)
    assert first != second


@pytest.mark.parametrize("memory_bytes", [2**31, 64])
def test_resumed_stream_equals_the_rest_of_the_whole_one(
    records: tf.data.Dataset, monkeypatch: pytest.MonkeyPatch, memory_bytes: int
) -> None:
    """Also where the split does not fit into memory and goes through a buffer."""
    monkeypatch.setattr(module, "MEMORY_BYTES", memory_bytes)
    whole, rest = batches(records, range(4)), batches(records, range(2, 4))
    for (image, label), (other_image, other_label) in zip(whole[6:], rest, strict=True):
        np.testing.assert_array_equal(label, other_label)
        np.testing.assert_array_equal(image, other_image)


def test_samples_look_the_same_whatever_the_batch_size(records: tf.data.Dataset) -> None:
    """Augmentation goes by sample and view, not by place in a batch."""
    views = [
        {int(n): i for image, label in batches(records, range(1, 2), size) for n, i in zip(label, image, strict=True)}
        for size in (2, 7)
    ]
    for number in range(SAMPLES):
        np.testing.assert_array_equal(views[0][number], views[1][number])


def test_epoch_sees_view_e_mod_views(records: tf.data.Dataset) -> None:
    """Epoch 0 is plain, epoch 3 of three views as well, epoch 4 looks like epoch 1."""
    seen = [
        {int(n): i for image, label in batches(records, range(e, e + 1)) for n, i in zip(label, image, strict=True)}
        for e in range(5)
    ]
    plain = {int(n): i for image, label in open_evaluation(records, 4) for n, i in zip(label, image, strict=True)}
    for number in range(SAMPLES):
        np.testing.assert_array_equal(plain[number], seen[0][number])
        np.testing.assert_array_equal(plain[number], seen[3][number])
        np.testing.assert_array_equal(seen[1][number], seen[4][number])
        assert (seen[1][number] != seen[0][number]).any()


def test_seed_changes_the_order(records: tf.data.Dataset) -> None:
    """Another run sees another order."""
    one, other = (sum((label.tolist() for _, label in batches(records, range(1), seed=seed)), []) for seed in (1, 2))
    assert one != other


def test_batch_larger_than_the_split_is_reduced_with_a_warning(
    records: tf.data.Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    """All samples in one batch."""
    assert [SAMPLES] == [len(label) for _, label in batches(records, range(1), 64)]
    assert "larger than the split; using 10" in caplog.text


def test_evaluation_sees_every_sample_once_in_stored_order(records: tf.data.Dataset) -> None:
    """Scaled to [0, 1], no augmentation."""
    found = list(open_evaluation(records, 4))
    assert list(range(SAMPLES)) == np.concatenate([label for _, label in found]).tolist()
    expected = np.stack([record["image"] for record in records.as_numpy_iterator()]) / np.float32(65535)
    np.testing.assert_allclose(expected, np.concatenate([image for image, _ in found]), rtol=1e-6)


@pytest.mark.parametrize("memory_bytes", [2**31, 3 * 128])
def test_order_of_epoch_is_that_of_the_stream(
    records: tf.data.Dataset, monkeypatch: pytest.MonkeyPatch, memory_bytes: int
) -> None:
    """Also where a large split goes through a buffer of three images."""
    monkeypatch.setattr(module, "MEMORY_BYTES", memory_bytes)
    shown = np.concatenate([label for _, label in batches(records, range(1, 3))])
    orders = [order_of_epoch(SAMPLES, stored_bytes((8, 8, 1)), seed=5, epoch=epoch) for epoch in (1, 2)]
    np.testing.assert_array_equal(shown, np.concatenate(orders))


def test_views_in_stored_order_are_those_that_training_sees(records: tf.data.Dataset) -> None:
    """View after view, each with a smaller batch at its end."""
    views = open_views(records, 4, augment=Augment(), seed=5, views=[2, 0])
    opened = [images.numpy() for images in views]
    assert [4, 4, 2, 4, 4, 2] == [len(images) for images in opened]
    trained = {
        (epoch, int(number)): image
        for epoch in (0, 2)
        for images, labels in batches(records, range(epoch, epoch + 1))
        for number, image in zip(labels, images, strict=True)
    }
    for view, images in ((2, np.concatenate(opened[:3])), (0, np.concatenate(opened[3:]))):
        for number, image in enumerate(images):
            np.testing.assert_array_equal(trained[view, number], image)
