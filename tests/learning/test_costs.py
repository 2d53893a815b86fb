"""Claims about what is counted of a body's layers."""

from __future__ import annotations

import keras
import pytest

from bcdx.config import Network
from bcdx.learning.costs import Costs, measure_costs
from bcdx.learning.network import build_model

BLOCKS = tuple(f"mixed{index}" for index in range(11))


def body(size_px: int = 75) -> keras.Model:
    return keras.applications.InceptionV3(include_top=False, weights=None, input_shape=(size_px, size_px, 3))


@pytest.fixture(scope="module")
def costs() -> Costs:
    return measure_costs(body(256))


def test_multiply_adds_behind_each_block_end_are_those_published(costs: Costs) -> None:
    """At 256 px: 3.85 G in all."""
    whole = costs.multiply_adds["mixed10"]
    assert 3.85e9 == pytest.approx(whole, rel=0.005)
    expected = [0.694, 0.633, 0.571, 0.500, 0.434, 0.348, 0.262, 0.154, 0.104, 0.057, 0.0]
    assert expected == [round(1 - costs.multiply_adds[block] / whole, 3) for block in BLOCKS]


def test_parameters_are_those_that_keras_would_train(costs: Costs) -> None:
    """At depth none, with BatchNormalization frozen."""
    model = body()
    trained = sum(layer.count_params() for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    assert trained == costs.parameters["mixed10"]


def test_every_count_is_nothing_before_the_first_layer_and_never_falls(costs: Costs) -> None:
    """Cumulative, from none on."""
    for counts in (costs.multiply_adds, costs.activation_bytes, costs.parameters, costs.layers):
        assert ["none", *BLOCKS] == list(counts)
        assert 0 == counts["none"]
        assert sorted(counts.values()) == list(counts.values())


def test_maps_are_those_of_the_block_ends(costs: Costs) -> None:
    """KiB and channels at 256 px in float32."""
    assert (588, 768) == (costs.map_bytes["mixed7"] / 1024, costs.map_channels["mixed7"])
    assert (180, 1280) == (costs.map_bytes["mixed8"] / 1024, costs.map_channels["mixed8"])
    assert (288, 2048) == (costs.map_bytes["mixed9"] / 1024, costs.map_channels["mixed9"])


def test_convolutions_that_read_a_block_end_also_do_so_through_its_pool(costs: Costs) -> None:
    """mixed10: 1x1 to 320, 384, 448 channels, and to 192 behind the average pool, all on 6x6 positions."""
    assert 36 * 2048 * (320 + 384 + 448 + 192) == costs.entry_multiply_adds["mixed9"]
    assert 0 == costs.entry_multiply_adds["mixed10"]


def test_half_precision_halves_bytes_and_nothing_else() -> None:
    """Of activations and of maps."""
    network = Network(depth="none/mixed1")
    full, half = (
        measure_costs(build_model(network, input_shape=(75, 75, 3), classes=2, policy=policy, seed=0))
        for policy in ("float32", "mixed_bfloat16")
    )
    assert full.multiply_adds == half.multiply_adds
    assert full.map_bytes["mixed1"] == 2 * half.map_bytes["mixed1"]
    behind_first = [counts["mixed1"] - counts["mixed0"] for counts in (full.activation_bytes, half.activation_bytes)]
    assert behind_first[0] == 2 * behind_first[1]


def test_body_that_ends_early_has_no_later_blocks() -> None:
    """Blocks behind the last one pooled are not built."""
    model = build_model(Network(depth="mixed0/mixed1"), input_shape=(75, 75, 1), classes=2, policy="float32", seed=0)
    assert ["none", "mixed0", "mixed1"] == list(measure_costs(model).multiply_adds)
