"""Claims about models on disk: who can run them, what they say of themselves, and how differences are measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bcdx import config
from bcdx.errors import BcdxError
from bcdx.evidence.calibration import Calibrator
from bcdx.evidence.familiarity import fit_reference
from bcdx.learning.exporting import (
    FILES,
    Comparison,
    Feed,
    Floats,
    Format,
    measure_difference,
    require_packages,
    write_model,
)
from bcdx.learning.network import build_model
from bcdx.learning.serving import DISTANCE, OUTPUTS, Channel, Preparation, Serving


@pytest.fixture(scope="module")
def serving() -> Serving:
    """A small network of three classes on a difference of two phases, with a reference of some features."""
    network = config.Network(weights="random", depth="none/mixed0")
    model = build_model(network, input_shape=(75, 75, 1), classes=3, policy="float32", seed=0)
    plan = Preparation(75, ("pre", "early"), (Channel("difference", 1, 0, fill=0.5),))
    features = (
        np.random.default_rng(0)
        .normal(0.0, 1.0, (40, model.get_layer("feature_norm").output.shape[-1]))
        .astype(np.float32)
    )
    reference = fit_reference(features, np.arange(40).astype(str))
    return Serving(model, plan, Calibrator("temperature", 0.5), positive=2, views=8, reference=reference)


def _compare(serving: Serving, shape: tuple[int, int]) -> Comparison:
    pixels = np.random.default_rng(0).normal(0.0, 100.0, (9, *shape, 2)).astype(np.float32)
    pixels[:, -5:, :, 0] = np.nan
    low, high = np.full(9, -150.0, np.float32), np.full(9, 200.0, np.float32)
    expected = {name: value.numpy() for name, value in serving.serve(pixels, low, high).items()}
    return Comparison(pixels, low, high, expected)


@pytest.mark.parametrize("kind", ["savedmodel", "onnx"])
def test_written_model_says_what_the_function_says(kind: Format, serving: Serving, tmp_path: Path) -> None:
    """Of any number of images, smaller, larger and oblong, padded in one phase; every output."""
    run = write_model(kind, serving, tmp_path, {"notice": "research use only"})
    comparisons = [_compare(serving, shape) for shape in ((75, 75), (40, 31), (160, 200))]
    assert measure_difference(run, comparisons) < 1e-4
    assert {*OUTPUTS, DISTANCE} == set(comparisons[0].expected)


def test_onnx_carries_its_facts(serving: Serving, tmp_path: Path) -> None:
    """Whoever has the file alone can read what it is, and how inputs and outputs are called."""
    import onnx

    write_model("onnx", serving, tmp_path, {"notice": "research use only", "classes": '["a", "b", "c"]'})
    model = onnx.load(tmp_path / FILES["onnx"])
    facts = {one.key: one.value for one in model.metadata_props}
    assert {"notice": "research use only", "classes": '["a", "b", "c"]'} == facts
    assert ["pixels", "low", "high"] == [one.name for one in model.graph.input]
    assert {*OUTPUTS, DISTANCE} == {one.name for one in model.graph.output}


def test_savedmodel_loads_without_bcdx_and_keras(serving: Serving, tmp_path: Path) -> None:
    """TensorFlow is enough, and no path of this machine is inside."""
    write_model("savedmodel", serving, tmp_path, {})
    code = (
        "import sys, numpy as np, tensorflow as tf;"
        "run = tf.saved_model.load(sys.argv[1]).signatures['serving_default'];"
        "one = tf.ones(1);"
        "found = run(pixels=tf.zeros((1, 80, 90, 2)), low=0.0 * one, high=one)['probability'].numpy();"
        "sys.exit(not (found.shape == (1,) and 0 < found[0] < 1 and 'bcdx' not in sys.modules))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / FILES["savedmodel"])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or str(tmp_path).encode() not in path.read_bytes()


def test_difference_is_the_largest_of_all_slices_and_outputs_and_infinite_for_what_is_no_number() -> None:
    """NaN never passes for agreement."""
    feed = np.zeros((10, 2, 2, 1), np.float32), np.zeros(10, np.float32), np.ones(10, np.float32)
    comparison = Comparison(*feed, {"probability": np.linspace(0.0, 0.9, 10)})

    def answer(last: float) -> float:
        answers = np.append(np.linspace(0.0, 0.8, 9), last)
        rest = [answers]

        def run(feed: Feed) -> dict[str, Floats]:
            found, rest[0] = np.split(rest[0], [len(feed["low"])])
            return {"probability": found}

        return measure_difference(run, [comparison])

    assert answer(0.9) == pytest.approx(0.0, abs=1e-12)
    assert answer(0.4) == pytest.approx(0.5)
    assert answer(np.nan) == np.inf


@pytest.mark.parametrize(("expected", "found", "difference"), [(0.5, 0.6, 0.1), (200.0, 201.0, 0.005)])
def test_difference_of_a_large_number_is_relative(expected: float, found: float, difference: float) -> None:
    """A distance is of any size, and no float32 has four digits after the point of a thousand."""
    feed = np.zeros((1, 2, 2, 1), np.float32), np.zeros(1, np.float32), np.ones(1, np.float32)
    comparison = Comparison(*feed, {DISTANCE: np.array([expected])})
    actual = measure_difference(lambda _: {DISTANCE: np.array([found])}, [comparison])
    assert actual == pytest.approx(difference)


def test_missing_package_is_one_error_that_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX alone needs more than bcdx itself does."""
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    require_packages(("savedmodel",))
    with pytest.raises(BcdxError, match=r"needs tf2onnx, which is not installed; pip install 'bcdx\[export\]'"):
        require_packages(("savedmodel", "onnx"))
