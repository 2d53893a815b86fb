"""Speed on a GPU: InceptionV3 in three precisions, and a search that reuses its frozen prefix beside one that does not.

Command: KERAS_BACKEND=jax python benchmarks/gpu.py --json gpu.json   (KERAS_BACKEND=tensorflow works too)
Prints: images per second at 299 px predicting and training, on batches that lie in the GPU's memory, with the share of
the GPU's peak; then the seconds of two searches over five frozen depths and two learning rates, two epochs each. The
plain search builds and compiles every trial's whole network anew, as Keras Tuner does. The other sends the samples
through the network once, keeps what it yields at each depth, compiles what lies behind a depth once and resets it
between the two rates. `steady` is without compilation: every epoch counts as long as the second.
Kernels are random, of the scale that keeps activations from fading; a GPU calculates faster with zeros.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from bcdx.config import Network
from bcdx.learning.network import FEATURES, build_model

JIT_COMPILE: Any = "auto" if keras.backend.backend() == "jax" else False
POLICIES = ("mixed_bfloat16", "mixed_float16", "float32")
PEAK_TFLOPS = {"mixed_bfloat16": 989.0, "mixed_float16": 989.0, "float32": 494.0}
"""Of an H100 or H200 SXM, dense, by its data sheet; float32 by TF32, which XLA and cuDNN may use for it."""
PARTS = ("steps", "large", "small")
BLOCKS, BLOCK_SECONDS = 5, 0.7

Split = dict[str, list[tuple[Any, ...]]]
"""Batches (inputs, labels) of `train` and `validation`."""


@dataclass(frozen=True)
class Case:
    """One network whose steps are timed: all of it (`none`), or what lies behind the block end `depth`."""

    policy: str
    batch_size: int
    depth: str = "none"
    pool: str = "mixed10"
    size_px: int = 299


@dataclass(frozen=True)
class Job:
    """One search."""

    name: str
    size_px: int
    samples: tuple[int, int]
    batch_size: int
    depths: tuple[str, ...] = ("mixed10", "mixed9", "mixed8", "mixed7", "mixed6")
    policy: str = "mixed_bfloat16"
    rates: tuple[float, ...] = (1e-4, 1e-5)
    epochs: int = 2

    @property
    def trials(self) -> list[tuple[str, float]]:
        """All depths at the first rate, then at the next, so that a search cut short has seen every depth."""
        return [(depth, rate) for rate in self.rates for depth in self.depths]


CASES = (
    *(Case(policy, 128) for policy in POLICIES),
    Case("mixed_bfloat16", 256, "mixed6"),
    *(Case("mixed_bfloat16", size) for size in (256, 32)),
    Case("float32", 256, "mixed6"),
    *(Case(policy, size) for size in (256, 32) for policy in POLICIES[1:]),
)
"""In order of interest: the last ones give way when time is short."""
JOBS = (Job("large", 299, (2048, 512), 128), Job("small", 256, (128, 32), 32))
TINY_CASES = tuple(Case(policy, 2, depth, "mixed1", 75) for policy in POLICIES for depth in ("none", "mixed0"))
TINY_JOBS = tuple(
    Job(name, 75, (8, 4), 4, ("mixed1", "mixed0"), policy=policy)
    for name, policy in (("tiny", "float32"), ("tiny_bfloat16", "mixed_bfloat16"))
)


@dataclass(frozen=True)
class Budget:
    """When to stop beginning things; `end` is on the clock of time.perf_counter."""

    end: float

    def allows(self, seconds: float) -> bool:
        """Say whether something that takes so long would end in time."""
        return time.perf_counter() + seconds <= self.end

    def share(self, part: float) -> Budget:
        """Return a budget for a part of what is left."""
        now = time.perf_counter()
        return Budget(now + part * (self.end - now))


class Report:
    """What was found so far: printed as it comes, and written whenever it grows."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.found: dict[str, Any] = {"machine": describe_machine(), "steps": [], "searches": {}}
        self.show("; ".join(f"{name} {value}" for name, value in self.found["machine"].items()))

    def show(self, line: str) -> None:
        """Print at once and write what there is."""
        print(line, flush=True)
        if self.path:
            self.path.write_text(json.dumps(self.found, indent=2))


