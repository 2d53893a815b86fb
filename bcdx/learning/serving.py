"""A trained model in; one TensorFlow function from pixels in real units to calibrated probabilities out.

Everything between the two stands in its graph, in the order in which records were prepared: the range of the study, the
computed channels, the fit into a square, 16 bits, the network in each of its test-time views, their mean, calibration;
and how far the image lies from the training images, where the run can tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from bcdx.config.dataset import PHASES, WASH_IN, list_phases
from bcdx.evidence.calibration import LEAST, Calibrator
from bcdx.evidence.familiarity import Reference
from bcdx.learning.augment import dihedral_view
from bcdx.learning.network import FEATURE_NORM, with_features

INPUTS = ("pixels", "low", "high")
OUTPUTS = ("probability", "score", "probabilities", "features")
DISTANCE = "distance"
"""Output beside them where the run has a reference of its training images."""
NO_CHANGE = 0.5
STEPS = 65535.0
"""Records hold 16 bits."""


@dataclass(frozen=True)
class Channel:
    """How one channel of the network comes of the channels of `pixels`.

    Attributes:
        kind: `phase`: as it is; `difference`: (later - earlier + 1) / 2; `ratio`: (later - earlier) over the earlier
            one, cut to [0, most] and divided by it. All in units of the range.
        later: Channel of `pixels`.
        earlier: Another one; the same for a phase.
        fill: Value where either is padded; of a phase also beside the image.
        least: A ratio's earlier value below this counts as this.
        most: A ratio above this counts as this.
    """

    kind: Literal["phase", "difference", "ratio"]
    later: int
    earlier: int
    fill: float = 0.0
    least: float = 0.0
    most: float = 1.0


@dataclass(frozen=True)
class Preparation:
    """How pixels become what the network takes.

    Attributes:
        size: Side of its square input, pixels.
        phases: Names of the channels of `pixels`.
        channels: The network's.
    """

    size: int
    phases: tuple[str, ...]
    channels: tuple[Channel, ...]


def plan_preparation(
    names: str | tuple[str, ...], image_shape: tuple[int, int, int], *, least: float, most: float
) -> Preparation:
    """Return how records of a recipe come of pixels in real units.

    Args:
        names: `config.Dataset.channels`.
        image_shape: Height, width and channels of the records.
        least: Of wash-in, as `Channel` says.
        most: The same.
    """
    size, _, count = image_shape
    if isinstance(names, str):
        phases = ("grey",) if names == "grey" else tuple(f"phase {number + 1}" for number in range(count))
        return Preparation(size, phases, tuple(Channel("phase", number, number) for number in range(count)))
    needed = {phase for name in names for phase in list_phases(name)}
    phases = tuple(phase for phase in PHASES if phase in needed)
    channels = []
    for name in names:
        places = [phases.index(phase) for phase in list_phases(name)]
        later, earlier = places[0], places[-1]
        if name == WASH_IN:
            channels.append(Channel("ratio", later, earlier, least=least, most=most))
        elif later != earlier:
            channels.append(Channel("difference", later, earlier, fill=NO_CHANGE))
        else:
            channels.append(Channel("phase", later, earlier))
    return Preparation(size, phases, tuple(channels))


class Serving(tf.Module):
    """A model with its preparation and calibration, ready to be written in other formats.

    Attributes:
        serve: The function; its inputs are `INPUTS`, its outputs a dictionary of `OUTPUTS` and, with a reference, of
            `DISTANCE`.
    """

    def __init__(
        self,
        model: keras.Model,
        preparation: Preparation,
        calibrator: Calibrator,
        *,
        positive: int,
        views: int,
        reference: Reference | None = None,
    ) -> None:
        super().__init__()
        network = with_features(fix_statistics(model))
        self.weights = [variable.value for variable in network.variables]  # what is tracked is saved
        self.outputs = OUTPUTS if reference is None else (*OUTPUTS, DISTANCE)

        def serve(pixels: tf.Tensor, low: tf.Tensor, high: tf.Tensor) -> dict[str, tf.Tensor]:
            images = prepare(pixels, low, high, preparation)
            raw, features = score_views(network, images, views)
            calibrated = calibrate(raw, calibrator, positive)
            distances = () if reference is None else (place_features(features, reference),)
            found = (calibrated[:, positive], raw[:, positive], calibrated, features, *distances)
            known = high > low  # an image without contrast has no score
            return {
                name: _or_nan(known if value.shape.rank == 1 else known[:, tf.newaxis], value)
                for name, value in zip(self.outputs, found, strict=True)
            }

        shape = (None, None, None, len(preparation.phases))
        self.serve = tf.function(
            serve,
            input_signature=[
                tf.TensorSpec(shape, tf.float32, name="pixels"),
                tf.TensorSpec((None,), tf.float32, name="low"),
                tf.TensorSpec((None,), tf.float32, name="high"),
            ],
        )


def fix_statistics(model: keras.Model) -> keras.Model:
    """Return a copy in float32 whose feature statistics are constants.

    As tensors they would be captured as inputs of the function, which no converter knows what to do with.
    """
    found = in_float32(model)
    layer = found.get_layer(FEATURE_NORM)
    layer.mean, layer.variance = np.asarray(layer.mean), np.asarray(layer.variance)
    return found


def in_float32(model: keras.Model) -> keras.Model:
    """Return the model with the same weights, all of it calculating in float32: other runtimes know little else."""

    def copy(layer: Any) -> Any:
        settings = layer.get_config()
        if isinstance(layer, keras.layers.Layer):  # and no bare operation, such as a slice
            settings["dtype"] = "float32"
        return layer.__class__.from_config(settings)

    found = keras.models.clone_model(model, clone_function=copy)
    found.set_weights(model.get_weights())
    found.get_layer(FEATURE_NORM).finalize_state()
    return found


def prepare(pixels: tf.Tensor, low: tf.Tensor, high: tf.Tensor, preparation: Preparation) -> tf.Tensor:
    """Return what the network takes: float32 in [0, 1] in steps of 16 bits, shape (batch, size, size, channels).

    Args:
        pixels: Real units, NaN where padded, shape (batch, rows, columns, phases).
        low: What becomes 0, shape (batch,).
        high: What becomes 1, shape (batch,).
        preparation: How.
    """
    padded = tf.math.is_nan(pixels)
    low, high = (value[:, tf.newaxis, tf.newaxis, tf.newaxis] for value in (low, high))
    units = tf.clip_by_value((tf.where(padded, low, pixels) - low) / (high - low), 0.0, 1.0)
    channels = [make_channel(units, padded, channel) for channel in preparation.channels]
    fills = [channel.fill for channel in preparation.channels]
    square = fit_square(tf.stack(channels, axis=1), preparation.size, fills)
    return tf.transpose(tf.round(tf.clip_by_value(square, 0.0, 1.0) * STEPS) / STEPS, (0, 2, 3, 1))


def make_channel(units: tf.Tensor, padded: tf.Tensor, channel: Channel) -> tf.Tensor:
    """Return one channel, shape (batch, rows, columns)."""
    later, earlier = units[..., channel.later], units[..., channel.earlier]
    if channel.kind == "phase":
        return later
    if channel.kind == "difference":
        found = (later - earlier + 1.0) / 2.0
    else:
        found = tf.clip_by_value((later - earlier) / tf.maximum(earlier, channel.least), 0.0, channel.most)
        found = found / channel.most
    either = tf.logical_or(padded[..., channel.later], padded[..., channel.earlier])
    return tf.where(either, tf.constant(channel.fill, tf.float32), found)


def fit_square(channels: tf.Tensor, size: int, fills: Sequence[float]) -> tf.Tensor:
    """Return images as large as they fit into a square, centred, with a channel's fill beside them.

    Args:
        channels: Shape (batch, channels, rows, columns).
        size: Side of the square, pixels.
        fills: Of each channel.
    """
    shape = tf.shape(channels)
    longest = tf.maximum(shape[2], shape[3])
    down, across = (weigh_pixels(shape[axis], longest, size) for axis in (2, 3))
    square = _weigh_last(_turn(_weigh_last(_turn(channels), down)), across)
    if not any(fills):
        return square
    covered = tf.reduce_sum(down, axis=1)[:, tf.newaxis] * tf.reduce_sum(across, axis=1)[tf.newaxis]
    beside = tf.constant(fills, tf.float32)[:, tf.newaxis, tf.newaxis]
    return square + beside * (1.0 - covered)


def _turn(images: tf.Tensor) -> tf.Tensor:
    return tf.transpose(images, (0, 1, 3, 2))


def _weigh_last(images: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Return sums along the last of four axes, each with a row of weights.

    As a product of matrices: with oneDNN, one of stacks of them that broadcasts is wrong, or crashes, where the second
    axis is 1 long and the first is not (TensorFlow 2.16 to 2.21).
    """
    shape = tf.shape(images)
    found = tf.matmul(tf.reshape(images, (-1, shape[3])), weights, transpose_b=True)
    return tf.reshape(found, tf.concat([shape[:3], tf.shape(weights)[:1]], axis=0))


