"""What a search costs: plain Keras Tuner beside bcdx, with the same trials, epochs, order of samples and data.

Command: python benchmarks/search.py --json search.json          (the grid `deep`; well under an hour on 2 CPU cores)
         BCDX_DATA=... python benchmarks/search.py --all --repeats 3
Prints: CPU-seconds of the process tree (imports and everything computed in advance included), wall time, peak memory
and machine load of each side of each repetition, then the figures beside their targets. JSON has all of it, and
`cpu_ratio`: plain's CPU-seconds over bcdx's for the grid `deep` (median over repetitions of the ratio).

Each side runs in a fresh process, in turns. Plain is `keras_tuner.GridSearch` (in `auc` RandomSearch) as its
documentation shows: a function that builds and compiles a model, and `search(train, validation_data=...)`; of ours
it has the network and the stream, and its AdamW follows the same schedule. bcdx is
`bcdx.learning.search.search_winner`. In the speed grids both validate after every epoch. Both are watched alike:
`keras.Model.fit` gets a callback, Keras Tuner's `on_trial_begin` and `on_trial_end` are noted.

The speed grids train on a phantom with random weights, 128 + 32 samples of 256 px. There plain is spared what bcdx
does besides: setting BatchNorm statistics and adapting `feature_norm`. Steady state is every epoch after the first of
its trial; set-up is a trial's CPU less that of as many epochs in steady state. The multiply-add limit counts a forward
pass once and a backward pass twice, and takes bcdx to read what is frozen for nothing.

`auc` searches tuning/breast_dce_patches.toml. There plain builds the same network as bcdx, `feature_norm` adapted, its
head drawn at random as Keras does it, and draws 8 trials of 6 epochs from the recipe's space; bcdx searches as the
recipe says. In `auc_probe` plain's head starts at bcdx's linear probe, too: it begins near its best. Both curves are
bcdx's validation score (rank AUC per sample, mean over the recipe's test views): plain's is computed after each of
its epochs without charge, and neither is the build by which Keras Tuner finds its space. Target: the median over
seeds of plain's best, less 0.002. A run that never gets there counts with its whole CPU (plain) or as never (bcdx).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial, wraps
from itertools import accumulate
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import keras_tuner
import numpy as np

from bcdx._recipes import load_recipe
from bcdx.config import Dataset, Network, Optimizer, Phantom, Search, Space, Split, Stream, Tune
from bcdx.evidence.cases import Cases
from bcdx.evidence.statistics import roc_auc
from bcdx.learning.augment import all_views
from bcdx.learning.data import Data
from bcdx.learning.network import FEATURE_NORM, FEATURES, HEAD, build_model
from bcdx.learning.oracle import apply_values, count_combinations, declare_space
from bcdx.learning.precision import resolve_policy
from bcdx.learning.prediction import predict
from bcdx.learning.probe import fit_probe
from bcdx.learning.statistics import measure_features, normalise, set_normalisation
from bcdx.records.manifest import read_manifest
from bcdx.shard import write_records

RECIPES = Path(__file__).parents[1]
LEVEL = "slice"
SIDES = ("plain", "bcdx")
PLAIN_TRIALS, PLAIN_EPOCHS, AUC_MARGIN, AUC_MINUTES = 8, 6, 0.002, 90

SHARE_BEHIND = {"mixed6": 0.262, "mixed7": 0.154, "mixed8": 0.104, "mixed9": 0.057, "mixed10": 0.0}
"""Of the network's multiply-adds at 256 px, those behind the block end."""
SHALLOW = ("mixed10", "mixed9", "mixed8")
TEN_RATES = tuple(float(f"{10 ** (-4 + step / 9):.3g}") for step in range(10))

Result = dict[str, Any]


@dataclass(frozen=True)
class Grid:
    """Trials of a speed row: every depth, read at mixed10, with every rate."""

    depths: tuple[str, ...]
    rates: tuple[float, ...]
    epochs: int = 2
    views: int = 1


