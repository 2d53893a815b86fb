"""Claims about labels from drawn lesions: where they are read from, and what each slice becomes."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcdx.config import Labels
from bcdx.errors import LabelError
from bcdx.imaging.dicom import Origin, read_dicom_frames
from bcdx.imaging.drawn import Lesion, Patch
from bcdx.imaging.frames import Frame
from bcdx.imaging.identity import Pseudonyms
from bcdx.imaging.labels import NO_LABEL, UNUSED
from bcdx.imaging.lesions import Marking, mark_frames, read_lesions
from bcdx.imaging.sample import NO_BOX, Mark
from bcdx.imaging.stacks import AMBIGUOUS, NO_STACK
from bcdx.imaging.verdicts import BETWEEN, NEAR, NO_POSITION, NO_SIDE, NO_SPACING, OTHER_BREAST, OTHER_STACK, SMALL

NAMES = Pseudonyms(b"k")
CLASSES = ("normal", "tumour")
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
BOXES = "Patient ID,Start Row,End Row,Start Column,End Column,Start Slice,End Slice\n"
LES = struct.pack("<6H", 1, 1, 2, 2, 2, 2) + b"\1" * 4


def make_series(series: str, places: Iterable[float], **known: Any) -> list[Frame]:
    """A sagittal series of one breast with slices at these x, numbered in order; the sides are those of x."""
    base: dict[str, Any] = {
        "path": "/p", "index": 0, "patient": "P", "study": "S", "series": series, "split_digest": "", "shape": (8, 8),
        "spacing_mm": (2.0, 1.0), "orientation": SAGITTAL, "frame_of_reference": "F",
    }  # fmt: skip
    return [
        Frame(**{**base, "instance": f"{series}{number}", "sample": f"{series}{number}", "instance_number": number,
                 "position_mm": (x, -4.0, 4.0), "laterality": side(x), **known})
        for number, x in enumerate(places, start=1)
    ]  # fmt: skip


def side(x: float) -> str:
    return "unknown" if abs(x) < 20 else "L" if x > 0 else "R"


def draw(*numbers: int, key: str = "K", patient: str = "P", shape: tuple[int, int] = (3, 2), row: int = 1) -> Lesion:
    """A lesion on slices with these numbers, from this row and column 4 on."""
    mask = np.ones(shape, bool)
    return Lesion(key, patient, tuple(Patch(row, 4, mask, number=number) for number in numbers))


def mark(frames: Sequence[Frame], *lesions: Lesion, **settings: Any) -> Marking:
    return mark_frames(frames, lesions, Labels(source="x", **settings), CLASSES)


def verdicts(marking: Marking, frames: Iterable[Frame]) -> list[str]:
    """Origin of each frame's label, or the reason for none."""
    origins = {sample: mark.origin for sample, mark in marking.marks.items()}
    return [{**origins, **marking.reasons}[frame.sample] for frame in frames]


LEFT = [float(x) for x in range(40, 70, 2)]
"""Fifteen slices, 2 mm apart; lesions at margin 3 mm take a neighbour on either side with them."""


def test_lesion_decides_about_its_slices() -> None:
    """Positive where it lies, ambiguous within the margin, negative beyond; with area and box of all phases alike."""
    phases = make_series("a", LEFT), make_series("b", LEFT)
    for frames in phases:
        marking = mark([*phases[0], *phases[1]], draw(6, 7))
        expected = ["same breast"] * 4 + [NEAR] + ["lesion"] * 2 + [NEAR] + ["same breast"] * 7
        assert expected == verdicts(marking, frames)
        assert Mark("tumour", "lesion", 12.0, (1.0, 4.0, 4.0, 6.0)) == marking.marks[frames[5].sample]
        assert Mark("normal", "same breast", 0.0, NO_BOX) == marking.marks[frames[0].sample]
    assert () == marking.unmatched