class Batches(keras.utils.PyDataset):
    """Batches as they are given, neither copied nor converted: of an array, Keras would make float32."""

    def __init__(self, batches: Sequence[tuple[Any, ...]]) -> None:
        super().__init__()
        self.batches = batches

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """Return one batch."""
        return self.batches[index]


class Clock(keras.callbacks.Callback):
    """Seconds of each epoch, validation included; its figures are read before it ends, so the GPU has done its work."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._began = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start."""
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Stop."""
        self.seconds.append(time.perf_counter() - self._began)


def main() -> None:
    """Measure what was asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here, after each part of them")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS, help="what to measure")
    parser.add_argument("--seconds", type=float, default=450.0, help="begin nothing that would end later than this")
    parser.add_argument("--tiny", action="store_true", help="a few small steps, to see on any machine that all runs")
    options = parser.parse_args()
    if not options.tiny and not has_gpu():
        sys.exit(f"no GPU that Keras's {keras.backend.backend()} backend can use; try --tiny")
    budget = Budget(time.perf_counter() + options.seconds)
    report = Report(options.json)
    warm_up(report)
    jobs = TINY_JOBS if options.tiny else tuple(job for job in JOBS if job.name in options.parts)
    if "steps" in options.parts:
        run_cases(TINY_CASES if options.tiny else CASES, report, budget.share(0.45 if jobs else 1.0))
    needed = 0.0
    for job in jobs:
        if budget.allows(needed):
            needed = run_search(job, report, budget.share(1.0 if job == jobs[-1] else 0.65))
        else:
            report.show(f"search `{job.name}`: left out for want of time")


def warm_up(report: Report) -> None:
    """Build one network: JAX compiles the drawing of each shape of weights, once in a process, for who comes first."""
    began = time.perf_counter()
    make_model(299, "none", "mixed10", "float32")
    report.found["first_build_seconds"] = time.perf_counter() - began
    report.show(f"first build {report.found['first_build_seconds']:.1f} s, counted nowhere")


def has_gpu() -> bool:
    """Say whether Keras sees an accelerator."""
    return not all(str(name).lower().startswith("cpu") for name in keras.distribution.list_devices())


