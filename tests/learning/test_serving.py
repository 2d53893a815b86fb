"""Claims about the graph that prepares pixels, scores them and calibrates, against the code that made the records."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from bcdx import config
from bcdx.evidence.calibration import Calibrator
from bcdx.evidence.familiarity import Reference, fit_reference, measure_distances
from bcdx.imaging.channels import LEAST_PRE, MOST_WASH_IN
from bcdx.imaging.compose import store_channels
from bcdx.imaging.normalise import fit_square as fit_by_pillow
from bcdx.imaging.normalise import to_unit_range
from bcdx.imaging.stored import Stored
from bcdx.learning.features import read_features
from bcdx.learning.network import build_model
from bcdx.learning.prediction import predict
from bcdx.learning.serving import (
    Preparation,
    Serving,
    calibrate,
    fit_square,
    in_float32,
    place_features,
    plan_preparation,
    prepare,
)

ONE_STEP = 1.0 / 65535.0


def _plan(names: str | tuple[str, ...], shape: tuple[int, int, int]) -> Preparation:
    return plan_preparation(names, shape, least=LEAST_PRE, most=MOST_WASH_IN)


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 300), columns=st.integers(1, 300), size=st.integers(1, 128), seed=st.integers(0, 99))
def test_fit_square_is_what_pillow_makes_of_any_shape(rows: int, columns: int, size: int, seed: int) -> None:
    """The same place, to the pixel, and the same weights, whether the image shrinks or grows."""
    pixels = np.random.default_rng(seed).random((rows, columns), np.float32)
    expected = fit_by_pillow(pixels, size, fill=0.5)
    actual = fit_square(tf.constant(pixels)[tf.newaxis, tf.newaxis], size, [0.5]).numpy()[0, 0]
    np.testing.assert_allclose(actual, expected, atol=2e-6)


@pytest.mark.parametrize(
    ("channels", "phases"),
    [
        ("grey", (0,)),
        ("phases", (0, 1, 2)),
        (("early",), (1,)),
        (("late", "pre"), (0, 2)),
        (("late-early", "early", "early-pre"), (0, 1, 2)),
        (("wash-in", "pre", "late-pre"), (0, 1, 2)),
        (("wash-in",), (0, 1)),
    ],
)
def test_prepare_makes_the_pixels_of_records(channels: str | tuple[str, ...], phases: tuple[int, ...]) -> None:
    """Real units, padding in one phase alone, and an oblong image become what sharding stores, within one of 65535."""
    generator = np.random.default_rng(0)
    pixels = generator.normal(100.0, 300.0, (2, 90, 61, len(phases))).astype(np.float32)
    pixels[:, :20, :, 0] = np.nan
    low, high = np.array([-300.0, 0.0], np.float32), np.array([500.0, 1.5], np.float32)
    dataset = config.Dataset(channels=channels, size=48)
    plan = _plan(channels, (48, 48, len(phases) if isinstance(channels, str) else len(channels)))

    actual = prepare(tf.constant(pixels), tf.constant(low), tf.constant(high), plan).numpy()

    for index in range(2):
        images = [pixels[index, :, :, place] for place in range(len(phases))]
        masks = [np.isnan(image) for image in images]
        units = [
            to_unit_range(Stored(image, mask=mask), float(low[index]), float(high[index]))
            for image, mask in zip(images, masks, strict=True)
        ]
        stored = store_channels(dict(zip(phases, units, strict=True)), dict(zip(phases, masks, strict=True)), dataset)
        np.testing.assert_allclose(actual[index], stored / np.float32(65535.0), atol=1.1 * ONE_STEP)


def test_plan_names_the_phases_that_computed_channels_need() -> None:
    """In order of time, each once, whatever the order of the channels."""
    assert ("pre", "early", "late") == _plan(("late-pre", "wash-in"), (96, 96, 2)).phases
    assert ("early", "late") == _plan(("late-early",), (96, 96, 1)).phases
    assert ("grey",) == _plan("grey", (96, 96, 1)).phases
    assert ("phase 1", "phase 2") == _plan("phases", (96, 96, 2)).phases


@pytest.mark.parametrize("positive", [0, 1])
@pytest.mark.parametrize(
    "calibrator", [Calibrator(), Calibrator("temperature", 0.5), Calibrator("platt", 2.0, intercept=-0.7)]
)
def test_calibrate_is_what_the_calibrator_does_to_two_classes(calibrator: Calibrator, positive: int) -> None:
    """Certain scores included."""
    first = np.array([0.0, 1e-9, 0.3, 0.5, 1.0 - 1e-9, 1.0])
    scores = np.stack([first, 1.0 - first], axis=1)
    actual = calibrate(tf.constant(scores), calibrator, positive).numpy()
    np.testing.assert_allclose(actual, calibrator.apply(scores, positive), atol=1e-12)


def test_calibrate_is_what_the_calibrator_does_to_three_classes() -> None:
    """Rows go on adding up to 1."""
    scores = np.random.default_rng(0).dirichlet((0.1, 0.5, 1.0), 20)
    calibrator = Calibrator("temperature", 0.4)
    actual = calibrate(tf.constant(scores), calibrator, 1).numpy()
    np.testing.assert_allclose(actual, calibrator.apply(scores, 1), atol=1e-12)


@pytest.fixture(scope="module")
def model() -> Any:
    """A small network that calculates in mixed precision, its feature statistics set."""
    network = config.Network(weights="random", depth="none/mixed0")
    built = build_model(network, input_shape=(75, 75, 1), classes=2, policy="mixed_bfloat16", seed=0)
    layer = built.get_layer("feature_norm")
    layer.adapt_mean.assign(np.full(layer.adapt_mean.shape, 0.1, np.float32))
    layer.adapt_variance.assign(np.full(layer.adapt_variance.shape, 4.0, np.float32))
    layer.finalize_state()
    return built


def test_in_float32_keeps_weights_and_statistics_and_leaves_no_other_type(model: Any) -> None:
    """What is written calculates in float32 throughout and says nearly the same."""
    plain = in_float32(model)
    assert {"float32"} == {layer.compute_dtype for layer in plain.layers if isinstance(layer, keras.layers.Layer)}
    for expected, actual in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(expected, actual)
    images = np.random.default_rng(0).random((4, 75, 75, 1), np.float32)
    np.testing.assert_allclose(np.asarray(plain(images)), np.asarray(model(images)), atol=0.02)


@pytest.mark.parametrize("views", [1, 8])
def test_serving_scores_stored_images_as_predict_does(model: Any, views: int) -> None:
    """Raw scores over the views and the plain view's features; an image without contrast has neither."""
    plain = in_float32(model)
    stored = np.random.default_rng(0).integers(0, 65536, (3, 75, 75, 1)).astype(np.float32)
    images = tf.data.Dataset.from_tensor_slices(stored / np.float32(65535.0)).batch(3)
    expected, (features, _) = predict(plain, images, views=views), read_features(plain, images)
    serving = Serving(plain, _plan("grey", (75, 75, 1)), Calibrator(), positive=1, views=views)
    low, high = np.zeros(3, np.float32), np.array([65535.0, 65535.0, 0.0], np.float32)

    found = {name: value.numpy() for name, value in serving.serve(stored, low, high).items()}

    np.testing.assert_allclose(found["score"][:2], expected[:2, 1], atol=1e-6)
    np.testing.assert_allclose(found["probabilities"][:2], expected[:2], atol=1e-6)
    np.testing.assert_allclose(found["features"][:2], features[:2], atol=1e-4)
    assert all(np.isnan(value[2]).all() for value in found.values())


