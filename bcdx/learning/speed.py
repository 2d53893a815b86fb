"""How long a step takes: a machine's timings and a step's work in, seconds out.

A step's time is taken for a sum: multiply-adds at the machine's rate, what activations and the optimizer read and
write at its bandwidth, and something for each layer and each step. The constants were fitted to the steps that
`benchmarks/steps.py` times, training and prediction with InceptionV3 (float32, TensorFlow on 2 CPU cores, 96 and 256
px, batches of 16 and 32), and to CPU-seconds spread over the cores: so they hold also while others use the machine.
How many times as quick a training step is without its prefix is then within 10 % of what was measured, but for mixed2
with mixed3 pooled at 96 px (3.5 for 2.9 to 3.0), and within some 20 % where the head alone is trained. Accelerators
were not measured.
"""

from __future__ import annotations

import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from bcdx.learning.costs import Costs

logger = logging.getLogger(__name__)

MULTIPLY_ADDS, ACTIVATION_BYTES = 1.06, 0.36
"""Time of a network's multiply-adds, and of its activations' bytes, relative to the convolution and copy measured."""
OPTIMIZER_BYTES = 86.0
"""What AdamW moves per parameter; 28 were weight, gradient and two moments read, and all but the gradient written."""
LAYER_SECONDS, STEP_SECONDS = 6.3e-5, 1.1e-3
"""Of each layer, and twice as much again for its way back; of each pass. That of a pass is from `benchmarks/search.py`,
where Keras's own loop and the feeding of kept outputs come on top of the step."""

_IMAGES, _KERNEL, _COPIED_FLOATS = (16, 16, 16, 192), (3, 3, 192, 192), 4 * 2**20
_MEASURED_SECONDS, _LEAST_REPEATS, _FILE_BYTES = 0.2, 5, 8 * 2**20


@dataclass(frozen=True)
class Machine:
    """What a machine does in a second; disk rates are 0 where there is no disk to write to."""

    multiply_adds_per_s: float
    bytes_per_s: float
    disk_write_bytes_per_s: float = 0.0
    disk_read_bytes_per_s: float = 0.0


@dataclass(frozen=True)
class Work:
    """What a step asks for; layers and steps count once forward and twice more backward (a step: once)."""

    multiply_adds: float
    activation_bytes: float
    parameters: float = 0.0
    layers: float = 0.0
    steps: float = 1.0


def measure_machine(folder: Path | None, *, dtype: str = "float32") -> Machine:
    """Time a convolution, a copy, and a file in `folder`: about half a second.

    Args:
        folder: Where maps would be kept, if need be its nearest parent that exists; None or one that cannot be written
            to: memory only.
        dtype: Compute dtype of the network.
    """
    images, kernel = keras.ops.ones(_IMAGES, dtype), keras.ops.ones(_KERNEL, dtype)
    floats = keras.ops.ones((_COPIED_FLOATS,), "float32")
    convolution_s = _time(lambda: keras.ops.conv(images, kernel, padding="same"))
    copy_s = _time(lambda: keras.ops.relu(floats))
    positions = _IMAGES[0] * _IMAGES[1] * _IMAGES[2]
    multiply_adds = positions * _KERNEL[0] * _KERNEL[1] * _KERNEL[2] * _KERNEL[3]
    return Machine(multiply_adds / convolution_s, 2 * 4 * _COPIED_FLOATS / copy_s, *_measure_disk(folder))


def prefix_work(costs: Costs, depth: str, images: float) -> Work:
    """Return the work of one batch, forward up to a block end."""
    return _forward(costs, "none", depth, images)


def scoring_work(costs: Costs, first: str, last: str, images: float) -> Work:
    """Return the work of predicting one batch, from behind block end `first` (none: from the image) to `last`."""
    return _forward(costs, first, last, images)


def training_work(costs: Costs, first: str, depth: str, last: str, images: float) -> Work:
    """Return the work of one training step, frozen up to `depth`.

    The way back costs each convolution twice: the gradient of its kernel and of its input. Those that read the
    boundary need the first alone.

    Args:
        costs: Of the body.
        first: Where the step starts: at the images (none), or behind the boundary, whose map is at hand.
        depth: Last frozen block end, the boundary.
        last: Last pooled block end.
        images: Batch size.
    """
    forward, trained = _forward(costs, first, last, images), _forward(costs, depth, last, images)
    entry = 0.0 if depth == last else costs.entry_multiply_adds.get(depth, 0.0) * images
    return Work(
        forward.multiply_adds + 2 * trained.multiply_adds - entry,
        forward.activation_bytes + 2 * trained.activation_bytes,
        costs.parameters[last] - costs.parameters[depth],
        forward.layers + 2 * trained.layers,
        2.0,
    )


def predict_seconds(work: Work, machine: Machine) -> float:
    """Return how long the work takes."""
    moved = ACTIVATION_BYTES * work.activation_bytes + OPTIMIZER_BYTES * work.parameters
    return (
        MULTIPLY_ADDS * work.multiply_adds / machine.multiply_adds_per_s
        + moved / machine.bytes_per_s
        + LAYER_SECONDS * work.layers
        + STEP_SECONDS * work.steps
    )


def _forward(costs: Costs, first: str, last: str, images: float) -> Work:
    return Work(
        (costs.multiply_adds[last] - costs.multiply_adds[first]) * images,
        (costs.activation_bytes[last] - costs.activation_bytes[first]) * images,
        layers=float(costs.layers.get(last, 0) - costs.layers.get(first, 0)),
    )


def _time(step: Callable[[], Any]) -> float:
    """Return the median seconds of a step on a machine of one's own.

    CPU time spread over the cores is that, also while others use them; an accelerator has the wall clock alone.
    """
    cores = _count_cores()
    _finish(step())  # compiles, and fills caches
    taken: list[float] = []
    end = time.perf_counter() + _MEASURED_SECONDS
    while len(taken) < _LEAST_REPEATS or time.perf_counter() < end:
        wall, cpu = time.perf_counter(), time.process_time()
        _finish(step())
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        taken.append(min(wall, cpu / cores) if cores else wall)
    return max(statistics.median(taken), 1e-9)


def _finish(tensor: Any) -> None:
    """Wait for a tensor that an accelerator may still be calculating."""
    keras.ops.convert_to_numpy(tensor[(0,) * len(tensor.shape)])


def _count_cores() -> int:
    """Return the cores that calculate; 0 where an accelerator does."""
    if any(not device.startswith("cpu") for device in keras.distribution.list_devices()):
        return 0
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _measure_disk(folder: Path | None) -> tuple[float, float]:
    """Return bytes per second written to the disk and read from it; zeros where that cannot be."""
    if folder is None:
        return 0.0, 0.0
    home = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=home, buffering=0) as file:
            content = os.urandom(_FILE_BYTES)
            began = time.perf_counter()
            file.write(content)
            os.fsync(file.fileno())
            written = time.perf_counter()
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # else memory would answer
            file.seek(0)
            reading = time.perf_counter()
            file.read()
            read = time.perf_counter()
    except OSError as error:
        logger.info("nothing can be kept in %s: %s", folder, error.strerror)
        return 0.0, 0.0
    return _FILE_BYTES / max(written - began, 1e-9), _FILE_BYTES / max(read - reading, 1e-9)