def describe_machine() -> dict[str, str]:
    """Return device, driver, memory and versions."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[0]
        device = dict(zip(("device", "driver", "memory"), shown.split(", "), strict=True))
    except (OSError, subprocess.CalledProcessError):
        device = {"device": f"{os.cpu_count()} CPU cores, {platform.machine()}"}
    versions = {name: version(name) for name in ("keras", keras.backend.backend(), "numpy")}
    return {**device, "python": platform.python_version(), **versions}


def run_cases(cases: Sequence[Case], report: Report, budget: Budget) -> None:
    """Time the steps of all cases that the budget has room for."""
    report.show(
        f"{'precision':<16}{'behind':<8}{'batch':>6}{'predict, images/s':>19}{'peak':>8}{'first step':>12}"
        f"{'train, images/s':>19}{'peak':>8}{'first step':>12}"
    )
    longest = 0.0
    for case in cases:
        line = f"{case.policy:<16}{case.depth:<8}{case.batch_size:>6}"
        if not budget.allows(longest):
            report.show(f"{line}  left out for want of time")
            continue
        began = time.perf_counter()
        row = measure_case(case, report.found["machine"]["device"])
        longest = max(longest, time.perf_counter() - began)
        report.found["steps"].append(row)
        report.show(line + "".join(format_rate(row[name]) for name in ("predict", "train")))


def format_rate(found: dict[str, float | None]) -> str:
    """Return three cells of the table."""
    share = "" if found["peak_share"] is None else f"{found['peak_share']:.1%}"
    return f"{found['images_per_second']:>19.1f}{share:>8}{found['first_seconds']:>10.1f} s"


def measure_case(case: Case, device: str) -> dict[str, Any]:
    """Return images per second, seconds until the first step was compiled and done, and the share of the peak."""
    keras.backend.clear_session()
    model = make_model(case.size_px, case.depth, case.pool, case.policy)
    if case.depth != "none":
        _, model = split_model(model, case.depth)
    compile_model(model, 1e-4, case.policy)
    shape = (case.batch_size, *model.inputs[0].shape[1:])
    values = np.random.default_rng(0).random(shape, np.float32)
    images = keras.ops.convert_to_tensor(values, dtype=model.inputs[0].dtype)
    labels = keras.ops.convert_to_tensor((np.arange(case.batch_size) % 2).astype(np.float32)[:, np.newaxis])
    timed = {"predict": time_predicting(model, (images,)), "train": time_training(model, (images, labels))}
    flops = {"predict": 2.0 * count_macs(model), "train": 6.0 * count_macs(model)}
    peak = PEAK_TFLOPS[case.policy] * 1e12 if "H100" in device or "H200" in device else None
    rates = {
        name: {
            "images_per_second": case.batch_size / seconds,
            "first_seconds": first,
            "peak_share": flops[name] * case.batch_size / seconds / peak if peak else None,
        }
        for name, (first, seconds) in timed.items()
    }
    return {**asdict(case), **rates}


def time_predicting(model: keras.Model, batch: tuple[Any, ...]) -> tuple[float, float]:
    """Return the seconds of the first step, compilation included, and the median of those that follow."""

    def seconds(steps: int) -> float:
        began = time.perf_counter()
        model.predict(Batches([batch] * steps), verbose=0)
        return time.perf_counter() - began

    first = seconds(1)
    steps = choose_steps(seconds(3) / 3)
    return first, statistics.median(seconds(steps) / steps for _ in range(BLOCKS))


def time_training(model: keras.Model, batch: tuple[Any, ...]) -> tuple[float, float]:
    """Return the same of training steps."""
    clock = Clock()

    def seconds(steps: int, epochs: int) -> list[float]:
        clock.seconds = []
        model.fit(Batches([batch] * steps), epochs=epochs, callbacks=[clock], shuffle=False, verbose=0)
        return [one / steps for one in clock.seconds]

    [first] = seconds(1, epochs=1)
    steps = choose_steps(seconds(3, epochs=2)[1])
    return first, statistics.median(seconds(steps, epochs=BLOCKS))


def choose_steps(seconds: float) -> int:
    """Return how many steps make a block long enough to be timed."""
    return max(2, min(200, round(BLOCK_SECONDS / seconds)))


def make_model(size_px: int, depth: str, pool: str, policy: str) -> keras.Model:
    """Return the package's network with kernels that keep the scale of activations, which Keras's let fade."""
    network = Network(depth=f"{depth}/{pool}", pooling="average", dropout=0.0)
    model = build_model(network, input_shape=(size_px, size_px, 1), classes=2, policy=policy, seed=0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel = layer.get_weights()[0]
            layer.set_weights([kernel * np.sqrt(2.0 / np.prod(kernel.shape[:-1])) / kernel.std()])
    return model


def compile_model(model: keras.Model, rate: float, policy: str) -> None:
    """Compile as the package does, but for the schedule."""
    optimizer = keras.optimizers.AdamW(rate, weight_decay=1e-4)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    if policy == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(optimizer, keras.losses.BinaryCrossentropy(), jit_compile=JIT_COMPILE)


def split_model(model: keras.Model, depth: str) -> tuple[Any, keras.Model]:
    """Return the tensor that the layers behind `depth` read and a model of those layers, sharing weights.

    Behind the last block, the one that is pooled, that is the pooled vector.
    """
    pooled = any(layer.name == f"{depth}_average" for layer in model.layers)
    boundary = model.get_layer(FEATURES if pooled else depth).output
    return boundary, keras.Model(boundary, model.output)


def count_macs(model: keras.Model) -> float:
    """Return the multiply-adds of one image's forward pass; all but those of convolutions are few."""
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    return float(sum(np.prod(layer.output.shape[1:3]) * np.prod(layer.kernel.shape) for layer in convolutions))


