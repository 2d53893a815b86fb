"""InceptionV3 up to the last block that is read, pooled block ends, one normalisation, one head.

Images in [0, 1], shape (batch, height, width, 1 to 3), in; probabilities out: one (of class 1) for two classes, else
one per class.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import keras
from numpy.typing import NDArray

from bcdx._recipes import expand_path
from bcdx.config import Network
from bcdx.errors import RunError, SettingsError

MINIMUM_PX = 75
FEATURES, FEATURE_NORM, HEAD = "features", "feature_norm", "head"


def build_model(
    network: Network, *, input_shape: tuple[int, int, int], classes: int, policy: str, seed: int
) -> keras.Model:
    """Return an uncompiled model with its layers frozen as `network.depth` says.

    Every BatchNormalization layer has `trainable = False` at every depth, which alone keeps it in inference mode. Sets
    the global random seed, for Keras draws initial weights from it.

    Args:
        network: Weights, depth and pooling.
        input_shape: Height, width and channels of the records.
        classes: Number of classes.
        policy: Keras dtype policy of the body; pooling, normalisation and head are float32.
        seed: Decides all that is drawn.

    Raises:
        SettingsError: The weights cannot be used or the input is too small.
    """
    body = build_body(network, input_shape=input_shape, policy=policy, seed=seed)
    model = attach_head(body, network, classes=classes, seed=seed)
    freeze(model, network.frozen)
    return model


def build_body(network: Network, *, input_shape: tuple[int, int, int], policy: str, seed: int) -> keras.Model:
    """Return InceptionV3 behind the preparation of its input, with its initial weights, all of it trainable.

    Raises:
        SettingsError: The weights cannot be used or the input is too small.
    """
    size = network.image_size or input_shape[0]
    if size < MINIMUM_PX:
        raise SettingsError(f"InceptionV3 needs at least {MINIMUM_PX} px, received {size}; set network.image_size")
    keras.utils.set_random_seed(seed)
    with _global_policy(policy):
        inputs = keras.Input(input_shape, name="image", dtype="float32")
        body = keras.applications.InceptionV3(
            include_top=False, weights=None, input_tensor=_prepare_input(inputs, network, size)
        )
    weights = None if network.weights == "random" else load_body_weights(network.weights)
    if weights is not None:
        _set_body_weights(body, weights)
    return body


def attach_head(body: keras.Model, network: Network, *, classes: int, seed: int) -> keras.Model:
    """Return a model that ends in a head of its own on the body's own layers: several may share one body."""
    vectors = list(pool_blocks(body, network.pooled, network.pooling).values())
    join = keras.layers.Concatenate if len(vectors) > 1 else keras.layers.Identity
    features = join(name=FEATURES, dtype="float32")(vectors if len(vectors) > 1 else vectors[0])
    normalised = keras.layers.Normalization(name=FEATURE_NORM, dtype="float32")(features)
    dropped = keras.layers.Dropout(network.dropout, seed=seed, dtype="float32")(normalised)
    units, activation = (1, "sigmoid") if classes == 2 else (classes, "softmax")
    drawn = keras.initializers.GlorotUniform(seed=seed)  # whatever was drawn before
    logits = keras.layers.Dense(units, name=HEAD, dtype="float32", kernel_initializer=drawn)(dropped)
    outputs = keras.layers.Activation(activation, name="probability", dtype="float32")(logits)
    model = keras.Model(body.inputs, outputs)
    freeze(model, "none")
    return model


def freeze(model: keras.Model, depth: str) -> None:
    """Freeze everything up to and including the block end `depth` (or nothing), and BatchNorm everywhere."""
    frozen = [] if depth == "none" else keras.Model(model.inputs, model.get_layer(depth).output).layers
    names = {layer.name for layer in frozen}
    for layer in model.layers:
        layer.trainable = layer.name not in names and not isinstance(layer, keras.layers.BatchNormalization)


