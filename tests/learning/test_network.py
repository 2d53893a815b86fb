"""Claims about the model: what is built, what is frozen, and that BatchNorm never moves."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from bcdx.config import Network
from bcdx.errors import SettingsError
from bcdx.learning.network import attach_head, build_body, build_model, freeze, load_body_weights, load_model

SHAPE = (75, 75, 1)


def build(depth: str = "none/mixed0", *, classes: int = 2, seed: int = 0, **settings: Any) -> keras.Model:
    """A model of its own."""
    shape = settings.pop("shape", SHAPE)
    policy = settings.pop("policy", "float32")
    return build_model(Network(depth=depth, **settings), input_shape=shape, classes=classes, policy=policy, seed=seed)


@functools.cache
def share_body() -> keras.Model:
    """What is costly to build and is not changed by those who look at a model."""
    return build_body(Network(), input_shape=SHAPE, policy="float32", seed=0)


def build_on_shared(depth: str = "none/mixed0", *, classes: int = 2, **settings: Any) -> keras.Model:
    """What `build` gives, on the shared body."""
    model = attach_head(share_body(), Network(depth=depth, **settings), classes=classes, seed=0)
    freeze(model, depth.partition("/")[0])
    return model


def fit_a_little(model: keras.Model) -> None:
    generator = np.random.default_rng(0)
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.BinaryCrossentropy(), jit_compile=False)
    model.fit(generator.random((8, *SHAPE), np.float32), np.arange(8) % 2, batch_size=4, epochs=1, verbose=0)


def batchnorm_statistics(model: keras.Model) -> list[np.ndarray]:
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    return [np.asarray(value) for layer in layers for value in (layer.moving_mean, layer.moving_variance)]


def test_batchnorm_statistics_are_bit_identical_after_fit_also_after_save_and_load(tmp_path: Path) -> None:
    """At depth none, where everything else trains."""
    model = build()
    before = batchnorm_statistics(model)
    fit_a_little(model)
    for expected, actual in zip(before, batchnorm_statistics(model), strict=True):
        np.testing.assert_array_equal(expected, actual)

    model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    fit_a_little(loaded)
    for expected, actual in zip(before, batchnorm_statistics(loaded), strict=True):
        np.testing.assert_array_equal(expected, actual)


def test_frozen_weights_are_bit_identical_after_fit_and_the_others_move() -> None:
    """Frozen up to mixed0, read at mixed1."""
    model = build("mixed0/mixed1")
    frozen = set(keras.Model(model.inputs, model.get_layer("mixed0").output).layers)
    before = {layer.name: layer.get_weights() for layer in model.layers}
    fit_a_little(model)
    moved = {
        layer.name
        for layer in model.layers
        if any((old != new).any() for old, new in zip(before[layer.name], layer.get_weights(), strict=True))
    }
    assert not moved & {layer.name for layer in frozen}
    assert {layer.name for layer in model.layers if layer.trainable_weights} == moved


@pytest.mark.parametrize(("depth", "present", "absent"), [("none/mixed0", "mixed0", "mixed1"),
                                                           ("mixed2/mixed0+mixed3", "mixed3", "mixed4")])  # fmt: skip
def test_what_lies_behind_the_last_block_read_is_not_built(depth: str, present: str, absent: str) -> None:
    """A model that reads mixed0 has no mixed1."""
    names = {layer.name for layer in build_on_shared(depth).layers}
    assert present in names
    assert absent not in names


@pytest.mark.parametrize(("pooling", "width"), [("average", 256), ("maximum", 256), ("both", 512)])
def test_pooling_decides_the_width_of_the_features(pooling: str, width: int) -> None:
    """mixed0 has 256 channels."""
    assert width == build_on_shared(pooling=pooling).get_layer("features").output.shape[-1]


@pytest.mark.parametrize(("classes", "columns"), [(2, 1), (3, 3)])
def test_output_is_a_probability_per_class(classes: int, columns: int) -> None:
    """One column for two classes; else rows that add up to 1."""
    scores = np.asarray(build_on_shared(classes=classes)(np.random.default_rng(0).random((4, *SHAPE), np.float32)))
    assert (4, columns) == scores.shape
    assert ((scores >= 0) & (scores <= 1)).all()
    if classes > 2:
        np.testing.assert_allclose(scores.sum(axis=1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_records_of_one_to_three_channels_fit(channels: int) -> None:
    """Grey is repeated, of two phases the later one is."""
    model = build(shape=(75, 75, channels))
    assert (1, 1) == model(np.zeros((1, 75, 75, channels), np.float32)).shape


def test_grey_equals_the_same_grey_in_three_channels() -> None:
    """Repeating is all that happens to one channel."""
    image = np.random.default_rng(0).random((2, 75, 75, 1), np.float32)
    grey = build_on_shared()(image)
    np.testing.assert_allclose(grey, build(shape=(75, 75, 3))(np.repeat(image, 3, axis=-1)), rtol=1e-5)


def test_small_input_is_refused_and_small_records_are_resized() -> None:
    """InceptionV3 needs 75 px; records of 64 px go through a resize."""
    with pytest.raises(SettingsError, match="at least 75 px, received 64"):
        build(shape=(64, 64, 1))
    assert (1, 1) == build(shape=(64, 64, 1), image_size=80)(np.zeros((1, 64, 64, 1), np.float32)).shape


def test_same_seed_gives_the_same_weights() -> None:
    """And another seed others."""
    one, same, other = build(seed=1), build(seed=1), build(seed=2)
    pairs = list(zip(one.get_weights(), same.get_weights(), strict=True))
    assert all((left == right).all() for left, right in pairs)
    assert any((left != right).any() for left, right in zip(one.get_weights(), other.get_weights(), strict=True))


def test_mixed_precision_calculates_the_body_low_and_the_head_high() -> None:
    """And leaves the global policy as it was."""
    model = build(policy="mixed_bfloat16")
    assert "bfloat16" == model.get_layer("mixed0").compute_dtype
    assert {"float32"} == {model.get_layer(name).compute_dtype for name in ("feature_norm", "head", "probability")}
    assert "float32" == keras.config.dtype_policy().name


def test_missing_or_foreign_weights_are_refused_in_one_line(tmp_path: Path) -> None:
    """The message names the setting."""
    with pytest.raises(SettingsError, match="no such file"):
        build(weights=str(tmp_path / "none.h5"))
    (tmp_path / "a.weights.h5").write_bytes(b"nothing of the kind")
    with pytest.raises(SettingsError, match="not the weights of a Keras InceptionV3"):
        load_body_weights(str(tmp_path / "a.weights.h5"))


def test_frozen_at_the_last_block_read_only_the_head_trains() -> None:
    """Its kernel and its bias."""
    trained = build_on_shared("mixed0/mixed0").trainable_variables
    assert [(256, 1), (1,)] == [tuple(variable.shape) for variable in trained]


def test_heads_on_one_body_share_its_layers_and_are_drawn_alike() -> None:
    """Whatever was built before: a head's first weights depend on the seed and its size alone."""
    network = Network(depth="none/mixed1")
    body = build_body(network, input_shape=SHAPE, policy="float32", seed=3)
    first, second = (attach_head(body, network, classes=2, seed=3) for _ in range(2))
    alone = build("none/mixed1", seed=3)
    shared = {id(layer) for layer in body.layers}
    assert (
        [layer.name for layer in first.layers if id(layer) in shared]
        == [layer.name for layer in second.layers if id(layer) in shared]
        != []
    )
    for one, other, another in zip(first.get_weights(), second.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(one, another)


@pytest.mark.real_data
def test_real_weights_give_keras_own_features(shared_data: Path) -> None:
    """The cut body equals keras.applications' whole one at its block end."""
    path = str(shared_data.parent / "weights" / "inception_v3_pretrained_notop.weights.h5")
    image = np.random.default_rng(0).random((2, 96, 96, 3), np.float32)
    model = build("mixed2/mixed0+mixed3", weights=path, shape=(96, 96, 3))
    whole = keras.applications.InceptionV3(include_top=False, weights=path)
    expected = keras.Model(whole.inputs, whole.get_layer("mixed3").output)(image * 2 - 1)
    actual = keras.Model(model.inputs, model.get_layer("mixed3").output)(image)
    np.testing.assert_allclose(expected, actual, atol=1e-4)
