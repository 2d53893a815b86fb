"""Time of training steps and predictions, plain and behind a frozen prefix, beside what `learning.speed` predicts.

Command: python benchmarks/steps.py --json steps.json
Prints: per size, frozen depth and pooled blocks how many times as quick as a plain step a step is that starts from the
boundary's outputs: predicted, and measured in CPU-seconds and by the wall clock, for training and for prediction
(medians, plain and reusing alternated in one process); then the machine's timings, and the constants of
`learning.speed` that fit all these steps best (least squares of relative errors in CPU-seconds).

Random weights, float32, AdamW. Some three minutes on 2 CPU cores that nobody else uses. Where the head alone is
trained a step takes a few milliseconds on one core: its ratios are rough, and lower by the wall clock.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from scipy.optimize import nnls

from bcdx.config import Network
from bcdx.learning.costs import Costs, measure_costs
from bcdx.learning.network import build_model
from bcdx.learning.precision import JIT_COMPILE
from bcdx.learning.speed import (
    ACTIVATION_BYTES,
    LAYER_SECONDS,
    MULTIPLY_ADDS,
    OPTIMIZER_BYTES,
    STEP_SECONDS,
    Machine,
    Work,
    measure_machine,
    predict_seconds,
    scoring_work,
    training_work,
)

CASES = tuple((256, 16, f"mixed{frozen}/mixed10") for frozen in (10, 9, 8, 7, 6)) + tuple(
    (96, 32, depth)
    for depth in ("mixed0/mixed3", "mixed2/mixed3", "mixed3/mixed3", "mixed0/mixed3+mixed5", "mixed3/mixed3+mixed5")
)
STEPS = ("train plain", "train reusing", "predict plain", "predict reusing")
TURNS = 5

Step = Callable[[], object]


def main() -> None:
    """Measure all cases and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    machine = measure_machine(None)
    titles = f"{'train: predicted':>17}{'CPU':>8}{'wall':>8}{'predict: predicted':>20}{'CPU':>8}{'wall':>8}"
    print(f"{'px':>4} {'batch':>5} {'depth':<22}{titles}")
    rows = []
    for size_px, batch_size, depth in CASES:
        rows.append(measure_case(size_px, batch_size, depth, machine))
        print_row(rows[-1])
    fitted = fit_constants(rows, machine)
    print(f"machine: {machine.multiply_adds_per_s / 1e9:.0f} G multiply-adds/s, {machine.bytes_per_s / 1e9:.1f} GB/s")
    for name, (used, best) in fitted.items():
        print(f"{name:<18}{used:>12.3g}, fitted here {best:.3g}")
    if options.json:
        facts = {"machine": f"{os.cpu_count()} CPU cores, {platform.machine()}", "constants": fitted, "rows": rows}
        options.json.write_text(json.dumps(facts, indent=2))


def print_row(row: dict[str, Any]) -> None:
    """Print the ratios of one case."""
    print(f"{row['size_px']:>4} {row['batch_size']:>5} {row['depth']:<22}", end="")
    for kind, width in (("train", 17), ("predict", 20)):
        for clock in ("predicted", "cpu", "wall"):
            plain, reusing = (row["seconds"][f"{kind} {way}"][clock] for way in ("plain", "reusing"))
            print(f"{plain / reusing:>{width if clock == 'predicted' else 8}.2f}", end="")
    print(flush=True)


