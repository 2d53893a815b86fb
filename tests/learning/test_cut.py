"""Claims about where a network is cut."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from bcdx.config import Network
from bcdx.learning.cut import boundary_names, split_model
from bcdx.learning.network import build_model


@pytest.mark.parametrize(
    ("depth", "pooling", "expected"),
    [
        ("none/mixed3", "average", ()),
        ("mixed2/mixed10", "average", ("mixed2",)),
        ("mixed2/mixed0+mixed3", "maximum", ("mixed2", "mixed0_maximum")),
        ("mixed2/mixed2+mixed3", "both", ("mixed2", "mixed2_average", "mixed2_maximum")),
        ("mixed3/mixed0+mixed3", "average", ("mixed0_average", "mixed3_average")),  # no map: nothing is built behind it
    ],
)
def test_boundary_names_are_the_map_and_the_vectors_read_before(
    depth: str, pooling: str, expected: tuple[str, ...]
) -> None:
    """In the order in which the suffix takes them."""
    assert expected == boundary_names(Network(depth=depth, pooling=pooling))


@pytest.mark.parametrize("depth", ["mixed0/mixed0+mixed1", "mixed1/mixed1"])
def test_suffix_of_the_prefix_is_the_network(depth: str) -> None:
    """On the same layers: what the boundary gives, put into the suffix, gives what the whole gives."""
    network = Network(depth=depth, pooling="both")
    model = build_model(network, input_shape=(75, 75, 1), classes=2, policy="float32", seed=0)
    images = np.random.default_rng(0).random((3, 75, 75, 1), np.float32)
    names = boundary_names(network)
    suffix = split_model(model, names)
    tensors = keras.Model(model.inputs, [model.get_layer(name).output for name in names])(images)
    np.testing.assert_allclose(np.asarray(model(images)), np.asarray(suffix(tensors)), atol=1e-7)
    assert suffix.get_layer("head") is model.get_layer("head")
    assert not [layer for layer in suffix.layers if layer.name == "conv2d"]
