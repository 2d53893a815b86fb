"""One run from its settings to its metrics: select a fit, set thresholds, refit, open the test split once."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import tomli_w

from bcdx._files import removed_on_error, write_bytes, write_json
from bcdx._recipes import expand_path, load_dataset, rebase_paths
from bcdx.config import Fit, as_recipe
from bcdx.errors import RecordsError
from bcdx.evidence.familiarity import write_reference
from bcdx.evidence.operating import calibrate
from bcdx.evidence.scores import choose_level
from bcdx.evidence.summary import summarise
from bcdx.learning import run as runs
from bcdx.learning.augment import check_flips
from bcdx.learning.data import Data
from bcdx.learning.learner import Learner
from bcdx.learning.network import freeze
from bcdx.learning.reporting import report_run
from bcdx.learning.reuse import open_learner
from bcdx.learning.scoring import PREDICTIONS, VALIDATION, check_scores, make_cases, write_predictions
from bcdx.learning.testing import (
    MOST_TRAINING,
    Subject,
    count_unfamiliar,
    examine_split,
    look_at,
    measure,
    probe_shortcuts,
    refer_to,
)
from bcdx.learning.trainee import Trainee
from bcdx.learning.training import Plan, score_best, train
from bcdx.learning.trial import Selected, show_augmentation, varied
from bcdx.learning.watched import Journal
from bcdx.learning.workers import SearchLeftError, is_worker, wait_for_chief
from bcdx.records.manifest import read_manifest

logger = logging.getLogger(__name__)

Select = Callable[[Any, Data, str, Path], Selected]
"""(settings, data, level, run folder) -> the fit that goes on to be the run's model."""


@dataclass(frozen=True)
class Outcome:
    """A finished run: its folder, its facts and its metrics."""

    folder: Path
    run: runs.Run
    metrics: dict[str, Any]

    def summary(self) -> str:
        """Return what the terminal shows; nothing where a worker of the search leaves the rest to the chief."""
        return summarise(self.metrics, title=str(self.folder)) if self.metrics else ""


def carry_out(verb: str, settings: Fit, select: Select) -> Outcome:
    """Carry out `tune` or `fit` in its run folder; a finished run is read, a killed one goes on.

    Raises:
        BcdxError: The shards or the run folder cannot be used, or nothing could be trained.
    """
    folder, helps = runs.run_folder(settings), verb == "tune" and is_worker()
    if helps:
        wait_for_chief(lambda: has_ended(folder))
    data = open_data(settings)
    training = data.table(("train", "validation"))
    check_flips(settings.augment, training.label, training.laterality, data.manifest.classes)
    level = choose_objective(settings, data)
    run = runs.describe_run(verb, settings, data, level=level)
    if runs.is_finished(folder, run, overwrite=settings.overwrite and not helps):
        logger.info("%s: finished before; nothing to do (--overwrite starts anew)", folder)
        return read_outcome(folder)
    if helps:
        with suppress(SearchLeftError):
            select(settings, data, level, folder)
        logger.info("%s: the search is over; the chief goes on alone", folder)
        return Outcome(folder, run, {})
    with removed_on_error(folder):
        runs.write_run(folder, run)
        logger.info("objective: validation AUC at %s level; precision: %s", level, run.precision)
        show_augmentation(settings, data, folder / "logs" / "samples")
        selected = select(settings, data, level, folder)
        run = _record_selection(run, selected, folder)
        return _finish(run, selected, data, folder)


def has_ended(folder: Path) -> bool:
    """Return whether a run folder's search is over, whatever of the run is still to be done."""
    return (folder / runs.METRICS).exists() or Journal(folder / "trials").is_over()


def read_outcome(folder: Path) -> Outcome:
    """Return the outcome of a finished run."""
    return Outcome(folder, runs.read_run(folder), json.loads((folder / runs.METRICS).read_text()))


def _record_selection(run: runs.Run, selected: Selected, folder: Path) -> runs.Run:
    state, fit = selected.state, selected.fit
    selection = {"trial": selected.trial, "epochs": state.best_epoch, "validation_auc": state.best}
    run = run.model_copy(update={"selection": {**selection, **varied(fit)}})
    runs.write_run(folder, run)
    recipe = as_recipe(rebase_paths(Fit.model_validate(fit.model_dump(include=set(Fit.model_fields))), folder))
    kept = {name: value for name, value in recipe.items() if name not in {"out", "overwrite"}}
    header = f"# The selected fit: python -m bcdx.fit best.toml. Validation AUC {state.best:.4f} ({run.level} level).\n"
    write_bytes(folder / "best.toml", (header + tomli_w.dumps(kept)).encode())
    return run