def test_serving_leaves_the_model_as_it_is(model: Any) -> None:
    """Whoever hands over a model may go on training or saving it: its statistics stay the tensors that they were."""
    layer, weights = model.get_layer("feature_norm"), model.get_weights()
    before = layer.mean, layer.variance
    Serving(model, _plan("grey", (75, 75, 1)), Calibrator(), positive=1, views=1)
    assert before[0] is layer.mean
    assert before[1] is layer.variance
    for expected, actual in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(expected, actual)


def _make_reference(features: int) -> Reference:
    seen = np.random.default_rng(0).normal(3.0, 2.0, (60, features)).astype(np.float32)
    return fit_reference(seen, np.repeat(np.arange(20), 3).astype(str))


def test_place_features_is_what_familiarity_measures() -> None:
    """Near and far ones, and those that are no numbers, which lie infinitely far away."""
    reference = _make_reference(30)
    features = np.random.default_rng(1).normal(3.0, 20.0, (50, 30)).astype(np.float32)
    features[0, 3], features[1, 4] = np.nan, np.inf
    actual = place_features(tf.constant(features), reference).numpy()
    np.testing.assert_allclose(actual, measure_distances(reference, features), rtol=1e-9)
    assert [np.inf, np.inf] == actual[:2].tolist()


def test_serving_says_how_far_an_image_lies_from_training(model: Any) -> None:
    """By the features of the plain view; of an image without contrast nothing."""
    plain = in_float32(model)
    reference = _make_reference(int(model.get_layer("feature_norm").output.shape[-1]))
    stored = np.random.default_rng(0).integers(0, 65536, (3, 75, 75, 1)).astype(np.float32)
    features, _ = read_features(plain, tf.data.Dataset.from_tensors(stored / np.float32(65535.0)))
    serving = Serving(plain, _plan("grey", (75, 75, 1)), Calibrator(), positive=1, views=8, reference=reference)
    found = serving.serve(stored, np.zeros(3, np.float32), np.array([65535.0, 65535.0, 0.0], np.float32))
    distances = found["distance"].numpy()
    np.testing.assert_allclose(distances[:2], measure_distances(reference, features)[:2], rtol=1e-4)
    assert np.isnan(distances[2])
