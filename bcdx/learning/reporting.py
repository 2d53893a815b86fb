"""A tested model in; the cases and checks that its report shows, and the report itself, out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bcdx.evidence.calibration import Calibration
from bcdx.evidence.cases import Cases
from bcdx.evidence.diagnosis.pictures import draw_candidates
from bcdx.evidence.operating import MAIN_POINT, call_classes
from bcdx.evidence.pictures.curves import draw_confusion, draw_precision_recall, draw_reliability, draw_roc
from bcdx.evidence.pictures.overlays import draw_overlay
from bcdx.evidence.pointing import PUBLISHED_TOLERANCE, find_known, score_pointing
from bcdx.evidence.report.facts import Example, Origin, Plate, ReportFacts, Saliency, read_trials
from bcdx.evidence.report.pages import write_report
from bcdx.learning.monitoring import show_images
from bcdx.learning.run import Run
from bcdx.learning.saliency import check_by_randomising, explain
from bcdx.learning.scoring import VALIDATION, read_predictions
from bcdx.learning.testing import Subject, Tested
from bcdx.records.ledger import BURNED_IN, FLAGGED
from bcdx.records.manifest import CARD, Manifest

Floats = NDArray[np.float32]

MOST_CHECKED = 32
"""Samples on whose heat maps the randomisation check is made."""
MOST_POINTED = 512
"""Samples with a known lesion whose heat maps play the pointing game."""


def report_run(subject: Subject, tested: Tested, metrics: Mapping[str, Any], folder: Path, *, examples: int) -> None:
    """Write the report of a run's own test, and its figures to TensorBoard."""
    show_images(folder / "logs" / "test", draw_test(tested.cases, subject))
    facts = gather_facts(subject, tested, metrics, examples=examples)
    validation = None
    if tested.cases.classes == 2:
        validation = read_predictions(folder / VALIDATION, subject.run, top_slices=subject.calibration.top_slices)[1]
    verb = subject.run.verb
    commands = (f"python -m bcdx.{verb} RECIPE.toml", f"python -m bcdx.evaluate {folder.name}")
    facts = replace(
        facts,
        title=folder.name,
        validation=validation,
        trials=read_trials(folder),
        commands=commands,
    )
    write_report(folder, facts)


def report_split(
    subject: Subject, tested: Tested, metrics: Mapping[str, Any], out: Path, *, source: Path, examples: int
) -> None:
    """Write the report of a finished run's word on a split of any shards.

    Args:
        subject: What was tested.
        tested: The split.
        metrics: Its figures.
        out: Folder for the report.
        source: The run's folder.
        examples: Best and worst cases to show, each.
    """
    facts = gather_facts(subject, tested, metrics, examples=examples)
    commands = (f"python -m bcdx.evaluate {source.name} --records RECORDS --split {tested.split}",)
    title = f"{source.name} on {subject.data.folder.name}"
    training_card = read_card(source / subject.run.records, subject.run.data_hash)
    facts = replace(facts, title=title, trials=read_trials(source), commands=commands, training_card=training_card)
    write_report(out, facts)


def gather_facts(subject: Subject, tested: Tested, metrics: Mapping[str, Any], *, examples: int) -> ReportFacts:
    """Return what every report says: figures, cases with heat maps, and checks of these."""
    shown = examples if may_show(subject.data.manifest) else 0
    chosen = choose_examples(tested.cases, subject.calibration, shown)
    images = pick_images(subject, tested.split, [index for index, _ in chosen])
    return ReportFacts(
        title="",
        run=subject.run.model_dump(mode="json"),
        metrics=metrics,
        calibration=subject.calibration,
        cases=tested.cases,
        origin=find_origin(subject.run, subject.data.manifest, tested.split),
        card=read_card(subject.data.folder, subject.data.manifest.data_hash),
        examples=draw_examples(subject, tested, chosen, images),
        probes=metrics.get("probes", {}),
        saliency=check_saliency(subject, tested),
        thresholding=_draw_thresholds(subject, tested, chosen, images),
    )


def find_origin(run: Run, manifest: Manifest, split: str) -> Origin:
    """Return what a tested split is to the run."""
    if manifest.data_hash != run.data_hash:
        return "other shards"
    return "own test" if split == "test" else "own split"


def read_card(folder: Path, data_hash: str) -> dict[str, Any] | None:
    """Return the dataset card of shards; None where there is none, or where it is of other shards by now."""
    try:
        card: dict[str, Any] = json.loads((folder / CARD[0]).read_text())
    except (OSError, ValueError):
        return None
    return card if card.get("data_hash") == data_hash else None


def may_show(manifest: Manifest) -> bool:
    """Return whether images may be shown: none is where one that takes part may have a name burned in."""
    return not any(left.action == FLAGGED and BURNED_IN.search(left.reason) for left in manifest.exclusions)


def choose_examples(cases: Cases, calibration: Calibration, count: int) -> list[tuple[int, str]]:
    """Return (index, kind) of the slices that are most surely right, then of those most surely wrong; one a patient.

    A slice is right or wrong at the Youden threshold; without one, by its most probable class.
    """
    level = calibration.at_level("slice")
    probabilities = level.calibrator.apply(cases.probabilities, cases.positive)
    errors = 1.0 - probabilities[np.arange(len(cases.labels)), cases.labels]
    right = call_classes(probabilities, level.operating_points.get(MAIN_POINT), cases.positive) == cases.labels
    order = np.argsort(errors, kind="stable")
    best, worst = order[right[order]], order[::-1][~right[order][::-1]]
    return [
        (index, kind)
        for kind, ordered in (("right", best), ("wrong", worst))
        for index in _one_a_patient(ordered, cases, count)
    ]


