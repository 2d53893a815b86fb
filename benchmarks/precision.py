"""Speed of bfloat16 beside float32 on this machine, training and predicting, at a few sizes and depths.

Command: python benchmarks/precision.py --json precision.json
Prints: images per second of both, alternated, and the ratio (above 1: bfloat16 is faster); medians of seven steps.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from bcdx.config import Network
from bcdx.learning.network import build_model
from bcdx.learning.precision import JIT_COMPILE, resolve_policy

CASES = ((96, 32, "none/mixed3+mixed5"), (96, 32, "mixed5/mixed3+mixed10"), (256, 8, "none/mixed3+mixed5"))
POLICIES = ("float32", "mixed_bfloat16")
STEPS = 7


def main() -> None:
    """Measure all cases and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    rows = [measure(*case) for case in CASES]
    print(f"{'px':>4} {'depth':<24}{'training, images/s':>22}{'ratio':>7}{'predicting, images/s':>24}{'ratio':>7}")
    for row in rows:
        print(
            f"{row['size_px']:>4} {row['depth']:<24}{row['train'][0]:>11.1f}{row['train'][1]:>11.1f}"
            f"{row['train'][1] / row['train'][0]:>7.2f}{row['predict'][0]:>12.1f}{row['predict'][1]:>12.1f}"
            f"{row['predict'][1] / row['predict'][0]:>7.2f}"
        )
    machine = f"{os.cpu_count()} CPU cores, {platform.machine()}"
    print(f"float32 and mixed_bfloat16 on {machine}; `auto` chooses {resolve_policy('auto')}")
    if options.json:
        options.json.write_text(
            json.dumps({"machine": machine, "auto": resolve_policy("auto"), "rows": rows}, indent=2)
        )


def measure(size_px: int, batch_size: int, depth: str) -> dict[str, object]:
    """Return images per second of both policies for one network."""
    images = np.random.default_rng(0).random((batch_size, size_px, size_px, 3), np.float32)
    labels = (np.arange(batch_size) % 2).astype(np.float32)[:, np.newaxis]
    models = [prepare(size_px, depth, policy) for policy in POLICIES]
    train = alternate([lambda model=model: model.train_on_batch(images, labels) for model in models])
    predict = alternate([lambda model=model: model.predict_on_batch(images) for model in models])
    rates = {"train": [batch_size / one for one in train], "predict": [batch_size / one for one in predict]}
    return {"size_px": size_px, "batch_size": batch_size, "depth": depth, **rates}


def prepare(size_px: int, depth: str, policy: str) -> keras.Model:
    """Return a compiled model."""
    network = Network(depth=depth, pooling="both")
    model = build_model(network, input_shape=(size_px, size_px, 3), classes=2, policy=policy, seed=0)
    model.compile(keras.optimizers.AdamW(1e-4), keras.losses.BinaryCrossentropy(), jit_compile=JIT_COMPILE)
    return model


def alternate(steps: list[Callable[[], object]]) -> list[float]:
    """Return the median seconds of each step, run in turns after two that do not count."""
    seconds: list[list[float]] = [[] for _ in steps]
    for turn in range(STEPS + 2):
        for index, step in enumerate(steps):
            began = time.perf_counter()
            step()
            if turn >= 2:
                seconds[index].append(time.perf_counter() - began)
    return [statistics.median(one) for one in seconds]


if __name__ == "__main__":
    main()
