"""Claims about what SeriesDescription and ImageType tell; tables of real descriptions were labelled by hand."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcdx.imaging.descriptions import KINDS, Description, parse_description

TABLES = sorted(Path(__file__).parents[1].joinpath("resources").glob("series_descriptions_*.csv"))
COLUMNS = ("plane", "laterality", "kind")
OPPOSITE = {"L": "R", "R": "L"}
# Words that mean the same breast or the other one, as they stand between others.
SWAPPED = {"left": "right", "lt": "rt", "l": "r", "links": "rechts", "li": "re"}
SWAPPED |= {other: word for word, other in SWAPPED.items()}
WORDS = [
    *SWAPPED,
    "bilat",
    "sag",
    "ax",
    "tra",
    "cor",
    "t1",
    "t2",
    "fl3d",
    "dyn",
    "sub",
    "mip",
    "mpr",
    "loc",
    "post",
    "pre",
]
WORDS += ["gad", "+c", "to", "and", "breast", "1", "2", "3d", "fs", "arm", "message", "ph1/", "min", "(4)-(3)"]
DERIVED = ("DERIVED", "SECONDARY")


def read_rows(*tables: Path) -> list[dict[str, str]]:
    return [row for table in tables for row in csv.DictReader(table.open(encoding="utf-8", newline=""))]


TEXTS = [row["description"] for row in read_rows(*TABLES)]
texts = st.one_of(st.sampled_from(TEXTS), st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join))


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.stem)
def test_parse_description_is_right_where_it_answers(table: Path, column: str) -> None:
    """At least 97 % of the answers are the reader's."""
    answers = [(getattr(parse_description(row["description"]), column), row) for row in read_rows(table)]
    wrong = [(row["description"], said, row[column]) for said, row in answers if said not in {"unknown", row[column]}]
    assert len(wrong) <= 0.03 * sum(said != "unknown" for said, _ in answers), wrong


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.stem)
def test_parse_description_answers_where_a_reader_can_tell(table: Path, column: str) -> None:
    """At most a quarter of what a reader tells is unknown to it."""
    tellable = [row["description"] for row in read_rows(table) if row[column] != "unknown"]
    missed = [text for text in tellable if getattr(parse_description(text), column) == "unknown"]
    assert len(missed) <= 0.25 * len(tellable), missed


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.stem)
def test_parse_description_never_confuses_left_and_right(table: Path) -> None:
    """Not once."""
    sided = [row for row in read_rows(table) if row["laterality"] in OPPOSITE]
    confused = [
        row["description"]
        for row in sided
        if parse_description(row["description"]).laterality == OPPOSITE[row["laterality"]]
    ]
    assert [] == confused


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("LT SAG FSE T1", ("sagittal", "L", "t1")),
        ("SAG T2 (FAT-SAT) LEFT", ("sagittal", "L", "t2")),
        ("fl3d_sag_interVIEWS gad LT", ("sagittal", "L", "t1")),
        ("1 MIN GAD SUB LT RADIAL", ("unknown", "L", "subtraction")),
        ("thin mip sag rt to lt", ("sagittal", "unknown", "mip")),  # a direction
        ("MIP 1 MIN SUB R-L", ("unknown", "unknown", "mip")),
        ("PE R/L sag t1", ("sagittal", "unknown", "t1")),  # phase-encoding direction
        ("RIGHT_ACRIN_6667/LEFT_CA_3", ("unknown", "unknown", "unknown")),  # contradicts itself
        ("LT and RT SAG T2", ("sagittal", "both", "t2")),
        ("ax T1 FS R=2", ("axial", "unknown", "t1")),  # acceleration
        ("AX DWI 6698 R3_TRACEW_DFC", ("axial", "unknown", "diffusion")),
        ("AX T2 FS RT BLADE", ("axial", "unknown", "t2")),  # respiratory trigger
        ("FIRSTPassLeft", ("unknown", "L", "unknown")),
        ("SAG T1 mama izq", ("sagittal", "L", "t1")),
        ("MIP sag rechts", ("sagittal", "R", "mip")),
        ("T2 TSE tra droite", ("axial", "R", "t2")),
        ("subject 12 ax T1", ("axial", "unknown", "t1")),  # no subtraction
        ("calf ax T1 location 2", ("axial", "unknown", "t1")),  # neither calibration nor localizer
        ("sag message", ("sagittal", "unknown", "unknown")),
        ("message", ("unknown", "unknown", "unknown")),
        ("ax sag cor localizer", ("unknown", "unknown", "localizer")),  # three planes
        ("Ax 3D T1 FS Post_SUB_MIP_COR", ("coronal", "unknown", "mip")),  # along which it projects
        ("T2_TSE ax Foramen Magnum To T1", ("axial", "unknown", "t2")),  # a vertebra
        ("RT 3-pl T2* FGRE", ("unknown", "R", "localizer")),
        ("T2* FFE", ("unknown", "unknown", "other")),
        ("(8395/6/1..138)-(8395/4/1..138)", ("unknown", "unknown", "subtraction")),
        ("(8395/6/1)+(8395/4/1)", ("unknown", "unknown", "unknown")),
        ("BreasB0Map axi", ("axial", "unknown", "calibration")),
        ("sag_fatsat (post needle)", ("sagittal", "unknown", "unknown")),  # not after contrast medium
        ("ax dyn pre", ("axial", "unknown", "t1")),
        ("CAD~ Lt Sagittal Sub", ("sagittal", "L", "cad")),
        ("Per1234", ("unknown", "unknown", "unknown")),
        ("", ("unknown", "unknown", "unknown")),
    ],
)
def test_parse_description_reads_words_in_their_context(text: str, expected: tuple[str, str, str]) -> None:
    """What looks like a side, a plane or a kind may be something else."""
    told = parse_description(text)
    assert expected == (told.plane, told.laterality, told.kind)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ax dyn pre", "pre"),
        ("SAG LEFT PRE GAD", "pre"),
        ("eTHRIVE unenhanced", "pre"),
        ("T1 AX W/O GAD", "pre"),
        ("AX Sen Vibrant MASK", "pre"),
        ("T1 Sagittal post fat sat", "post"),
        ("1 min", "post"),
        ("Ph1/AX VIBRANT", "post"),
        ("Ph1/VIBRANT PRE/POST", "post"),  # one phase of what was before and after
        ("RT IR-SPGR SAG+C", "post"),
        ("3rd ax dyn", "post"),
        ("VIBRANT PRE/POST", "unknown"),
        ("fl3d_dynamic_1-pre_5-post", "unknown"),
        ("dyn mp NO DELAY", "unknown"),
        ("MR BREAST W WO CONTRAST", "unknown"),
        ("SCOUT (post meno)", "unknown"),
        ("t1 VIBE -pre sat", "unknown"),  # presaturation
        ("Ax VIB Dyn POST CLIP", "unknown"),
        ("T1 AX FS PRE_SUB", "unknown"),  # a difference of two acquisitions
        ("T1", "unknown"),
    ],
)
def test_parse_description_tells_before_from_after_contrast(text: str, expected: str) -> None:
    """Of what was acquired once; words on something else do not count."""
    assert expected == parse_description(text).contrast