def run_search(job: Job, report: Report, budget: Budget) -> float:
    """Run a search both ways and report it; return the seconds of that which reuses.

    The plain one comes last: it finds the convolutions tuned for this GPU, and ends early where the budget does.
    """
    batches = draw_samples(job)
    found: dict[str, Any] = {**asdict(job), "plain": [], "reuse": [], "on device": []}
    report.found["searches"][job.name] = found
    report.show(
        f"\nsearch `{job.name}`: {'+'.join(map(str, job.samples))} samples, {job.size_px} px, batch {job.batch_size}, "
        f"{job.policy}, {job.epochs} epochs\n{'':<10}{'depth':<10}{'rate':<10}{'seconds':>9}{'steady':>9}{'loss':>10}"
    )
    began = time.perf_counter()
    run_reuse(job, batches, report)
    needed = time.perf_counter() - began
    run_plain(job, batches, report, budget)
    found["summary"] = summarise(job, found)
    for name, value in found["summary"].items():
        report.show(f"{name:<30}{'unknown' if value is None else format(value, '.4g'):>9}")
    return needed


def draw_samples(job: Job) -> Split:
    """Return batches of noise, brighter where the label is 1."""
    random = np.random.default_rng(0)
    batches: Split = {}
    for split, count in zip(("train", "validation"), job.samples, strict=True):
        labels = (np.arange(count) % 2).astype(np.float32)[:, np.newaxis]
        images = random.random((count, job.size_px, job.size_px, 1), np.float32)
        images *= 0.5 + 0.5 * labels[:, :, np.newaxis, np.newaxis]
        starts = range(0, count, job.batch_size)
        batches[split] = [
            (images[start : start + job.batch_size], labels[start : start + job.batch_size]) for start in starts
        ]
    return batches


def run_plain(job: Job, batches: Split, report: Report, budget: Budget) -> None:
    """Train every trial's whole network, built and compiled anew."""
    longest = 0.0
    for depth, rate in job.trials:
        if not budget.allows(longest):
            break
        began = time.perf_counter()
        keras.backend.clear_session()
        model = make_model(job.size_px, depth, job.depths[0], job.policy)
        compile_model(model, rate, job.policy)
        row: dict[str, Any] = {"depth": depth, "rate": rate, **fit(model, batches, job.epochs)}
        row["seconds"] = time.perf_counter() - began
        longest = max(longest, row["seconds"])
        add_trial(report, job, "plain", row)


def run_reuse(job: Job, batches: Split, report: Report) -> None:
    """Train the same trials on what the frozen layers yield; then once more with that kept in the device's memory."""
    keras.backend.clear_session()
    began = time.perf_counter()
    model = make_model(job.size_px, "none", job.depths[0], job.policy)
    kept, steady = read_prefix(model, job, batches)
    row: dict[str, Any] = {"seconds": time.perf_counter() - began, "steady": steady}
    found = report.found["searches"][job.name]
    found["prefix"], found["operations"] = row, count_operations(job, model)
    report.show(f"{'prefix':<30}{row['seconds']:>9.2f}{steady:>9.3f}")
    for depth in job.depths:
        began = time.perf_counter()
        suffix, reset = prepare_suffix(model, depth, job.policy)
        for kind in ("reuse", "on device"):
            samples = kept[depth] if kind == "reuse" else place_on_device(kept[depth])
            for rate in job.rates:
                reset(rate)
                row = {"depth": depth, "rate": rate, **fit(suffix, samples, job.epochs)}
                row["seconds"] = time.perf_counter() - began
                add_trial(report, job, kind, row)
                began = time.perf_counter()
        reset(0.0)  # the next depth shares these layers


def read_prefix(model: keras.Model, job: Job, batches: Split) -> tuple[dict[str, Split], float]:
    """Return what the layers behind each depth read, and the seconds of the pass without compilation."""
    tensors = {depth: split_model(model, depth)[0] for depth in job.depths}
    prefix = keras.Model(model.inputs, tensors)
    prefix.compile(jit_compile=JIT_COMPILE)
    prefix.predict_on_batch(batches["train"][0][0])
    began = time.perf_counter()
    kept: dict[str, Split] = {depth: {"train": [], "validation": []} for depth in job.depths}
    for split, found in batches.items():
        for images, labels in found:
            for depth, values in prefix.predict_on_batch(images).items():
                kept[depth][split].append((values, labels))
    return kept, time.perf_counter() - began


