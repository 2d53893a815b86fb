"""Where a network is cut into a frozen and a trained part: settings in; names of layers, and what lies behind, out."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from bcdx.config import DEPTHS, Network
from bcdx.learning.network import pooled_kinds


def boundary_names(network: Network) -> tuple[str, ...]:
    """Return the layers at which the frozen part ends, in the order in which the suffix takes their outputs.

    The map of the frozen block end, unless it is the last that is read; then the pooled vectors of all blocks up to it.
    Empty where nothing is frozen.
    """
    frozen = network.frozen
    if frozen == "none":
        return ()
    before = [block for block in network.pooled if DEPTHS.index(block) <= DEPTHS.index(frozen)]
    vectors = vector_names(before, network.pooling)
    return vectors if frozen == network.pooled[-1] else (frozen, *vectors)


def vector_names(blocks: Sequence[str], pooling: str) -> tuple[str, ...]:
    """Return the names of the pooled vectors of the blocks."""
    return tuple(f"{block}_{kind}" for block in blocks for kind in pooled_kinds(pooling))


def split_model(model: keras.Model, names: Sequence[str]) -> keras.Model:
    """Return what stands behind the named layers, on the same layers and weights.

    Args:
        model: Takes images.
        names: As `boundary_names` gives them.

    Returns:
        A model from the list of their outputs to the probabilities.
    """
    return keras.Model([model.get_layer(name).output for name in names], model.outputs[0])
