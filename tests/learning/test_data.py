"""Claims about a run's shards as the learning room sees them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bcdx.config import Fit, Stream
from bcdx.errors import RecordsError
from bcdx.learning.data import Data, open_matching
from bcdx.records.manifest import read_manifest


@pytest.fixture
def data(records: Path) -> Data:
    """Shards of the small phantom."""
    return Data(records, read_manifest(records))


def test_steps_round_up_and_take_a_batch_no_larger_than_the_split(data: Data) -> None:
    """The last batch of an epoch may be smaller; an epoch has at least one step."""
    samples = data.samples(("train",))
    assert 1 == data.steps(("train",), samples + 100) == data.steps(("train",), samples)
    assert 2 == data.steps(("train",), samples - 1)
    assert samples == data.steps(("train",), 1)


def test_rows_and_images_of_a_split_stand_in_the_same_order(data: Data) -> None:
    """Scores are matched to patients by their place."""
    for splits in (("validation",), ("train", "validation")):
        labels = np.concatenate([label for _, label in data.plain_batches(splits, 5)])
        assert data.table(splits).label.tolist() == labels.tolist()
        assert data.samples(splits) == len(labels)


def test_class_counts_add_up_to_the_samples(data: Data) -> None:
    """Of one split, and of both that a refit learns from."""
    for splits in (("train",), ("train", "validation")):
        assert data.samples(splits) == sum(data.class_counts(splits))


def test_training_never_shows_a_sample_of_another_split(data: Data) -> None:
    """In the plain view the images of an epoch are those of the split, in another order."""
    fit = Fit(stream=Stream(views=1))
    shown = {image.tobytes() for batch, _ in data.training(fit, ("train",), epochs=range(1)) for image in batch.numpy()}
    stored = {image.tobytes() for batch, _ in data.plain_batches(("train",), 8) for image in batch.numpy()}
    assert stored == shown


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"classes": ("benign", "malignant")}, r"classes \[.*\], but the run knows \['benign', 'malignant'\]"),
        ({"image_shape": (96, 96, 1)}, r"images of \[75, 75, 1\], but the run takes \[96, 96, 1\]; shard again"),
        ({"recipe": {"channels": ["pre"]}}, r"channels grey, but the run takes \['pre'\]; shard again"),
    ],
)
def test_shards_that_do_not_fit_a_model_are_refused(data: Data, change: dict[str, Any], expected: str) -> None:
    """With what is there, what is wanted, and what to do."""
    manifest = data.manifest
    known: dict[str, Any] = {
        "classes": manifest.classes, "image_shape": manifest.image_shape, "recipe": manifest.recipe,
    }  # fmt: skip
    assert manifest == open_matching(data.folder, "test", **known).manifest
    with pytest.raises(RecordsError, match=expected):
        open_matching(data.folder, "test", **{**known, **change})


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    """Nothing could be measured on it."""
    from bcdx import config
    from bcdx.shard import write_records

    split = config.Split(validation=0.3, test=0.0)
    phantom = config.Phantom(patients=12, slices_per_breast=1, size=75)
    write_records(config.Dataset(out=str(tmp_path / "o"), size=75, phantom=phantom, split=split, workers=1))
    manifest = read_manifest(tmp_path / "o")
    with pytest.raises(RecordsError, match="o: the test split is empty"):
        open_matching(
            tmp_path / "o", "test", classes=manifest.classes, image_shape=manifest.image_shape, recipe=manifest.recipe
        )
