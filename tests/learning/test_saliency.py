"""Claims about heat maps: what they are made of, where they lie, and that they depend on the model."""

from __future__ import annotations

import functools
import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from bcdx.config import Network
from bcdx.learning.network import FEATURE_NORM, FEATURES, HEAD, attach_head, build_body, freeze
from bcdx.learning.saliency import GRIDS, Explainer, _place_cells, check_by_randomising, choose_block, explain
from bcdx.learning.statistics import measure_features, set_batchnorm, set_normalisation

SIDE = 75


def draw_images(count: int = 6, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(0).random((count, side, side, 1), np.float32)


@functools.cache
def make_body(side: int = SIDE, policy: str = "float32") -> keras.Model:
    network = Network(weights="random")
    body = build_body(network, input_shape=(side, side, 1), policy=policy, seed=0)
    if policy == "float32":  # in float16 a CPU takes long, and the weights are copied
        set_batchnorm(body, tf.data.Dataset.from_tensors(draw_images(16, side)))
    return body


def build(depth: str = "none/mixed0", *, classes: int = 2, side: int = SIDE, pooling: str = "average") -> keras.Model:
    """A head of its own on a body that all tests share."""
    network = Network(weights="random", depth=depth, pooling=pooling)
    model = attach_head(make_body(side), network, classes=classes, seed=0)
    features = keras.Model(model.inputs, model.get_layer(FEATURES).output)([draw_images(16, side)], training=False)
    set_normalisation(model.get_layer(FEATURE_NORM), *measure_features(np.asarray(features)))
    return model


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """Pools the mean of one block of 7 x 7 cells, so that its gradients can be written down."""
    return build()


@pytest.fixture(scope="module")
def silent() -> keras.Model:
    """Its head reads nothing."""
    model = build()
    layer = model.get_layer(HEAD)
    layer.set_weights([np.zeros_like(array) for array in layer.get_weights()])
    return model


def weigh_by_hand(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """What Grad-CAM is for a linear head on means: each channel by its weight, over its deviation and the cells."""
    maps = np.asarray(keras.Model(model.inputs, model.get_layer("mixed0").output)([images], training=False))
    deviation = np.sqrt(model.get_layer(FEATURE_NORM).get_weights()[1].ravel())
    weights = model.get_layer(HEAD).get_weights()[0][:, 0] / deviation / maps[0, ..., 0].size
    return np.asarray(maps @ weights)


def test_heat_is_what_the_gradient_weighs(model: keras.Model) -> None:
    """For class 1 the positive part, for class 0 of two the negative part turned round."""
    images, explainer = draw_images(), Explainer(model)
    expected = weigh_by_hand(model, images)
    tolerance = 1e-4 * np.abs(expected).max()
    for positive, sign in ((1, 1.0), (0, -1.0)):
        actual = explainer.weigh_cells(images, positive=positive)
        np.testing.assert_allclose(np.maximum(sign * expected, 0.0), actual, rtol=0.0, atol=tolerance)


def test_heat_of_one_class_of_three_is_that_of_its_own_logit() -> None:
    """The others' weights do not matter: softmax comes behind."""
    three, images = build(classes=3), draw_images(2)
    before = explain(three, images, positive=2)
    kernel, bias = three.get_layer(HEAD).get_weights()
    kernel[:, :2] = 0.0
    three.get_layer(HEAD).set_weights([kernel, bias])
    np.testing.assert_array_equal(before, explain(three, images, positive=2))


def test_heat_is_of_the_images_size_and_at_most_one(model: keras.Model) -> None:
    """Each image's hottest pixel is 1."""
    heat = explain(model, draw_images(40), positive=1)  # more than one batch
    assert (40, SIDE, SIDE) == heat.shape
    assert np.float32 == heat.dtype
    assert heat.min() >= 0.0
    assert {0.0, 1.0} >= set(heat.max(axis=(1, 2)).tolist())
    assert heat.max() == 1.0


def test_heat_stays_zero_where_nothing_speaks_for_the_class(silent: keras.Model) -> None:
    """Nothing is divided by a peak of 0."""
    assert not explain(silent, draw_images(2), positive=1).any()


def test_heat_does_not_depend_on_what_else_is_explained(model: keras.Model) -> None:
    """Nor on the batch."""
    images = draw_images()
    together = explain(model, images, positive=1)
    alone = np.concatenate([explain(model, images[index : index + 1], positive=1) for index in range(len(images))])
    np.testing.assert_allclose(together, alone, rtol=0.0, atol=1e-4)


def test_heat_does_not_depend_on_what_is_frozen() -> None:
    """Frozen layers still pass gradients on."""
    images, one = draw_images(2), build("none/mixed0+mixed1", pooling="both")
    expected = Explainer(one).weigh_cells(images, positive=1)
    freeze(one, "mixed1")
    np.testing.assert_allclose(expected, Explainer(one).weigh_cells(images, positive=1), rtol=1e-5, atol=1e-9)


def test_heat_of_half_precision_is_that_of_single_precision(model: keras.Model) -> None:
    """Within what float16 leaves of the maps; gradients do not vanish."""
    network = Network(weights="random", depth="none/mixed0", pooling="average")
    half = attach_head(make_body(policy="mixed_float16"), network, classes=2, seed=0)
    half.set_weights(model.get_weights())
    half.get_layer(FEATURE_NORM).finalize_state()
    images = draw_images(2)
    actual = explain(half, images, positive=1)
    assert np.float32 == actual.dtype
    np.testing.assert_allclose(explain(model, images, positive=1), actual, rtol=0.0, atol=0.05)


@pytest.mark.parametrize(
    ("depth", "side", "expected"),
    [
        ("none/mixed0", 75, "mixed0"),
        ("none/mixed0+mixed3", 75, "mixed0"),  # mixed3 has 3 x 3 cells
        ("none/mixed0+mixed3", 96, "mixed3"),
        ("none/mixed3", 75, "mixed2"),  # none that the head reads is large enough: the last on the way
    ],
)
def test_choose_block_takes_the_last_one_read_of_four_cells(depth: str, side: int, expected: str) -> None:
    """A side."""
    assert expected == choose_block(build(depth, side=side))


def test_grids_say_where_cells_look() -> None:
    """What a cell's value depends on lies around the pixel that the grid gives it."""
    side = 235
    body = build_body(Network(weights="random"), input_shape=(side, side, 1), policy="float32", seed=0)
    image = tf.constant(draw_images(1, side))
    for block in ("mixed0", "mixed3"):
        reader = keras.Model(body.inputs, body.get_layer(block).output)
        middle = reader.output.shape[1] // 2
        with tf.GradientTape() as tape:
            tape.watch(image)
            value = tf.reduce_sum(reader([image], training=False)[0, middle, middle])
        slopes = np.abs(np.asarray(tape.gradient(value, image))[0, ..., 0])
        first, step = GRIDS[block]
        for seen in (slopes.sum(axis=0), slopes.sum(axis=1)):
            assert first + middle * step == pytest.approx(np.average(np.arange(side), weights=seen), abs=step / 3)


def test_heat_peaks_at_the_centre_of_the_hottest_cell(model: keras.Model) -> None:
    """In the image's own pixels."""
    explainer, images = Explainer(model), draw_images(3)
    cells, heat = explainer.weigh_cells(images, positive=1), explainer.explain(images, positive=1)
    first, step = GRIDS[explainer.block]
    for coarse, fine in zip(cells, heat, strict=True):
        cell = np.array(np.unravel_index(coarse.argmax(), coarse.shape))
        np.testing.assert_array_equal(first + step * cell, np.unravel_index(fine.argmax(), fine.shape))


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_cells_lie_where_they_did_in_an_image_that_the_network_resizes(factor: int) -> None:
    """A pixel of an image that is enlarged by `factor` takes what the pixels made of it take, on average."""
    expected = _place_cells(75 * factor, 75 * factor, "mixed0", 7).reshape(75, factor, 7).mean(axis=1)
    actual = _place_cells(75, 75 * factor, "mixed0", 7)
    np.testing.assert_allclose(expected, actual, rtol=0.0, atol=0.1)


def test_randomising_leaves_the_model_as_it_was(model: keras.Model) -> None:
    """Bit for bit, and what is trained stays trained."""
    before, flags = model.get_weights(), [layer.trainable for layer in model.layers]
    check_by_randomising(model, draw_images(), positive=1)
    for expected, actual in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(expected, actual)
    assert flags == [layer.trainable for layer in model.layers]


def test_randomising_depends_on_its_seed_alone(model: keras.Model) -> None:
    """And moves no global source of chance."""
    first = check_by_randomising(model, draw_images(), positive=1)
    keras.utils.set_random_seed(7)
    state = random.getstate()
    assert first == check_by_randomising(model, draw_images(), positive=1)
    assert state == random.getstate()
    assert first != check_by_randomising(model, draw_images(), positive=1, seed=1)


def test_randomising_says_what_it_compared(model: keras.Model) -> None:
    """And judges by the limit that it names."""
    found = check_by_randomising(model, draw_images(), positive=1)
    assert ("mixed0", 6) == (found["block"], found["n"])
    assert found["passed"] == (abs(found["correlation"]) <= found["limit"])


def test_randomising_judges_nothing_where_there_is_no_map(silent: keras.Model) -> None:
    """A model that finds nothing anywhere has no maps to compare."""
    found = check_by_randomising(silent, draw_images(2), positive=1)
    assert (0, None, None) == (found["n"], found["correlation"], found["passed"])
