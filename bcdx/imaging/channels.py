"""The phases of one position in, normalised; the channels that the recipe asks for out.

A phase is a channel as it is. A difference is (later - earlier + 1) / 2 in units of the normalised range: 0.5 means no
change, and a step means the same in all slices and studies that are normalised alike. Wash-in is how much brighter the
early phase is than the pre-contrast one, in parts of the latter: (early - pre) / max(pre, 0.05), cut to [0, 3] and
divided by 3. It follows the idea of the initial enhancement in signal-time courses (Kuhl et al. 1999, Radiology
211:101), not their protocol: normalised values have an offset and a cut that signal intensities have not, and the floor
keeps dark pixels from dominating.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bcdx.config.dataset import WASH_IN, list_phases
from bcdx.errors import DicomError
from bcdx.imaging.stored import Mask, Pixels

Names = str | tuple[str, ...]
"""`config.Dataset.channels`."""

LEAST_PRE = 0.05
"""A pre-contrast value below this counts as this: the ratio of two noises is no enhancement."""
MOST_WASH_IN = 3.0
NO_CHANGE = 0.5
TOO_FEW = "fewer phases than its channels need"
PLACES = {"pre": 0, "early": 1, "late": -1}
"""Which phase of a position, in order of time; with two phases the early one is also the late one."""


def find_phases(names: Names, count: int) -> tuple[int, ...]:
    """Return which of `count` phases the channels need, by number in order of time.

    Raises:
        DicomError: There are not enough.
    """
    if isinstance(names, str):
        return tuple(range(count))
    wanted = {place for name in names for place in _list_places(name)}
    if count < (2 if wanted - {0} else 1):
        raise DicomError(TOO_FEW)
    return tuple(sorted({place % count for place in wanted}))


def make_channels(names: Names, phases: Mapping[int, Pixels], padding: Mapping[int, Mask | None]) -> list[Pixels]:
    """Return the channels of one position, each in [0, 1].

    Args:
        names: "grey", "phases", or a list of pre, early, late, differences and wash-in.
        phases: Number of a phase, as `find_phases` gives them -> its normalised pixels, shape (rows, columns).
        padding: Number of a phase -> where it is padded. Padding of either phase is no change in a difference and 0 in
            wash-in.
    """
    if isinstance(names, str):
        return [phases[number] for number in sorted(phases)]
    return [_make_channel(name, sorted(phases), phases, padding) for name in names]


def fill_value(names: Names, channel: int) -> float:
    """Return what stands beside the image and for padding: 0.5 in a difference, else 0."""
    return NO_CHANGE if not isinstance(names, str) and _is_difference(names[channel]) else 0.0


def describe_channels(names: Names) -> dict[str, str]:
    """Return how each computed channel comes about, as the manifest keeps it."""
    if isinstance(names, str):
        return {}
    wash_in = f"(early - pre) / max(pre, {LEAST_PRE:g}), cut to [0, {MOST_WASH_IN:g}], / {MOST_WASH_IN:g}; padding 0"
    phases = {"pre": "first phase", "early": "second phase", "late": "last phase", WASH_IN: wash_in}
    return {
        name: phases.get(name, f"({name.replace('-', ' - ')} + 1) / 2 of the normalised phases; padding {NO_CHANGE:g}")
        for name in names
    }


def _is_difference(name: str) -> bool:
    return name != WASH_IN and "-" in name


def _list_places(name: str) -> tuple[int, ...]:
    return tuple(PLACES[phase] for phase in list_phases(name))


def _make_channel(
    name: str, numbers: Sequence[int], phases: Mapping[int, Pixels], padding: Mapping[int, Mask | None]
) -> Pixels:
    # the last of the phases at hand is the late one wherever a late one was asked for
    places = [numbers[-1] if place < 0 else place for place in _list_places(name)]
    if len(places) == 1:
        return phases[places[0]]
    later, earlier = (phases[place] for place in places)
    if _is_difference(name):
        found, fill = (later - earlier + np.float32(1.0)) / np.float32(2.0), NO_CHANGE
    else:
        ratio = (later - earlier) / np.maximum(earlier, np.float32(LEAST_PRE))
        found, fill = np.clip(ratio, 0.0, MOST_WASH_IN) / np.float32(MOST_WASH_IN), 0.0
    for place in places:
        mask = padding[place]
        if mask is not None:
            found[mask] = fill
    return found
