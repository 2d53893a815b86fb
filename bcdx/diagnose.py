"""VERB: a finished run and new DICOM files or folders in; a probability per slice, breast and patient out."""

from __future__ import annotations

import hashlib
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bcdx._files import claim_folder, staged_folder, write_json
from bcdx._recipes import expand_path
from bcdx.config import Dataset, Diagnose
from bcdx.errors import BcdxError
from bcdx.records.ledger import report_exclusions

if TYPE_CHECKING:
    from bcdx.evidence.calibration import Calibration
    from bcdx.imaging.sample import Exclusion, Sample
    from bcdx.learning.run import Run

logger = logging.getLogger(__name__)

NOBODY = "files that name no patient were taken for one patient each: a patient's row may be one image of several"
NOTICE = "Research use only: not a medical device. Probabilities are uncalibrated model output, not a diagnosis."


@dataclass(frozen=True)
class Diagnosis:
    """What a model says of new images: `content` is `diagnosis.json`; `files` names each sample for the terminal."""

    content: dict[str, Any]
    files: dict[str, str]

    def summary(self) -> str:
        """Return a table for the terminal: patients, their breasts, their slices."""
        positive = self.content["model"]["positive"]
        lines = [NOTICE, "", f"{'':<44}P({positive})  threshold"]
        lines[1:1] = [f"WARNING: {text}" for name, text in self.content.items() if name.endswith("warning")]
        for patient in self.content["patients"]:
            lines.append(_line(f"patient {patient['patient'][:12]}", patient))
            lines += [_line(f"  breast {breast['laterality']}", breast) for breast in patient["breasts"]]
            for one in patient["slices"]:
                name = Path(self.files.get(one["sample"], one["sample"])).name
                lines.append(_line(f"    {name} ({one['laterality']}, {one['plane']})", one))
        left_out = len(self.content["exclusions"])
        return "\n".join([*lines, f"{left_out} files or frames left out"] if left_out else lines)


def diagnose_studies(settings: Diagnose) -> Diagnosis:
    """Apply a finished run's model to new files; write `diagnosis.json`.

    Images are selected, normalised and resized as the run's own were. A patient's (and a breast's) probability is
    the mean of its highest slices.

    Raises:
        BcdxError: The run is unfinished, or none of the files can be used.
    """
    from bcdx.learning import run as runs
    from bcdx.learning.network import load_model
    from bcdx.learning.prediction import choose_views

    folder = expand_path(settings.run)
    run, calibration = runs.read_finished(folder)
    out = expand_path(settings.out)
    claim_folder(out, ("diagnosis.json",), overwrite=settings.overwrite)
    views = choose_views(run, calibration, settings.test_views)
    samples, exclusions, files, by_file = _read_samples(settings, run)
    model = load_model(folder / runs.MODEL)
    scores = _predict(model, samples, batch_size=settings.batch_size, views=views)
    content = {
        "notice": NOTICE,
        **{name: f"of the model's test: {text}" for name, text in run.warnings().items()},
        **({"patient_warning": NOBODY} if by_file else {}),
        "test_views": views,
        "model": _describe_model(run, folder / runs.MODEL),
        "data": {"samples": len(samples), "pixels_sha256": _hash_pixels(samples)},
        "patients": _patients(samples, scores, run, _operating_point(settings, calibration)),
        "exclusions": [{"key": one.key, "reason": one.reason} for one in exclusions if not one.flagged],
        "remarks": [{"key": one.key, "reason": one.reason} for one in exclusions if one.flagged],
    }
    with staged_folder(out) as stage:
        write_json(stage / "diagnosis.json", content)
    return Diagnosis(content, files)


def _read_samples(settings: Diagnose, run: Run) -> tuple[list[Sample], list[Exclusion], dict[str, str], bool]:
    """Return prepared images, what was left out, sample -> first file, and whether files stand for patients."""
    from bcdx.imaging.collection import scan
    from bcdx.imaging.identity import Pseudonyms, load_key
    from bcdx.imaging.prepare import prepare_study
    from bcdx.imaging.sample import Exclusion

    recipe = Dataset.model_validate(run.dataset)
    changes: dict[str, Any] = {"patient": recipe.patient or "file"}  # a new plain image has no label table
    if recipe.channels == "phases":
        changes["phases"] = run.image_shape[2]  # as many as the model takes, not as many as these files have
    dataset = recipe.model_copy(update=changes)
    paths = [expand_path(text) for text in settings.paths]
    found = scan(dataset, source=paths, pseudonyms=Pseudonyms(load_key()), labelled=False)
    samples: list[Sample] = []
    exclusions = list(found.exclusions)
    for study in found.studies:
        prepared = prepare_study(study, dataset)
        samples += prepared.samples
        exclusions += prepared.exclusions
    files = {key: item.frames[0].path for key, item in found.items.items()}
    fitting = [sample for sample in samples if sample.image.shape == tuple(run.image_shape)]
    others = [sample.sample for sample in samples if sample.image.shape != tuple(run.image_shape)]
    exclusions += [Exclusion(key, "another shape than the model's", files[key]) for key in others]
    report_exclusions(exclusions)
    if not fitting:
        raise BcdxError("none of the files became an image that this model takes; the lines above say why")
    return fitting, exclusions, files, found.patient_is_file


