"""Augmentation as a pure function of (seed, sample_seed, view): drawing parameters apart from applying them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from bcdx.config import Augment
from bcdx.errors import SettingsError

GEOMETRY = ("flip_horizontal", "flip_vertical", "turns", "rotation", "zoom", "shift_x", "shift_y")
INTENSITY = ("brightness", "contrast", "noise", "bias_x", "bias_y", "bias_xy")
DRAWS = (*GEOMETRY, *INTENSITY)

Parameters = dict[str, tf.Tensor]


def draw_parameters(seed: int, sample_seed: tf.Tensor, view: tf.Tensor) -> Parameters:
    """Return one number in [-1, 1) per name of `DRAWS`.

    Args:
        seed: Of the run.
        sample_seed: int64 scalar, of the sample.
        view: int64 scalar, from 0.
    """
    drawn = tf.random.stateless_uniform([len(DRAWS)], _seed_pair(seed, sample_seed, view), -1.0, 1.0)
    return dict(zip(DRAWS, tf.unstack(drawn), strict=True))


def augment_image(image: tf.Tensor, augment: Augment, seed: int, sample_seed: tf.Tensor, view: tf.Tensor) -> tf.Tensor:
    """Return the view of an image: float32, square, (side, side, channels), in [0, 1]; view 0 is the image itself."""
    view = tf.cast(view, tf.int64)

    def change() -> tf.Tensor:
        drawn = draw_parameters(seed, sample_seed, view)
        changed = apply_intensity(apply_geometry(image, augment, drawn), augment, drawn)
        if augment.rician_noise * augment.strength > 0:
            sigma = augment.rician_noise * augment.strength * tf.abs(drawn["noise"])
            changed = add_rician_noise(changed, sigma, _seed_pair(seed + 1, sample_seed, view))
        return tf.clip_by_value(changed, 0.0, 1.0)

    return tf.cond(view == 0, lambda: image, change)


def apply_geometry(image: tf.Tensor, augment: Augment, drawn: Parameters) -> tf.Tensor:
    """Return the image flipped, turned (exactly) and warped by one projective transform, 0 outside."""
    if augment.flip_horizontal:
        image = tf.where(drawn["flip_horizontal"] > 0, image[:, ::-1], image)
    if augment.flip_vertical:
        image = tf.where(drawn["flip_vertical"] > 0, image[::-1], image)
    if augment.quarter_turns:
        turns = tf.cast(tf.floor((drawn["turns"] + 1.0) * 2.0), tf.int32)
        image = tf.ensure_shape(tf.image.rot90(image, turns), image.shape)
    strength = augment.strength
    if strength * (augment.rotation_degrees + augment.zoom + augment.shift) == 0:
        return image
    side = float(image.shape[0])
    return warp(
        image,
        radians=strength * math.radians(augment.rotation_degrees) * drawn["rotation"],
        scale=1.0 + strength * augment.zoom * drawn["zoom"],
        shift_px=(
            strength * augment.shift * side * drawn["shift_x"],
            strength * augment.shift * side * drawn["shift_y"],
        ),
    )


def warp(image: tf.Tensor, *, radians: tf.Tensor, scale: tf.Tensor, shift_px: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
    """Return the image rotated and enlarged about its centre, then shifted; bilinear, 0 outside."""
    side = image.shape[0]
    centre = (side - 1) / 2.0
    cosine, sine = tf.cos(radians) / scale, tf.sin(radians) / scale
    x, y = -centre - shift_px[0], -centre - shift_px[1]
    zero = tf.zeros_like(cosine)
    # from output to input coordinates, as the operation wants it: (x', y') = A (x - centre - shift) + centre
    transform = [
        cosine,
        sine,
        cosine * x + sine * y + centre,
        -sine,
        cosine,
        cosine * y - sine * x + centre,
        zero,
        zero,
    ]
    warped = tf.raw_ops.ImageProjectiveTransformV3(
        images=image[tf.newaxis],
        transforms=tf.stack(transform)[tf.newaxis],
        output_shape=[side, side],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
    return tf.ensure_shape(warped[0], image.shape)


def apply_intensity(image: tf.Tensor, augment: Augment, drawn: Parameters) -> tf.Tensor:
    """Return the image with other contrast (about its mean), brightness and coil sensitivity; not cut to [0, 1]."""
    strength = augment.strength
    if strength * augment.contrast > 0:
        mean = tf.reduce_mean(image)
        image = mean + (image - mean) * (1.0 + strength * augment.contrast * drawn["contrast"])
    if strength * augment.brightness > 0:
        image = image + strength * augment.brightness * drawn["brightness"]
    if strength * augment.bias_field > 0:
        across = tf.linspace(-1.0, 1.0, image.shape[0])
        x, y = across[tf.newaxis, :, tf.newaxis], across[:, tf.newaxis, tf.newaxis]
        field = (drawn["bias_x"] * x + drawn["bias_y"] * y + drawn["bias_xy"] * x * y) / 3.0
        image = image * (1.0 + strength * augment.bias_field * field)
    return image


def add_rician_noise(image: tf.Tensor, sigma: tf.Tensor, seed_pair: tf.Tensor) -> tf.Tensor:
    """Return the magnitude of the image with complex Gaussian noise.

    Source: Gudbjartsson and Patz 1995, "The Rician distribution of noisy MRI data", Magn. Reson. Med. 34(6).
    """
    noise = sigma * tf.random.stateless_normal([2, *image.shape], seed_pair)
    return tf.sqrt(tf.square(image + noise[0]) + tf.square(noise[1]))


def dihedral_view(images: tf.Tensor, view: int) -> tf.Tensor:
    """Return a batch in one of the eight flips and quarter turns of the square; view 0 is the batch itself."""
    turned = tf.image.rot90(images, view % 4)
    return turned if view < 4 else tf.reverse(turned, axis=[2])


def all_views(batches: tf.data.Dataset, views: int) -> tf.data.Dataset:
    """Return the batches, of images alone or with labels behind them, in the first dihedral views, view after view."""

    def turn(view: int) -> Callable[..., Any]:
        return lambda images, *rest: (dihedral_view(images, view), *rest) if rest else dihedral_view(images, view)

    return reduce(lambda joined, view: joined.concatenate(batches.map(turn(view))), range(1, views), batches)


def check_flips(
    augment: Augment, labels: NDArray[np.int64], lateralities: NDArray[np.str_], classes: Sequence[str]
) -> None:
    """Refuse mirrored views where they would change the label.

    Raises:
        SettingsError: `flip_horizontal` is on, and class names or the training split tie the label to the side.
    """
    if not augment.flip_horizontal:
        return
    words = {word.lower() for name in classes for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}
    if words & {"left", "right"} or {"L", "R"} <= set(classes):
        raise SettingsError(f"augment.flip_horizontal would swap the classes {', '.join(classes)}; turn it off")
    known = [side for side in ("L", "R") if (lateralities == side).any()]
    found = [set(labels[lateralities == side].tolist()) for side in known]
    if len(known) == 2 and all(len(one) == 1 for one in found) and found[0] != found[1]:
        raise SettingsError("augment.flip_horizontal: in training the breast's side decides the label; turn it off")


def _seed_pair(seed: int, sample_seed: tf.Tensor, view: tf.Tensor) -> tf.Tensor:
    """Return a stateless seed, shape (2,): the sample, and run and view side by side."""
    return tf.stack([tf.cast(sample_seed, tf.int64), tf.cast(view, tf.int64) + tf.constant(seed, tf.int64) * 2**20])
