"""A model and a split in; scores, the cases that evidence is computed from, and `predictions.csv` out."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from bcdx._files import write_bytes
from bcdx.errors import RunError, TrainingError
from bcdx.evidence.calibration import Calibration
from bcdx.evidence.cases import Cases
from bcdx.learning import run as runs
from bcdx.learning.data import Data
from bcdx.learning.prediction import predict
from bcdx.records.reader import Table

Probabilities = NDArray[np.float64]

PREDICTIONS, VALIDATION = "predictions.csv", "validation.csv"
COLUMNS = ("sample", "patient", "laterality", "label", "probability", "score")
LESION_MM2 = (1e-6, 100.0, 400.0)
"""Bounds of small, middle and large lesions, by the area on a slice: diameters of some 11 and 23 mm."""
LESION_NAMES = ("below 100 mm2", "100 to 400 mm2", "400 mm2 and more")


def score_split(model: keras.Model, data: Data, split: str, *, batch_size: int, views: int) -> Probabilities:
    """Return class probabilities of a split's samples in stored order.

    Raises:
        TrainingError: Some are not numbers.
    """
    return check_scores(predict(model, data.plain_images((split,), batch_size), views=views), split)


def check_scores(scores: Probabilities, split: str) -> Probabilities:
    """Return a split's scores.

    Raises:
        TrainingError: Some are not numbers.
    """
    if not np.isfinite(scores).all():
        raise TrainingError(f"the model's {split} scores are not numbers: it diverged; lower optimizer.learning_rate")
    return scores


def make_cases(probabilities: Probabilities, table: Table, run: runs.Run, *, top_slices: int) -> Cases:
    """Return scores with what is known of each sample, ready to be measured."""
    positive = run.classes.index(run.positive)
    groups = group_samples(table)
    return Cases(probabilities, table.label, table.patient, table.laterality, positive, top_slices, groups)


def group_samples(table: Table) -> dict[str, NDArray[np.str_]]:
    """Return the groupings by which results are told apart: name -> value of each sample, "" where unknown."""
    known = {name: getattr(table, name) for name in ("scanner", "site", "plane", "laterality", "phase")}
    plain = {name: np.where(values == "unknown", "", values) for name, values in known.items()}
    sizes = np.select([table.lesion_mm2 >= bound for bound in LESION_MM2[::-1]], LESION_NAMES[::-1], "")
    return {**plain, "lesion size": sizes}


def write_predictions(path: Path, cases: Cases, table: Table, run: runs.Run, calibration: Calibration) -> None:
    """Write one row a sample: sample, patient, laterality, label, calibrated probability and raw score.

    Both are of the positive class, in nine digits, which tell any two float32 apart; for more than two classes the
    calibrated probability of each class follows.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    several = cases.classes > 2
    writer.writerow([*COLUMNS, *(f"probability_{name}" for name in run.classes if several)])
    probabilities = calibration.at_level("slice").calibrator.apply(cases.probabilities, cases.positive)
    for index, row in enumerate(probabilities):
        figures = (row[cases.positive], cases.probabilities[index, cases.positive], *(row if several else ()))
        names = (table.sample[index], table.patient[index], table.laterality[index], run.classes[table.label[index]])
        writer.writerow([*names, *(f"{value:.9g}" for value in figures)])
    write_bytes(path, text.getvalue().encode())


def read_predictions(path: Path, run: runs.Run, *, top_slices: int) -> tuple[list[str], Cases]:
    """Return the samples and raw scores of a two-class run that `write_predictions` wrote.

    Raises:
        RunError: The file is missing, damaged or of another version.
    """
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        scores = np.array([float(row["score"]) for row in rows])
        labels = np.array([run.classes.index(row["label"]) for row in rows])
        columns = {name: np.array([row[name] for row in rows]) for name in ("patient", "laterality")}
    except (OSError, KeyError, ValueError) as error:
        raise RunError(f"{path}: missing, damaged, or written by another version of bcdx") from error
    positive = run.classes.index(run.positive)
    both = np.stack([1.0 - scores, scores] if positive == 1 else [scores, 1.0 - scores], axis=1)
    cases = Cases(both, labels, columns["patient"], columns["laterality"], positive, top_slices)
    return [row["sample"] for row in rows], cases
