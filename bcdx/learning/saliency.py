"""A model and images in; heat maps of what speaks for the positive class, and whether they depend on the model, out.

The maps are Grad-CAM: each channel of one block's map, weighted by the mean of the logit's gradient over that channel,
added up and cut at 0. They are coarse: a 4 x 4 map of a 96 px image says which quarter of a side, not which pixel.

Source: Selvaraju, Cogswell, Das, Vedantam, Parikh and Batra 2017, "Grad-CAM: visual explanations from deep networks via
gradient-based localization", ICCV. Gradient times activation cell by cell (HiResCAM) suits a head that reads maxima
less, whose gradient is one cell: of four real patches in a square it found the tumour in 71 % of 208, Grad-CAM in 86 %.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from scipy.stats import spearmanr

from bcdx.config import BLOCK_ENDS
from bcdx.learning.network import FEATURES, HEAD, pooled_kinds
from bcdx.learning.statistics import set_batchnorm

Floats = NDArray[np.float32]

LEAST_SIDE = 4
"""Rows and columns that a block's map needs to be explained by."""
BATCH_SIZE = 32
LIMIT = 0.3
"""Mean rank correlation, whatever its sign, up to which maps count as unlike those of random weights.

Of 12 random networks beside one trained on real patches (30 maps of 4 x 4 cells) none went beyond 0.13.
"""
DRAWS = 3
LOSS_SCALE = 1024.0
"""The logit is multiplied by it before, the gradient divided after: in float16 small gradients would become 0."""
GRIDS = {
    **dict.fromkeys(("mixed0", "mixed1", "mixed2"), (13.0, 8.0)),
    **dict.fromkeys(("mixed3", "mixed4", "mixed5", "mixed6", "mixed7"), (21.0, 16.0)),
    **dict.fromkeys(("mixed8", "mixed9", "mixed10"), (37.0, 32.0)),
}
"""Block end -> pixel of the network's input at the centre of what its first cell sees, and pixels from cell to cell.

InceptionV3's first convolutions are unpadded: stretched over all of a 96 px image, a map would be off by up to 13 px.
"""


class Explainer:
    """Grad-CAM of one model from one of its blocks, compiled once.

    Args:
        model: Takes images in [0, 1], as `network.build_model` returns it.
        block: Block end that is explained by; None: as `choose_block` says.
    """

    def __init__(self, model: keras.Model, block: str | None = None) -> None:
        self.block = block or choose_block(model)
        self._classes = max(2, model.outputs[0].shape[-1])
        self._size = _network_size(model)
        outputs = [model.get_layer(self.block).output, model.get_layer(HEAD).output]
        self._reader = keras.Model(model.inputs, outputs, name="map_and_logits")  # unnamed, it would count up
        signature = [tf.TensorSpec(model.inputs[0].shape, tf.float32), tf.TensorSpec((self._classes,), tf.float32)]
        self._run: Any = tf.function(self._weigh_channels, input_signature=signature)

    def explain(self, images: Floats, *, positive: int) -> Floats:
        """Return what `explain` does."""
        cells = self.weigh_cells(images, positive=positive)
        rows, columns = (_place_cells(images.shape[side], self._size, self.block, cells.shape[side]) for side in (1, 2))
        heat = rows @ cells @ columns.T
        peaks = heat.max(axis=(1, 2), keepdims=True)
        scaled: Floats = np.divide(heat, peaks, out=np.zeros_like(heat), where=peaks > 0.0)
        return scaled

    def weigh_cells(self, images: Floats, *, positive: int) -> Floats:
        """Return the heat of each cell of the block's map, at least 0, shape (images, rows, columns)."""
        direction = np.eye(self._classes, dtype=np.float32)[positive]
        starts = range(0, len(images), BATCH_SIZE)
        return np.concatenate([self._run(images[first : first + BATCH_SIZE], direction).numpy() for first in starts])

    def _weigh_channels(self, images: tf.Tensor, direction: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)  # frozen layers have no other reason to be recorded
            maps, logits = self._reader(images, training=False)
            if logits.shape[-1] == 1:  # of class 1
                logits = tf.concat([-logits, logits], axis=1)
            total = LOSS_SCALE * tf.reduce_sum(logits * direction)
        slopes = tf.cast(tape.gradient(total, maps), tf.float32) / LOSS_SCALE
        return self._combine(tf.cast(maps, tf.float32), slopes)

    @staticmethod
    def _combine(maps: tf.Tensor, slopes: tf.Tensor) -> tf.Tensor:
        weights = tf.reduce_mean(slopes, axis=(1, 2), keepdims=True)
        return tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1))


_EXPLAINERS: WeakKeyDictionary[keras.Model, Explainer] = WeakKeyDictionary()


def explain(model: keras.Model, images: Floats, *, positive: int) -> Floats:
    """Return Grad-CAM heat maps of images for the positive class, at the images' size.

    The gradient is that of the logit, before sigmoid or softmax; with two classes its sign follows `positive`. Between
    the centres of what cells see heat is bilinear; beyond the outermost it fades to 0 within one cell.

    Args:
        model: Takes images in [0, 1], as `network.build_model` returns it; whatever its dtype policy, maps and
            gradients are combined in float32.
        images: In [0, 1], shape (images, height, width, channels); at least one.
        positive: Class index that is looked for.

    Returns:
        Shape (images, height, width), in [0, 1], the highest value of each 1; all 0 where nothing speaks for the class.
    """
    return find_explainer(model).explain(images, positive=positive)


