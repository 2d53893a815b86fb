"""The shards of one run as the learning room sees them: what is in each split, and batches of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from bcdx.config import Augment, Fit
from bcdx.errors import RecordsError
from bcdx.learning.stream import open_evaluation, open_training, open_views
from bcdx.records.manifest import Manifest, read_manifest
from bcdx.records.reader import Table, open_records, read_table


@dataclass(frozen=True)
class Data:
    """A folder of shards and its manifest; splits are opened only when they are asked for by name."""

    folder: Path
    manifest: Manifest

    @cached_property
    def _tables(self) -> dict[tuple[str, ...], Table]:
        return {}

    def table(self, splits: Sequence[str]) -> Table:
        """Return what is known of each sample but its pixels, in stored order; read once."""
        key = tuple(splits)
        if key not in self._tables:
            self._tables[key] = read_table(self.folder, self.manifest, key)
        return self._tables[key]

    def samples(self, splits: Sequence[str]) -> int:
        """Return how many samples the splits hold."""
        return sum(self.manifest.splits[name].samples for name in splits)

    def steps(self, splits: Sequence[str], batch_size: int) -> int:
        """Return training steps per epoch; the last batch of an epoch may be smaller."""
        samples = self.samples(splits)
        return max(1, math.ceil(samples / min(batch_size, samples)))

    def class_counts(self, splits: Sequence[str]) -> list[int]:
        """Return the samples of each class."""
        counts: NDArray[Any] = np.bincount(self.table(splits).label, minlength=len(self.manifest.classes))
        return [int(count) for count in counts]

    def records(self, splits: Sequence[str]) -> tf.data.Dataset:
        """Return decoded records in stored order."""
        return open_records(self.folder, self.manifest, splits)

    def plain_batches(self, splits: Sequence[str], batch_size: int) -> tf.data.Dataset:
        """Return (float32 images in [0, 1], labels) in stored order, without augmentation."""
        return open_evaluation(self.records(splits), batch_size)

    def plain_images(self, splits: Sequence[str], batch_size: int) -> tf.data.Dataset:
        """Return the same without labels."""
        return self.plain_batches(splits, batch_size).map(lambda image, _: image)

    def augmented_images(
        self, splits: Sequence[str], batch_size: int, *, augment: Augment, seed: int, views: Sequence[int]
    ) -> tf.data.Dataset:
        """Return all images in one augmented view after another, in stored order."""
        return open_views(self.records(splits), batch_size, augment=augment, seed=seed, views=views)

    def training(self, fit: Fit, splits: Sequence[str], *, epochs: range) -> tf.data.Dataset:
        """Return augmented batches of the epochs, as one dataset."""
        return open_training(
            self.records(splits),
            stream=fit.stream,
            augment=fit.augment,
            seed=fit.seed,
            samples=self.samples(splits),
            epochs=epochs,
        )


def open_matching(
    folder: Path, split: str, *, classes: tuple[str, ...], image_shape: tuple[int, int, int], recipe: Mapping[str, Any]
) -> Data:
    """Return shards that a trained model can be tried on.

    Args:
        folder: Where they lie.
        split: The split that will be read.
        classes: The model's.
        image_shape: Height, width and channels of the images that it takes.
        recipe: Of the dataset that it learned from.

    Raises:
        RecordsError: There are none, they are of another kind, or the split is empty.
    """
    data = Data(folder, read_manifest(folder))
    manifest = data.manifest
    if manifest.classes != classes:
        raise RecordsError(f"{folder}: classes {list(manifest.classes)}, but the run knows {list(classes)}")
    if tuple(manifest.image_shape) != tuple(image_shape):
        raise RecordsError(
            f"{folder}: images of {list(manifest.image_shape)}, but the run takes {list(image_shape)}; "
            "shard again with the run's size and channels"
        )
    found, known = manifest.recipe.get("channels"), recipe.get("channels")
    if found != known:
        raise RecordsError(f"{folder}: channels {found}, but the run takes {known}; shard again with the run's")
    if not data.samples((split,)):
        raise RecordsError(f"{folder}: the {split} split is empty")
    return data
