"""VERB: a finished run and new files or folders in; verdicts per slice, breast and patient, with their reasons, out."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bcdx._diagnose_dicom import DICOM, Heats, Judged, write_dicom
from bcdx._files import claim_folder, hash_file, staged_folder, write_bytes
from bcdx._recipes import expand_path
from bcdx._work import Stages
from bcdx.config import Dataset, Diagnose
from bcdx.records.ledger import report_exclusions

if TYPE_CHECKING:
    from bcdx.evidence.calibration import Calibration
    from bcdx.evidence.diagnosis.caveats import Caveats
    from bcdx.evidence.pictures.canvas import Picture
    from bcdx.imaging.intake import Intake
    from bcdx.learning.run import Run

OVERLAYS, THRESHOLDS = "overlays", "thresholds"
FOLDER_MODE, FILE_MODE = 0o700, 0o600
"""Of pictures: they show patients, if not their names."""
RESEARCH = "research-use-only"
NOBODY = "files that name no patient were taken for one patient each: a patient's row may be one image of several"
NO_REFERENCE = (
    "the run has no reference.npz, or one of too few patients: whether these images are like those it was trained on "
    "cannot be said"
)
NO_MODALITY = "the run does not say what modality it was trained on: whether these images are of that kind is unchecked"
LEARNED_WARNING = "learned_warning"


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
        from bcdx.evidence.diagnosis.table import draw_table

        return draw_table(self.content, self.files)


def diagnose_studies(settings: Diagnose) -> Diagnosis:
    """Apply a finished run's model to new files; write `diagnosis.json`, `diagnosis.csv`, pictures and DICOM.

    Images are selected, normalised and resized as the run's own were, and refused where it was not made for them. A
    patient's (and a breast's) probability is that of the mean of its highest slices in one study; a patient with
    several studies gets as many verdicts.

    Raises:
        BcdxError: The run is unfinished, or none of the files can be used.
    """
    stages = Stages()
    with stages.measure("import"):
        from bcdx.evidence.diagnosis import content as diagnosis
        from bcdx.learning import run as runs

    folder, out = expand_path(settings.run), expand_path(settings.out)
    run, calibration = runs.read_finished(folder)
    calibration = _choose_averages(settings, run, calibration)
    ours = (diagnosis.CONTENT, diagnosis.TABLE, diagnosis.SCHEMA, OVERLAYS, THRESHOLDS, DICOM)
    claim_folder(out, ours, overwrite=settings.overwrite)
    with staged_folder(out) as stage:  # before the work: a folder that cannot be written is told at once
        judged, caveats = _judge(settings, folder, (run, calibration), stages)
        content = _describe(judged, folder, caveats)
        _fill(stage, settings, (judged, content), stages)
    stages.report(len(judged.intake.samples))
    return Diagnosis(out, content, {key: frames[0].path for key, frames in judged.intake.sources.items()})


def _choose_averages(settings: Diagnose, run: Run, calibration: Calibration) -> Calibration:
    from bcdx.evidence.diagnosis.rules import ask_otherwise
    from bcdx.learning.prediction import choose_views

    views = choose_views(run, calibration, settings.test_views)
    return ask_otherwise(calibration, top_slices=settings.top_slices, test_views=views)


def _judge(
    settings: Diagnose, folder: Path, decided: tuple[Run, Calibration], stages: Stages
) -> tuple[Judged, Mapping[str, Caveats]]:
    from bcdx.learning import answering

    run, calibration = decided
    with stages.measure("read images"):
        intake = _take_in(settings, run)
    how = settings.operating_point, settings.batch_size
    answer = answering.answer(run, calibration, intake.samples, folder=folder, how=how, measure=stages.measure)
    caveats = _find_caveats(run, intake)
    general = tuple(warn(run, intake, limit=answer.rules.limit).values())
    limits = {study: (*one.tell(), *general) for study, one in caveats.items()}
    return Judged(run, intake, answer, limits), caveats


def _take_in(settings: Diagnose, run: Run) -> Intake:
    from bcdx.evidence.diagnosis.content import SCHEMA
    from bcdx.imaging.identity import Pseudonyms, load_key
    from bcdx.imaging.intake import leave_out_results, narrow_recipe, take_in

    recipe = Dataset.model_validate(run.dataset)
    recipe = narrow_recipe(recipe, channels=run.image_shape[2], modalities=run.modalities, planes=run.planes)
    paths = leave_out_results([expand_path(text) for text in settings.paths], SCHEMA)
    intake = take_in(recipe, paths, Pseudonyms(load_key()), image_shape=run.image_shape)
    report_exclusions(intake.exclusions)
    return intake


def _find_caveats(run: Run, intake: Intake) -> dict[str, Caveats]:
    """Return by study what must be read beside its verdicts."""
    from bcdx.evidence.diagnosis.caveats import Caveats

    known = can_tell_learned(run, intake)
    learned = {one.patient: one.patient in run.learned_patients if known else None for one in intake.accounts}
    return {one.study: Caveats(learned[one.patient], one.left_out, one.remarks) for one in intake.accounts}


def can_tell_learned(run: Run, intake: Intake) -> bool:
    """Return whether codes of patients here can be found among those that the run has learned from."""
    from bcdx.imaging.identity import Pseudonyms, load_key

    return run.can_match(Pseudonyms(load_key()).check(), patient_is_file=intake.patient_is_file)


def warn(run: Run, intake: Intake, *, limit: float | None) -> dict[str, str]:
    """Return what must be read beside every number, by name.

    Args:
        run: Whose model it is.
        intake: What became of the files.
        limit: Distance above which an image is unfamiliar; None where the run cannot tell.
    """
    from bcdx.learning.run import LEARNED_UNKNOWN

    found = {f"model_{name}": f"of the model's test: {text}" for name, text in run.warnings().items()}
    found |= {} if run.modalities else {"modality_warning": NO_MODALITY}
    found |= {} if limit is not None else {"familiarity_warning": NO_REFERENCE}
    found |= {"patient_warning": NOBODY} if intake.patient_is_file else {}
    found |= {} if can_tell_learned(run, intake) else {"learned_unknown_warning": LEARNED_UNKNOWN}
    if intake.unread:
        reasons = "; ".join(f"{reason} ({count})" for reason, count in intake.unread.items())
        found["unread_warning"] = f"files that hold no readable image may belong to any of these studies: {reasons}"
    return found


def _describe(judged: Judged, folder: Path, caveats: Mapping[str, Caveats]) -> dict[str, Any]:
    """Return the content of `diagnosis.json`, pictures and DICOM not yet named."""
    from bcdx.evidence.diagnosis import content as diagnosis
    from bcdx.evidence.diagnosis.rules import describe_rules
    from bcdx.learning import run as runs

    run, intake, answer = judged.run, judged.intake, judged.answer
    facts = {"fingerprint", "data_hash", "classes", "positive", "versions"}
    learned = sum(caveats[one.study].learned is True for one in answer.verdicts)
    warnings = warn(run, intake, limit=answer.rules.limit)
    if learned:
        warnings[LEARNED_WARNING] = f"{learned} of the studies below are of patients that the model has learned from"
    return {
        "$schema": diagnosis.SCHEMA,
        "format": diagnosis.FORMAT,
        "notice": diagnosis.NOTICE,
        "warnings": warnings,
        "model": {"sha256": hash_file(folder / runs.MODEL), **run.model_dump(mode="json", include=facts)},
        "judging": describe_rules(answer.rules, json.loads((folder / runs.METRICS).read_text())),
        "data": {"samples": len(intake.samples), "pixels_sha256": _hash_pixels(intake)},
        "patients": diagnosis.describe_patients(answer.verdicts, answer.images, run.classes, caveats),
        "refused": [one.to_refusal() for one in intake.refused],
        "dicom": [],
        "exclusions": [{"key": one.key, "reason": one.reason} for one in intake.exclusions if not one.flagged],
        "remarks": [{"key": one.key, "reason": one.reason} for one in intake.exclusions if one.flagged],
    }


def _fill(stage: Path, settings: Diagnose, found: tuple[Judged, dict[str, Any]], stages: Stages) -> None:
    """Write pictures and DICOM, name them in the content, and write that."""
    from bcdx.evidence.diagnosis import content as diagnosis

    judged, content = found
    with stages.measure("heat maps"):
        heats = _explain(settings, judged)
    slices = {one["sample"]: one for patient in content["patients"] for one in patient["slices"]}
    with stages.measure("draw heat maps"):
        _draw_heats(stage, judged, heats, slices)
    with stages.measure("draw thresholds"):
        _draw_thresholds(stage, judged, slices, most=settings.thresholds)
    with stages.measure("write DICOM"):
        content["dicom"] = write_dicom(stage, judged, heats, out=settings.out) if settings.dicom else []
    with stages.measure("write"):
        write_bytes(stage / diagnosis.CONTENT, diagnosis.dump(content).encode())
        write_bytes(stage / diagnosis.TABLE, diagnosis.write_rows(content).encode())
        write_bytes(stage / diagnosis.SCHEMA, diagnosis.read_schema().encode())


def _explain(settings: Diagnose, judged: Judged) -> Heats:
    """Return heat maps of the slices that are asked for; none of what the model abstains from: there is no answer."""
    from bcdx.evidence.diagnosis.verdicts import list_deciding
    from bcdx.learning.answering import explain_images

    answer, pixels = judged.answer, [one.image for one in judged.intake.samples]
    deciding = list(list_deciding(answer.verdicts))
    wanted = {"none": [], "all": list(range(len(pixels))), "deciding": deciding}[settings.overlays]
    silent = {one.members[0] for study in answer.verdicts for one in study.slices if one.abstained}
    chosen = [index for index in wanted if index not in silent]
    positive = answer.rules.positive
    return dict(explain_images(answer.model, pixels, chosen, positive=positive, batch_size=settings.batch_size))


def _draw_heats(stage: Path, judged: Judged, heats: Heats, slices: Mapping[str, dict[str, Any]]) -> None:
    """Draw heat maps and name their files in the content."""
    from bcdx.evidence.diagnosis.pictures import draw_heat

    for index, heat in heats.items():
        sample = judged.answer.images.sample[index]
        slices[sample]["overlay"] = f"{OVERLAYS}/{sample}_{RESEARCH}.png"
        picture = draw_heat(judged.to_floats(index), heat, judged.run.positive)
        _save_picture(stage / slices[sample]["overlay"], picture)


def _draw_thresholds(stage: Path, judged: Judged, slices: Mapping[str, dict[str, Any]], *, most: int) -> None:
    """Draw the highest slices of the patients with the highest probabilities; name the files in the content."""
    from bcdx.evidence.diagnosis.pictures import draw_candidates

    channels = Dataset.model_validate(judged.run.dataset).channels
    answered = [one.whole for one in judged.answer.verdicts if not one.whole.abstained]
    for whole in sorted(answered, key=lambda one: one.probability, reverse=True)[:most]:
        index = whole.deciding[0]
        sample = judged.answer.images.sample[index]
        slices[sample]["thresholds"] = f"{THRESHOLDS}/{sample}_{RESEARCH}.png"
        _save_picture(stage / slices[sample]["thresholds"], draw_candidates(judged.to_floats(index), channels))


def _save_picture(path: Path, picture: Picture) -> None:
    from bcdx.evidence.pictures.canvas import make_png

    path.parent.mkdir(mode=FOLDER_MODE, exist_ok=True)
    path.touch(mode=FILE_MODE)
    path.write_bytes(make_png(picture))


def _hash_pixels(intake: Intake) -> str:
    digest = hashlib.sha256()
    for one in intake.samples:
        digest.update(np.ascontiguousarray(one.image).tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    from bcdx._cli import run_verb

    sys.exit(run_verb("diagnose"))
