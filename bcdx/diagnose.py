"""VERB: a finished run and new files or folders in; verdicts per slice, breast and patient, with their reasons, out."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bcdx._files import claim_folder, hash_file, staged_folder, write_bytes
from bcdx._recipes import expand_path
from bcdx.config import Dataset, Diagnose
from bcdx.errors import DicomError
from bcdx.records.ledger import report_exclusions

if TYPE_CHECKING:
    from bcdx.evidence.diagnosis.verdicts import Rules, Verdict
    from bcdx.imaging.intake import Intake
    from bcdx.imaging.originals import ImageReference, Maker
    from bcdx.imaging.structured_report import Finding, Findings
    from bcdx.learning.answering import Answer
    from bcdx.learning.run import Run

logger = logging.getLogger(__name__)

OVERLAYS, THRESHOLDS, DICOM = "overlays", "thresholds", "dicom"
RESEARCH = "research-use-only"
FULL_RANGE = np.float32(65535.0)
NOBODY = "files that name no patient were taken for one patient each: a patient's row may be one image of several"
NO_REFERENCE = (
    "the run has no reference.npz, or one of too few patients: whether these images are like those it was trained on "
    "cannot be said"
)
NO_MODALITY = "the run does not say what modality it was trained on: whether these images are of that kind is unchecked"

Heats = Mapping[int, NDArray[np.float32]]


@dataclass(frozen=True)
class Diagnosis:
    """What a model says of new images.

    Attributes:
        folder: Where everything was written.
        content: Of `diagnosis.json`.
        files: Sample -> its file, for the terminal alone.
    """

    folder: Path
    content: dict[str, Any]
    files: dict[str, str]

    def summary(self) -> str:
        """Return a table for the terminal: patients, their breasts, their slices."""
        from bcdx.evidence.diagnosis.content import draw_table

        return draw_table(self.content, self.files)


def _count_seconds() -> float:
    """Return how long ago this process began, in seconds; 0 where nothing tells."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])  # `starttime` of proc(5)
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError):
        return 0.0


@dataclass
class Stages:
    """How long each part of the work took, in seconds."""

    seconds: dict[str, float] = field(default_factory=lambda: {"before (Python, libraries)": _count_seconds()})

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add what the block takes to a stage."""
        began = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

    def report(self, images: int) -> None:
        """Say each stage's share, where more than the usual is asked for."""
        total = sum(self.seconds.values())
        logger.debug("%d slices, %.1f s since the process began:", images, total)
        for name, seconds in self.seconds.items():
            logger.debug("  %-26s%7.2f s%5.0f %%", name, seconds, 100.0 * seconds / total)


@dataclass(frozen=True)
class _Work:
    """Everything that is known once the model has answered."""

    settings: Diagnose
    run: Run
    intake: Intake
    answer: Answer

    @property
    def pixels(self) -> list[NDArray[np.uint16]]:
        """The stored image of each sample."""
        return [one.image for one in self.intake.samples]


def diagnose_studies(settings: Diagnose) -> Diagnosis:
    """Apply a finished run's model to new files; write `diagnosis.json`, `diagnosis.csv`, pictures and DICOM.

    Images are selected, normalised and resized as the run's own were, and refused where it was not made for them. A
    patient's (and a breast's) probability is that of the mean of its highest slices.

    Raises:
        BcdxError: The run is unfinished, or none of the files can be used.
    """
    stages = Stages()
    with stages.measure("import"):
        from bcdx.evidence.diagnosis import content as diagnosis
        from bcdx.learning import answering, prediction
        from bcdx.learning import run as runs

    folder, out = expand_path(settings.run), expand_path(settings.out)
    run, calibration = runs.read_finished(folder)
    views = prediction.choose_views(run, calibration, settings.test_views)
    calibration = replace(calibration, top_slices=settings.top_slices or calibration.top_slices, test_views=views)
    ours = (diagnosis.CONTENT, diagnosis.TABLE, diagnosis.SCHEMA, OVERLAYS, THRESHOLDS, DICOM)
    claim_folder(out, ours, overwrite=settings.overwrite)
    with stages.measure("read images"):
        intake = _take_in(settings, run)
    how = settings.operating_point, settings.batch_size
    answer = answering.answer(run, calibration, intake.samples, folder=folder, how=how, measure=stages.measure)
    work = _Work(settings, run, intake, answer)
    content = _describe(work, folder / runs.MODEL, warn(run, intake, answer.rules))
    with staged_folder(out) as stage:
        _fill(stage, work, content, stages)
    stages.report(len(intake.samples))
    return Diagnosis(out, content, {key: frames[0].path for key, frames in intake.sources.items()})