def _finish(run: runs.Run, selected: Selected, data: Data, folder: Path) -> Outcome:
    fit, state = selected.fit, selected.state
    learner = selected.learner or open_learner(fit, data, ("train",), folder)
    trainee = _decide(run, selected, learner, data, folder)
    if fit.refit == "train+validation":
        logger.info("refitting on train + validation for %d epochs", state.best_epoch)
        if fit.network.weights == "random":
            learner.store.forget()  # its BatchNorm will be set on both splits: nothing kept applies
        splits = ("train", "validation")
        learner = open_learner(fit, data, splits, folder, epochs=state.best_epoch, store=learner.store)
        trainee, _ = train(Plan(fit, epochs=state.best_epoch), learner, folder / "refit")
    model = trainee.joined
    freeze(model, fit.network.frozen)
    save_model(model, folder / runs.MODEL)
    metrics = _test_once(model, run, fit, data, folder)
    write_json(folder / runs.METRICS, metrics)
    for leftover in ("refit", "progress"):  # after the metrics: without them a killed run would train and test again
        shutil.rmtree(folder / leftover, ignore_errors=True)
    return Outcome(folder, run, metrics)


def open_data(settings: Fit) -> Data:
    """Return the shards that the settings name, checked for what a run needs.

    Raises:
        RecordsError: There are none, or a split that is needed is empty or lacks a class.
    """
    dataset = load_dataset(settings)
    folder = expand_path(dataset.out or "")
    data = Data(folder, read_manifest(folder))
    for split in ("train", "validation", "test"):
        if not data.samples((split,)):
            raise RecordsError(f"{folder}: the {split} split is empty; give it a share in `split` of the recipe")
    for split in ("train", "validation"):
        counts = data.class_counts((split,))
        if 0 in counts:
            name = data.manifest.classes[counts.index(0)]
            raise RecordsError(
                f"{folder}: no {name!r} in the {split} split; more patients or another `split` is needed"
            )
    return data


def choose_objective(settings: Fit, data: Data) -> str:
    """Return the level at which validation AUC is maximised."""
    tables = [data.table((split,)) for split in ("train", "validation")]
    classes, positive = data.manifest.classes, data.manifest.positive
    return choose_level(settings.objective.level, tables, classes=len(classes), positive=classes.index(positive))


def save_model(model: keras.Model, path: Path) -> None:
    """Write a `.keras` file, whole or not at all."""
    partial = path.with_name(f".partial-{path.name}")
    model.save(partial)
    partial.replace(path)


def _decide(run: runs.Run, selected: Selected, learner: Learner, data: Data, folder: Path) -> Trainee:
    """Let validation decide calibration and operating points, and keep what it was decided by."""
    fit, table = selected.fit, data.table(("validation",))
    trainee, scores = score_best(fit, learner, selected.progress, "validation")
    cases = make_cases(check_scores(scores, "validation"), table, run, top_slices=fit.objective.top_slices)
    calibration = calibrate(cases, test_views=fit.test_views)
    if fit.refit == "train":  # there is none
        calibration = replace(calibration, chosen_on="validation")
    write_json(folder / runs.CALIBRATION, calibration.to_json())
    write_predictions(folder / VALIDATION, cases, table, run, calibration)
    return trainee


def _test_once(model: keras.Model, run: runs.Run, fit: Fit, data: Data, folder: Path) -> dict[str, Any]:
    """Open the test split; write all evidence but `metrics.json`, whose content is returned."""
    calibration = runs.read_calibration_file(folder)
    subject = Subject(model, run, calibration, data, fit.test_views, fit.stream.batch_size)
    training = look_at(subject, tuple(fit.refit.split("+")), most=MOST_TRAINING)
    reference = refer_to(training)
    write_reference(folder / runs.REFERENCE, reference)
    tested = examine_split(subject, "test")
    write_predictions(folder / PREDICTIONS, tested.cases, tested.sight.table, run, calibration)
    metrics = measure(subject, tested, prevalence=fit.report.prevalence)
    metrics["familiarity"] = count_unfamiliar(reference, tested)
    metrics["probes"] = probe_shortcuts(training, tested)
    report_run(subject, tested, metrics, folder, examples=fit.report.examples)
    return metrics
