"""A collection's series and rules in; the series to fetch, and what is left out and why, out. Pure.

The catalogue has words alone. A series is left out only where they positively disagree with a rule; what they do not
tell stays, and headers and geometry decide when shards are made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bcdx.catalogue.series import Series
from bcdx.config import Select
from bcdx.errors import SettingsError
from bcdx.imaging.descriptions import Description, matches, parse_description

IMAGES = ("MR", "MG")
"""What is looked at in any case; other modalities where `select.modality` names them."""

OTHER_PATIENT = "patient not asked for"
SKIPPED = "named in `catalogue.skip_series`"

_RULES = (
    "modality", "plane", "laterality", "phase", "description", "skip_description", "kind", "skip_kind", "min_slices",
)  # fmt: skip
"""The settings of `Select` that decide here; the others concern pixels."""

_BREASTS = {"L": "left", "R": "right"}


@dataclass(frozen=True)
class Plan:
    """What is to be fetched.

    Attributes:
        collection: Of the catalogue.
        catalogue: The catalogue's version.
        rules: The settings that narrowed the collection down, as plain data.
        patients: How many patients were asked for by PatientID; None: all.
        whole: Every series of the collection that was looked at.
        kept: Those that the rules keep.
        left_out: Reason -> series, the most frequent first.
    """

    collection: str
    catalogue: str
    rules: Mapping[str, Any]
    patients: int | None
    whole: tuple[Series, ...]
    kept: tuple[Series, ...]
    left_out: Mapping[str, tuple[Series, ...]]


def wanted_modalities(select: Select) -> tuple[str, ...]:
    """Return the modalities to look at: MR, MG and what the rules name.

    Raises:
        SettingsError: A name is not in capitals; nothing would match it, here and when shards are made.
    """
    for name in select.modality:
        if name != name.upper():
            raise SettingsError(f"select.modality {name!r}: DICOM writes {name.upper()}")
    return tuple(dict.fromkeys((*IMAGES, *select.modality)))


def make_plan(
    whole: Sequence[Series],
    select: Select,
    *,
    collection: str,
    catalogue: str,
    patients: Sequence[str] = (),
    skip_series: Sequence[str] = (),
) -> Plan:
    """Return what the rules keep of a collection.

    Args:
        whole: The collection's series.
        select: The rules.
        collection: Its name.
        catalogue: The catalogue's version.
        patients: PatientIDs to keep; empty: all.
        skip_series: SeriesInstanceUIDs to leave out.

    Raises:
        SettingsError: A patient or a series is not in the collection.
    """
    looked_at = f"{collection} has no {' or '.join(wanted_modalities(select))}"
    if missing := sorted(set(patients) - {one.patient for one in whole}):
        raise SettingsError(f"catalogue.patients: {looked_at} of {', '.join(missing)}")
    if missing := sorted(set(skip_series) - {one.uid for one in whole}):
        raise SettingsError(f"catalogue.skip_series: {looked_at} {', '.join(missing)}")
    kept: list[Series] = []
    left_out: dict[str, list[Series]] = {}
    for one in whole:
        named = _refuse_name(one, patients, skip_series)
        reason = refuse(one, select) if named is None else named
        (kept if reason is None else left_out.setdefault(reason, [])).append(one)
    order = sorted(left_out.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    return Plan(
        collection=collection,
        catalogue=catalogue,
        rules=select.model_dump(mode="json", include=set(_RULES)),
        patients=len(set(patients)) or None,
        whole=tuple(whole),
        kept=tuple(kept),
        left_out={reason: tuple(series) for reason, series in order},
    )


def _refuse_name(series: Series, patients: Sequence[str], skip_series: Sequence[str]) -> str | None:
    if patients and series.patient not in patients:
        return OTHER_PATIENT
    return SKIPPED if series.uid in skip_series else None


def refuse(series: Series, select: Select) -> str | None:
    """Return why the rules leave a series out, or None where they keep it."""
    if reason := _refuse_row(series, select):
        return reason
    is_mr = series.modality == "MR"
    if not is_mr and not select.laterality:  # planes, kinds and phases are words about MR
        return None
    facts = parse_description(series.description)
    return _refuse_breast(facts, select) or (_refuse_mr(facts, select) if is_mr else None)


def _refuse_row(series: Series, select: Select) -> str | None:
    """By what the catalogue states."""
    text = series.description
    if series.modality not in (select.modality or IMAGES):
        return f"modality {series.modality}"
    if select.description and not matches(select.description, text):
        return "description matches no pattern of `description`"
    if matches(select.skip_description, text):
        return "description matches a pattern of `skip_description`"
    if series.images < select.min_slices and not series.multi_frame:
        return f"fewer than {select.min_slices} images"
    return None


def _refuse_breast(facts: Description, select: Select) -> str | None:
    if not select.laterality or facts.laterality not in _BREASTS or facts.laterality in select.laterality:
        return None
    return f"{_BREASTS[facts.laterality]} breast"


def _refuse_mr(facts: Description, select: Select) -> str | None:
    """By kind, plane and phase.

    Kinds asked for by name beat those left out by default. After contrast may be early or late, so it goes only where
    the phase before contrast alone is wanted.
    """
    if facts.kind != "unknown" and (facts.kind not in select.kind if select.kind else facts.kind in select.skip_kind):
        return f"kind {facts.kind}"
    if select.plane and facts.plane not in {"unknown", *select.plane}:
        return f"plane {facts.plane}"
    if facts.contrast == "pre" and select.phase and "pre" not in select.phase:
        return "before contrast"
    if facts.contrast == "post" and set(select.phase) == {"pre"}:
        return "after contrast"
    return None
