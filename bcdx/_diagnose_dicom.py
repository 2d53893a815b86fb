"""A diagnosis in; a report and the heat maps of each study as DICOM of that study, and what was written, out.

Only here are the patients named: the files go where they go as all files of their studies do.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bcdx.errors import DicomError

if TYPE_CHECKING:
    from bcdx.evidence.diagnosis.verdicts import StudyVerdict, Verdict
    from bcdx.imaging.intake import Intake
    from bcdx.imaging.originals import Maker
    from bcdx.imaging.structured_report import Finding, Findings
    from bcdx.imaging.study_out import Sources
    from bcdx.learning.answering import Answer
    from bcdx.learning.run import Run

logger = logging.getLogger(__name__)

DICOM = "dicom"
Heats = Mapping[int, NDArray[np.float32]]


@dataclass(frozen=True)
class Judged:
    """What is known once the model has answered.

    Attributes:
        run: Whose model it is.
        intake: What became of the files.
        answer: The verdicts.
        limits: Sentences that each study's report must hold, by study.
    """

    run: Run
    intake: Intake
    answer: Answer
    limits: Mapping[str, tuple[str, ...]]

    def to_floats(self, index: int) -> NDArray[np.float32]:
        """Return an image in [0, 1], shape (height, width, channels)."""
        from bcdx.imaging.prepare import FULL_RANGE

        return self.intake.samples[index].image.astype(np.float32) / np.float32(FULL_RANGE)


def write_dicom(stage: Path, judged: Judged, heats: Heats, *, out: str) -> list[dict[str, Any]]:
    """Write a report and the heat maps of each study; return its files, or why there are none.

    Folders are numbered: PatientID stands in the files, and a code beside it would tell who is meant elsewhere.

    Args:
        stage: Gets a folder `dicom`.
        judged: What to report.
        heats: Heat maps by index of image.
        out: Where the stage will be, for the warning.
    """
    from bcdx.imaging.originals import Maker

    maker, entries = Maker(judged.run.fingerprint, datetime.now().astimezone()), []
    for number, study in enumerate(judged.answer.verdicts, start=1):
        place = f"{DICOM}/study-{number}"
        files, reason = _write_study(stage / place, judged, study, (heats, maker))
        entries.append({"study": study.study, "files": [f"{place}/{name}" for name in files], "reason": reason})
    if any(one["files"] for one in entries):
        where = Path(out) / DICOM
        logger.warning("the files in %s name the patients, as their studies do; only you may read them", where)
    return entries


def _write_study(folder: Path, judged: Judged, study: StudyVerdict, made: tuple[Heats, Maker]) -> tuple[list[str], str]:
    from bcdx.evidence.pictures.overlays import draw_overlay
    from bcdx.imaging import study_out
    from bcdx.imaging.heat_series import HeatMap, write_heat_series
    from bcdx.imaging.structured_report import write_structured_report

    heats, maker = made
    names, members = judged.answer.images.sample, study.whole.members
    try:
        sources = study_out.read_sources({names[index]: judged.intake.sources[names[index]] for index in members})
        findings = find(judged, study, sources)
        report = write_structured_report(sources.headers, findings, series_number=study_out.REPORT_SERIES, maker=maker)
        maps = [
            HeatMap(draw_overlay(judged.to_floats(index), heats[index]), sources.references[names[index]])
            for index in members
            if index in heats
        ]
        series = study_out.HEAT_SERIES
        captures = write_heat_series(sources.headers, maps, series_number=series, maker=maker) if maps else []
        return study_out.save_objects(folder, report, captures), ""
    except DicomError as error:
        return [], error.reason


def find(judged: Judged, study: StudyVerdict, sources: Sources) -> Findings:
    """Return what one study's report says: of its slices, its breasts and its patient at that time."""
    from bcdx.evidence.diagnosis.rules import describe_calibration
    from bcdx.evidence.operating import NAMES
    from bcdx.imaging.structured_report import Finding, Findings

    images, rules = judged.answer.images, judged.answer.rules

    def tell(verdict: Verdict, side: str = "") -> Finding:
        shown = [ref for one in verdict.deciding for ref in sources.references[images.sample[one]]]
        value = None if verdict.abstained else verdict.probability
        return Finding(value, verdict.threshold, tuple(shown), side, verdict.reason if verdict.abstained else "")

    return Findings(
        tell(study.whole),
        tuple(tell(one, side) for side, one in study.breasts.items()),
        tuple(tell(one, images.laterality[one.members[0]]) for one in study.slices),
        judged.run.positive,
        rules.operating_point,
        NAMES[rules.operating_point],
        describe_calibration(rules),
        judged.limits.get(study.study, ()),
    )