@dataclass(frozen=True)
class Row:
    """One line of the table; `target` None: for information."""

    grid: str
    key: str
    title: str
    target: float | None
    most: bool = False
    """The target is a limit from above."""

    def describe(self) -> str:
        """Return the target in words."""
        return "" if self.target is None else f"{'at most' if self.most else 'at least'} {self.target:g}"

    def judge(self, figure: float | None) -> str:
        """Return whether the target is met."""
        if figure is None or self.target is None:
            return ""
        return "met" if (figure <= self.target if self.most else figure >= self.target) else "missed"


GRIDS = {
    "deep": Grid(tuple(reversed(SHARE_BEHIND)), (1e-4, 1e-3)),
    "views2": Grid(tuple(reversed(SHARE_BEHIND)), (1e-4, 1e-3), views=2),
    "head": Grid(("mixed10",), TEN_RATES),
    "growth": Grid(tuple(reversed(SHARE_BEHIND)), TEN_RATES[:8:2], epochs=1),
}

ROWS = (
    Row("deep", "cpu_ratio", "{mixed10..mixed6} x 2 rates x 2 epochs: CPU, plain / bcdx", 3.2),
    Row("deep", "cpu_ratio_apart", "  the same apart from imports", None),
    Row("deep", "steady_share", "  steady state: share of the multiply-add limit", 0.95),
    Row("deep", "shallow_ratio", "  steady state of {mixed10, mixed9, mixed8}: plain / bcdx", 6.5),
    Row("deep", "setup_s", "  set-up of a further trial at a known depth, CPU-s", 0.5, most=True),
    Row("deep", "setup_ratio", "  the same, plain / bcdx", 20.0),
    Row("deep", "plan_error", "  planner's step ratio: largest relative error", 0.15, most=True),
    Row("views2", "cpu_ratio", "the same search at views = 2: CPU, plain / bcdx", 2.8),
    Row("head", "cpu_ratio", "head only, 10 trials x 2 epochs: CPU, plain / bcdx", 12.0),
    Row("growth", "growth_mb", "growth of memory over 20 trials, MB a trial", 10.0, most=True),
    Row("growth", "growth_plain_mb", "  the same, plain", None),
    Row("auc", "cpu_ratio", "CPU to plain's best validation AUC - 0.002, plain / bcdx", 10.0),
    Row("auc_probe", "cpu_ratio", "  the same where plain starts at bcdx's probe, too", None),
)
AUC_GRIDS = ("auc", "auc_probe")


