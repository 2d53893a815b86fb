"""What the layers of an InceptionV3 body ask for, from their shapes alone: a model in, `Costs` per block end out."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras

_BLOCK_END = re.compile(r"mixed\d+")
_POOLS = (keras.layers.AveragePooling2D, keras.layers.MaxPooling2D)


@dataclass(frozen=True)
class Costs:
    """Of one image through the body, by block end ("none": 0); cumulative up to and including it, but for its map.

    Attributes:
        multiply_adds: Of the convolutions.
        activation_bytes: What layers read and write, in their compute dtype.
        parameters: Trainable ones; BatchNormalization is frozen at every depth.
        map_bytes: Of the block end's own map, in its compute dtype.
        map_channels: Of the block end's own map.
        layers: How many layers there are, inputs not counted.
        entry_multiply_adds: Of the convolutions that read the block end's map, themselves or through a pool: where the
            map is not trained, they need no gradient of their input. Not cumulative.
    """

    multiply_adds: Mapping[str, float]
    activation_bytes: Mapping[str, float]
    parameters: Mapping[str, int]
    map_bytes: Mapping[str, int]
    map_channels: Mapping[str, int]
    layers: Mapping[str, int] = field(default_factory=dict)
    entry_multiply_adds: Mapping[str, float] = field(default_factory=dict)


def measure_costs(body: keras.Model) -> Costs:
    """Count what the layers up to each block end (those named mixed0 to mixed10) do to one image.

    Args:
        body: InceptionV3 of a fixed input size, whole or up to some block end, with or without input preparation.
    """
    names = ["none"] + [layer.name for layer in body.layers if _BLOCK_END.fullmatch(layer.name)]
    own = {name: body.get_layer(name) for name in names[1:]}
    sums = _sum_up(body)
    return Costs(
        multiply_adds={name: sums[name][0] for name in names},
        activation_bytes={name: sums[name][1] for name in names},
        parameters={name: int(sums[name][2]) for name in names},
        map_bytes={"none": 0, **{name: _count_bytes(layer, layer.output) for name, layer in own.items()}},
        map_channels={"none": 0, **{name: _count_channels(layer) for name, layer in own.items()}},
        layers={name: int(sums[name][3]) for name in names},
        entry_multiply_adds={"none": 0.0, **{name: _count_entry(body, layer) for name, layer in own.items()}},
    )


def _sum_up(body: keras.Model) -> dict[str, tuple[float, ...]]:
    """Return (multiply-adds, activation bytes, parameters, layers) up to each block end.

    A body's layers stand in the order of depth, and at a block end it is one tensor wide: what comes before it in the
    list is what it rests on.
    """
    totals: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    sums = {"none": totals}
    for layer in body.layers:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        one = (_count_multiply_adds(layer), _count_activation_bytes(layer), _count_parameters(layer), 1.0)
        totals = tuple(total + count for total, count in zip(totals, one, strict=True))
        if _BLOCK_END.fullmatch(layer.name):
            sums[layer.name] = totals
    return sums


def _count_multiply_adds(layer: keras.Layer) -> float:
    """Return the kernel's size times the positions it is laid on; 0 for layers that are no convolution."""
    if not isinstance(layer, keras.layers.Conv2D):
        return 0.0
    return float(math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:]) // layer.filters)


def _count_activation_bytes(layer: keras.Layer) -> float:
    return float(sum(_count_bytes(layer, tensor) for tensor in [*keras.tree.flatten(layer.input), layer.output]))


def _count_bytes(layer: keras.Layer, tensor: Any) -> int:
    """Return the bytes of one image's tensor in the layer's compute dtype (float32, float16, bfloat16)."""
    bits = re.search(r"\d+", layer.compute_dtype)
    return int(math.prod(tensor.shape[1:])) * (int(bits[0]) // 8 if bits else 4)


def _count_channels(layer: keras.Layer) -> int:
    return int(layer.output.shape[-1 if keras.config.image_data_format() == "channels_last" else 1])


def _count_parameters(layer: keras.Layer) -> float:
    if isinstance(layer, keras.layers.BatchNormalization):
        return 0.0
    return float(sum(math.prod(weight.shape) for weight in layer.weights))


def _count_entry(body: keras.Model, end: keras.Layer) -> float:
    total, read = 0.0, {id(end.output)}
    for layer in body.layers:
        if id(layer.input) not in read:
            continue
        total += _count_multiply_adds(layer)
        if isinstance(layer, _POOLS):
            read.add(id(layer.output))
    return total
