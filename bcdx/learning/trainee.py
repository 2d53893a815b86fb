"""One fit's network at its start, and what it is fed: epochs of training batches, views of a split to score."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from bcdx.config import Fit
from bcdx.learning.augment import all_views
from bcdx.learning.cut import boundary_names
from bcdx.learning.data import Data
from bcdx.learning.prediction import average_views
from bcdx.learning.prefix import Prefix, View
from bcdx.learning.stream import effective_batch_size, order_of_epoch, stored_bytes


@dataclass(frozen=True)
class Trainee:
    """A network ready to train.

    Attributes:
        fit: Its settings.
        data: The shards.
        splits: Splits to learn from.
        model: What `fit` trains; its inputs are images, or what the frozen part made of them.
        joined: From images to probabilities, on the same weights.
        run: Inputs of `model` -> probabilities, in inference mode.
        prefix: Gives the inputs of `model`; None: they are images.
    """

    fit: Fit
    data: Data
    splits: tuple[str, ...]
    model: keras.Model
    joined: keras.Model
    run: Callable[..., tf.Tensor]
    prefix: Prefix | None

    def batches(self, epochs: range) -> tf.data.Dataset:
        """Return the training batches of the epochs, as one dataset of (inputs, labels).

        Order, views and batches are the same whether they come as images or from the prefix.
        """
        if self.prefix is None:
            return self.data.training(self.fit, self.splits, epochs=epochs)
        stream, names = self.fit.stream, boundary_names(self.fit.network)
        numbers = sorted({epoch % stream.views for epoch in epochs})
        shown = [View("augmented", number, self.fit.seed, self.fit.augment) for number in numbers]
        parts = zip(*(self.prefix.read_boundaries(split, shown, names) for split in self.splits), strict=True)
        views = dict(zip(numbers, parts, strict=True))
        labels = self.data.table(self.splits).label
        batch_size = effective_batch_size(stream.batch_size, len(labels))

        def generate() -> Iterator[Any]:
            for epoch in epochs:
                arrays, order = views[epoch % stream.views], self._order(len(labels), epoch)
                for first in range(0, len(order), batch_size):
                    rows = order[first : first + batch_size]
                    yield tuple(_gather([part[name] for part in arrays], rows) for name in names), labels[rows]

        inputs = tuple(tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in self.model.inputs)
        signature = (inputs, tf.TensorSpec((None,), tf.int64))
        return tf.data.Dataset.from_generator(generate, output_signature=signature).prefetch(tf.data.AUTOTUNE)

    def predict(self, split: str) -> NDArray[np.float64]:
        """Return class probabilities of a split's samples in stored order, averaged over `test_views`."""
        views = self.fit.test_views
        scores = np.concatenate([np.asarray(self.run(*inputs)) for inputs in self._inputs(split, views)])
        return average_views(scores, views)

    def _inputs(self, split: str, views: int) -> Iterator[Sequence[Any]]:
        batch_size = self.fit.stream.batch_size
        if self.prefix is None:
            for images in all_views(self.data.plain_images((split,), batch_size), views):
                yield (images,)
            return
        names = boundary_names(self.fit.network)
        turned = [View("turned", number) for number in range(views)]
        for arrays in self.prefix.read_boundaries(split, turned, names):
            for first in range(0, self.data.samples((split,)), batch_size):
                yield [tf.constant(arrays[name][first : first + batch_size]) for name in names]

    def _order(self, samples: int, epoch: int) -> NDArray[np.int64]:
        image_bytes = stored_bytes(self.data.manifest.image_shape)
        return order_of_epoch(samples, image_bytes, seed=self.fit.seed, epoch=epoch)


def _gather(parts: Sequence[NDArray[Any]], rows: NDArray[np.int64]) -> NDArray[Any]:
    """Return rows of arrays that count as one, one below the other, without joining them."""
    if len(parts) == 1:
        return np.asarray(parts[0][rows])
    found = np.empty((len(rows), *parts[0].shape[1:]), parts[0].dtype)
    first = 0
    for part in parts:
        inside = (rows >= first) & (rows < first + len(part))
        found[inside] = part[rows[inside] - first]
        first += len(part)
    return found