def _one_a_patient(order: NDArray[np.int64], cases: Cases, count: int) -> list[int]:
    """Return the first `count` of an order, classes in turn, no patient twice as long as others remain."""
    queues = [[int(one) for one in order if cases.labels[one] == label] for label in range(cases.classes)]
    chosen: list[int] = []
    seen: set[str] = set()
    while len(chosen) < count and any(queues):
        for queue in queues:
            fresh = next((one for one in queue if cases.patients[one] not in seen), None)
            if fresh is None and queue and not any(cases.patients[one] not in seen for q in queues for one in q):
                fresh = queue[0]
            if fresh is not None and len(chosen) < count:
                queue.remove(fresh)
                seen.add(str(cases.patients[fresh]))
                chosen.append(fresh)
    return chosen


def pick_images(subject: Subject, split: str, indices: Sequence[int]) -> Floats:
    """Return images in [0, 1] of a split's samples by their place in stored order, shape (indices, h, w, channels)."""
    wanted, found, start = set(indices), {}, 0
    if wanted:
        for batch in subject.data.plain_images((split,), subject.batch_size):
            here = [index for index in wanted if start <= index < start + len(batch)]
            found.update({index: batch[index - start].numpy() for index in here})
            start += len(batch)
    images = [found[index] for index in indices]
    return np.stack(images) if images else np.empty((0, *subject.run.image_shape), np.float32)


def draw_examples(
    subject: Subject, tested: Tested, chosen: Sequence[tuple[int, str]], images: Floats
) -> tuple[Example, ...]:
    """Return chosen slices with their heat maps."""
    if not chosen:
        return ()
    cases, run = tested.cases, subject.run
    heat = explain(subject.model, images, positive=cases.positive)
    calibrator = subject.calibration.at_level("slice").calibrator
    probabilities = calibrator.apply(cases.probabilities, cases.positive)[:, cases.positive]
    return tuple(
        Example(
            picture=draw_overlay(image, np.zeros_like(warmth)),
            overlay=draw_overlay(image, warmth) if warmth.any() else None,
            label=run.classes[cases.labels[index]],
            probability=float(probabilities[index]),
            kind=kind,
            code=str(tested.sight.table.sample[index])[:12],
            note="" if warmth.any() else f"nothing in the map speaks for {run.positive}",
        )
        for (index, kind), image, warmth in zip(chosen, images, heat, strict=True)
    )


def check_saliency(subject: Subject, tested: Tested) -> Saliency:
    """Return what is known of how far heat maps can be trusted: a check by random weights, and the pointing game."""
    cases, boxes = tested.cases, tested.sight.table.lesion_box
    positives = np.flatnonzero(cases.labels == cases.positive)
    if not positives.size:
        return Saliency()
    step = max(1, len(positives) // MOST_CHECKED)
    images = pick_images(subject, tested.split, [int(one) for one in positives[::step][:MOST_CHECKED]])
    randomised = check_by_randomising(subject.model, images, positive=cases.positive)
    known = np.flatnonzero(find_known(boxes))[:MOST_POINTED]
    if not known.size:
        return Saliency(randomised)
    images = pick_images(subject, tested.split, [int(one) for one in known])
    maps = explain(subject.model, images, positive=cases.positive)
    patients = cases.patients[known]
    return Saliency(
        randomised,
        tuple(
            score_pointing(maps, images, boxes[known], patients=patients, tolerance=tolerance)
            for tolerance in (0.0, PUBLISHED_TOLERANCE)
        ),
    )


def draw_test(cases: Cases, subject: Subject) -> dict[str, NDArray[np.uint8]]:
    """Return the figures of the test's samples for TensorBoard: curves of raw scores, the others calibrated."""
    level = subject.calibration.at_level("slice")
    probabilities = level.calibrator.apply(cases.probabilities, cases.positive)
    predicted = call_classes(probabilities, level.operating_points.get(MAIN_POINT), cases.positive)
    scores, positives = cases.probabilities[:, cases.positive], cases.labels == cases.positive
    title = f"test, per sample: {subject.run.positive}{' against the rest' if cases.classes > 2 else ''}"
    return {
        "roc": draw_roc(scores, positives, title=title),
        "precision_recall": draw_precision_recall(scores, positives, title=title),
        "reliability": draw_reliability(probabilities[:, cases.positive], positives, title=title),
        "confusion": draw_confusion(predicted, cases.labels, subject.run.classes, title="test, per sample"),
    }


def _draw_thresholds(
    subject: Subject, tested: Tested, chosen: Sequence[tuple[int, str]], images: Floats
) -> Plate | None:
    """Return classical thresholds of the most surely right positive slice."""
    cases = tested.cases
    for (index, kind), image in zip(chosen, images, strict=True):
        if kind == "right" and cases.labels[index] == cases.positive:
            channels = subject.run.dataset["channels"]
            picture = draw_candidates(image, channels if isinstance(channels, str) else tuple(channels))
            return Plate(
                picture, f"Classical thresholds on the {subject.run.positive} slice that is most surely right."
            )
    return None
