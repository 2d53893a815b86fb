"""A finished model and a split of shards in; its scores, features, figures and the probes beside them out.

The one place where a split is opened to be reported: by `tune` and `fit` for their test, by `evaluate` for any other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from bcdx.evidence.calibration import Calibration
from bcdx.evidence.cases import Cases
from bcdx.evidence.entries import make_auc_entry, undefined
from bcdx.evidence.familiarity import Reference, fit_reference, measure_distances
from bcdx.evidence.metrics import evaluate
from bcdx.evidence.probes.run import ProbeData, run_probes
from bcdx.learning.data import Data
from bcdx.learning.features import read_features
from bcdx.learning.run import Run
from bcdx.learning.scoring import check_scores, make_cases, score_split
from bcdx.records.reader import Table

RESULT = "What the probes are held against: ROC AUC per slice of the positive class against the rest."
MOST_TRAINING = 5000
"""Training samples whose features are read: enough for a covariance and a probe."""


@dataclass(frozen=True)
class Subject:
    """What is tested, on which shards.

    Attributes:
        model: Images in [0, 1] -> probabilities.
        run: That the model is of.
        calibration: Of the run.
        data: The shards.
        views: Views averaged for a sample.
        batch_size: Samples a step.
    """

    model: keras.Model
    run: Run
    calibration: Calibration
    data: Data
    views: int
    batch_size: int


@dataclass(frozen=True)
class Sight:
    """Samples as a model sees them.

    Attributes:
        table: What is known of each.
        features: Normalised features behind the head's input, float32, shape (samples, features), of the plain image.
        probabilities: Raw scores of the plain image, shape (samples, classes).
        mean_intensity: Mean of all pixels, in [0, 1], shape (samples,).
    """

    table: Table
    features: NDArray[np.float32]
    probabilities: NDArray[np.float64]
    mean_intensity: NDArray[np.float64]

    def as_probe_data(self) -> ProbeData:
        """Return what shortcut probes look at."""
        table = self.table
        return ProbeData(
            label=table.label,
            patient=table.patient,
            laterality=table.laterality,
            scanner=table.scanner,
            site=table.site,
            slice_index=table.slice_index,
            mean_intensity=self.mean_intensity,
            features=self.features,
        )


@dataclass(frozen=True)
class Tested:
    """A split that was scored.

    Attributes:
        split: Its name.
        sight: Its samples as the model sees them.
        cases: Scores averaged over the views of testing, and what is known of each sample.
    """

    split: str
    sight: Sight
    cases: Cases


def look_at(subject: Subject, splits: Sequence[str], *, most: int | None = None) -> Sight:
    """Return the samples of the splits as the model sees them; of more than `most`, every second, third ... one."""
    data, batch_size = subject.data, subject.batch_size
    table, samples = data.table(splits), data.samples(splits)
    step = 1 if most is None else max(1, math.ceil(samples / most))
    images = data.plain_images(splits, batch_size)
    if step > 1:
        images = images.unbatch().shard(step, 0).batch(batch_size)
    features, probabilities = read_features(subject.model, images)
    means = np.concatenate([batch.numpy().mean(axis=(1, 2, 3), dtype=np.float64) for batch in images])
    rows = Table(**{name: values[::step] for name, values in vars(table).items()})
    return Sight(rows, features, probabilities, means)


def examine_split(subject: Subject, split: str) -> Tested:
    """Score one split.

    Raises:
        TrainingError: Some scores are not numbers.
    """
    sight = look_at(subject, (split,))
    scores = check_scores(sight.probabilities, split)
    if subject.views > 1:
        scores = score_split(subject.model, subject.data, split, batch_size=subject.batch_size, views=subject.views)
    cases = make_cases(scores, sight.table, subject.run, top_slices=subject.calibration.top_slices)
    return Tested(split, sight, cases)


def measure(subject: Subject, tested: Tested, *, prevalence: float) -> dict[str, Any]:
    """Return the figures of `metrics.json` for one split."""
    run = subject.run
    facts = {"split": tested.split, "classes": list(run.classes), "positive": run.positive}
    return {**facts, **run.warnings(), **evaluate(tested.cases, subject.calibration, prevalence=prevalence)}


def rank_slices(cases: Cases) -> dict[str, Any]:
    """Return ROC AUC per slice with its interval, the positive class against the rest however many there are."""
    positives = cases.labels == cases.positive
    if positives.all() or not positives.any():
        return undefined(len(positives), "only one class in the split")
    return make_auc_entry(cases.probabilities[:, cases.positive], positives, cases.patients)


def probe_shortcuts(training: Sight, tested: Tested) -> dict[str, Any]:
    """Return what simpler explanations reach, to stand beside the result per slice.

    Args:
        training: Samples that the model was fitted on.
        tested: The split that the result is of.
    """
    result = rank_slices(tested.cases)
    interval = None if result["low"] is None else (result["low"], result["high"])
    probes = run_probes(
        training.as_probe_data(),
        tested.sight.as_probe_data(),
        positive=tested.cases.positive,
        auc=result["value"],
        auc_interval=interval,
    )
    return (
        {"result": {"auc": result, "reached": None, "note": RESULT}, **probes} if tested.cases.classes > 2 else probes
    )


def refer_to(training: Sight) -> Reference:
    """Return what tells whether a new image is like those of training."""
    return fit_reference(training.features, training.table.patient)


def count_unfamiliar(reference: Reference, tested: Tested) -> dict[str, Any]:
    """Return how many of the samples are unlike training, and their patients; null where nothing could be told."""
    known = bool(np.isfinite(reference.limit))
    unlike = measure_distances(reference, tested.sight.features) > reference.limit
    patients = tested.cases.patients
    return {
        "n": len(unlike),
        "unfamiliar": int(unlike.sum()) if known else None,
        "patients": len(np.unique(patients)),
        "patients_with_unfamiliar": len(np.unique(patients[unlike])) if known else None,
    }