def test_verdicts_do_not_depend_on_the_private_key() -> None:
    """Of two lesions that cannot be used one reason is given, whatever their codes."""
    frames = make_series("a", LEFT)
    for keys in ("KM", "MK"):
        unusable = [Lesion(keys[0], "P", (), "b"), Lesion(keys[1], "P", (), "a")]
        assert {"a"} == set(verdicts(mark(frames, *unusable), frames))


@pytest.mark.parametrize(("margin", "near"), [(0.0, 0), (1.9, 0), (2.0, 1), (3.9995, 2), (4.0, 2), (1000.0, 5)])
def test_margin_is_measured_in_millimetres(margin: float, near: int) -> None:
    """Slices that lie just so far count as near, for positions are rounded."""
    frames = make_series("a", LEFT[:6])
    assert near == verdicts(mark(frames, draw(1), margin_mm=margin), frames).count(NEAR)


@pytest.mark.parametrize(("least", "expected"), [(12.0, "lesion"), (12.01, SMALL)])
def test_area_counts_from_a_stated_one_on(least: float, expected: str) -> None:
    """Rows are 2 mm apart here, columns 1 mm; what is smaller is neither one nor the other."""
    frames = make_series("a", LEFT)
    assert [expected] == verdicts(mark(frames, draw(6), min_area_mm2=least), frames[5:6])


def test_lesions_of_a_slice_are_one_area() -> None:
    """What two cover together counts once, and the box holds both."""
    frames = make_series("a", LEFT)
    marking = mark(frames, draw(6, key="K"), draw(6, 7, key="M", row=3))
    assert Mark("tumour", "lesion", 2.0 * (6 + 6 - 2), (1.0, 4.0, 6.0, 6.0)) == marking.marks["a6"]
    assert Mark("tumour", "lesion", 12.0, (3.0, 4.0, 6.0, 6.0)) == marking.marks["a7"]
    hollow = Lesion("N", "P", (Patch(1, 4, np.array([[True, False], [False, True], [True, False]]), number=6),))
    assert 12.0 == mark(frames, draw(6, key="K"), hollow).marks["a6"].lesion_mm2


def test_other_breast_is_left_out_unless_it_is_asked_for() -> None:
    """Nobody has drawn there; taken as normal it is marked so, and its area is not known."""
    frames = make_series("a", [*[-x for x in LEFT[::-1]], *LEFT])
    assert [OTHER_BREAST] * 15 == verdicts(mark(frames, draw(20)), frames[:15])
    marking = mark(frames, draw(20), other_breast="normal")
    assert ["other breast"] * 15 == verdicts(marking, frames[:15])
    assert Mark("normal", "other breast", -1.0, NO_BOX) == marking.marks["a1"]
    assert [OTHER_BREAST] * 15 == verdicts(mark(frames, draw(1)), frames[15:])


def test_breasts_with_a_lesion_each_are_no_other_breasts() -> None:
    """Then all that is free of them is the same breast."""
    frames = make_series("a", [*[-x for x in LEFT[::-1]], *LEFT])
    found = verdicts(mark(frames, draw(1, key="K"), draw(30, key="M")), frames)
    assert {"lesion": 2, NEAR: 2, "same breast": 26} == {name: found.count(name) for name in found}


def test_margin_ends_at_the_breast() -> None:
    """A slice of the other one may lie near along the stack, where the breasts were imaged obliquely."""
    left, right = make_series("a", [40.0, 42.0, 44.0], laterality="L"), make_series("b", [41.0], laterality="R")
    assert ["lesion", "lesion", NEAR, OTHER_BREAST] == verdicts(mark([*left, *right], draw(1, 2)), [*left, *right])


def test_axial_slices_are_of_the_breast_with_the_lesion() -> None:
    """They show both."""
    frames = make_series("a", LEFT, laterality="unknown", plane="axial")
    assert {"lesion", NEAR, "same breast"} == set(verdicts(mark(frames, draw(6)), frames))