def weigh_pixels(length: tf.Tensor, longest: tf.Tensor, size: int) -> tf.Tensor:
    """Return how much each pixel along one axis of an image counts in each of the square, shape (size, length).

    A triangle about the centre of the pixel of the square, as wide as the larger of the two pixels on either side: what
    Pillow calls bilinear. Rows beside the image are 0. In double precision, so that images lie where records have them.

    Args:
        length: Pixels along the axis, int32 scalar.
        longest: Pixels along the image's longer axis, int32 scalar.
        size: Side of the square, pixels.
    """
    pixels, longer = tf.cast(length, tf.float64), tf.cast(longest, tf.float64)
    side = tf.constant(size, tf.float64)
    shown = tf.maximum(tf.round(pixels * (side / longer)), 1.0)
    place = tf.constant(np.arange(size), tf.float64) - tf.floor((side - shown) / 2.0)
    step = pixels / shown
    centres = (place + 0.5) * step
    own = tf.cast(tf.range(length), tf.float64) + 0.5
    weights = tf.maximum(1.0 - tf.abs(own - centres[:, tf.newaxis]) / tf.maximum(step, 1.0), 0.0)
    inside = tf.cast(tf.logical_and(place >= 0.0, place < shown), tf.float64)[:, tf.newaxis]
    sums = tf.reduce_sum(weights, axis=1, keepdims=True)
    return tf.cast(inside * weights / tf.maximum(sums, 1e-9), tf.float32)