def find_explainer(model: keras.Model) -> Explainer:
    """Return the model's explainer, compiled when it is first asked for."""
    if model not in _EXPLAINERS:
        _EXPLAINERS[model] = Explainer(model)
    return _EXPLAINERS[model]


def choose_block(model: keras.Model) -> str:
    """Return the last block that the head reads whose map has at least 4 x 4 cells.

    Where the head reads none of that size, the last block on the way there that has it.
    """
    names = {layer.name for layer in model.layers}
    large = [
        name for name in BLOCK_ENDS if name in names and min(model.get_layer(name).output.shape[1:3]) >= LEAST_SIDE
    ]
    read = [name for name in large if any(f"{name}_{kind}" in names for kind in pooled_kinds("both"))]
    return (read or large)[-1]


def check_by_randomising(model: keras.Model, images: Floats, *, positive: int, seed: int = 0) -> dict[str, Any]:
    """Return how alike an image's map is with the model's weights and with random ones: it should be unlike.

    A map that stays the same shows the image, not what the model has learned. First the head alone is drawn anew, then
    all that is trained, `DRAWS` times each; BatchNormalization is then set on the images, as for a network that starts
    at random. Maps are compared cell by cell, by Spearman's rank correlation; images of which all cells are alike
    before are left out, and count as 0 where all are alike after.

    Args:
        model: As for `explain`; its weights are put back.
        images: As for `explain`.
        positive: Class index that is looked for.
        seed: Decides all that is drawn; no other source of chance is used.

    Returns:
        `block`; `n` images compared; `correlation` with all weights random and `correlation_head` with a random head,
        means over images and draws; `limit`; `passed`: whether the former is at most the limit, whatever its sign. The
        three are None where `n` is 0.

    Source: Adebayo, Gilmer, Muelly, Goodfellow, Hardt and Kim 2018, "Sanity checks for saliency maps", NeurIPS.
    """
    explainer, random = find_explainer(model), np.random.default_rng(seed)
    before = explainer.weigh_cells(images, positive=positive)
    told = np.ptp(before, axis=(1, 2)) > 0.0
    found: dict[str, Any] = {"block": explainer.block, "n": int(told.sum()), "limit": LIMIT}
    if not told.any():
        return {**found, "correlation": None, "correlation_head": None, "passed": None}
    head, everything, held = [], [], model.get_weights()
    try:
        for _ in range(DRAWS):
            _draw_head(model, random)
            head.append(_correlate(before[told], explainer.weigh_cells(images[told], positive=positive)))
            _draw_body(model, images, random)
            everything.append(_correlate(before[told], explainer.weigh_cells(images[told], positive=positive)))
            model.set_weights(held)
    finally:
        model.set_weights(held)
    correlation = float(np.mean(everything))
    passed = abs(correlation) <= LIMIT
    return {**found, "correlation": correlation, "correlation_head": float(np.mean(head)), "passed": passed}


def _draw_head(model: keras.Model, random: np.random.Generator) -> None:
    layer = model.get_layer(HEAD)
    kernel, bias = layer.get_weights()
    layer.set_weights([random.normal(0.0, kernel.std(), kernel.shape), np.zeros_like(bias)])


def _draw_body(model: keras.Model, images: Floats, random: np.random.Generator) -> None:
    """Draw every convolution (He et al. 2015, for rectified units) and set BatchNormalization on the images."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            layer.set_weights(
                [random.normal(0.0, (2.0 / array[..., 0].size) ** 0.5, array.shape) for array in layer.get_weights()]
            )
        elif isinstance(layer, keras.layers.BatchNormalization):
            shift, *statistics = layer.get_weights()
            layer.set_weights([np.zeros_like(shift), *statistics])
    body = keras.Model(model.inputs, model.get_layer(FEATURES).output, name="body")
    set_batchnorm(body, tf.data.Dataset.from_tensors(images))


def _correlate(before: Floats, after: Floats) -> float:
    """Return the mean over images of the rank correlation of their cells."""
    pairs = zip(before, after, strict=True)
    return float(
        np.mean([spearmanr(one, other, axis=None).statistic if np.ptp(other) else 0.0 for one, other in pairs])
    )


def _network_size(model: keras.Model) -> int:
    """Return the side of the images that InceptionV3 itself sees, in pixels."""
    return int(model.get_layer("to_input_range").output.shape[1])


def _place_cells(pixels: int, size: int, block: str, cells: int) -> Floats:
    """Return the weights by which cells become pixels, linear between the centres of what the cells see.

    Args:
        pixels: Of the image along this side.
        size: Of the network's input along this side, to which images are resized.
        block: Whose map it is.
        cells: Of the map along this side.

    Returns:
        Shape (pixels, cells); rows add up to 1, to less beyond the outermost centres.
    """
    first, step = GRIDS[block]
    seen = (np.arange(pixels) + 0.5) * size / pixels - 0.5
    at = (seen - first) / step
    weights = 1.0 - np.abs(at[:, np.newaxis] - np.arange(cells))
    return np.clip(weights, 0.0, None).astype(np.float32)