def with_features(model: keras.Model) -> keras.Model:
    """Return a model on the same layers that gives its probabilities and, beside them, what its head reads."""
    outputs = [model.outputs[0], model.get_layer(FEATURE_NORM).output]
    return keras.Model(model.inputs, outputs, name="probabilities_and_features")  # unnamed, it would count up


def load_model(path: Path) -> keras.Model:
    """Load a finished `.keras` model for inference.

    Raises:
        RunError: It is missing or damaged.
    """
    try:
        model: keras.Model = keras.models.load_model(path, compile=False)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise RunError(f"{path}: not a model that can be loaded") from error
    return model


@lru_cache(maxsize=1)
def load_body_weights(weights: str) -> tuple[tuple[NDArray[Any], ...], ...]:
    """Return the weights of each InceptionV3 layer that has any, in the order of the layers.

    Raises:
        SettingsError: The file is missing or holds something else, or ImageNet's cannot be downloaded.
    """
    path = find_weights(weights)
    try:
        body = keras.applications.InceptionV3(include_top=False, weights="imagenet" if path is None else str(path))
    except (OSError, ValueError, KeyError) as error:
        raise SettingsError(_explain_weights(weights)) from error
    except Exception as error:
        if weights != "imagenet":
            raise
        raise SettingsError(_explain_weights(weights)) from error  # Keras raises a bare Exception for a failed download
    return tuple(tuple(layer.get_weights()) for layer in body.layers if layer.weights)


def find_weights(weights: str) -> Path | None:
    """Return the file that `network.weights` names; None for `imagenet` and `random`.

    Raises:
        SettingsError: There is no such file.
    """
    if weights in {"imagenet", "random"}:
        return None
    path = expand_path(weights)
    if not path.is_file():
        raise SettingsError(f"network.weights: {weights}: no such file; expected a path, `imagenet` or `random`")
    return path


def _explain_weights(weights: str) -> str:
    if weights == "imagenet":
        return (
            "network.weights: ImageNet's cannot be downloaded; use a path to a Keras no-top weights file, or `random`"
        )
    return f"network.weights: {weights}: not the weights of a Keras InceptionV3 without top"


def _set_body_weights(body: keras.Model, weights: Sequence[Sequence[NDArray[Any]]]) -> None:
    layers = [layer for layer in body.layers if layer.weights]
    for layer, arrays in zip(layers, weights, strict=True):
        layer.set_weights(list(arrays))


def _prepare_input(inputs: Any, network: Network, size: int) -> Any:
    """Return three channels of the network's size in the range that the weights expect."""
    images = inputs
    if tuple(inputs.shape[1:3]) != (size, size):
        images = keras.layers.Resizing(size, size, name="resize", dtype="float32")(images)
    channels = inputs.shape[-1]
    if channels < 3:
        images = keras.layers.Concatenate(name="to_three_channels", dtype="float32")(
            [images] + [images[..., channels - 1 :]] * (3 - channels)
        )
    low, high = network.input_range
    return keras.layers.Rescaling(high - low, offset=low, name="to_input_range", dtype="float32")(images)


def pool_blocks(body: keras.Model, blocks: Sequence[str], pooling: str) -> dict[str, Any]:
    """Return the pooled vectors of block ends, float32, by the names of their layers, such as `mixed3_average`."""
    kinds = {"average": keras.layers.GlobalAveragePooling2D, "maximum": keras.layers.GlobalMaxPooling2D}
    names = {f"{block}_{kind}": (block, kind) for block in blocks for kind in pooled_kinds(pooling)}
    return {
        name: kinds[kind](name=name, dtype="float32")(body.get_layer(block).output)
        for name, (block, kind) in names.items()
    }


def pooled_kinds(pooling: str) -> tuple[str, ...]:
    """Return the kinds of pooled vectors that the setting stands for."""
    return ("average", "maximum") if pooling == "both" else (pooling,)


@contextmanager
def _global_policy(policy: str) -> Iterator[None]:
    """Set Keras's policy for the block: keras.applications offers no other way to choose its layers' types."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
