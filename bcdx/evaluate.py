"""VERB: a finished run and shards it has not seen in; metrics with intervals by resampling patients out."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bcdx._files import claim_folder, staged_folder, write_json
from bcdx._recipes import expand_path
from bcdx.config import Evaluate
from bcdx.errors import RunError

if TYPE_CHECKING:
    from bcdx.evidence.calibration import Calibration
    from bcdx.learning.data import Data
    from bcdx.learning.job import Outcome
    from bcdx.learning.run import Run
    from bcdx.learning.testing import Tested
    from bcdx.records.reader import Table

logger = logging.getLogger(__name__)

FILES = ("metrics.json", "predictions.csv", "report.html", "model_card.md")


def evaluate_run(settings: Evaluate) -> Outcome:
    """Score one split of a collection with a finished run's model; another collection is external validation.

    Writes `metrics.json`, `predictions.csv`, `report.html` and `model_card.md`. Calibration and operating points are
    the run's own, chosen on its validation split; for the mean of other views than the run's there are none.

    Raises:
        BcdxError: The run is unfinished, or the shards do not fit its model.
    """
    from bcdx.learning import run as runs
    from bcdx.learning.data import open_matching
    from bcdx.learning.job import Outcome
    from bcdx.learning.network import load_model
    from bcdx.learning.prediction import choose_views
    from bcdx.learning.reporting import report_split
    from bcdx.learning.scoring import PREDICTIONS, write_predictions
    from bcdx.learning.testing import Subject, examine_split, measure

    folder = expand_path(settings.run)
    run, calibration = runs.read_finished(folder)
    records = folder / run.records if settings.records is None else expand_path(settings.records)
    out = _output_folder(settings, folder, records)
    data = open_matching(records, settings.split, classes=run.classes, image_shape=run.image_shape, recipe=run.dataset)
    views = choose_views(run, calibration, settings.test_views)
    model = load_model(folder / runs.MODEL)
    calibration, warnings = _fit_views(calibration, views)
    subject = Subject(model, run, calibration, data, views, settings.batch_size)
    tested = examine_split(subject, settings.split)
    table = tested.sight.table
    metrics = measure(subject, tested, prevalence=settings.prevalence)
    metrics |= {"data_hash": data.manifest.data_hash, "test_views": views, **warnings, **data.manifest.warnings()}
    metrics |= {**_warn_of_overlap(run, data, table), **_warn_of_preparation(run, data)}
    metrics |= _compare_familiarity(folder, tested)
    if data.manifest.data_hash == run.data_hash and settings.split == "test":  # of the same images as the run's own
        metrics["probes"] = json.loads((folder / runs.METRICS).read_text()).get("probes", {})
    if settings.beside is not None:
        metrics |= _read_beside(expand_path(settings.beside), run, tested)
    with staged_folder(out) as stage:
        write_predictions(stage / PREDICTIONS, tested.cases, table, run, calibration)
        report_split(subject, tested, metrics, stage, source=folder, examples=settings.examples)
        write_json(stage / runs.METRICS, metrics)
    return Outcome(out, run, metrics)


def _fit_views(calibration: Calibration, views: int) -> tuple[Calibration, dict[str, str]]:
    """Return what validation decided for scores of so many views; nothing, and a warning to be stored, for others."""
    from bcdx.evidence.calibration import Calibration, Calibrator, LevelCalibration
    from bcdx.evidence.operating import OPERATING_POINTS
    from bcdx.evidence.scores import LEVELS

    if views == calibration.test_views:
        return calibration, {}
    reason = f"the run's calibration and thresholds are for the mean of {calibration.test_views} views, not of {views}"
    blank = LevelCalibration(Calibrator(reason=reason), dict.fromkeys(OPERATING_POINTS))
    text = f"{reason}: scores are not calibrated, and there are no operating points"
    logger.warning("%s", text)
    return Calibration(calibration.top_slices, views, dict.fromkeys(LEVELS, blank)), {"views_warning": text}


def _compare_familiarity(folder: Path, tested: Tested) -> dict[str, Any]:
    """Return how many samples are unlike training; nothing where the run cannot tell."""
    from bcdx.evidence.familiarity import read_reference
    from bcdx.learning.run import REFERENCE
    from bcdx.learning.testing import count_unfamiliar

    path = folder / REFERENCE
    return {"familiarity": count_unfamiliar(read_reference(path), tested)} if path.exists() else {}


def _read_beside(folder: Path, run: Run, tested: Tested) -> dict[str, Any]:
    """Return the metrics of another run's own test and, where it scored these very samples, how the two compare.

    Raises:
        BcdxError: It is unfinished or tells other classes apart.
    """
    from bcdx.evidence.comparison import compare_runs
    from bcdx.learning import run as runs
    from bcdx.learning.scoring import PREDICTIONS, read_predictions

    other, calibration = runs.read_finished(folder)
    if (other.classes, other.positive) != (run.classes, run.positive):
        raise RunError(f"{folder}: classes {list(other.classes)}, but the run knows {list(run.classes)}")
    found: dict[str, Any] = {"beside": json.loads((folder / runs.METRICS).read_text())}
    if len(run.classes) > 2:
        logger.warning("runs of more than two classes are shown side by side, not compared sample by sample")
        return found
    samples, cases = read_predictions(folder / PREDICTIONS, other, top_slices=calibration.top_slices)
    place = {sample: index for index, sample in enumerate(samples)}
    mine = tested.sight.table.sample.tolist()
    if set(mine) != set(place):
        logger.warning("%s scored other samples: no comparison on the same ones", folder)
        return found
    order = np.array([place[sample] for sample in mine])
    ordered = replace(
        cases,
        probabilities=cases.probabilities[order],
        labels=cases.labels[order],
        patients=cases.patients[order],
        lateralities=cases.lateralities[order],
    )
    return {**found, "comparison": compare_runs(tested.cases, ordered)}


def _output_folder(settings: Evaluate, run: Path, records: Path) -> Path:
    out = expand_path(settings.out or str(run.parent / f"{run.name}-on-{records.name}"))
    claim_folder(out, FILES, overwrite=settings.overwrite)
    return out


def _warn_of_preparation(run: Run, data: Data) -> dict[str, str]:
    """Return a warning, to be stored, where images were prepared otherwise than the run's, though of its shape."""
    names = ("normalise", "voi", "phases", "jpeg_quality", "select")
    other = [name for name in names if data.manifest.recipe.get(name) != run.dataset.get(name)]
    if not other:
        return {}
    text = f"these images were selected or prepared otherwise than the run's: other settings of {', '.join(other)}"
    logger.warning("%s", text)
    return {"preparation_warning": text}


def _warn_of_overlap(run: Run, data: Data, table: Table) -> dict[str, str]:
    """Return a warning, to be stored beside the metrics, where the run has or may have learned from these."""
    from bcdx.learning.run import LEARNED_UNKNOWN

    manifest = data.manifest
    if not run.can_match(manifest.key_check, patient_is_file=manifest.patient_is_file):
        return {} if manifest.data_hash == run.data_hash else {"overlap_warning": LEARNED_UNKNOWN}
    patients = set(table.patient.tolist())
    known = patients & set(run.learned_patients)
    if not known:
        return {}
    text = f"{len(known)} of {len(patients)} patients were in this run's training or validation: not a held-out test"
    logger.warning("%s", text)
    return {"overlap_warning": text}


if __name__ == "__main__":
    from bcdx._cli import run_verb

    sys.exit(run_verb("evaluate"))