def test_lesion_near_the_midline_leaves_its_breast_open() -> None:
    """Slices of a known breast may be those of the other."""
    frames = make_series("a", [-30.0, 0.0, 10.0, 30.0])
    assert [NO_SIDE, "lesion", "same breast", NO_SIDE] == verdicts(mark(frames, draw(2), other_breast="normal"), frames)


def test_lesion_that_reaches_to_the_midline_is_of_its_breast() -> None:
    """Where one of its slices tells."""
    frames = make_series("a", [-30.0, 10.0, 30.0, 50.0])
    assert [OTHER_BREAST, "lesion", "lesion", "same breast"] == verdicts(mark(frames, draw(2, 3)), frames)


def test_other_stacks_say_nothing() -> None:
    """Of the same study or another; nobody has drawn there."""
    drawn = make_series("a", LEFT), make_series("b", LEFT)
    other, later = make_series("c", LEFT, shape=(16, 16)), make_series("d", LEFT, study="T")
    frames = [*drawn[0], *drawn[1], *other, *later]
    assert {OTHER_STACK} == set(verdicts(mark(frames, draw(6), other_breast="normal"), [*other, *later]))


def test_other_breast_may_have_been_imaged_on_its_own() -> None:
    """Another frame of reference is another stack; its side alone tells."""
    drawn, other = make_series("a", LEFT), make_series("b", [-x for x in LEFT[:5]], frame_of_reference="G")
    midline = make_series("c", [5.0], frame_of_reference="H")
    frames = [*drawn, *other, *midline]
    assert {OTHER_STACK} == set(verdicts(mark(frames, draw(12)), [*other, *midline]))
    marking = mark(frames, draw(12), other_breast="normal")
    assert {"other breast"} == set(verdicts(marking, other))
    assert [OTHER_STACK] == verdicts(marking, midline)


def test_free_slices_of_two_drawn_stacks_say_nothing() -> None:
    """Each may show what was drawn on the other, unless that lies in the other breast."""
    low, high = draw(6, key="K"), draw(6, key="M", row=12)  # the second is beyond the rows of the first stack
    high_alone = make_series("b", LEFT, shape=(16, 16))
    both = [*make_series("a", LEFT), *make_series("c", LEFT), *high_alone]  # phases draw the first lesion to them
    marking = mark(both, low, high)
    assert ["lesion", OTHER_STACK] * 2 == verdicts(marking, [both[5], both[0], high_alone[5], high_alone[0]])
    other_breast = make_series("b", [-x for x in LEFT], shape=(16, 16))
    marking = mark([*both[:30], *other_breast], low, high)
    assert ["lesion", "same breast"] * 2 == verdicts(marking, [both[5], both[0], other_breast[5], other_breast[0]])


@pytest.mark.parametrize(
    ("lesion", "reason"),
    [
        (draw(99, key="M"), NO_STACK),
        (draw(1, key="M", row=6), NO_STACK),
        (Lesion("M", "P", (), "a damaged lesion mask of the patient"), "a damaged lesion mask of the patient"),
    ],
)
def test_lesion_that_may_lie_anywhere_leaves_nothing_to_say(lesion: Lesion, reason: str) -> None:
    """Not even of the slices with another one: the patient is left out, and the lesion named."""
    frames, others = make_series("a", LEFT), make_series("q", LEFT, patient="Q")
    marking = mark([*frames, *others], draw(6), lesion, draw(6, key="N", patient="Q"))
    assert {reason} == set(verdicts(marking, frames))
    assert "lesion" in verdicts(marking, others)
    assert (("M", reason),) == marking.unmatched


def test_lesion_that_fits_several_stacks_leaves_nothing_to_say() -> None:
    """The reason says what to do."""
    frames = [*make_series("a", LEFT), *make_series("b", LEFT, study="T")]
    marking = mark(frames, draw(6))
    assert ({AMBIGUOUS}, (("K", AMBIGUOUS),)) == (set(verdicts(marking, frames)), marking.unmatched)