def score_views(network: Any, images: tf.Tensor, views: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Return class probabilities averaged over views, float64 (batch, classes), and the features of the plain view."""
    turned = tf.concat([dihedral_view(images, view) for view in range(views)], axis=0)
    scores, features = network(turned, training=False)
    scores = tf.cast(scores, tf.float64)
    if scores.shape[1] == 1:
        scores = tf.concat([1.0 - scores, scores], axis=1)
    mean = tf.reduce_mean(tf.reshape(scores, (views, -1, scores.shape[1])), axis=0)
    return mean, features[: tf.shape(images)[0]]


def calibrate(scores: tf.Tensor, calibrator: Calibrator, positive: int) -> tf.Tensor:
    """Return what `Calibrator.apply` does, float64."""
    if calibrator.method == "none":
        return scores
    if scores.shape[1] > 2:
        return tf.nn.softmax(calibrator.slope * tf.math.log(tf.maximum(scores, LEAST)), axis=1)
    found = tf.clip_by_value(scores[:, positive], LEAST, 1.0 - LEAST)
    logits = calibrator.slope * (tf.math.log(found) - tf.math.log(1.0 - found)) + calibrator.intercept
    hit = 1.0 / (1.0 + tf.exp(-logits))
    return tf.stack([hit, 1.0 - hit] if positive == 0 else [1.0 - hit, hit], axis=1)


def place_features(features: tf.Tensor, reference: Reference) -> tf.Tensor:
    """Return what `familiarity.measure_distances` does, float64 (batch,)."""
    standard = (tf.cast(features, tf.float64) - reference.mean) / reference.scale
    placed = tf.matmul(standard, reference.axes, transpose_b=True)
    distances = tf.sqrt(tf.reduce_mean(placed**2 / reference.variances, axis=1))
    return tf.where(tf.math.is_finite(distances), distances, tf.constant(np.inf, tf.float64))


def _or_nan(known: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    # a constant, which tf2onnx looks for: it turns other choices into products, and 0 times NaN is NaN
    return tf.where(known, tf.cast(values, tf.float32), tf.constant(np.nan, tf.float32))
