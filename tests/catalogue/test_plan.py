"""Claims about rules on words, and what the terminal shows of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcdx.catalogue.plan import make_plan, refuse, wanted_modalities
from bcdx.catalogue.series import Series
from bcdx.catalogue.tables import show_plan
from bcdx.config import Select
from bcdx.errors import SettingsError

New = Callable[..., Series]


def plan_of(series: list[Series], select: Select | None = None, **changes: Any) -> Any:
    return make_plan(series, select or Select(), collection="small_brca", catalogue="test 1", **changes)


@pytest.mark.parametrize(
    ("description", "rules", "reason"),
    [
        ("SAG T1", {}, None),
        ("", {"plane": ["sagittal"], "laterality": ["L"], "phase": ["early"], "kind": ["t1"]}, None),  # says nothing
        ("AX T1", {"plane": ["sagittal"]}, "plane axial"),
        ("AX T1", {"plane": ["sagittal", "axial"]}, None),
        ("SAG T1 RT", {"laterality": ["L"]}, "right breast"),
        ("SAG T1 LT", {"laterality": ["L"]}, None),
        ("SAG T1 LT", {"laterality": ["L", "R"]}, None),
        ("SAG T1 BILATERAL", {"laterality": ["L"]}, None),  # the left one is in it
        ("LOCALIZER", {}, "kind localizer"),
        ("LOCALIZER", {"skip_kind": []}, None),
        ("LOCALIZER", {"kind": ["localizer"]}, None),  # named, which beats the default
        ("SAG T2", {"kind": ["t1"]}, "kind t2"),
        ("SAG T1 PRE CONTRAST", {"phase": ["early"]}, "before contrast"),
        ("SAG T1 PRE CONTRAST", {"phase": ["pre", "early"]}, None),
        ("SAG T1 POST CONTRAST", {"phase": ["pre"]}, "after contrast"),
        ("SAG T1 POST CONTRAST", {"phase": ["late"]}, None),  # it may be late
        ("SAG VIBRANT", {"description": ["vibr", "thrive"]}, None),  # case does not count
        ("", {"description": ["vibr"]}, "description matches no pattern of `description`"),  # strict
        ("SAG VIBRANT", {"skip_description": ["vibr"]}, "description matches a pattern of `skip_description`"),
        ("SAG T1", {"modality": ["MG"]}, "modality MR"),
        ("SAG T1", {"min_slices": 4}, "fewer than 4 images"),
    ],
)
def test_refuse_leaves_out_only_what_disagrees(
    new_series: New, description: str, rules: dict[str, Any], reason: str | None
) -> None:
    """Three images of MR."""
    assert reason == refuse(new_series(description=description), Select.model_validate(rules))


def test_refuse_applies_words_about_mr_to_mr_alone(new_series: New) -> None:
    """A mammogram has a breast, but no plane; a tomosynthesis of one file has many slices."""
    mammogram = new_series(modality="MG", description="AX LOCALIZER RT")
    assert refuse(mammogram, Select(plane=("sagittal",))) is None
    assert "right breast" == refuse(mammogram, Select(laterality=("L",)))
    assert refuse(new_series(modality="MG", images=1, multi_frame=True), Select(min_slices=20)) is None


def test_only_modalities_that_rules_name_join_mr_and_mg(new_series: New) -> None:
    """Slides and segmentations of the same patients are many times larger."""
    assert ("MR", "MG") == wanted_modalities(Select())
    assert ("MR", "MG", "SEG") == wanted_modalities(Select(modality=("SEG", "MR")))
    assert "modality SM" == refuse(new_series(modality="SM"), Select())


words = st.lists(st.sampled_from(["SAG", "AX", "COR", "LT", "RT", "T1", "T2", "PRE", "POST", "MIP", "LOC", "X"]))
rows = st.lists(st.tuples(words, st.integers(1, 5), st.sampled_from(["MR", "MG"])), max_size=8)
selects = st.builds(
    Select,
    plane=st.sampled_from([(), ("sagittal",), ("axial", "coronal")]),
    laterality=st.sampled_from([(), ("L",), ("R",), ("L", "R")]),
    phase=st.sampled_from([(), ("pre",), ("early", "late")]),
    modality=st.sampled_from([(), ("MR",)]),
    min_slices=st.integers(1, 4),
)


@given(rows=rows, select=selects)
def test_plan_loses_no_series_and_ignores_their_order(new_series: New, rows: list[Any], select: Select) -> None:
    """What comes in is kept or left out, once."""
    series = [
        new_series(f"1.{index}", description=" ".join(text), images=images, modality=modality)
        for index, (text, images, modality) in enumerate(rows)
    ]
    plan, backwards = plan_of(series, select), plan_of(series[::-1], select)
    out = [one for some in plan.left_out.values() for one in some]
    assert sorted(one.uid for one in series) == sorted(one.uid for one in (*plan.kept, *out))
    assert set(plan.kept) == set(backwards.kept)
    assert {why: len(some) for why, some in plan.left_out.items()} == {
        why: len(some) for why, some in backwards.left_out.items()
    }
    assert list(plan.left_out) == list(backwards.left_out)


def test_plan_keeps_the_patients_that_are_named_and_knows_them_all(new_series: New) -> None:
    """A slip in a name is an error, not an empty set."""
    series = [new_series("1.1"), new_series("1.2", patient="P2")]
    plan = plan_of(series, patients=["P2"])
    assert (series[1],) == plan.kept
    assert {"patient not asked for": (series[0],)} == plan.left_out
    with pytest.raises(SettingsError, match=r"catalogue.patients: small_brca has no MR or MG of P3"):
        plan_of(series, patients=["P2", "P3"])
    with pytest.raises(SettingsError, match=r"catalogue.patients: small_brca has no MR or MG or CT of P3"):
        plan_of(series, Select(modality=("CT",)), patients=["P3"])


def test_plan_leaves_out_the_series_that_are_named_and_knows_them_all(new_series: New) -> None:
    """One that the store holds otherwise must not block the others."""
    series = [new_series("1.1"), new_series("1.2")]
    plan = plan_of(series, skip_series=["1.1"])
    assert (series[1],) == plan.kept
    assert {"named in `catalogue.skip_series`": (series[0],)} == plan.left_out
    with pytest.raises(SettingsError, match=r"catalogue.skip_series: small_brca has no MR or MG 1.3"):
        plan_of(series, skip_series=["1.1", "1.3"])


def test_show_plan_counts_both_tables_reasons_licences_and_citations(new_series: New) -> None:
    """The whole text for three series."""
    series = [
        new_series("1.1", images=1200, megabytes=1500.0),
        new_series("1.2", patient="P2", study="1.3", description="LOCALIZER", doi="10.1/b"),
        new_series("1.3", modality="MG", description="R CC", licence="CC BY 4.0"),
    ]
    text = show_plan(plan_of(series, Select(laterality=("L",))))
    rows = [line.split() for line in text.splitlines()]
    assert ["MR", "2", "2", "2", "1,203", "1.5"] in rows
    assert ["total", "2", "2", "3", "1,206", "1.5"] in rows
    assert ["total", "1", "1", "1", "1,200", "1.5"] in rows
    assert ["kind", "localizer", "1", "3"] in rows
    assert ["right", "breast", "1", "3"] in rows
    assert "licence CC BY 3.0: 1 series" in text
    text = show_plan(plan_of([new_series(modality=f"M{index}") for index in range(9)]))
    tables = [table.splitlines() for table in text.split("\n\n")[1:4]]
    assert [1, 1, 1] == [len({len(line) for line in table}) for table in tables]
    assert "https://doi.org/10.1/a" in text
    assert "https://doi.org/10.1/b" not in text  # nothing of it is kept
    assert "https://doi.org/10.1148/rg.230180" in text
