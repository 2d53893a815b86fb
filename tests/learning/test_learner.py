"""Claims about reuse: exactly what training from images does, computed once, whatever happens to what was kept."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from bcdx.config import Augment, Fit, Network, Optimizer, Stream
from bcdx.learning.cut import vector_names
from bcdx.learning.data import Data
from bcdx.learning.job import save_model
from bcdx.learning.learner import COMPILED, Learner, forget_earlier_models
from bcdx.learning.network import FEATURE_NORM, FEATURES, build_model, load_model
from bcdx.learning.optimizer import make_optimizer
from bcdx.learning.prefix import View
from bcdx.learning.start import log_odds
from bcdx.learning.statistics import measure_features, set_batchnorm, set_normalisation
from bcdx.learning.store import Store
from bcdx.learning.trainee import Trainee
from bcdx.learning.training import Plan, train
from bcdx.records.manifest import read_manifest

DEPTH = "mixed0/mixed0+mixed1"
SPLIT = ("train",)


@pytest.fixture(scope="module")
def data(records: Path) -> Data:
    """Shards of the small phantom."""
    return Data(records, read_manifest(records))


def fit_at(depth: str = DEPTH, *, precision: str = "float32", rate: float = 1e-3, **changes: Any) -> Fit:
    return Fit(
        network=Network(depth=depth, dropout=0.3, pooling="both"),
        optimizer=Optimizer(epochs=3, learning_rate=rate, precision=precision),
        stream=Stream(batch_size=16, views=2),
        augment=changes.pop("augment", Augment()),
        **changes,
    )


def learner_for(
    fit: Fit, data: Data, folder: Path | None = None, *, splits: tuple[str, ...] = SPLIT, memory_bytes: int = 2**30
) -> Learner:
    """A learner that reuses whatever is frozen, on disk if there is a folder."""
    depth = fit.network.depth
    store = Store(folder, memory_bytes=memory_bytes, disk_bytes=2**30)
    place = "memory" if folder is None else "disk"
    return Learner(fit, data, splits, depths=[depth], choose=lambda _: {depth: place}, store=store)  # type: ignore[dict-item]


class Losses(keras.callbacks.Callback):
    """The running mean of the loss at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Note it."""
        self.seen.append(float((logs or {})["loss"]))


def run(model: keras.Model, batches: Any, fit: Fit, data: Data, splits: tuple[str, ...] = SPLIT) -> list[float]:
    losses, steps = Losses(), data.steps(splits, fit.stream.batch_size)
    model.fit(batches, epochs=3, steps_per_epoch=steps, verbose=0, callbacks=[losses], shuffle=False)
    return losses.seen


def train_reusing(trainee: Trainee, splits: tuple[str, ...] = SPLIT) -> list[float]:
    return run(trainee.model, trainee.batches(range(3)), trainee.fit, trainee.data, splits)


def train_plainly(fit: Fit, data: Data, splits: tuple[str, ...] = SPLIT) -> list[float]:
    """What Keras makes of the same network and stream, with nothing of the learner."""
    forget_earlier_models()
    shape, policy = data.manifest.image_shape, fit.optimizer.precision
    model = build_model(fit.network, input_shape=shape, classes=2, policy=policy, seed=fit.seed)
    images = data.plain_images(splits, fit.stream.batch_size)
    features = keras.Model(model.inputs, model.get_layer(FEATURES).output)
    set_batchnorm(features, images)
    found = [np.asarray(features(batch, training=False)) for batch in images]
    set_normalisation(model.get_layer(FEATURE_NORM), *measure_features(np.concatenate(found)))
    head = model.get_layer("head")
    head.set_weights([head.get_weights()[0], log_odds(data.class_counts(splits))])
    steps = data.steps(splits, fit.stream.batch_size)
    model.compile(make_optimizer(fit.optimizer, steps), keras.losses.BinaryCrossentropy(), jit_compile=False)
    return run(model, data.training(fit, splits, epochs=range(3)), fit, data, splits)


THREE = ("mixed0/mixed0+mixed1", "mixed1/mixed2", "mixed2/mixed2")  # the last trains its head alone


@pytest.fixture(scope="module")
def plain(data: Data) -> Learner:
    """Of fits that are all fed images."""
    store = Store(None, memory_bytes=2**30, disk_bytes=0)
    return Learner(fit_at(), data, SPLIT, depths=THREE, choose=lambda _: {}, store=store)


@pytest.fixture(scope="module")
def learner(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Learner:
    """Of fits that are all fed what the frozen part gave, from disk."""
    store = Store(tmp_path_factory.mktemp("store"), memory_bytes=2**30, disk_bytes=2**30)
    return Learner(fit_at(), data, SPLIT, depths=THREE, choose=lambda _: dict.fromkeys(THREE, "disk"), store=store)


@pytest.mark.parametrize("depth", THREE)
def test_reuse_gives_the_losses_of_training_from_images(plain: Learner, learner: Learner, depth: str) -> None:
    """At every step of three epochs over two views, within 1e-6."""
    expected, actual = (train_reusing(one.prepare(fit_at(depth))) for one in (plain, learner))
    assert len(expected) == 9
    np.testing.assert_allclose(expected, actual, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize(
    ("depth", "precision"),
    [
        ("mixed0/mixed1", "mixed_bfloat16"),
        pytest.param("mixed0/mixed0+mixed1", "float32", marks=pytest.mark.slow),
        pytest.param("mixed1/mixed2", "mixed_bfloat16", marks=pytest.mark.slow),
        pytest.param("mixed8/mixed9+mixed10", "float32", marks=pytest.mark.slow),
        pytest.param("mixed8/mixed9+mixed10", "mixed_bfloat16", marks=pytest.mark.slow),
        pytest.param("mixed10/mixed10", "mixed_bfloat16", marks=pytest.mark.slow),
    ],
)
def test_reuse_gives_the_losses_of_keras_alone(data: Data, tmp_path: Path, depth: str, precision: str) -> None:
    """With the same network and stream and nothing of the learner: within 1e-6 in float32, equal in bfloat16."""
    fit = fit_at(depth, precision=precision)
    expected = train_plainly(fit, data)
    actual = train_reusing(learner_for(fit, data, tmp_path).prepare(fit))
    np.testing.assert_allclose(expected, actual, rtol=0.0, atol=1e-6 if precision == "float32" else 0.0)


@pytest.mark.slow
def test_reuse_over_two_splits_gives_the_losses_of_training_from_images(data: Data) -> None:
    """As the refit does: batches take samples of both."""
    fit, splits = fit_at("mixed0/mixed0"), ("train", "validation")
    expected = train_plainly(fit, data, splits)
    actual = train_reusing(learner_for(fit, data, splits=splits).prepare(fit), splits)
    np.testing.assert_allclose(expected, actual, rtol=0.0, atol=1e-6)


def test_later_fit_is_compiled_no_more_and_knows_nothing_of_earlier_ones(learner: Learner) -> None:
    """After a fit at a wild rate the first one's losses come again, from the same traced step."""
    first = train_reusing(learner.prepare(fit_at()))
    model = learner.prepare(fit_at()).model
    step = model.train_function
    train_reusing(learner.prepare(fit_at(rate=0.3)))
    again = learner.prepare(fit_at())
    assert first == train_reusing(again)
    assert again.model is model
    assert step is model.train_function