def warn(run: Run, intake: Intake, rules: Rules) -> dict[str, str]:
    """Return what must be read beside every number, by name."""
    found = {f"model_{name}": f"of the model's test: {text}" for name, text in run.warnings().items()}
    found |= {} if run.modalities else {"modality_warning": NO_MODALITY}
    found |= {} if rules.limit is not None else {"familiarity_warning": NO_REFERENCE}
    return found | ({"patient_warning": NOBODY} if intake.patient_is_file else {})


def _take_in(settings: Diagnose, run: Run) -> Intake:
    from bcdx.imaging.identity import Pseudonyms, load_key
    from bcdx.imaging.intake import narrow_recipe, take_in

    recipe = narrow_recipe(Dataset.model_validate(run.dataset), channels=run.image_shape[2], modalities=run.modalities)
    paths = [expand_path(text) for text in settings.paths]
    intake = take_in(recipe, paths, Pseudonyms(load_key()), image_shape=run.image_shape)
    report_exclusions(intake.exclusions)
    return intake


def _describe(work: _Work, model: Path, warnings: dict[str, str]) -> dict[str, Any]:
    """Return the content of `diagnosis.json`, pictures and DICOM not yet named."""
    from bcdx.evidence.diagnosis import content as diagnosis

    left, answer = work.intake.exclusions, work.answer
    facts = {"fingerprint", "data_hash", "classes", "positive", "versions"}
    return {
        "$schema": diagnosis.SCHEMA,
        "format": diagnosis.FORMAT,
        "notice": diagnosis.NOTICE,
        "warnings": warnings,
        "model": {"sha256": hash_file(model), **work.run.model_dump(mode="json", include=facts)},
        "judging": diagnosis.describe_rules(answer.rules),
        "data": {"samples": len(work.pixels), "pixels_sha256": _hash_pixels(work.pixels)},
        "patients": diagnosis.describe_patients(answer.verdicts, answer.images, work.run.classes),
        "refused": [one.to_json() for one in work.intake.refused],
        "dicom": [],
        "exclusions": [{"key": one.key, "reason": one.reason} for one in left if not one.flagged],
        "remarks": [{"key": one.key, "reason": one.reason} for one in left if one.flagged],
    }


def _fill(stage: Path, work: _Work, content: dict[str, Any], stages: Stages) -> None:
    """Write pictures and DICOM, name them in the content, and write that."""
    from bcdx.evidence.diagnosis import content as diagnosis

    with stages.measure("heat maps"):
        heats = _explain(work)
    with stages.measure("draw pictures"):
        _draw(stage, work, heats, content)
    with stages.measure("write DICOM"):
        content["dicom"] = _write_dicom(stage, work, heats, content) if work.settings.dicom else []
    with stages.measure("write"):
        write_bytes(stage / diagnosis.CONTENT, diagnosis.dump(content).encode())
        write_bytes(stage / diagnosis.TABLE, diagnosis.write_rows(content).encode())
        write_bytes(stage / diagnosis.SCHEMA, diagnosis.read_schema().encode())


def _explain(work: _Work) -> Heats:
    from bcdx.evidence.diagnosis.verdicts import list_deciding
    from bcdx.learning.answering import explain_images

    which, answer = work.settings.overlays, work.answer
    deciding = list(list_deciding(answer.verdicts))
    chosen = {"none": [], "all": list(range(len(work.pixels))), "deciding": deciding}[which]
    positive, batch_size = answer.rules.positive, work.settings.batch_size
    return dict(explain_images(answer.model, work.pixels, chosen, positive=positive, batch_size=batch_size))


