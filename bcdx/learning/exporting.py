"""A serving function in; SavedModel and ONNX on disk, and ways to run them as their users will, out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from bcdx import _native
from bcdx.learning.serving import INPUTS, Serving

ADVICE = "pip install 'bcdx[export]', or --format savedmodel"
PACKAGES = ("tf2onnx", "onnx", "onnxruntime")
"""What ONNX needs; SavedModel needs TensorFlow alone."""
OPSET = 17
"""Of ONNX, from 2022: every onnxruntime since 1.12 knows it."""
CHUNK = 8
"""Slices a call, so that comparing needs little memory; the last call has fewer, for a batch may have any size."""

Format = Literal["savedmodel", "onnx"]
FILES: Mapping[Format, str] = {"savedmodel": "savedmodel", "onnx": "model.onnx"}
Floats = NDArray[Any]
Feed = Mapping[str, NDArray[np.float32]]
Runner = Callable[[Feed], Mapping[str, Floats]]
"""What `serving.INPUTS` names -> what `Serving.outputs` names."""


@dataclass(frozen=True)
class Comparison:
    """Slices of one shape, and what the run itself says of them.

    Attributes:
        pixels: Real units, NaN where padded, float32 (slices, rows, columns, phases).
        low: Shape (slices,).
        high: Shape (slices,).
        expected: Output -> what it must be, within a tolerance; shape (slices, ...).
    """

    pixels: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    expected: Mapping[str, Floats]


def require_packages(formats: Collection[Format]) -> None:
    """Check that what the formats need is installed, before anything is computed.

    Raises:
        BcdxError: Something is missing.
    """
    for name in PACKAGES if "onnx" in formats else ():
        import_extra(name)


def import_extra(name: str) -> Any:
    """Return a module that only ONNX needs.

    Raises:
        BcdxError: It is not installed.
    """
    return _native.import_extra(name, user="ONNX", advice=ADVICE)


def write_model(kind: Format, serving: Serving, folder: Path, facts: Mapping[str, str]) -> Runner:
    """Write a model into a folder and return what runs the file that was written.

    Args:
        kind: What to write.
        serving: The function.
        folder: Where it goes, under the name that `FILES` gives.
        facts: What ONNX carries as its metadata.

    Raises:
        BcdxError: A package is missing.
    """
    path = folder / FILES[kind]
    if kind == "savedmodel":
        write_savedmodel(serving, path)
        return open_savedmodel(path)
    write_onnx(serving, path, facts)
    return open_onnx(path)


def write_savedmodel(serving: Serving, folder: Path) -> None:
    """Write a SavedModel with one signature, `serving_default`, that loads without bcdx and Keras."""
    tf.saved_model.save(serving, str(folder), signatures={"serving_default": serving.serve})


def open_savedmodel(folder: Path) -> Runner:
    """Return what runs a SavedModel."""
    loaded = tf.saved_model.load(str(folder))

    def run(feed: Feed) -> dict[str, Floats]:
        found = loaded.signatures["serving_default"](**{name: tf.constant(value) for name, value in feed.items()})
        return {name: value.numpy() for name, value in found.items()}

    return run


def write_onnx(serving: Serving, path: Path, facts: Mapping[str, str]) -> None:
    """Write an ONNX model with named inputs and outputs, and with facts about it in its metadata.

    Raises:
        BcdxError: A package is missing.
    """
    tf2onnx, onnx = import_extra("tf2onnx"), import_extra("onnx")
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)  # warns of what it then puts right
    function = serving.serve
    model, _ = tf2onnx.convert.from_function(function, input_signature=function.input_signature, opset=OPSET)
    onnx.helper.set_model_props(model, dict(facts))
    onnx.checker.check_model(model)
    onnx.save_model(model, str(path))


def open_onnx(path: Path) -> Runner:
    """Return what runs an ONNX model on the CPU.

    Raises:
        BcdxError: A package is missing.
    """
    onnxruntime = import_extra("onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(feed: Feed) -> dict[str, Floats]:
        return dict(zip(names, session.run(names, dict(feed)), strict=True))

    return run


def measure_difference(run: Runner, comparisons: Collection[Comparison]) -> float:
    """Return the largest difference from what is expected; infinity where something is not a number.

    Absolute up to an expected 1, as of a probability, and relative beyond, as of a large distance.
    """
    worst = 0.0
    for one in comparisons:
        for first in range(0, len(one.low), CHUNK):
            rows = slice(first, first + CHUNK)
            found = run({name: getattr(one, name)[rows] for name in INPUTS})
            for name, wanted in one.expected.items():
                expected = np.asarray(wanted[rows], np.float64)
                off = np.abs(np.asarray(found[name], np.float64) - expected) / np.maximum(np.abs(expected), 1.0)
                difference = float(off.max())
                worst = max(worst, difference if np.isfinite(difference) else np.inf)
    return worst
