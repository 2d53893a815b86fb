"""A stack and where lesions lie in it in; what each slice position is, or why it cannot be said, out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bcdx.config import Labels
from bcdx.imaging.drawn import Lesion, Mask
from bcdx.imaging.phases import Key
from bcdx.imaging.sample import Mark
from bcdx.imaging.stacks import Positions, Stack

SMALL = "lesions cover less than min_area_mm2"
NEAR = "within margin_mm of a lesion's end"
BETWEEN = "between slices that a lesion was drawn on"
OTHER_BREAST = "the breast without a lesion, where the other one has some"
OTHER_STACK = "the lesion was drawn on another stack"
NO_SIDE = "the lesion's breast is not known"
NO_SPACING = "no pixel spacing to measure a lesion by"
NO_POSITION = "no slice position to measure margin_mm by"

TOLERANCE_MM = 1e-3
"""Of positions that were written as decimals."""

Verdict = Mark | str


@dataclass(frozen=True, eq=False)
class Fit:
    """A lesion and the position of each of its patches in the stack that it was drawn on."""

    lesion: Lesion
    stack: Stack
    positions: Positions

    @property
    def sides(self) -> set[str]:
        """The breasts it lies in, "unknown" where none of its slices tells."""
        found = {self.stack.sides[position] for position in self.positions}
        return found - {"unknown"} or found


@dataclass(frozen=True)
class Rules:
    """What decides about a slice: the recipe's numbers and the names of negative and positive."""

    labels: Labels
    classes: tuple[str, str]


@dataclass(frozen=True, eq=False)
class _Case:
    """What is known of one stack.

    Attributes:
        covered: Slice position -> mask of all that lesions cover there, shape of the slice.
        sides: Breasts with lesions, of the patient.
        elsewhere: Breasts of the lesions that were drawn on other stacks.
        reaches: Of each lesion that was drawn on this stack: breasts, first and last place along it, mm.
    """

    stack: Stack
    rules: Rules
    covered: Mapping[Key, Mask] = field(repr=False)
    sides: frozenset[str]
    elsewhere: frozenset[str]
    reaches: tuple[tuple[set[str], float, float], ...]


def judge_stack(stack: Stack, fits: Sequence[Fit], rules: Rules) -> dict[Key, Verdict]:
    """Return the mark of each slice position, or a fixed phrase on why it has none.

    Args:
        fits: All lesions of the patient, on whatever stack.
    """
    own = [fit for fit in fits if fit.stack is stack]
    if not own:
        known = _list_sides(fits)
        alike = any(_are_alike(stack, fit) for fit in fits)
        return {
            position: _judge_undrawn(stack.sides[position], known, rules) if alike else OTHER_STACK
            for position in stack.frames
        }
    elsewhere = (fit for fit in fits if fit.stack is not stack)
    reaches = tuple(_find_reach(fit) for fit in own if stack.along_mm)
    case = _Case(stack, rules, _unite(stack, own), _list_sides(fits), _list_sides(elsewhere), reaches)
    return {position: _judge(position, case) for position in stack.frames}


def _find_reach(fit: Fit) -> tuple[set[str], float, float]:
    places = [fit.stack.along_mm[position] for position in fit.positions]
    return fit.sides, min(places), max(places)


def _are_alike(stack: Stack, fit: Fit) -> bool:
    """Return whether a stack is of the sort that was drawn on: else the sort of image would give the class away."""
    return stack.sample.kind == fit.stack.sample.kind and (
        stack.is_dynamic(stack.frames) == fit.stack.is_dynamic(fit.positions)
    )


def _judge_undrawn(side: str, known: frozenset[str], rules: Rules) -> Verdict:
    """Return what a slice is of a stack that nobody has drawn on: the other breast was often imaged on its own."""
    is_other = "unknown" not in {side, *known} and side not in known
    if is_other and rules.labels.other_breast == "normal":
        return Mark(rules.classes[0], "other breast")
    return OTHER_STACK


def _list_sides(fits: Iterable[Fit]) -> frozenset[str]:
    return frozenset(side for fit in fits for side in fit.sides)


def _unite(stack: Stack, fits: Iterable[Fit]) -> dict[Key, Mask]:
    """Return the mask of all that lesions cover on each slice that they reach."""
    covered: dict[Key, Mask] = {}
    for fit in fits:
        for position, patch in zip(fit.positions, fit.lesion.patches, strict=True):
            mask = covered.setdefault(position, np.zeros(stack.sample.shape, np.bool_))
            mask[patch.row : patch.end[0], patch.column : patch.end[1]] |= patch.mask
    return covered


def _judge(position: Key, case: _Case) -> Verdict:
    if position in case.covered:
        return _judge_covered(case.covered[position], case)
    side = case.stack.sides[position]
    if any(_may_be_one(side, other) for other in case.elsewhere):
        return OTHER_STACK  # nobody has drawn it here, where it may well be seen
    return _find_nearness(position, side, case) or _judge_free(side, case)


def _judge_covered(mask: Mask, case: _Case) -> Verdict:
    height, width = case.stack.sample.spacing_mm
    if min(height, width) <= 0:
        return NO_SPACING
    area = float(mask.sum()) * height * width
    if area < case.rules.labels.min_area_mm2:
        return SMALL
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = float(rows[0]), float(columns[0]), float(rows[-1]) + 1, float(columns[-1]) + 1
    return Mark(case.rules.classes[1], "lesion", area, box)


def _find_nearness(position: Key, side: str, case: _Case) -> str:
    """Return why a slice is too near to a lesion of its breast, "" where it is not."""
    margin, along = case.rules.labels.margin_mm, case.stack.along_mm
    if position not in along:
        return NO_POSITION if margin > 0 else ""
    place = along[position]
    if any(low <= place <= high and any(_may_be_one(side, one) for one in sides) for sides, low, high in case.reaches):
        return BETWEEN
    ends = (along[one] for one in case.covered if _may_be_one(side, case.stack.sides[one]))
    gap = min((abs(end - place) for end in ends), default=np.inf)
    return NEAR if gap <= margin + TOLERANCE_MM else ""


def _judge_free(side: str, case: _Case) -> Verdict:
    """Return what a slice is on which no lesion lies."""
    negative = case.rules.classes[0]
    if side in case.sides:  # both unknown: slices that show both breasts, as axial ones do
        return Mark(negative, "same breast", 0.0)
    if "unknown" in {side, *case.sides}:
        return NO_SIDE
    return OTHER_BREAST if case.rules.labels.other_breast == "exclude" else Mark(negative, "other breast")


def _may_be_one(side: str, other: str) -> bool:
    """Return whether two slices may be of one breast."""
    return side == other or "unknown" in {side, other}
