"""A finished run's folder and new samples in; its verdicts on them, and heat maps out.

One forward pass gives probabilities and features together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from bcdx.evidence.calibration import Calibration
from bcdx.evidence.diagnosis.rules import Rules
from bcdx.evidence.diagnosis.verdicts import Images, StudyVerdict, judge_studies
from bcdx.evidence.familiarity import measure_distances, read_reference
from bcdx.imaging.sample import Sample
from bcdx.learning.augment import all_views
from bcdx.learning.features import read_features
from bcdx.learning.network import load_model
from bcdx.learning.prediction import average_views
from bcdx.learning.run import MODEL, REFERENCE, Run
from bcdx.learning.saliency import explain
from bcdx.learning.stream import to_float

Stored = NDArray[np.uint16]
Floats = NDArray[np.float64]

COLUMNS = ("sample", "patient", "study", "laterality", "plane", "slice_index")

Measure = Callable[[str], AbstractContextManager[None]]
"""Name of a stage -> a block whose time is taken."""


@dataclass(frozen=True)
class Answer:
    """What a finished run says of samples.

    Attributes:
        model: The loaded network.
        images, rules, verdicts: See `evidence.diagnosis`.
    """

    model: keras.Model
    images: Images
    rules: Rules
    verdicts: tuple[StudyVerdict, ...]


def answer(
    run: Run,
    calibration: Calibration,
    samples: Sequence[Sample],
    *,
    folder: Path,
    how: tuple[str, int],
    measure: Measure,
) -> Answer:
    """Return a finished run's verdicts.

    Args:
        run: Its facts.
        calibration: What validation decided, as `evidence.diagnosis.rules.ask_otherwise` leaves it: so many
            `top_slices` and `test_views` are averaged.
        samples: As the run's own were prepared; at least one.
        folder: Of the run.
        how: Operating point, and images per step.
        measure: Takes the time.
    """
    operating_point, batch_size = how
    with measure("load model"):
        model = load_model(folder / MODEL)
    with measure("predict and read features"):
        pixels = [one.image for one in samples]
        scores, features = ask(model, pixels, batch_size=batch_size, views=calibration.test_views)
        limit, distances = measure_familiarity(folder, features) or (None, None)
    columns: dict[str, Any] = {name: [getattr(one, name) for one in samples] for name in COLUMNS}
    images = Images(**columns, scores=scores, distances=distances)
    rules = Rules(calibration, operating_point, run.classes.index(run.positive), limit)
    return Answer(model, images, rules, judge_studies(images, rules))


def ask(
    model: keras.Model, images: Sequence[Stored], *, batch_size: int, views: int
) -> tuple[Floats, NDArray[np.float32]]:
    """Return class probabilities, mean over the views, and the features of the plain images.

    Args:
        model: Of a finished run.
        images: Stored images of one shape, (height, width, channels); at least one.
        batch_size: Images per step.
        views: 1 or 8.

    Returns:
        Shapes (images, classes), (images, features).
    """
    signature = tf.TensorSpec(images[0].shape, tf.uint16)
    stored = tf.data.Dataset.from_generator(lambda: iter(images), output_signature=signature)
    batches = stored.batch(batch_size).map(to_float)
    features, scores = read_features(model, all_views(batches, views))  # the plain view comes first
    return average_views(scores, views), features[: len(images)]


def measure_familiarity(folder: Path, features: NDArray[np.float32]) -> tuple[float, Floats] | None:
    """Return the limit and each image's distance from training.

    None where the run has no `reference.npz`, or one of too few patients for a limit.

    Raises:
        BcdxError: The file is damaged.
    """
    if not (folder / REFERENCE).exists():
        return None
    reference = read_reference(folder / REFERENCE)
    if not np.isfinite(reference.limit):
        return None
    return float(reference.limit), measure_distances(reference, features)


def explain_images(
    model: keras.Model, images: Sequence[Stored], chosen: Sequence[int], *, positive: int, batch_size: int
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield (index, heat map in [0, 1]) of the chosen images, a batch in memory at a time."""
    rest = iter(chosen)
    while batch := list(islice(rest, batch_size)):
        shown = np.asarray(to_float(np.stack([images[index] for index in batch])))
        yield from zip(batch, explain(model, shown, positive=positive), strict=True)
