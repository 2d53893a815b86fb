"""Frames and the recipe's rules in; the frames that take part, and why the others do not, out.

Rules on series come first, for what a lesion was drawn on must be known whole; then those on slices.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set

from bcdx.config import Select
from bcdx.imaging.descriptions import matches
from bcdx.imaging.frames import Frame
from bcdx.imaging.phases import count_usual, group_phases, usual_phases
from bcdx.imaging.placement import MIXED_ORIENTATIONS, find_edges, find_mixed, remark_geometry
from bcdx.imaging.reading import drop_copies, leave_out
from bcdx.imaging.sample import Exclusion

BURNED_IN = "BurnedInAnnotation is YES"
CAPTURE = "a secondary capture: words may be burned in"
EDGE = "edge of its stack"
NO_PHASE = "dynamic phase unknown"
OTHER_PHASE = "phase not selected"
FEW = "series of fewer images than min_slices"

Kept = tuple[list[Frame], list[Exclusion]]


def refuse_series(frame: Frame, select: Select) -> str | None:
    """Return why a frame's series is not wanted, None where it is; modality, kind, words and plane decide."""
    if select.modality and frame.modality not in select.modality:
        return "modality not selected"
    if frame.modality == "MR" and (frame.kind not in select.kind if select.kind else frame.kind in select.skip_kind):
        return f"kind of series not selected: {frame.kind}"
    if select.description and not matches(select.description, frame.description):
        return "description matches no pattern of `description`"
    if matches(select.skip_description, frame.description):
        return "description matches a pattern of `skip_description`"
    if select.plane and frame.plane not in select.plane:
        return "plane not selected"
    return None


def select_series(frames: Sequence[Frame], select: Select) -> Kept:
    """Return the frames of wanted series, and the others with their reason."""
    mixed = find_mixed(frame for frame in frames if frame.modality == "MR")
    sizes = Counter(frame.series for frame in frames)

    def judge(frame: Frame) -> str | None:
        reason = refuse_series(frame, select)
        if reason is None and frame.series in mixed:
            return MIXED_ORIENTATIONS
        return FEW if reason is None and sizes[frame.series] < select.min_slices else reason

    return _sort_out(frames, judge)


def select_slices(frames: Sequence[Frame], stacks: Sequence[Frame], select: Select) -> Kept:
    """Return the wanted slices of wanted series, and the others with their reason.

    Args:
        frames: Those that have a label.
        stacks: All of the wanted series: where a stack ends and which phase is first does not depend on labels.
    """
    edges = find_edges(stacks, select.edge_slices)
    phases = name_phases(stacks) if select.phase else {}

    def judge(frame: Frame) -> str | None:
        reason = _refuse_slice(frame, select, phases.get(frame.sample, set()))
        return EDGE if reason is None and frame.sample in edges else reason

    return _sort_out(frames, judge)


def _sort_out(frames: Iterable[Frame], judge: Callable[[Frame], str | None]) -> Kept:
    kept, exclusions = [], []
    for frame in frames:
        reason = judge(frame)
        if reason is None:
            kept.append(frame)
        else:
            exclusions.append(leave_out(frame, reason))
    return kept, exclusions


def _refuse_slice(frame: Frame, select: Select, phases: set[str]) -> str | None:
    if frame.burned_in and select.burned_in == "exclude":
        return BURNED_IN
    if select.laterality and frame.laterality not in select.laterality:
        return "laterality not selected"
    if select.phase and not phases:
        return NO_PHASE
    if select.phase and not phases & set(select.phase):
        return OTHER_PHASE
    return None


def name_phases(frames: Sequence[Frame]) -> Mapping[str, set[str]]:
    """Return sample -> what a frame may be called: pre is the first at its position, early the second, late the last.

    Where a position was imaged once, the description alone tells, and after contrast not whether early or late. Where
    it lacks a phase that others of its grid have, nothing does.
    """
    groups, _ = group_phases(drop_copies(frames)[0])
    usual = count_usual(groups)
    names: dict[str, set[str]] = {}
    for group in groups:
        if len(group) < usual_phases(group, usual):
            continue
        if len(group) == 1:
            told = {"pre": {"pre"}, "post": {"early", "late"}}
            names[group[0].sample] = told.get(group[0].contrast, set())
            continue
        for index, frame in enumerate(group):
            ends = {0: {"pre"}, 1: {"early"}}.get(index, set())
            names[frame.sample] = ends | ({"late"} if index == len(group) - 1 else set()) or {"between"}
    return names


def spell_phase(names: Set[str]) -> str:
    """Return one word for what a frame may be called: `post` where it may be early or late, "" where nothing tells."""
    return "post" if names >= {"early", "late"} else next(iter(names), "")


def remark(frames: Iterable[Frame], stacks: Sequence[Frame]) -> list[Exclusion]:
    """Return notes on kept frames about which something is odd.

    Args:
        frames: Those that are kept.
        stacks: All of the wanted series: what was left out of a stack is no gap in it.
    """
    geometry = remark_geometry(stacks)
    notes = []
    for frame in frames:
        remarks = [*frame.remarks, *([BURNED_IN] if frame.burned_in else []), *([CAPTURE] if frame.is_capture else [])]
        remarks += [geometry[frame.sample]] if frame.sample in geometry else []
        notes += [Exclusion(frame.sample, text, frame.path, flagged=True) for text in remarks]
    return notes