def main() -> None:
    """Run one side where that is asked for, else all sides of the chosen grids, and print the table."""
    imports_s = cpu_seconds()
    options = _parse()
    if options.side:
        run_side(options, imports_s)
        return
    report: dict[str, Any] = {"cpu_ratio": None, "quick": options.quick, "rows": {}, "runs": []}
    for grid in options.grid:
        with tempfile.TemporaryDirectory() as scratch:
            figures, runs = (measure_auc if grid in AUC_GRIDS else measure_grid)(grid, options, Path(scratch))
        report["rows"].update({f"{grid}.{key}": value for key, value in figures.items()})
        report["runs"] += runs
    report["cpu_ratio"] = report["rows"].get("deep.cpu_ratio")
    report["machine"] = f"{os.cpu_count()} CPU cores, {platform.machine()}, {resolve_policy(options.precision)}"
    print_table(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = (*GRIDS, *AUC_GRIDS)
    parser.add_argument("--grid", choices=names, nargs="+", default=["deep"], help="what to measure")
    parser.add_argument("--all", dest="grid", action="store_const", const=list(names), help="measure everything")
    parser.add_argument("--repeats", type=int, default=1, help="repetitions of each speed grid")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of `auc`")
    parser.add_argument("--precision", choices=("float32", "mixed_bfloat16"), default="float32", help="not of `auc`")
    parser.add_argument("--weights", default="random", help="path of a no-top weights file; not of `auc`")
    parser.add_argument("--quick", action="store_true", help="try the harness on next to nothing; figures mean nothing")
    parser.add_argument("--json", type=Path, help="write the figures here")
    for name in ("--side", "--records", "--result"):  # of the processes that this one starts
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


# Settings and data


def make_phantom(out: Path, *, quick: bool) -> Path:
    """Shard a phantom of two slices a patient, a fifth of them for validation: 128 + 32 samples of 256 px."""
    patients, size = (20, 96) if quick else (80, 256)
    phantom = Phantom(patients=patients, slices_per_breast=1, size=size)
    split = Split(validation=0.2, test=0.0)
    write_records(Dataset(out=str(out), size=size, phantom=phantom, split=split, workers=1))
    return out


def make_patches(out: Path) -> Path:
    """Shard the real patches by their recipe."""
    dataset = load_recipe(RECIPES / "tfrecords/breast_dce_patches.toml", Dataset)
    write_records(dataset.model_copy(update={"out": str(out), "workers": 1}))
    return out


def grid_settings(grid: Grid, options: argparse.Namespace) -> Tune:
    """Return the settings of a speed grid: every trial runs all its epochs and is validated after each."""
    if options.quick:
        grid = Grid(grid.depths[:2], grid.rates[:2], grid.epochs, grid.views)
    space = Space(depth=tuple(f"{depth}/mixed10" for depth in grid.depths), learning_rate=grid.rates)
    return Tune(
        seed=options.seed,
        network=Network(weights=options.weights, depth="mixed10/mixed10", pooling="average"),
        optimizer=Optimizer(epochs=grid.epochs, keep="best", patience=grid.epochs, precision=options.precision),
        stream=Stream(batch_size=16, views=grid.views),
        space=space,
        search=Search(oracle="grid", trials=int(count_combinations(space))),
    )


def auc_settings(grid: str, options: argparse.Namespace) -> Tune:
    """Return the recipe of the real patches; plain has epochs of its own, draws its trials and, in `auc`, its head."""
    side = options.side
    recipe = load_recipe(RECIPES / "tuning/breast_dce_patches.toml", Tune)
    if recipe.space.strength:
        raise SystemExit("plain Keras Tuner shares one stream between trials: space.strength cannot be searched here")
    trials = 2 if options.quick else PLAIN_TRIALS if side == "plain" else recipe.search.trials
    epochs = 2 if options.quick else PLAIN_EPOCHS if side == "plain" else recipe.optimizer.epochs
    oracle = {"oracle": "random"} if side == "plain" else {}
    parts = {
        "optimizer": recipe.optimizer.model_copy(update={"epochs": epochs}),
        "search": recipe.search.model_copy(update={"trials": trials, **oracle}),
    }
    if side == "plain" and grid == "auc":
        parts["network"] = recipe.network.model_copy(update={"head": "random"})
    return recipe.model_copy(update={**parts, "seed": options.seed})


# One side, in a process of its own


def cpu_seconds() -> float:
    """Return the CPU time of this process and of its finished children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def resident_mb() -> float:
    """Return the memory that this process occupies now; not a number where there is no /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return math.nan
    return pages * resource.getpagesize() / 1e6


@dataclass
class Clock:
    """Notes CPU, memory and score of every trial and epoch; what is done in a pause is not charged.

    Attributes:
        path: File that holds what is known so far, should the process be stopped.
        facts: What else to write there.
        judge: Model -> score of an epoch, not charged; None: the one in the epoch's logs.
    """

    path: Path
    facts: dict[str, Any]
    judge: Callable[[keras.Model], float] | None = None
    trials: list[dict[str, Any]] = field(default_factory=list)
    free_s: float = 0.0

    def now(self) -> float:
        """Return the CPU-seconds charged so far."""
        return cpu_seconds() - self.free_s

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Charge nothing inside."""
        began = cpu_seconds()
        yield
        self.free_s += cpu_seconds() - began

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Have every `fit` and every trial of Keras Tuner in this process noted."""
        tuner, fit = keras_tuner.Tuner, keras.Model.fit
        begin, end = tuner.on_trial_begin, tuner.on_trial_end

        @wraps(fit)
        def timed_fit(model: keras.Model, *args: Any, callbacks: Sequence[Any] | None = None, **kwargs: Any) -> Any:
            return fit(model, *args, callbacks=[*(callbacks or ()), EpochClock(self)], **kwargs)

        def noted_begin(tuner: Any, trial: Any) -> None:
            self._close_trial()
            self.trials.append({"values": dict(trial.hyperparameters.values), "began_s": self.now(), "epochs": []})
            begin(tuner, trial)

        def noted_end(tuner: Any, trial: Any) -> None:
            end(tuner, trial)
            score = tuner.oracle.trials[trial.trial_id].score
            self.trials[-1].update(rss_mb=resident_mb(), score=score)
            self._close_trial()
            self.save()

        patch = mock.patch.object
        with (
            patch(keras.Model, "fit", timed_fit),
            patch(tuner, "on_trial_begin", noted_begin),
            patch(tuner, "on_trial_end", noted_end),
        ):
            yield
        self._close_trial()
        self.save()

    def _close_trial(self) -> None:
        """Charge the last trial with everything up to now: the next one's beginning, in the end."""
        if self.trials:
            self.trials[-1]["ended_s"] = self.now()

    def save(self) -> None:
        """Write what is known."""
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        facts = {**self.facts, "charged_s": self.now(), "peak_mb": peak_mb, "trials": self.trials}
        self.path.with_suffix(".new").write_text(json.dumps(facts))
        self.path.with_suffix(".new").replace(self.path)


class EpochClock(keras.callbacks.Callback):
    """The last callback of one fit: an epoch lasts from the end of the one before it to its own end."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._began_s = self._trained_s = 0.0
        self._ended_s: float | None = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start the clock of the training part."""
        self._began_s = self._trained_s = self._clock.now()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Stop it, until the next batch: validation and saving follow the last one."""
        self._trained_s = self._clock.now()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Note the epoch."""
        clock, first, score = self._clock, self._ended_s is None, (logs or {}).get("val_auc")
        self._ended_s, since = clock.now(), self._began_s if first else self._ended_s
        cpu = {"cpu_s": self._ended_s - since, "train_cpu_s": self._trained_s - self._began_s, "at_s": self._ended_s}
        if clock.judge is not None:
            with clock.pause():
                score = clock.judge(self.model)
        if clock.trials:
            score = None if score is None else float(score)
            clock.trials[-1]["epochs"].append({**cpu, "first": first, "score": score})


def run_side(options: argparse.Namespace, imports_s: float) -> None:
    """Run one side of one grid and write what the clock saw."""
    grid, records = options.grid[0], Path(options.records)
    data = Data(records, read_manifest(records))
    searched = grid in AUC_GRIDS
    settings = auc_settings(grid, options) if searched else grid_settings(GRIDS[grid], options)
    samples = [data.samples((split,)) for split in ("train", "validation")]
    clock = Clock(Path(options.result), {"imports_s": imports_s, "samples": samples, "plan": None})
    with tempfile.TemporaryDirectory(dir=Path(options.result).parent) as name:  # goes with it if this is killed
        scratch = Path(name)
        if options.side == "plain":
            (search_auc_plainly if searched else search_plainly)(settings, data, scratch, clock)
            return
        from bcdx.learning.search import search_winner  # plain need not import it

        reuse = settings.reuse.model_copy(update={"folder": str(scratch / "prefix")})  # nothing kept from before
        places = {"out": str(scratch / "run"), "reuse": reuse}
        with clock.watch():
            search_winner(settings.model_copy(update=places), data, LEVEL, scratch / "run")
        plan = next(scratch.rglob("reuse.json"), None)
        clock.facts["plan"] = None if plan is None else json.loads(plan.read_text())["choices"]
        clock.save()


def search_plainly(settings: Tune, data: Data, scratch: Path, clock: Clock) -> None:
    """Search the grid with Keras Tuner."""
    with clock.watch():
        tuner = keras_tuner.GridSearch(partial(build_plainly, settings, data), **tuner_arguments(settings, scratch))
        run_tuner(tuner, settings, data)


def search_auc_plainly(settings: Tune, data: Data, scratch: Path, clock: Clock) -> None:
    """Search the recipe's space at random with Keras Tuner, with the model as it starts in bcdx."""
    if settings.network.weights == "random" or settings.test_views != 8:
        raise SystemExit("plain's start knows pretrained weights and test_views = 8 alone")

    def build(hp: Any) -> keras.Model:
        model = build_plainly(settings, data, hp)
        start_plainly(model, settings, data)
        return model

    clock.judge = partial(score_plainly, settings, data)
    with clock.watch():
        with clock.pause():
            tuner = keras_tuner.RandomSearch(build, **tuner_arguments(settings, scratch))
        run_tuner(tuner, settings, data)


def build_plainly(settings: Tune, data: Data, hp: Any) -> keras.Model:
    """Return the network of a trial, compiled with what Keras has."""
    fit = apply_values(settings, hp.values)
    policy, shape = resolve_policy(fit.optimizer.precision), data.manifest.image_shape
    model = build_model(fit.network, input_shape=shape, classes=2, policy=policy, seed=fit.seed)
    optimizer = stock_optimizer(fit.optimizer, data.steps(("train",), fit.stream.batch_size))
    model.compile(optimizer, keras.losses.BinaryCrossentropy(), metrics=[keras.metrics.AUC(name="auc")])
    return model


def stock_optimizer(settings: Optimizer, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Return Keras's AdamW on the schedule of bcdx: warm-up, then cosine decay, over all epochs."""
    total = settings.epochs * steps_per_epoch
    warmup = min(max(1, round(settings.warmup * total)), total - 1)
    rate = keras.optimizers.schedules.CosineDecay(
        settings.learning_rate / warmup,
        decay_steps=max(total - warmup, 1),
        warmup_target=settings.learning_rate,
        warmup_steps=warmup,
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=settings.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def start_plainly(model: keras.Model, settings: Tune, data: Data) -> None:
    """Normalise the features and, if so set, start the head at the probe, as bcdx does; all views are read once."""
    body, labels = keras.Model(model.inputs, model.get_layer(FEATURES).output), data.table(("train",)).label
    views = settings.test_views if settings.network.head == "probe" else 1
    features = body.predict(all_views(data.plain_images(("train",), settings.stream.batch_size), views), verbose=0)
    mean, variance = measure_features(features[: len(labels)])
    set_normalisation(model.get_layer(FEATURE_NORM), mean, variance)
    if views == 1:
        return
    balanced = settings.optimizer.balance == "weights"
    normalised = normalise(features, mean, variance)
    probe = fit_probe(normalised, np.tile(labels, views), c=settings.network.probe_c, balanced=balanced)
    model.get_layer(HEAD).set_weights(list(probe))


def score_plainly(settings: Tune, data: Data, model: keras.Model) -> float:
    """Return the validation score of bcdx for a model."""
    images, table = data.plain_images(("validation",), settings.stream.batch_size), data.table(("validation",))
    positive = data.manifest.classes.index(data.manifest.positive)
    scores = predict(model, images, views=settings.test_views)
    found = Cases(scores, table.label, table.patient, table.laterality, positive).at_level(LEVEL)
    return math.nan if found is None else float(roc_auc(found.probabilities, found.labels, positive))


def tuner_arguments(settings: Tune, scratch: Path) -> dict[str, Any]:
    """Return what both tuners are told."""
    return {
        "objective": keras_tuner.Objective("val_auc", "max"),
        "max_trials": settings.search.trials,
        "seed": settings.seed + 1,
        "hyperparameters": declare_space(settings.space, ordered=settings.search.oracle == "grid"),
        "directory": str(scratch),
        "project_name": "plain",
    }


def run_tuner(tuner: keras_tuner.Tuner, settings: Tune, data: Data) -> None:
    """Search as Keras Tuner's documentation shows."""
    batch_size, epochs = settings.stream.batch_size, settings.optimizer.epochs
    tuner.search(
        data.training(settings, ("train",), epochs=range(epochs)),
        validation_data=data.plain_batches(("validation",), batch_size),
        steps_per_epoch=data.steps(("train",), batch_size),
        epochs=epochs,
        verbose=0,
    )


# Both sides, in turns


def measure_grid(grid: str, options: argparse.Namespace, scratch: Path) -> tuple[dict[str, Any], list[Result]]:
    """Return the median figures over repetitions, and all runs."""
    records, runs, figures = make_phantom(scratch / "records", quick=options.quick), [], []
    for repetition in range(options.repeats):
        options.seed = repetition
        pair = {side: start_side(side, grid, options, records) for side in in_turn(repetition)}
        runs += pair.values()
        figures.append(compare(grid, pair["plain"], pair["bcdx"]))
    return {key: median([one[key] for one in figures]) for key in figures[0]}, runs


def measure_auc(grid: str, options: argparse.Namespace, scratch: Path) -> tuple[dict[str, Any], list[Result]]:
    """Return the ratio of median CPU to the target, and all runs; stops after 90 minutes with what there is."""
    records, deadline = make_patches(scratch / "records"), time.monotonic() + 60 * AUC_MINUTES
    runs: list[Result] = []
    for side, seed in [(side, seed) for turn, seed in enumerate(options.seeds) for side in in_turn(turn)]:
        options.seed, left_s = seed, deadline - time.monotonic()
        if left_s > 0:
            runs.append(start_side(side, grid, options, records, left_s))
    curves = {side: [curve(run) for run in runs if run["side"] == side] for side in SIDES}
    curves["plain"] = [one for one in curves["plain"] if one]  # without a score there is nothing to reach
    if not all(curves.values()):
        return {"cpu_ratio": None}, runs
    target = statistics.median(one[-1][1] for one in curves["plain"]) - AUC_MARGIN
    spent = {side: [time_to(target, one) for one in curves[side]] for side in SIDES}
    never = {side: sum(math.isinf(one) for one in spent[side]) for side in SIDES}
    spent["plain"] = [min(one, whole[-1][0]) for one, whole in zip(spent["plain"], curves["plain"], strict=True)]
    middle = {side: statistics.median(spent[side]) for side in SIDES}
    for side in SIDES:
        shown = ", ".join(
            f"{best[-1][1] if best else math.nan:.4f} ({one:.0f} s)"
            for best, one in zip(curves[side], spent[side], strict=True)
        )
        print(f"{side:<6}best AUC (CPU to {target:.4f}): {shown}; {never[side]} of {len(spent[side])} never get there")
    ratio = None if math.isinf(middle["bcdx"]) else middle["plain"] / middle["bcdx"]
    finite = {side: [None if math.isinf(one) else one for one in spent[side]] for side in SIDES}
    return {"cpu_ratio": ratio, "target": target, "to_target_s": finite, "never": never}, runs


def in_turn(repetition: int) -> tuple[str, ...]:
    """Return the sides in an order that alternates."""
    return SIDES if repetition % 2 == 0 else SIDES[::-1]


def start_side(
    side: str, grid: str, options: argparse.Namespace, records: Path, timeout_s: float | None = None
) -> Result:
    """Run one side in a fresh process, print what it cost and return what it wrote, whole or not."""
    result = records.parent / f"{grid}-{side}-{options.seed}.json"
    command = [sys.executable, __file__, "--side", side, "--grid", grid, "--records", str(records)]
    command += ["--result", str(result), "--seed", str(options.seed), "--precision", options.precision]
    command += ["--weights", options.weights, *(["--quick"] if options.quick else [])]
    load, log = os.getloadavg(), result.with_suffix(".log")
    before_s, began, done = children_cpu(), time.monotonic(), True
    try:
        with log.open("w") as said:
            subprocess.run(command, check=True, stdout=said, stderr=said, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        done = False
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"{log.read_text()[-5000:]}\n{grid}, {side}: failed, see above") from error
    facts = json.loads(result.read_text()) if result.exists() else {"trials": [], "imports_s": 0.0, "peak_mb": 0.0}
    costs = {"cpu_s": children_cpu() - before_s, "wall_s": time.monotonic() - began, "load": load, "done": done}
    print(
        f"{grid} {options.seed} {side:<6}{costs['cpu_s']:8.1f} CPU-s ({facts['imports_s']:.1f} of them imports), "
        f"{costs['wall_s']:.0f} s, peak {facts['peak_mb'] / 1e3:.2f} GB, {len(facts['trials'])} trials, "
        f"load before {load[0]:.2f} {load[1]:.2f} {load[2]:.2f}, after {os.getloadavg()[0]:.2f}"
        f"{'' if done else '; stopped for want of time'}",
        flush=True,
    )
    return {"grid": grid, "side": side, "seed": options.seed, **costs, **facts}


def children_cpu() -> float:
    """Return the CPU time of all finished children and theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# Figures


def compare(grid: str, plain: Result, bcdx: Result) -> dict[str, Any]:
    """Return the figures of one repetition of a speed grid; None: not to be had."""
    tried = [[trial["values"] for trial in one["trials"]] for one in (plain, bcdx)]
    if sorted(map(str, tried[0])) != sorted(map(str, tried[1])):
        raise SystemExit(f"{grid}: the sides tried different values: {tried}")
    apart = [one["cpu_s"] - one["imports_s"] for one in (plain, bcdx)]
    figures = {"cpu_ratio": plain["cpu_s"] / bcdx["cpu_s"], "cpu_ratio_apart": apart[0] / apart[1]}
    if grid == "growth":
        return {**figures, "growth_mb": growth_mb(bcdx), "growth_plain_mb": growth_mb(plain)}
    return {**figures, **(compare_steps(plain, bcdx) if grid == "deep" else {})}


def compare_steps(plain: Result, bcdx: Result) -> dict[str, Any]:
    """Return the figures of the steady state, of set-up and of the plan, and print the first by depth."""
    depths = list(dict.fromkeys(depth_of(trial) for trial in plain["trials"]))
    ours, theirs = partial(steady, bcdx), partial(steady, plain)
    passes = {depth: count_passes(depth, plain["samples"]) for depth in depths}
    predicted = {one["depth"].split("/")[0]: one["step_ratio"] for one in bcdx["plan"] or ()}
    print(
        f"{'steady state':<14}{'plain CPU-s':>14}{'bcdx CPU-s':>14}{'ratio':>8}{'training only':>16}{'predicted':>11}"
    )
    errors, setups = [], [setup_s(one) for one in (plain, bcdx)]
    for depth in depths:
        step = theirs(depth, "train_cpu_s") / ours(depth, "train_cpu_s")
        ratio = theirs(depth) / ours(depth)
        if depth in predicted:
            errors.append(abs(predicted[depth] / step - 1.0))
        told = f"{predicted[depth]:.2f}" if depth in predicted else "no plan"
        print(f"{depth:<14}{theirs(depth):>14.2f}{ours(depth):>14.2f}{ratio:>8.2f}{step:>16.2f}{told:>11}")

    def total_ratio(some: Sequence[str]) -> float:
        return sum(map(theirs, some)) / sum(map(ours, some))

    limit = sum(passes[depth][0] for depth in depths) / sum(passes[depth][1] for depth in depths)
    shallow = [depth for depth in depths if depth in SHALLOW]
    return {
        "steady_share": total_ratio(depths) / limit,
        "shallow_ratio": total_ratio(shallow),
        "setup_s": setups[1],
        "setup_ratio": setups[0] / setups[1] if setups[1] > 0 else None,
        "plan_error": max(errors, default=None),
    }


def depth_of(trial: Result) -> str:
    """Return where a trial is frozen."""
    return str(trial["values"]["depth"]).split("/")[0]


def steady(run: Result, depth: str, part: str = "cpu_s") -> float:
    """Return the median CPU of an epoch (or a part of it) after the first, at one depth."""
    trials = [trial for trial in run["trials"] if depth_of(trial) == depth]
    return statistics.median(epoch[part] for trial in trials for epoch in trial["epochs"] if not epoch["first"])


def count_passes(depth: str, samples: Sequence[int]) -> tuple[float, float]:
    """Return the multiply-adds of an epoch, plain and on kept tensors, in forward passes of one sample.

    A training step costs a forward pass, and two more through what is trained; validation a forward pass.
    """
    share, (training, validation) = SHARE_BEHIND[depth], samples
    return training * (1.0 + 2.0 * share) + validation, training * 3.0 * share + validation * share


def further_trials(run: Result) -> list[tuple[Result, Result]]:
    """Return (trial before it, trial) of those whose depth was tried before."""
    known = accumulate(({depth_of(trial)} for trial in run["trials"]), set.union)
    return [
        (before, trial)
        for before, trial, seen in zip(run["trials"], run["trials"][1:], known, strict=False)
        if depth_of(trial) in seen
    ]


def setup_s(run: Result) -> float:
    """Return the median CPU of a further trial at a known depth, less that of its epochs in steady state."""
    return statistics.median(
        trial["ended_s"] - trial["began_s"] - len(trial["epochs"]) * steady(run, depth_of(trial))
        for _, trial in further_trials(run)
    )


def growth_mb(run: Result) -> float:
    """Return by how much memory grows from trial to trial, those that bring a new depth included."""
    first, last = run["trials"][0], run["trials"][-1]
    return float((last["rss_mb"] - first["rss_mb"]) / (len(run["trials"]) - 1))


def curve(run: Result) -> list[tuple[float, float]]:
    """Return (CPU-seconds so far, best score so far) after each scored epoch, or trial where epochs have none."""
    points: list[tuple[float, float]] = []
    for trial in run["trials"]:
        scored = [(epoch["at_s"], epoch["score"]) for epoch in trial["epochs"] if epoch["score"] is not None]
        points += scored or ([(trial["ended_s"], trial["score"])] if trial.get("score") is not None else [])
    return list(accumulate(points, lambda best, one: (one[0], max(best[1], one[1]))))


def time_to(target: float, points: Sequence[tuple[float, float]]) -> float:
    """Return the CPU-seconds after which the score is reached; infinity: never."""
    return next((spent for spent, best in points if best >= target), math.inf)


def median(figures: Sequence[float | None]) -> float | None:
    """Return the median of what there is."""
    found = [one for one in figures if one is not None]
    return statistics.median(found) if found else None


def print_table(report: dict[str, Any]) -> None:
    """Print the figures beside their targets."""
    print(f"\non {report['machine']}")
    for row in ROWS:
        name = f"{row.grid}.{row.key}"
        if name in report["rows"]:
            figure = report["rows"][name]
            told = ("no plan" if row.key == "plan_error" else "none") if figure is None else f"{figure:.2f}"
            print(f"{row.title:<64}{told:>9}   {row.describe():<14}{row.judge(figure)}")


if __name__ == "__main__":
    main()