def prepare_suffix(model: keras.Model, depth: str, policy: str) -> tuple[keras.Model, Callable[[float], None]]:
    """Return the compiled layers behind `depth`, and a function that sets them back for a trial at a rate."""
    _, suffix = split_model(model, depth)
    compile_model(suffix, 0.0, policy)
    suffix.optimizer.build(suffix.trainable_variables)
    variables = [*suffix.variables, *suffix.optimizer.variables]
    initial = [keras.ops.convert_to_numpy(variable) for variable in variables]

    def reset(rate: float) -> None:
        for variable, value in zip(variables, initial, strict=True):
            variable.assign(value)
        suffix.optimizer.learning_rate = rate

    return suffix, reset


def place_on_device(batches: Split) -> Split:
    """Return the batches as the backend's own tensors."""
    return {
        split: [tuple(keras.ops.convert_to_tensor(array) for array in batch) for batch in found]
        for split, found in batches.items()
    }


def fit(model: keras.Model, batches: Split, epochs: int) -> dict[str, float]:
    """Return the seconds that all epochs take once compiled, and the last validation loss."""
    clock = Clock()
    history = model.fit(
        Batches(batches["train"]),
        validation_data=Batches(batches["validation"]),
        epochs=epochs,
        callbacks=[clock],
        shuffle=False,
        verbose=0,
    )
    return {"steady": epochs * clock.seconds[-1], "loss": float(history.history["val_loss"][-1])}


def add_trial(report: Report, job: Job, kind: str, row: dict[str, Any]) -> None:
    """Keep a trial and print it."""
    report.found["searches"][job.name][kind].append(row)
    report.show(
        f"{kind:<10}{row['depth']:<10}{row['rate']:<10g}{row['seconds']:>9.2f}{row['steady']:>9.3f}{row['loss']:>10.5f}"
    )


def summarise(job: Job, found: dict[str, Any]) -> dict[str, float | int | None]:
    """Return seconds and ratios; plain trials that time was short for count as those of the same depth did."""
    plain, reuse, device = found["plain"], found["reuse"], found["on device"]
    losses = {(row["depth"], row["rate"]): row["loss"] for row in reuse}
    totals: dict[str, Any] = {f"plain {name}": estimate(job, plain, name) for name in ("seconds", "steady")}
    for kind, rows in (("reuse", reuse), ("on device", device)):
        totals[f"{kind} steady"] = found["prefix"]["steady"] + sum(row["steady"] for row in rows)
    totals["reuse seconds"] = found["prefix"]["seconds"] + sum(row["seconds"] for row in reuse)
    ratios = {
        f"ratio {over}": None if totals[top] is None else totals[top] / totals[over]
        for top, over in (
            ("plain seconds", "reuse seconds"),
            ("plain steady", "reuse steady"),
            ("plain steady", "on device steady"),
        )
    }
    return {
        **totals,
        **ratios,
        "ratio of operations": found["operations"],
        "plain trials measured": len(plain),
        "largest difference of loss": max(
            (abs(row["loss"] - losses[row["depth"], row["rate"]]) for row in plain), default=None
        ),
    }


def estimate(job: Job, rows: Sequence[dict[str, Any]], name: str) -> float | None:
    """Return the sum over all trials, those not measured counted as the mean of their depth; None without one."""
    found = {depth: [row[name] for row in rows if row["depth"] == depth] for depth in job.depths}
    if not all(found.values()):
        return None
    return float(sum(len(job.rates) * statistics.mean(rows) for rows in found.values()))


def count_operations(job: Job, model: keras.Model) -> float:
    """Return plain over reuse, in operations, a backward pass counting two forward ones: what no reuse can exceed."""
    train, validation = job.samples
    whole, trials = count_macs(model), len(job.rates) * job.epochs
    behind = [count_macs(split_model(model, depth)[1]) for depth in job.depths]
    plain = sum(train * (whole + 2 * part) + validation * whole for part in behind)
    reuse = sum((3 * train + validation) * part for part in behind)
    return plain * trials / (reuse * trials + whole * (train + validation))


if __name__ == "__main__":
    main()