def test_patient_without_a_lesion_has_no_label() -> None:
    """It may be that nobody looked; a lesion without images is named."""
    frames = make_series("a", LEFT)
    marking = mark(frames, draw(6, patient="Q"))
    assert ({NO_LABEL}, (("K", UNUSED),)) == (set(verdicts(marking, frames)), marking.unmatched)


def test_what_cannot_be_measured_has_no_label() -> None:
    """No pixel spacing, no area; no slice position, no margin."""
    flat = make_series("a", LEFT, spacing_mm=(0.0, 0.0))
    assert [NO_SPACING] == verdicts(mark(flat, draw(6)), flat[5:6])
    nowhere = make_series("a", LEFT, position_mm=None, orientation=None)
    assert ["lesion", NO_POSITION] == verdicts(mark(nowhere, draw(6)), nowhere[5:7])
    assert ["lesion", "same breast"] == verdicts(mark(nowhere, draw(6), margin_mm=0.0), nowhere[5:7])


@given(seed=st.integers(0, 2**32 - 1))
def test_every_frame_has_a_mark_or_a_reason_in_any_order(seed: int) -> None:
    """Exactly one of both, whatever was drawn, and neither order of frames nor of lesions makes a difference."""
    dice = random.Random(seed)
    frames = [
        frame
        for series in "abcd"
        for frame in make_series(
            f"{series}{seed}", [dice.choice([-1, 1]) * x for x in LEFT], patient=dice.choice("PQ"),
            shape=dice.choice([(8, 8), (16, 16)]), study=dice.choice("ST"),
        )
    ]  # fmt: skip
    lesions = [
        draw(
            *range(start, start + dice.randint(1, 4)), key=str(key), patient=dice.choice("PQR"), row=dice.randint(0, 9)
        )
        for key in range(dice.randint(0, 4))
        for start in [dice.randint(1, 16)]
    ]
    marking = mark(frames, *lesions)
    assert set(marking.marks) | set(marking.reasons) == {frame.sample for frame in frames}
    assert not set(marking.marks) & set(marking.reasons)
    dice.shuffle(frames)
    dice.shuffle(lesions)
    assert marking == mark(frames, *lesions)


def write_sources(folder: Path) -> None:
    (folder / "masks").mkdir()
    (folder / "masks" / "TCGA-AO-A03V.les").write_bytes(LES)
    (folder / "boxes.csv").write_text(f"{BOXES}TCGA-AO-A03V,1,2,1,2,2,2\n")