def measure_case(size_px: int, batch_size: int, depth: str, machine: Machine) -> dict[str, Any]:
    """Return CPU, wall and predicted seconds of the four steps, and their work."""
    keras.backend.clear_session()
    images = np.random.default_rng(0).random((batch_size, size_px, size_px, 3), np.float32)
    labels = (np.arange(batch_size) % 2).astype(np.float32)[:, np.newaxis]
    network = Network(depth=depth, pooling="both")
    model = build_model(network, input_shape=(size_px, size_px, 3), classes=2, policy="float32", seed=0)
    prefix, suffix = cut(model, depth)
    kept = list(keras.tree.flatten(prefix.predict_on_batch(images)))
    for each in (model, suffix):
        each.compile(keras.optimizers.AdamW(1e-4), keras.losses.BinaryCrossentropy(), jit_compile=JIT_COMPILE)
    measured = alternate(
        [
            lambda: model.train_on_batch(images, labels),
            lambda: suffix.train_on_batch(kept, labels),
            lambda: model.predict_on_batch(images),
            lambda: suffix.predict_on_batch(kept),
        ]
    )
    works = list_works(measure_costs(model), depth, batch_size)
    seconds = {
        name: {"cpu": cpu, "wall": wall, "predicted": predict_seconds(work, machine)}
        for name, (cpu, wall), work in zip(STEPS, measured, works, strict=True)
    }
    works_json = [[w.multiply_adds, w.activation_bytes, w.parameters, w.layers, w.steps] for w in works]
    return {"size_px": size_px, "batch_size": batch_size, "depth": depth, "seconds": seconds, "works": works_json}


def cut(model: keras.Model, depth: str) -> tuple[keras.Model, keras.Model]:
    """Return the model up to its boundary, and from there on: the boundary's map and what was pooled before."""
    frozen, pools = depth.split("/", maxsplit=1)[0], depth.split("/")[1].split("+")
    kept = [] if pools[-1] == frozen else [model.get_layer(frozen).output]
    for pool in pools:
        if int(pool.removeprefix("mixed")) <= int(frozen.removeprefix("mixed")):
            kept += [model.get_layer(f"{pool}_{kind}").output for kind in ("average", "maximum")]
    return keras.Model(model.inputs, kept), keras.Model(kept, model.output)


def list_works(costs: Costs, depth: str, batch_size: int) -> list[Work]:
    """Return the work of the four steps."""
    frozen, last = depth.split("/", maxsplit=1)[0], depth.split("/")[1].rsplit("+", maxsplit=1)[-1]
    return [
        training_work(costs, "none", frozen, last, batch_size),
        training_work(costs, frozen, frozen, last, batch_size),
        scoring_work(costs, "none", last, batch_size),
        scoring_work(costs, frozen, last, batch_size),
    ]


def alternate(steps: Sequence[Step]) -> list[tuple[float, float]]:
    """Return the median CPU and wall seconds of each step, run in turns after two that do not count."""
    taken: list[list[tuple[float, float]]] = [[] for _ in steps]
    for turn in range(TURNS + 2):
        for index, step in enumerate(steps):
            wall, cpu = time.perf_counter(), time.process_time()
            step()
            if turn >= 2:
                taken[index].append((time.process_time() - cpu, time.perf_counter() - wall))
    return [(statistics.median(cpu for cpu, _ in one), statistics.median(wall for _, wall in one)) for one in taken]


def fit_constants(rows: Sequence[dict[str, Any]], machine: Machine) -> dict[str, tuple[float, float]]:
    """Return each constant of `learning.speed` as it stands there and as these measurements would have it."""
    cores = len(os.sched_getaffinity(0))
    works = np.array([work for row in rows for work in row["works"]])
    seconds = np.array([row["seconds"][name]["cpu"] / cores for row in rows for name in STEPS])
    scale = np.array([machine.multiply_adds_per_s, machine.bytes_per_s, machine.bytes_per_s, 1.0, 1.0])
    best, _ = nnls(works / scale / seconds[:, np.newaxis], np.ones(len(seconds)))
    used = {
        "MULTIPLY_ADDS": MULTIPLY_ADDS,
        "ACTIVATION_BYTES": ACTIVATION_BYTES,
        "OPTIMIZER_BYTES": OPTIMIZER_BYTES,
        "LAYER_SECONDS": LAYER_SECONDS,
        "STEP_SECONDS": STEP_SECONDS,
    }
    return {name: (value, float(one)) for (name, value), one in zip(used.items(), best, strict=True)}


if __name__ == "__main__":
    main()
