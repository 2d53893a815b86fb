"""Claims about the dataset card: its figures add up, it warns where it must, and it names nobody and needs nothing."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bcdx.imaging.sample import Exclusion
from bcdx.records.card import Card, Rights, describe_card, find_links, render_card, write_card
from bcdx.records.confounding import Cell, compare_classes, measure_association, name_sites
from bcdx.records.manifest import Manifest, SplitFacts
from bcdx.records.pictures import Picture, show_kept
from bcdx.records.sources import SourceFile, gather_source
from bcdx.records.staging import Entry

CLASSES = ("normal", "tumour")
GREY = np.arange(48, dtype=np.uint8).reshape(6, 8)
RIGHTS = Rights("CC BY-NC 4.0", ("Author, A. Title. doi:10.7937/K9/TCIA.2016.X.",), {"collection": "made <up>"})
EXCLUSIONS = [
    Exclusion("k1", "within 3 mm of a lesion's end", "/home/CANARY/1.dcm", images=2),
    Exclusion("k2", "within 3 mm of a lesion's end", "/home/CANARY/2.dcm"),
    Exclusion("k3", "looks like a slice of another patient", "/home/CANARY/3.dcm", images=5, flagged=True),
]


class Page(HTMLParser):
    """A page as tables of texts, links, and all that is loaded."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.links: list[str] = []
        self.loaded: list[str] = []
        self._rows: list[list[str]] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open a table, row or cell; note what is linked or loaded."""
        facts = {name: value or "" for name, value in attrs}
        self.links += [facts["href"]] if "href" in facts else []
        self.loaded += [facts["src"]] if "src" in facts else []
        if tag == "table":
            self._rows = self.tables.setdefault(facts["id"], [])
        if tag == "tr":
            self._rows.append([])
        if tag in {"td", "th"}:
            self._rows[-1].append("")
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        """Close a cell."""
        self._inside = self._inside and tag not in {"td", "th"}

    def handle_data(self, data: str) -> None:
        """Add to the open cell."""
        if self._inside:
            self._rows[-1][-1] += data.strip() + " "


def make_entries(make_entry: Any) -> list[Entry]:
    """24 images of 12 patients, each with one of either class; all tumours at one site, planes and scanners mixed."""
    planes = ("sagittal", "axial", "sagittal")
    return [
        make_entry(
            number,
            patient=f"patient{number // 2}",
            site="ab12cd34ef56" if number % 2 else ("0f0f0f0f0f0f" if number % 4 else ""),
            plane=planes[number // 2 % 3],
            scanner=f"maker <{number // 2 % 2}>",
            label_origin="lesion" if number % 2 else "other breast",
        )
        for number in range(24)
    ]


def make_manifest(entries: list[Entry], **facts: Any) -> Manifest:
    """A manifest of two splits of the entries, half each."""
    splits = {}
    for name, found in (("train", entries[:12]), ("test", entries[12:])):
        per_class = [[one for one in found if one.label == index] for index in range(2)]
        splits[name] = SplitFacts(
            shards=(),
            samples=len(found),
            patients=len({one.patient for one in found}),
            samples_per_class={label: len(its) for label, its in zip(CLASSES, per_class, strict=True)},
            patients_per_class={
                label: len({one.patient for one in its}) for label, its in zip(CLASSES, per_class, strict=True)
            },
        )
    base: dict[str, Any] = {
        "image_shape": (4, 4, 1), "classes": CLASSES, "positive": "tumour", "splits": splits,
        "recipe": {"channels": "grey", "split": {"unit": "patient"}}, "fingerprint": "f", "data_hash": "d" * 64,
        "preparation": {"unit": "study", "percentiles": [0.5, 99.5], "steps": ["one step"]}, "normalisation": (),
        "exclusions": (), "files": 30, "images": 27, "used": 24, "patient_is_file": False, "leaking": False,
        "versions": {"bcdx": "0"},
    }  # fmt: skip
    return Manifest(**{**base, **facts})


def make_card(make_entry: Any, *, pictures: tuple[Picture, ...] = (), **facts: Any) -> Card:
    """The card of those entries."""
    entries = make_entries(make_entry)
    files = [SourceFile(CLASSES[one.label], "DICOM, MR", 256, 256 + 64 * (n % 3 > 1), 1000 * n) for n, one in
             enumerate(entries)]  # fmt: skip
    source = gather_source(files, images_in=27, images_used=24)
    return describe_card(
        make_manifest(entries, **facts), entries, EXCLUSIONS, source=source, rights=RIGHTS, pictures=pictures
    )


def read_counts(row: list[str]) -> list[tuple[int, int]]:
    """Images and patients of each cell that holds both."""
    found = [re.fullmatch(r"([\d,]+)\s+\(\s*([\d,]+)\s*\)\s*", cell) for cell in row]
    return [(int(one[1].replace(",", "")), int(one[2].replace(",", ""))) for one in found if one]


@pytest.mark.parametrize("table", ["split", "plane-site", "scanner", "laterality", "origins"])
def test_rows_and_columns_add_up(make_entry: Any, table: str) -> None:
    """Images over classes and over rows; patients of one class are no more than those of all."""
    rows = Page(render_card(make_card(make_entry))).tables[table]
    counts = [read_counts(row) for row in rows[1:]]
    for *classes, everything in counts:
        assert everything[0] == sum(images for images, _ in classes)
        assert max(patients for _, patients in classes) <= everything[1] <= sum(patients for _, patients in classes)
    for column in range(3):
        assert counts[-1][column][0] == sum(row[column][0] for row in counts[:-1])
    assert (24, 12) == counts[-1][-1]


def test_source_table_gives_the_usual_size_its_range_and_kilobytes(make_entry: Any) -> None:
    """Files add up too; so do their formats."""
    tables = Page(render_card(make_card(make_entry))).tables
    assert ["12", "12", "24"] == [row[2].strip() for row in tables["source"][1:]]
    assert ["256", "256", "256", "256", "to", "320"] == tables["source"][1][3].replace(
        "\N{MULTIPLICATION SIGN}", ""
    ).split()
    assert "11.0 0.0 to 22.0" == " ".join(tables["source"][1][4].split())
    assert [["DICOM, MR", "12", "12", "24"]] == [[cell.strip() for cell in row] for row in tables["formats"][1:]]


def test_exclusions_stand_by_reason_with_the_account(make_entry: Any) -> None:
    """What is flagged is used."""
    text = render_card(make_card(make_entry))
    rows = [[cell.strip() for cell in row] for row in Page(text).tables["exclusions"][1:]]
    assert [
        ["within 3 mm of a lesion's end", "excluded", "2", "3"],
        ["looks like a slice of another patient", "flagged", "1", "5"],
    ] == rows
    assert "27 images in the source = 24 used + 3 left out" in text


def test_page_loads_nothing_and_links_to_licence_and_dois_alone(make_entry: Any) -> None:
    """It is whole without a network; texts cannot become markup."""
    card = make_card(make_entry, pictures=(Picture("tumour", "", GREY), Picture("unlabelled", "reason", GREY)))
    text = render_card(card)
    page = Page(text)
    assert ["https://creativecommons.org/licenses/by-nc/4.0/", "https://doi.org/10.7937/K9/TCIA.2016.X"] == page.links
    assert 2 == len(page.loaded)
    assert all(source.startswith("data:image/png;base64,") for source in page.loaded)
    assert not re.search(r"url\(|@import|<script|<link|<iframe|<made|made <|<up>|maker <", text)
    assert "Research use only. Not a medical device." in text


def test_card_names_no_file_and_nobody(make_entry: Any, tmp_path: Path) -> None:
    """Paths stay with the exclusions, codes of patients and samples with the shards; sites are cut codes."""
    write_card(tmp_path, make_card(make_entry, pictures=(Picture("tumour", "", GREY),)))
    for name in ("card.json", "card.html"):
        content = (tmp_path / name).read_text()
        assert not re.search(r"CANARY|patient\d|sample\d|study\d|source\d|ab12cd34e|19\d\d-|20\d\d-\d\d", content)
        assert "site 1 (ab12cd34)" in content


def test_json_holds_the_facts_without_pictures(make_entry: Any, tmp_path: Path) -> None:
    """The same figures, for programs."""
    write_card(tmp_path, make_card(make_entry, pictures=(Picture("tumour", "", GREY),)))
    facts = json.loads((tmp_path / "card.json").read_text())
    assert "pictures" not in facts
    assert {"patients": 12, "images": 24} == facts["counts"]["total"]
    assert {"plane": 0.0, "site": 1.0, "plane and site": 1.0} == pytest.approx(facts["tables"][0]["associations"])


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, 0),
        ({"patient_is_file": True}, 1),
        ({"leaking": True}, 1),
        ({"leaking": True, "patient_is_file": True}, 2),
    ],
)
def test_sets_that_leak_say_so(make_entry: Any, facts: dict[str, Any], expected: int) -> None:
    """Once for each reason."""
    card = make_card(make_entry, **facts)
    assert expected == len(card.leaking) == render_card(card).count("LEAKING")


def test_warnings_name_what_gives_the_class_away(make_entry: Any) -> None:
    """Site alone, and not again in combination with planes; the other breast is presumed normal."""
    card = make_card(make_entry)
    assert (
        "site and class go together: Cramér's V is 1.00",
        "site 1 (ab12cd34): tumour only, 12 of 24 images",
        "site 2 (0f0f0f0f): normal only, 6 of 24 images",
        "site unknown: normal only, 6 of 24 images",
        "plane and site and class go together: Cramér's V is 1.00",
    ) == card.tables[0].warnings
    assert () == card.tables[1].warnings
    assert card.warnings[-1].startswith("Images of the other breast are taken as normal")


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([[10, 10], [20, 20]], 0.0),
        ([[10, 0], [0, 20]], 1.0),
        ([[30, 10], [10, 30]], 0.5),
        ([[5, 5]], None),
        ([[5, 0], [7, 0]], None),  # the second class does not occur
        ([[10, 0, 0], [0, 20, 0]], 1.0),
    ],
)
def test_association_is_cramers_v(counts: list[list[int]], expected: float | None) -> None:
    """None where one value or one class leaves nothing to compare."""
    assert expected == pytest.approx(measure_association(np.array(counts)))


@pytest.mark.parametrize(("rare", "warned"), [(11, True), (9, False)])
def test_a_value_with_one_class_counts_from_a_tenth_on(make_entry: Any, rare: int, warned: bool) -> None:
    """Of 100 images; seldom ones would warn of every scanner."""
    entries = [make_entry(number, scanner="rare" if number < rare else "usual", label=int(number >= 50))
               for number in range(100)]  # fmt: skip
    table = compare_classes(entries, CLASSES, {"scanner": lambda one: one.scanner})
    assert warned == any(text.startswith("scanner rare: normal only") for text in table.warnings)


def test_patients_in_several_rows_count_once_in_all(make_entry: Any) -> None:
    """One patient, two planes."""
    entries = [make_entry(n, patient="one", plane=plane) for n, plane in enumerate(("axial", "sagittal"))]
    table = compare_classes(entries, CLASSES, {"plane": lambda one: one.plane})
    assert [1, 1] == [row.total.patients for row in table.rows]
    assert Cell(patients=1, images=2) == table.total.total


def test_sites_are_numbered_by_images(make_entry: Any) -> None:
    """The name of an institution is a code even here."""
    sites = ["bbbbbbbbbb", "aaaaaaaaaa", "bbbbbbbbbb", ""]
    assert {"": "unknown", "bbbbbbbbbb": "site 1 (bbbbbbbb)", "aaaaaaaaaa": "site 2 (aaaaaaaa)"} == name_sites(
        [make_entry(number, site=site) for number, site in enumerate(sites)]
    )


def test_burned_in_images_are_never_shown(make_entry: Any) -> None:
    """Neither among the excluded nor, where they are flagged, among the kept."""
    pictures = tuple(Picture("tumour", f"{what} annotation", GREY) for what in ("Burned-in", "other"))
    assert ["other annotation"] == [one.reason for one in make_card(make_entry, pictures=pictures).pictures]
    entries = [make_entry(number, label=0) for number in range(3)]
    shown = show_kept(entries, CLASSES, lambda one: bytes(one.size_bytes), hidden={"sample0", "sample2"})
    assert 1 == len(shown)


def test_contact_sheet_depends_on_the_samples_alone(make_entry: Any) -> None:
    """Not on their order; at most eight of each class."""
    entries = [make_entry(number) for number in range(40)]
    images = {one.sample: bytes([0, number] * 16) for number, one in enumerate(entries)}
    first, again = (
        [(one.label, one.pixels.tolist()) for one in show_kept(found, CLASSES, lambda one: images[one.sample])]
        for found in (entries, entries[::-1])
    )
    assert first == again
    assert 16 == len(first)


@pytest.mark.parametrize(("channels", "most"), [(1, 700_000), (3, 900_000)])
def test_page_stays_small_with_the_worst_pictures(make_entry: Any, channels: int, most: int) -> None:
    """Noise of 512 x 512 pixels, which nothing compresses."""
    shape = (512, 512) if channels == 1 else (512, 512, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    pictures = tuple(Picture(name, reason, noise) for name in CLASSES for reason in ("", "reason") for _ in range(8))
    assert len(render_card(make_card(make_entry, pictures=pictures))) < most


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("none", []),
        ("see https://doi.org/10.1000/a(b)c, and more", ["https://doi.org/10.1000/a(b)c"]),
        ("DOI:10.7937/tcia.1.", ["https://doi.org/10.7937/tcia.1"]),
        ("CC BY 3.0", ["https://creativecommons.org/licenses/by/3.0/"]),
        ("CC BY-NC-SA 4.0; terms: https://example.org/terms.", [
            "https://creativecommons.org/licenses/by-nc-sa/4.0/", "https://example.org/terms"]),
        ("javascript:alert(1) http://example.org", []),
    ],
)  # fmt: skip
def test_links_lead_to_dois_and_licences(text: str, expected: list[str]) -> None:
    """And the text stays what it was."""
    pieces = find_links(text)
    assert expected == [address for _, address in pieces if address]
    assert text == "".join(piece for piece, _ in pieces)


def test_card_compares_phases_where_any_is_known(make_entry: Any) -> None:
    """Tumours on one pass and normal slices on another would be told apart by contrast alone."""
    entries = [replace(one, phase="post" if one.label else "pre") for one in make_entries(make_entry)]
    source = make_card(make_entry).source
    card = describe_card(make_manifest(entries), entries, EXCLUSIONS, source=source, rights=RIGHTS)
    assert {"pre", "post"} == {row.values[0] for row in card.tables[3].rows}
    assert any("phase" in text for text in card.warnings)
    assert "Dynamic phase" in render_card(card)
    assert "Dynamic phase" not in render_card(make_card(make_entry))