@pytest.mark.parametrize(
    ("text", "image_type", "expected"),
    [
        # plain images that an archive has rewritten
        ("T1 Sagittal post fat sat", (*DERIVED, "PROCESSED"), "t1"),
        ("Bind(18029/6/1..56)", (*DERIVED, "PROCESSED"), "unknown"),
        ("", (*DERIVED, "PROCESSED"), "unknown"),
        ("ax dyn pre", ("ORIGINAL", "PRIMARY", "M", "ND"), "t1"),
        # images that say what was made of them, whatever the name that they kept
        ("T1 Sagittal post fat sat", (*DERIVED, "SUBTRACT"), "subtraction"),
        ("ax dyn", ("DERIVED", "PRIMARY", "M", "SUB", "ND"), "subtraction"),
        ("t1_fl3d_tra", (*DERIVED, "PROJECTION IMAGE", "COLLAPSE"), "mip"),
        ("t1_fl3d_tra", ("DERIVED", "PRIMARY", "SUB", "MIP"), "mip"),
        ("T2 SAG", (*DERIVED, "REFORMATTED", "AVERAGE"), "reformat"),
        ("ep2d_diff_tra", ("DERIVED", "PRIMARY", "DIFFUSION", "ADC", "NORM"), "map"),
        ("", (*DERIVED, "SCREEN SAVE"), "cad"),
        ("", ("DERIVED", "SECONDARY", "OTHER", "CSA REPORT"), "cad"),
        ("", ("ORIGINAL", "PRIMARY", "LOCALIZER"), "localizer"),
        ("", ("ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"), "diffusion"),
        ("T2 tra", ("ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"), "t2"),  # not derived: words come first
        ("SUB 1", (*DERIVED, "REFORMATTED"), "subtraction"),  # words that tell something derived come first
        ("T1", ("derived", "secondary", "mpr"), "reformat"),
    ],
)
def test_parse_description_lets_image_type_name_what_is_derived(
    text: str, image_type: tuple[str, ...], expected: str
) -> None:
    """DERIVED, SECONDARY and PROCESSED alone tell nothing."""
    assert expected == parse_description(text, image_type).kind
    assert expected == parse_description(text, list(image_type)).kind


@given(texts)
def test_parse_description_knows_no_case(text: str) -> None:
    """Upper, lower and swapped case are read alike."""
    expected = parse_description(text)
    assert [expected] * 3 == [parse_description(other) for other in (text.upper(), text.lower(), text.swapcase())]


@given(texts, st.sampled_from([" ", "  ", "_", ", ", ";", "_ "]))
def test_parse_description_knows_no_separator(text: str, separator: str) -> None:
    """Blanks and underscores, one or several, and commas are read alike."""
    assert parse_description(text) == parse_description(re.sub(r"[ _]+", separator, text))


@given(texts)
def test_parse_description_of_mirrored_words_is_mirrored(text: str) -> None:
    """With left and right changed for each other, laterality is the other one and nothing else changes."""
    pattern = r"left|right|(?:(?<![a-z])|(?<=sag)|(?<=slope))(?:lt|rt|l|r|links|rechts|li|re)(?=breast|[^a-z]|$)"
    mirrored = re.sub(pattern, lambda match: SWAPPED[match[0]], text.lower())
    told, other = parse_description(text), parse_description(mirrored)
    side = OPPOSITE.get(told.laterality, told.laterality)
    assert Description(told.plane, side, told.kind, told.contrast) == other


@given(st.text(), st.lists(st.text(), max_size=4))
def test_parse_description_takes_any_text(text: str, image_type: list[str]) -> None:
    """Whatever a header holds, the answer is one of the known words."""
    told = parse_description(text, image_type)
    assert told.plane in {"sagittal", "axial", "coronal", "unknown"}
    assert told.laterality in {"L", "R", "both", "unknown"}
    assert told.kind in {*KINDS, "unknown"}
    assert told.contrast in {"pre", "post", "unknown"}