@pytest.mark.parametrize("source", ["masks", "masks/TCGA-AO-A03V.les", "boxes.csv", "$BCDX_LESIONS/boxes.csv"])
def test_kind_of_source_is_seen_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """Here one lesion in four guises; a path may name a variable."""
    write_sources(tmp_path)
    monkeypatch.setenv("BCDX_LESIONS", str(tmp_path))
    source = source if source.startswith("$") else str(tmp_path / source)
    (lesion,) = read_lesions(Labels(source=source), pseudonyms=NAMES)
    (patch,) = lesion.patches
    assert (0, 0, (2, 2), 2) == (patch.row, patch.column, patch.end, patch.number)
    assert NAMES.code("PatientID", "TCGA-AO-A03V") == lesion.patient


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"source": "$BCDX_UNSET/x"}, "needs the environment variable BCDX_UNSET, which is not set or empty"),
        ({"source": "/no/such/folder"}, "/no/such/folder: no such file or folder"),
    ],
)
def test_missing_source_names_the_page(monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], words: str) -> None:
    """In one line; without a page the line is shorter."""
    monkeypatch.delenv("BCDX_UNSET", raising=False)
    for page, end in (("https://example.org/x", "; it can be had from https://example.org/x"), (None, "")):
        with pytest.raises(LabelError) as caught:
            read_lesions(Labels(page=page, **settings), pseudonyms=NAMES)
        assert str(caught.value).endswith(words + end)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"format": "les"}, "labels.source: name the lesions"),
        ({"format": "seg"}, "no DICOM SEG among the images"),
        ({"source": ".", "format": "seg"}, "no .les file and no DICOM SEG in it"),
        ({"source": "."}, "no .les file and no DICOM SEG in it"),
        ({"source": ".", "format": "les"}, "no .les file in it"),
    ],
)
def test_source_without_lesions_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], words: str
) -> None:
    """It says what was looked for."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(LabelError, match=words):
        read_lesions(Labels(**settings), pseudonyms=NAMES)


@pytest.fixture(scope="module")
def duke(shared_data: Path) -> list[Frame]:
    """Both passes of the exam."""
    paths = [path for part in ("pre", "post1") for path in (shared_data / "duke_breast_mri_153" / part).glob("*.dcm")]
    return [frame for path in paths for frame in read_dicom_frames(Origin(path, path.name, "", NAMES, "salt"))]


@pytest.mark.real_data
def test_published_boxes_label_an_exam(shared_data: Path, duke: list[Frame]) -> None:
    """The tumour is in slices 83 to 100; slices are 1.1 mm apart, so that two on either side are within 3 mm."""
    labels = Labels(source=str(shared_data / "tables" / "duke_annotation_boxes.csv"))
    marking = mark_frames(duke, read_lesions(labels, pseudonyms=NAMES), labels, CLASSES)
    for series in {frame.series for frame in duke}:
        frames = sorted((one for one in duke if one.series == series), key=lambda one: one.instance_number)
        expected = ["same breast"] * 11 + [NEAR] * 2 + ["lesion"] * 18 + [NEAR] * 2 + ["same breast"] * 13
        assert (70, 115) == (frames[0].instance_number, frames[-1].instance_number)
        assert expected == verdicts(marking, frames)
        assert (46.0, 89.0, 82.0, 124.0) == marking.marks[frames[20].sample].lesion_box
    assert 921 == len(marking.unmatched)


@pytest.mark.real_data
def test_published_segmentation_is_found_by_geometry(shared_data: Path, duke: list[Frame]) -> None:
    """Gland that is drawn on slices 94 and 104, in objects that write positions in other decimals."""
    labels = Labels(segments=("Mammary Fibroglandular Tissue",))
    seg = shared_data / "duke_breast_mri_153" / "seg" / "1-1.dcm"
    marking = mark_frames(duke, read_lesions(labels, pseudonyms=NAMES, images=[seg]), labels, CLASSES)
    drawn = sorted(one.instance_number for one in duke if verdicts(marking, [one]) == ["lesion"])
    assert [94, 94, 104, 104] == drawn


def test_slice_between_drawn_slices_is_not_free() -> None:
    """Whether the lesion reaches there nobody has said; 8 mm apart the margin does not cover it."""
    frames = make_series("a", [30.0 + 8 * number for number in range(8)])
    assert ["lesion", BETWEEN, "lesion"] == verdicts(mark(frames, draw(3, 5)), frames[2:5])


def test_midline_slices_of_a_bilateral_stack_are_of_no_breast() -> None:
    """Over the sternum lies neither the breast with the lesion nor surely the other."""
    frames = make_series("a", [-60.0, -40.0, -10.0, 0.0, 10.0, 40.0, 60.0])
    assert [NO_SIDE] * 3 == verdicts(mark(frames, draw(7), other_breast="normal"), frames[2:5])


def test_other_breast_must_be_imaged_alike() -> None:
    """Else the sort of image would give the class away."""
    drawn, other = make_series("a", LEFT, kind="t1"), make_series("b", [-x for x in LEFT[:5]], frame_of_reference="G")
    assert {OTHER_STACK} == set(verdicts(mark([*drawn, *other], draw(12), other_breast="normal"), other))