def _draw(stage: Path, work: _Work, heats: Heats, content: dict[str, Any]) -> None:
    """Draw heat maps, and each patient's highest slice under thresholds; name the files in the content."""
    from bcdx.evidence.diagnosis.pictures import draw_candidates, draw_heat, write_png

    pixels, answer = work.pixels, work.answer
    slices = {one["sample"]: one for patient in content["patients"] for one in patient["slices"]}
    for index, heat in heats.items():
        sample = answer.images.sample[index]
        slices[sample]["overlay"] = f"{OVERLAYS}/{sample}_{RESEARCH}.png"
        write_png(stage / slices[sample]["overlay"], draw_heat(pixels[index], heat, work.run.positive))
    channels = Dataset.model_validate(work.run.dataset).channels
    tops = [one.whole.deciding[0] for one in answer.verdicts.values()]
    for index in tops if work.settings.thresholds else []:
        sample = answer.images.sample[index]
        slices[sample]["thresholds"] = f"{THRESHOLDS}/{sample}_{RESEARCH}.png"
        write_png(stage / slices[sample]["thresholds"], draw_candidates(pixels[index], channels))


def _write_dicom(stage: Path, work: _Work, heats: Heats, content: dict[str, Any]) -> list[dict[str, Any]]:
    """Write a report and the heat maps of each study; return its files, or why there are none."""
    images, entries = work.answer.images, []
    maker = _make_maker(work.run)
    for study in sorted(set(images.study)):
        members = [index for index, one in enumerate(images.study) if one == study]
        files, reason = _write_study(stage / DICOM / study, work, (members, heats), (maker, content))
        entries.append({"study": study, "files": [f"{DICOM}/{study}/{name}" for name in files], "reason": reason})
    if any(one["files"] for one in entries):
        place = Path(work.settings.out) / DICOM
        logger.warning("the files in %s name the patients, as their studies do; only you may read them", place)
    return entries


def _make_maker(run: Run) -> Maker:
    from bcdx.imaging.originals import Maker

    return Maker(run.fingerprint, datetime.now().astimezone())


def _write_study(
    folder: Path, work: _Work, drawn: tuple[list[int], Heats], made: tuple[Maker, dict[str, Any]]
) -> tuple[list[str], str]:
    from bcdx.evidence.pictures.overlays import draw_overlay
    from bcdx.imaging import study_out
    from bcdx.imaging.heat_series import HeatMap, write_heat_series
    from bcdx.imaging.structured_report import write_structured_report

    (members, heats), (maker, content) = drawn, made
    names, pixels = work.answer.images.sample, work.pixels
    try:
        sources = study_out.read_sources({names[index]: work.intake.sources[names[index]] for index in members})
        findings = _find(work, members, sources.references, content)
        report = write_structured_report(sources.headers, findings, series_number=study_out.REPORT_SERIES, maker=maker)
        maps = [
            HeatMap(draw_overlay(pixels[index] / FULL_RANGE, heats[index]), sources.references[names[index]])
            for index in members
            if index in heats
        ]
        series = study_out.HEAT_SERIES
        captures = write_heat_series(sources.headers, maps, series_number=series, maker=maker) if maps else []
        return study_out.save_objects(folder, report, captures), ""
    except DicomError as error:
        return [], error.reason


def _find(
    work: _Work, members: list[int], references: Mapping[str, tuple[ImageReference, ...]], content: dict[str, Any]
) -> Findings:
    """Return what one study's report says: of its slices, and of its patient, whose verdict may rest on others too."""
    from bcdx.evidence.diagnosis.content import describe_calibration
    from bcdx.evidence.operating import NAMES
    from bcdx.imaging.structured_report import Finding, Findings

    images, rules = work.answer.images, work.answer.rules

    def find(verdict: Verdict, side: str = "") -> Finding:
        shown = [ref for one in verdict.deciding if one in members for ref in references[images.sample[one]]]
        value = None if verdict.abstained else verdict.probability
        return Finding(value, verdict.threshold, tuple(shown), side, verdict.reason if verdict.abstained else "")

    patient = work.answer.verdicts[images.patient[members[0]]]
    sided = {side: one for side, one in patient.breasts.items() if set(one.members) & set(members)}
    return Findings(
        find(patient.whole),
        tuple(find(one, side) for side, one in sided.items()),
        tuple(find(one, images.laterality[one.members[0]]) for one in patient.slices if one.members[0] in members),
        work.run.positive,
        rules.operating_point,
        NAMES[rules.operating_point],
        describe_calibration(rules),
        tuple(content["warnings"].values()),
    )


def _hash_pixels(images: Sequence[NDArray[np.uint16]]) -> str:
    digest = hashlib.sha256()
    for image in images:
        digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    from bcdx._cli import run_verb

    sys.exit(run_verb("diagnose"))
