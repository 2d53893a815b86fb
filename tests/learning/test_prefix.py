"""Claims about what tells one kept output from another."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from bcdx.config import Augment, Network
from bcdx.learning.prefix import PLAIN, Catalogue, View, _digest_weights


@pytest.mark.parametrize(
    "other",
    [
        View("augmented", 2),
        View("augmented", 1, seed=1),
        View("augmented", 1, augment=Augment(strength=0.5)),
        View("augmented", 1, augment=Augment(rician_noise=0.1)),
        View("turned", 1),
        PLAIN,
    ],
)
def test_view_is_told_from_others(other: View) -> None:
    """By its number, the seed and every setting of augmentation."""
    assert View("augmented", 1).facts() != other.facts()


def test_first_view_is_the_plain_image_whatever_the_settings() -> None:
    """What is kept of it serves training, scoring and every strength of augmentation."""
    assert PLAIN.facts() == View("augmented", 0, seed=3, augment=Augment(zoom=0.5)).facts() == View("turned", 0).facts()


@pytest.mark.parametrize("changed", ["early", "middle", "late"])
def test_digest_covers_all_layers_up_to_the_output_and_no_later_ones(changed: str) -> None:
    """What lies behind may differ: the output is the same."""
    inputs = keras.Input((3,))
    outputs = inputs
    for name in ("early", "middle", "late"):
        outputs = keras.layers.Dense(2, name=name)(outputs)
    model = keras.Model(inputs, outputs)
    before = _digest_weights(model, ["middle"])
    layer = model.get_layer(changed)
    layer.set_weights([np.nextafter(array, np.float32(9.0)) for array in layer.get_weights()])
    assert (changed == "late") == (before == _digest_weights(model, ["middle"]))


def test_catalogue_holds_what_any_depth_reads() -> None:
    """Boundaries of the depths that are reused, in network order; vectors of all heads."""
    networks = [Network(depth=depth) for depth in ("none/mixed1", "mixed5/mixed5", "mixed2/mixed0+mixed3")]
    catalogue = Catalogue.of(networks, networks[1:])
    assert ("mixed0_maximum", "mixed2", "mixed5_maximum") == catalogue.boundaries
    assert ("mixed0_maximum", "mixed1_maximum", "mixed3_maximum", "mixed5_maximum") == catalogue.vectors
