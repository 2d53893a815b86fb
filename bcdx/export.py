"""VERB: a finished run in; SavedModel and ONNX that take pixels in real units and say what the run says, out."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bcdx._files import claim_folder, staged_folder, write_json
from bcdx._recipes import expand_path
from bcdx.config import PHASES, Dataset, Export
from bcdx.errors import RecordsError, RunError

if TYPE_CHECKING:
    from bcdx.evidence.calibration import Calibration, Calibrator
    from bcdx.evidence.familiarity import Reference
    from bcdx.learning.data import Data
    from bcdx.learning.exporting import Comparison, Format
    from bcdx.learning.run import Run
    from bcdx.learning.serving import Preparation, Serving

logger = logging.getLogger(__name__)

FACTS = "export.json"
TOLERANCE = 1e-4
"""Largest difference of a probability, raw or calibrated, between the run and what is written; of a distance above 1 it
is relative."""
RESIZED = 8
"""Slices that are also compared in other shapes than the stored one."""

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class Exported:
    """A folder of models; `content` is `export.json`."""

    folder: Path
    content: dict[str, Any]

    def summary(self) -> str:
        """Return what the terminal shows."""
        lines = [f"{self.folder}: {', '.join(self.content['files'].values())}, {FACTS}"]
        for kind, found in self.content["parity"]["max_difference"].items():
            lines.append(f"{kind:<11} differs from the run by {found:.1e} at most (allowed: {TOLERANCE:g})")
        slices, resized = self.content["parity"]["slices"], self.content["parity"]["resized"]
        lines.append(f"compared on {slices} slices as stored, {resized} of them in two other shapes, too")
        lines += [self.content["calibrated_for"], self.content["familiarity"]["advice"]]
        lines += [f"WARNING: {text}" for text in self.content["warnings"].values()]
        return "\n".join([*lines, "research use only"])


def export_run(settings: Export) -> Exported:
    """Write a finished run's model in other formats, with the preparation of its images and its calibration inside.

    Each file that was written is read back and compared with the run on real slices. Where one differs by more than
    `TOLERANCE`, nothing is left on disk.

    Raises:
        BcdxError: The run is unfinished or cannot be exported, a package or the shards are missing, or a model differs.
    """
    from bcdx.imaging.compose import describe_preparation
    from bcdx.learning import exporting
    from bcdx.learning import run as runs
    from bcdx.learning.export_facts import as_metadata, describe_export
    from bcdx.learning.network import load_model
    from bcdx.learning.serving import Serving, in_float32

    formats: tuple[Format, ...] = ("savedmodel", "onnx") if settings.format == "both" else (settings.format,)
    exporting.require_packages(formats)
    folder = expand_path(settings.run)
    run, calibration = runs.read_finished(folder)
    out = expand_path(settings.out or str(folder.parent / f"{folder.name}-export"))
    claim_folder(out, (*exporting.FILES.values(), FACTS), overwrite=settings.overwrite)
    preparation = find_preparation(run)
    data = _open_data(settings, run, folder)
    model = load_model(folder / runs.MODEL)
    plain = model if run.precision == "float32" else in_float32(model)
    slices = _make_shapes(_take_slices(data, settings.samples), len(preparation.phases))
    reference = _read_reference(folder)
    comparisons = [_ask_run(plain, run, calibration, reference, *one) for one in slices]
    calibrator, positive, views = *_find_rules(run, calibration), calibration.test_views
    serving = Serving(plain, preparation, calibrator, positive=positive, views=views, reference=reference)
    steps = describe_preparation(Dataset.model_validate(run.dataset))
    content = describe_export(run, calibration, preparation, steps, reference)
    with staged_folder(out) as stage:
        metadata = as_metadata(content)
        found = {kind: _write_checked(kind, serving, stage, metadata, comparisons) for kind in formats}
        content |= {
            "files": {kind: exporting.FILES[kind] for kind in formats},
            "parity": _describe_parity(found, comparisons, data),
        }
        write_json(stage / FACTS, content)
    return Exported(out, content)


def _write_checked(
    kind: Format, serving: Serving, stage: Path, metadata: Mapping[str, str], comparisons: Sequence[Comparison]
) -> float:
    """Write a model, read it back, and return by how much what it says differs from what the run says.

    Raises:
        RunError: By too much.
    """
    from bcdx.learning.exporting import measure_difference, write_model

    difference = measure_difference(write_model(kind, serving, stage, metadata), comparisons)
    if not difference <= TOLERANCE:
        raise RunError(
            f"{kind}: its outputs differ from the run's by up to {difference:.3g} (allowed: {TOLERANCE:g}); nothing "
            "was written"
        )
    return difference


def _describe_parity(found: Mapping[Format, float], comparisons: Sequence[Comparison], data: Data) -> dict[str, Any]:
    return {
        "slices": len(comparisons[0].low),
        "resized": len(comparisons[1].low),
        "outputs": list(comparisons[0].expected),
        "max_difference": dict(found),
        "allowed": TOLERANCE,
        "data_hash": data.manifest.data_hash,
    }


def find_preparation(run: Run) -> Preparation:
    """Return how the run's images come of pixels in real units.

    Raises:
        RunError: A step has no counterpart in other formats.
    """
    from bcdx.imaging.channels import LEAST_PRE, MOST_WASH_IN
    from bcdx.learning.serving import plan_preparation

    dataset = Dataset.model_validate(run.dataset)
    if dataset.jpeg_quality is not None:
        raise RunError("jpeg_quality: this run's images passed through JPEG, which no exported model can do")
    return plan_preparation(dataset.channels, run.image_shape, least=LEAST_PRE, most=MOST_WASH_IN)


def _open_data(settings: Export, run: Run, folder: Path) -> Data:
    """Return the shards with the slices to compare on.

    Raises:
        RecordsError: They are not at hand, or of another kind than the run's.
    """
    from bcdx.learning.data import open_matching

    records = folder / run.records if settings.records is None else expand_path(settings.records)
    known: dict[str, Any] = {"classes": run.classes, "image_shape": run.image_shape, "recipe": run.dataset}
    try:
        return open_matching(records, "test", **known)
    except RecordsError as error:
        raise RecordsError(
            f"an exported model is compared with the run on real slices: {error}, or name others with --records"
        ) from error


def _read_reference(folder: Path) -> Reference | None:
    """Return the run's reference of its training images; None where it has none.

    Raises:
        RunError: It is damaged.
    """
    from bcdx.evidence.familiarity import read_reference
    from bcdx.learning.run import REFERENCE

    return read_reference(folder / REFERENCE) if (folder / REFERENCE).exists() else None


def _take_slices(data: Data, wanted: int) -> NDArray[np.uint16]:
    """Return the first stored images of the test split; their order is by hash."""
    batch = next(iter(data.records(("test",)).take(wanted).batch(wanted)))
    return np.asarray(batch["image"])


def _make_shapes(stored: NDArray[np.uint16], phases: int) -> Iterator[tuple[Pixels, Pixels]]:
    """Yield slices in real units with their ranges, (slices, 2): as stored; some smaller; some larger and padded.

    The stored images stand for the phases, so that channels which are computed are computed of them.
    """
    from bcdx.learning.serving import STEPS

    images = np.take(stored, np.arange(phases) % stored.shape[3], axis=3).astype(np.float32)
    yield images, np.tile(np.array([0.0, STEPS], np.float32), (len(images), 1))
    small = images[:RESIZED, ::3, ::2]
    yield small, _find_ranges(small)
    large = images[:RESIZED, :, : images.shape[2] * 3 // 4].repeat(2, axis=1).repeat(2, axis=2) / 50.0 - 900.0
    large[:, : large.shape[1] // 5] = np.nan
    yield large, _find_ranges(large)


def _find_ranges(pixels: Pixels) -> Pixels:
    found = np.nanpercentile(pixels, (0.5, 99.5), axis=(1, 2, 3)).T.astype(np.float32)
    found[:, 1] = np.maximum(found[:, 1], found[:, 0] + 1.0)  # a flat slice has none
    return found


def _ask_run(
    model: Any, run: Run, calibration: Calibration, reference: Reference | None, pixels: Pixels, ranges: Pixels
) -> Comparison:
    """Return slices with what the run itself says of them, prepared as records are."""
    import tensorflow as tf

    from bcdx.evidence.familiarity import measure_distances
    from bcdx.learning.exporting import CHUNK, Comparison
    from bcdx.learning.features import read_features
    from bcdx.learning.prediction import predict
    from bcdx.learning.serving import DISTANCE
    from bcdx.learning.stream import to_float

    images = np.stack([_prepare(one, low, high, run) for one, (low, high) in zip(pixels, ranges.tolist(), strict=True)])
    batches = tf.data.Dataset.from_tensor_slices(images).batch(CHUNK).map(to_float)
    raw = predict(model, batches, views=calibration.test_views)
    calibrator, positive = _find_rules(run, calibration)
    found = calibrator.apply(raw, positive)
    expected = {"probability": found[:, positive], "score": raw[:, positive], "probabilities": found}
    if reference is not None:
        expected[DISTANCE] = measure_distances(reference, read_features(model, batches)[0])
    return Comparison(pixels, ranges[:, 0], ranges[:, 1], expected)


def _find_rules(run: Run, calibration: Calibration) -> tuple[Calibrator, int]:
    """Return a slice's calibrator, and the place of the positive class."""
    return calibration.at_level("slice").calibrator, run.classes.index(run.positive)


def _prepare(pixels: Pixels, low: float, high: float, run: Run) -> NDArray[np.uint16]:
    """Return one slice, (rows, columns, phases), NaN where padded, as it would be stored."""
    from bcdx.imaging.compose import store_channels
    from bcdx.imaging.normalise import to_unit_range
    from bcdx.imaging.stored import Stored

    dataset = Dataset.model_validate(run.dataset)
    names = find_preparation(run).phases
    numbers = [PHASES.index(name) if name in PHASES else index for index, name in enumerate(names)]
    phases = {number: pixels[..., index] for index, number in enumerate(numbers)}
    padding = {number: np.isnan(one) for number, one in phases.items()}
    units = {number: to_unit_range(Stored(one, mask=padding[number]), low, high) for number, one in phases.items()}
    return store_channels(units, padding, dataset)


if __name__ == "__main__":
    from bcdx._cli import run_verb

    sys.exit(run_verb("export"))
