"""The content of `diagnosis.json` in; the table that the terminal shows out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bcdx.evidence.diagnosis.caveats import LEARNED
from bcdx.evidence.diagnosis.content import CONTENT
from bcdx.evidence.diagnosis.rules import tell_judging

SHOWN_REFUSED = 4
SHOWN_SLICES = 10
"""Slices of a patient that the terminal lists, the highest first; the files have all."""


def draw_table(content: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """Return the table for the terminal: patients, their breasts, their highest slices, and who was refused.

    Args:
        content: Of `diagnosis.json`.
        files: Sample -> its file, which is named here alone.
    """
    lines = [content["notice"], *(f"WARNING: {text}" for text in content["warnings"].values()), ""]
    lines += tell_judging(content["judging"])
    lines += ["", f"{'':<44}{'P(' + content['model']['positive'] + ')':>12}  threshold  call"]
    for patient in content["patients"]:
        lines.append(_line(f"patient {patient['patient'][:12]}, study {patient['study'][:12]}", patient))
        lines += _list_caveats(patient)
        lines += [_line(f"  breast {breast['laterality']}", breast) for breast in patient["breasts"]]
        shown, more = _choose_slices(patient)
        for one in shown:
            name = Path(files.get(one["sample"], one["sample"])).name
            lines.append(_line(f"    {name} ({one['laterality']}, {one['plane']})", one))
        lines += [f"    and {more} other slices" if more else ""][: bool(more)]
    lines += _list_refused(content)
    return "\n".join([*lines, *_explain_marks(content)])


def _list_caveats(patient: Mapping[str, Any]) -> Iterator[str]:
    """Yield what must be read beside a study's verdicts."""
    if patient["learned"]:
        yield f"  WARNING: {LEARNED}"
    for name, words in (("left_out", "left out"), ("remarks", "odd, but judged")):
        if patient[name]:
            yield f"  {words}: " + "; ".join(f"{one['reason']} ({one['images']})" for one in patient[name])


def _list_refused(content: Mapping[str, Any]) -> Iterator[str]:
    """Yield who was refused and why; studies refused for the same reasons together."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for one in content["refused"]:
        alike.setdefault(tuple(reason["reason"] for reason in one["reasons"]), []).append(one["study"][:12])
    for reasons, studies in alike.items():
        more = f" and {len(studies) - SHOWN_REFUSED} more" if len(studies) > SHOWN_REFUSED else ""
        yield f"REFUSED: {'study' if len(studies) == 1 else 'studies'} {', '.join(studies[:SHOWN_REFUSED])}{more}"
        yield from (f"    {reason}" for reason in reasons)


def _choose_slices(patient: Mapping[str, Any]) -> tuple[list[dict[str, Any]], int]:
    """Return the slices to show, the highest first and those without a number last, and how many are left."""
    ordered = sorted(patient["slices"], key=lambda one: -1.0 if one["abstained"] else one["score"], reverse=True)
    return ordered[:SHOWN_SLICES], len(ordered[SHOWN_SLICES:])


def _line(name: str, one: Mapping[str, Any]) -> str:
    threshold = "none" if one["threshold"] is None else f"{one['threshold']:.3f}"
    if one["abstained"]:
        return f"{name:<44}{'abstained':>12}  {threshold:>9}  none: unfamiliar"
    shown = f"{one['probability']:.3f}{' ' if one['calibrated'] else '~'}"
    return f"{name:<44}{shown:>12}  {threshold:>9}  {one['call'] or 'none'}"


def _explain_marks(content: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the marks in the table mean, as far as they occur."""
    units = [unit for one in content["patients"] for unit in (one, *one["breasts"], *one["slices"])]
    answered = [unit for unit in units if not unit["abstained"]]
    for reason in sorted({unit["calibration_reason"] for unit in answered if not unit["calibrated"]}):
        yield f"~ a raw score, not calibrated: {reason}"
    for reason in sorted({unit["reason"] for unit in units if unit["reason"]}):
        yield f"no call: {reason}"
    if content["exclusions"]:
        yield f"{len(content['exclusions'])} files or frames left out; {CONTENT} says why"
