"""Claims about the rules that choose series and slices."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from bcdx.config import Select
from bcdx.imaging.frames import Frame, TimeKeys
from bcdx.imaging.selection import (
    BURNED_IN,
    EDGE,
    FEW,
    NO_PHASE,
    OTHER_PHASE,
    name_phases,
    refuse_series,
    remark,
    select_series,
    select_slices,
    spell_phase,
)

SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def make_frame(x_mm: float = 50.0, **facts: Any) -> Frame:
    name = f"{facts.get('series', 's')}@{x_mm}"
    base: dict[str, Any] = {
        "path": name, "index": 0, "patient": "p", "study": "t", "series": "s", "instance": name, "sample": name,
        "split_digest": "d", "modality": "MR", "plane": "sagittal", "laterality": "L", "kind": "t1",
        "description": "SAG T1 FS", "orientation": SAGITTAL, "position_mm": (x_mm, 0.0, 0.0), "shape": (8, 8),
        "spacing_mm": (1.0, 1.0),
    }  # fmt: skip
    return Frame(**{**base, **facts})


@pytest.mark.parametrize(
    ("facts", "rules", "expected"),
    [
        ({}, {}, None),
        ({"modality": "CT"}, {"modality": ("MR",)}, "modality not selected"),
        ({"kind": "mip"}, {}, "kind of series not selected: mip"),
        ({"kind": "mip"}, {"skip_kind": ()}, None),
        ({"kind": "mip"}, {"kind": ("mip",)}, None),  # asked for by name
        ({"kind": "t2"}, {}, None),
        ({"kind": "t2"}, {"kind": ("t1",)}, "kind of series not selected: t2"),
        ({"kind": "unknown"}, {"kind": ("t1",)}, "kind of series not selected: unknown"),
        ({"kind": "mip", "modality": "MG"}, {}, None),  # words on mammograms mean other things
        ({}, {"description": ("^sag",)}, None),  # case is ignored
        ({}, {"description": ("^ax",)}, "description matches no pattern of `description`"),
        ({}, {"skip_description": ("fs$",)}, "description matches a pattern of `skip_description`"),
        ({}, {"plane": ("axial",)}, "plane not selected"),
        ({"plane": "unknown"}, {"plane": ("axial",)}, "plane not selected"),
    ],
)
def test_series_rules(facts: dict[str, Any], rules: dict[str, Any], expected: str | None) -> None:
    """A rule refuses with its own reason; unknown is left out where pixels could have told."""
    assert expected == refuse_series(make_frame(**facts), Select(**rules))


def test_series_is_counted_whole() -> None:
    """`min_slices` is about the series as it lies there, not about what other rules leave of it."""
    frames = [*(make_frame(x, series="long") for x in (1, 2, 3)), *(make_frame(x, series="short") for x in (1, 2))]
    kept, exclusions = select_series(frames, Select(min_slices=3))
    assert {"long"} == {frame.series for frame in kept}
    assert Counter({FEW: 2}) == Counter(one.reason for one in exclusions)


@pytest.mark.parametrize(
    ("facts", "rules", "expected"),
    [
        ({"burned_in": True}, {}, BURNED_IN),
        ({"burned_in": True}, {"burned_in": "flag"}, None),
        ({"laterality": "unknown"}, {"laterality": ("L",)}, "laterality not selected"),
        ({}, {"edge_slices": 1}, EDGE),
        ({"contrast": "pre"}, {"phase": ("pre",)}, None),
        ({"contrast": "post"}, {"phase": ("late",)}, None),  # imaged once: early or late cannot be told
        ({"contrast": "post"}, {"phase": ("pre",)}, OTHER_PHASE),
        ({}, {"phase": ("pre",)}, NO_PHASE),
    ],
)
def test_slice_rules(facts: dict[str, Any], rules: dict[str, Any], expected: str | None) -> None:
    """A slice that is left out says why."""
    kept, exclusions = select_slices([make_frame(**facts)], [make_frame(**facts)], Select(**rules))
    assert [expected] == ([one.reason for one in exclusions] or [None])
    assert len(kept) + len(exclusions) == 1


@pytest.mark.parametrize(
    ("phase", "expected"), [(("pre",), [0]), (("early",), [1]), (("late",), [3]), (("pre", "late"), [0, 3])]
)
def test_phase_rule_goes_by_time_at_each_position(phase: Any, expected: list[int]) -> None:
    """Of four passes pre is the first, early the second, late the last; those between have no name."""
    frames = [
        replace(make_frame(x), sample=f"{x}/{time}", instance=f"{x}/{time}", time_keys=TimeKeys(acquisition_time=time))
        for time in (2, 0, 3, 1)
        for x in (50.0, 53.0, 56.0)
    ]
    kept, _ = select_slices(frames, frames, Select(phase=phase))
    assert expected == sorted({int(frame.sample[-1]) for frame in kept})
    # where a pass is missing nobody can tell which of the others is which
    lacking = [frame for frame in frames if frame.sample != "50.0/0"]
    kept, exclusions = select_slices(lacking, lacking, Select(phase=phase))
    assert {53.0, 56.0} == {frame.position_mm[0] for frame in kept if frame.position_mm}
    assert 3 == sum(one.reason == NO_PHASE for one in exclusions)


def test_labels_decide_neither_where_a_stack_ends_nor_which_phase_is_first() -> None:
    """What has no label is left out before; the edge and the first pass stay where they are."""
    stack = [make_frame(x) for x in (50.0, 53.0, 56.0, 59.0)]
    kept, _ = select_slices(stack[1:], stack, Select(edge_slices=1))
    assert ["s@53.0", "s@56.0"] == [frame.sample for frame in kept]
    passes = [make_frame(series=f"d{n}", time_keys=TimeKeys(acquisition_time=float(n))) for n in (1, 2, 3)]
    assert [] == select_slices(passes[1:], passes, Select(phase=("pre",)))[0]


def test_t2_on_the_grid_of_a_dynamic_series_is_no_phase() -> None:
    """Else it would pass for the first or the last pass."""
    dynamic = [make_frame(series=f"d{n}", time_keys=TimeKeys(acquisition_time=float(n))) for n in (1, 2)]
    t2 = make_frame(series="t2", kind="t2", time_keys=TimeKeys(acquisition_time=0.0))
    kept, _ = select_slices([*dynamic, t2], [*dynamic, t2], Select(phase=("pre",)))
    assert ["d1"] == [frame.series for frame in kept]


def test_remarks_keep_the_frame_and_say_what_is_odd() -> None:
    """A flag is no exclusion: it does not count."""
    frames = [make_frame(burned_in=True, remarks=("laterality: description R, geometry L",))]
    notes = remark(frames, frames)
    assert {BURNED_IN, "laterality: description R, geometry L"} == {one.reason for one in notes}
    assert all(one.flagged for one in notes)


def test_phases_are_named_where_time_or_words_tell() -> None:
    """Of two passes the second may be early or late; a position that was imaged once is what its description says."""
    passes = [make_frame(series=f"d{n}", time_keys=TimeKeys(acquisition_time=float(n))) for n in (1, 2)]
    passes = [replace(one, sample=one.series, instance=one.series) for one in passes]
    alone = [make_frame(60.0, contrast="pre"), make_frame(63.0, contrast="post"), make_frame(66.0)]
    found = {name: spell_phase(words) for name, words in name_phases([*passes, *alone]).items()}
    assert {"d1": "pre", "d2": "post", "s@60.0": "pre", "s@63.0": "post", "s@66.0": ""} == found