def test_joined_model_predicts_what_prefix_and_suffix_do(learner: Learner, data: Data, tmp_path: Path) -> None:
    """Also when it was saved and loaded, and though an earlier fit has trained layers that this one holds frozen."""
    train_reusing(learner.prepare(fit_at(THREE[0])))
    trainee = learner.prepare(fit_at(THREE[1]))
    train_reusing(trainee)
    expected = trainee.predict("validation")[:, 1:]
    save_model(trainee.joined, tmp_path / "model.keras")
    for model in (trainee.joined, load_model(tmp_path / "model.keras")):
        actual = np.concatenate([model(batch, training=False) for batch in data.plain_images(("validation",), 16)])
        np.testing.assert_allclose(expected, actual, atol=1e-6)


def test_pass_in_the_middle_of_a_fit_sees_initial_weights_and_leaves_the_trained_ones(
    plain: Learner, learner: Learner
) -> None:
    """The body's weights belong to the fit that was prepared last."""
    trainee = plain.prepare(fit_at(THREE[0]))
    train_reusing(trainee)
    trained = [*trainee.joined.get_weights()]
    views, names = [View("augmented", 1, seed=0, augment=Augment(zoom=0.3))], vector_names(["mixed2"], "both")
    expected = learner_features(learner, views, names)
    actual = learner_features(plain, views, names)
    np.testing.assert_array_equal(expected, actual)
    for one, other in zip(trained, trainee.joined.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_pass_leaves_what_is_frozen_as_it_was(plain: Learner) -> None:
    """A step that is not traced yet reads those marks: here between a fit's preparation and its first step."""
    trainee = plain.prepare(fit_at(THREE[1]))
    trained = [variable.path for variable in trainee.model.trainable_variables]
    plain.prefix.read_features("train", [View("turned", 3)], vector_names(["mixed1"], "both"))
    assert trained == [variable.path for variable in trainee.model.trainable_variables]
    assert not [path for path in trained if path.startswith("conv2d/")]


def test_probe_is_that_of_the_fits_own_augmentation(data: Data) -> None:
    """Whichever strength comes first: each fit's head starts where it would start alone."""
    network = Network(depth="mixed0/mixed0", head="probe")
    weak, strong = (
        fit_at(augment=Augment(strength=strength)).model_copy(update={"network": network}) for strength in (0.1, 1.0)
    )
    together, alone = learner_for(weak, data), learner_for(strong, data)
    heads = [head_weights(together, fit) for fit in (weak, strong, weak)]
    np.testing.assert_array_equal(heads[0], heads[2])
    np.testing.assert_array_equal(head_weights(alone, strong), heads[1])
    assert np.abs(heads[0] - heads[1]).max() > 1e-4


def head_weights(learner: Learner, fit: Fit) -> np.ndarray:
    return learner.prepare(fit).joined.get_layer("head").get_weights()[0].copy()


def learner_features(learner: Learner, views: list[View], names: tuple[str, ...]) -> np.ndarray:
    return np.concatenate([*learner.prefix.read_features("train", views, names)[0].values()], axis=1)


def test_later_learner_reads_what_an_earlier_one_computed_unless_it_is_damaged(
    learner: Learner, data: Data, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Another search, a resumed one, another process; after one flipped bit in each file it is computed anew."""
    depth = THREE[2]
    fit, expected = fit_at(depth), train_reusing(learner.prepare(fit_at(depth)))
    shutil.copytree(learner.store.folder, tmp_path, dirs_exist_ok=True)
    later = learner_for(fit, data, tmp_path)
    assert expected == train_reusing(later.prepare(fit))
    assert 0.0 == later.prefix.pass_seconds

    for path in tmp_path.glob("*/data.bin"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert expected == train_reusing(learner_for(fit, data, tmp_path).prepare(fit))
    assert any("damaged" in message for message in caplog.messages)


def test_fit_without_room_for_its_boundary_trains_from_images(
    learner: Learner, data: Data, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The same losses; one line says why it takes longer."""
    fit = fit_at()
    expected = [epoch["loss"] for epoch in train(Plan(fit, epochs=3), learner, tmp_path / "a")[1].history]
    learner = learner_for(fit, data, memory_bytes=600 * 1024)
    with caplog.at_level(logging.WARNING):
        trainee, state = train(Plan(fit, epochs=3), learner, tmp_path / "b")
    np.testing.assert_allclose(expected, [epoch["loss"] for epoch in state.history], rtol=0.0, atol=1e-6)
    assert trainee.prefix is None
    assert any("goes on from images instead" in message for message in caplog.messages)


def test_depth_without_room_does_not_keep_another_from_its_own(data: Data, tmp_path: Path) -> None:
    """One pass would give both boundaries; where the large one has no room, the small one is kept alone."""
    large, small = "mixed0/mixed0+mixed1", "mixed1/mixed1"
    store = Store(None, memory_bytes=700 * 1024, disk_bytes=0)
    places = dict.fromkeys((large, small), "memory")
    learner = Learner(fit_at(), data, SPLIT, depths=[large, small], choose=lambda _: places, store=store)  # type: ignore[arg-type,return-value]
    trainee, _ = train(Plan(fit_at(small), epochs=2), learner, tmp_path / "small")
    assert trainee.prefix is not None
    trainee, _ = train(Plan(fit_at(large), epochs=1), learner, tmp_path / "large")
    assert trainee.prefix is None


def test_learner_lets_go_of_the_network_used_longest_ago(data: Data) -> None:
    """A space of many dropouts does not fill memory with compiled networks."""
    learner = learner_for(fit_at("mixed0/mixed0"), data)
    fits = [
        fit_at("mixed0/mixed0").model_copy(update={"network": Network(depth="mixed0/mixed0", dropout=share / 100)})
        for share in range(COMPILED + 1)
    ]
    models = [learner.prepare(fit).model for fit in fits]
    assert models[-1] is learner.prepare(fits[-1]).model
    assert models[0] is not learner.prepare(fits[0]).model
    assert COMPILED == len(learner._compiled)
