"""Claims about pictures of validation while training: what is shown, when, and that training does not notice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bcdx.config import Fit, Network, Optimizer, Report, Reuse, Stream
from bcdx.learning.data import Data
from bcdx.learning.portraits import choose_samples, draw_pairs, read_images
from bcdx.learning.reuse import open_learner
from bcdx.learning.snapshot import read_snapshot, weights_of
from bcdx.learning.trial import train_trial
from bcdx.records.manifest import read_manifest

NAMES = ("roc", "precision_recall", "reliability", "confusion", "grad_cam")


@pytest.fixture(scope="module")
def data(records: Path) -> Data:
    """Shards of the small phantom."""
    return Data(records, read_manifest(records))


def fit_at(depth: str, *, every: int) -> Fit:
    return Fit(
        network=Network(weights="random", depth=depth, dropout=0.3),
        optimizer=Optimizer(epochs=3, learning_rate=1e-3, precision="float32", patience=9),
        stream=Stream(batch_size=16, views=2),
        report=Report(images_every=every),
    )


def read_pictures(folder: Path) -> dict[str, dict[int, np.ndarray]]:
    """What TensorBoard itself finds: name -> step -> picture."""
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    return {
        name: {event.step: tf.io.decode_png(event.tensor_proto.string_val[2]).numpy() for event in events.Tensors(name)}
        for name in events.Tags()["tensors"]
        if name.startswith("validation/")
    }


@pytest.fixture(scope="module", params=["none/mixed0", "mixed0/mixed0"])
def fits(data: Data, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> tuple[Path, Path]:
    """Folders of one fit with pictures every second epoch and of the same without.

    From images, and from what the frozen part gave.
    """
    home = tmp_path_factory.mktemp("fits")
    fit = fit_at(request.param, every=0)
    learner = open_learner(fit.model_copy(update={"reuse": Reuse(folder=str(home / "kept"))}), data, ("train",), home)
    for every in (2, 0):
        folder = home / f"every-{every}"
        places = (folder / "progress", folder / "logs")
        state = train_trial(fit_at(request.param, every=every), learner, "slice", places)
        weights = weights_of(read_snapshot(folder / "progress" / state.best_weights))
        figures = [[epoch[name] for name in ("loss", "val_auc", "learning_rate")] for epoch in state.history]
        np.savez(folder / "reached.npz", figures=figures, **weights)
    return home / "every-2", home / "every-0"


def test_portraits_leave_training_as_it_was(fits: tuple[Path, Path]) -> None:
    """Every loss and every weight is the same with pictures and without."""
    one, other = (np.load(home / "reached.npz") for home in fits)
    assert one.files == other.files
    assert (3, 3) == one["figures"].shape
    for name in one.files:
        np.testing.assert_array_equal(one[name], other[name])


def test_portraits_come_at_the_interval_and_at_the_end(fits: tuple[Path, Path]) -> None:
    """Of three epochs the second and the third, counted from 0 as Keras counts; TensorBoard reads them."""
    shown, none = (read_pictures(home / "logs") for home in fits)
    assert {f"validation/{name}": [1, 2] for name in NAMES} == {name: [*steps] for name, steps in shown.items()}
    assert {} == none
    assert all(picture.std() > 0 for steps in shown.values() for picture in steps.values())


def test_portraits_show_the_same_samples_each_time(fits: tuple[Path, Path], data: Data) -> None:
    """Every second tile is the plain image; eight phantom images make a square of 4 x 4 tiles."""
    steps, side = read_pictures(fits[0] / "logs")["validation/grad_cam"], data.manifest.image_shape[0]
    sheets = [picture.reshape(4, side, 4, side, 3) for picture in steps.values()]
    np.testing.assert_array_equal(sheets[0][:, :, ::2], sheets[1][:, :, ::2])


def test_chosen_samples_are_half_positive_and_do_not_depend_on_order() -> None:
    """Positives first; where a class is short its half stays short."""
    codes, hits = np.array([f"code {number}" for number in range(40)]), np.arange(40) % 3 == 0
    rows = choose_samples(codes, hits)
    assert [True] * 4 + [False] * 4 == hits[rows].tolist()
    turned = choose_samples(codes[::-1], hits[::-1])
    assert codes[rows].tolist() == codes[::-1][turned].tolist()
    assert [0, 3] == sorted(choose_samples(codes[:4], hits[:4]))[::3]
    assert 4 == len(choose_samples(codes, np.zeros(40, bool)))


def test_images_are_read_in_the_order_asked_for(data: Data) -> None:
    """As the network sees them."""
    everything = np.concatenate([batch.numpy() for batch in data.plain_images(("validation",), 32)])
    np.testing.assert_array_equal(everything[[3, 0]], read_images(data, [3, 0]))


def test_pairs_show_the_plain_image_beside_the_overlay() -> None:
    """Without heat the overlay is the image in grey."""
    images = np.full((2, 5, 5, 1), 0.5, np.float32)
    assert {128} == set(draw_pairs(images, np.zeros((2, 5, 5), np.float32)).ravel().tolist())


def test_portraits_show_the_last_epoch_of_a_rung(data: Data, tmp_path: Path) -> None:
    """A trial that is halted after one of three epochs is seen as it was then."""
    learner = open_learner(fit_at("mixed0/mixed0", every=2), data, ("train",), tmp_path)
    places = (tmp_path / "progress", tmp_path / "logs")
    train_trial(fit_at("mixed0/mixed0", every=2), learner, "slice", places, epochs=1)
    shown = read_pictures(tmp_path / "logs")
    assert {f"validation/{name}": [0] for name in NAMES} == {name: [*steps] for name, steps in shown.items()}