def _predict(model: Any, samples: Sequence[Sample], *, batch_size: int, views: int) -> NDArray[np.float64]:
    import tensorflow as tf

    from bcdx.learning.prediction import predict

    images = np.stack([sample.image for sample in samples]).astype(np.float32) / np.float32(65535.0)
    batches = tf.data.Dataset.from_tensor_slices(images).batch(batch_size)
    return predict(model, batches, views=views)


def _operating_point(settings: Diagnose, calibration: Calibration) -> Calibration:
    return replace(calibration, top_slices=settings.top_slices or calibration.top_slices)


def _patients(samples: list[Sample], scores: NDArray[np.float64], run: Run, point: Calibration) -> list[dict[str, Any]]:
    members: dict[str, list[int]] = {}
    for index, sample in enumerate(samples):
        members.setdefault(sample.patient, []).append(index)
    return [_describe_patient(key, members[key], samples, (scores, run, point)) for key in sorted(members)]


def _describe_patient(
    key: str, indices: list[int], samples: list[Sample], model: tuple[NDArray[np.float64], Run, Calibration]
) -> dict[str, Any]:
    scores, run, point = model
    positive = scores[:, run.classes.index(run.positive)]
    breasts: dict[str, list[int]] = {}
    for index in indices:
        breasts.setdefault(samples[index].laterality, []).append(index)
    sided = {side: found for side, found in breasts.items() if side in {"L", "R"}}
    slices = sorted(indices, key=lambda index: (samples[index].laterality, samples[index].slice_index))
    return {
        "patient": key,
        **_summarise_unit(positive[indices], point, "patient"),
        "breasts": [
            {"laterality": side, **_summarise_unit(positive[sided[side]], point, "breast")} for side in sorted(sided)
        ],
        "slices": [_describe_slice(samples[index], scores[index], run, point) for index in slices],
    }


def _summarise_unit(values: NDArray[np.float64], point: Calibration, level: str) -> dict[str, Any]:
    """Return the mean of the highest slices, and how it stands to the threshold chosen on validation."""
    from bcdx.evidence.scores import top_mean

    raw = float(top_mean(values, point.top_slices))
    return {**_judge(raw, point, level), "slices_averaged": min(len(values), point.top_slices)}


def _judge(raw: float, point: Calibration, level: str) -> dict[str, Any]:
    found = point.at_level(level)
    probability = float(found.calibrator.apply(np.array([[1.0 - raw, raw]]), 1)[0, 1])
    threshold = found.operating_points.get("youden")
    above = None if threshold is None else probability >= threshold
    return {"probability": round(probability, 6), "threshold": threshold, "at_or_above_threshold": above}


def _describe_slice(sample: Sample, row: NDArray[np.float64], run: Run, point: Calibration) -> dict[str, Any]:
    judged = _judge(float(row[run.classes.index(run.positive)]), point, "slice")
    several = {name: round(float(value), 6) for name, value in zip(run.classes, row, strict=True)}
    return {
        "sample": sample.sample,
        "study": sample.study,
        "laterality": sample.laterality,
        "plane": sample.plane,
        "slice_index": sample.slice_index,
        **judged,
        **({"probabilities": several} if len(several) > 2 else {}),
    }


def _describe_model(run: Run, path: Path) -> dict[str, Any]:
    return {
        "fingerprint": run.fingerprint,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "data_hash": run.data_hash,
        "classes": list(run.classes),
        "positive": run.positive,
        "versions": run.versions,
    }


def _hash_pixels(samples: Sequence[Sample]) -> str:
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(np.ascontiguousarray(sample.image).tobytes())
    return digest.hexdigest()


def _line(name: str, judged: dict[str, Any]) -> str:
    threshold = judged["threshold"]
    shown = "   none" if threshold is None else f"{threshold:7.3f}{' *' if judged['at_or_above_threshold'] else ''}"
    return f"{name:<44}{judged['probability']:9.3f}  {shown}"


if __name__ == "__main__":
    from bcdx._cli import run_verb

    sys.exit(run_verb("diagnose"))
