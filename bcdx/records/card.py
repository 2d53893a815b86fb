"""Manifest, entries and facts of the source in; the dataset card, `card.json` and `card.html`, out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bcdx._files import write_bytes, write_json
from bcdx.imaging.sample import Exclusion
from bcdx.records.confounding import RULE, Cell, CountTable, Row, compare_classes, count_classes, name_sites
from bcdx.records.ledger import BURNED_IN, EXCLUDED, Line, summarise
from bcdx.records.manifest import CARD, Manifest
from bcdx.records.pictures import Picture, encode_thumbnail
from bcdx.records.sources import SourceFacts
from bcdx.records.staging import Entry

DISCLAIMER = "Research use only. Not a medical device."
MOST_EXCLUDED = 8
DOI = re.compile(r"(?:https?://(?:dx\.)?doi\.org/|doi:\s*)?\b(10\.\d{4,9}/[^\s\"<>]*[^\s\"<>.,;)\]])", re.IGNORECASE)
CREATIVE_COMMONS = re.compile(r"CC (BY(?:-NC)?(?:-SA|-ND)?) (\d\.\d)")
URL = re.compile(r"https://[^\s\"<>]*[^\s\"<>.,;)]")
OTHER_BREAST = (
    "Images of the other breast are taken as normal, but nobody has drawn there: a second, unseen lesion would be "
    "labelled wrongly."
)


@dataclass(frozen=True)
class Rights:
    """Who may do what with the images.

    Attributes:
        licence: Its name or address; "" if unknown.
        citations: What users must cite.
        provenance: What -> value, such as {"collection": "tcga_brca"}; no path and no date.
    """

    licence: str = ""
    citations: tuple[str, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Card:
    """All that the card says.

    Attributes:
        classes: Class names in order.
        positive: The class that is looked for.
        image_shape: Height, width, channels of a stored image.
        channels: The recipe's `channels`.
        counts: Patients and images of each class.
        source: Formats and sizes of the files.
        split: Patients and images of each class and split.
        tables: Plane and site, scanner, laterality and, where one is known, dynamic phase against class.
        origins: Where labels come from, against class.
        rule: What counts as confounded.
        leaking: Why scores on this set are not to be trusted; empty: the split is by patient.
        warnings: All else to beware of, over all tables.
        exclusions: What was left out or flagged, by reason.
        preparation: Steps from stored values to a record.
        rights: Licence, citations, provenance.
        versions, data_hash: Of the manifest.
        pictures: For the page alone.
    """

    classes: tuple[str, ...]
    positive: str
    image_shape: tuple[int, int, int]
    channels: str | Sequence[str]
    counts: Row
    source: SourceFacts
    split: CountTable
    tables: tuple[CountTable, ...]
    origins: CountTable
    rule: str
    leaking: tuple[str, ...]
    warnings: tuple[str, ...]
    exclusions: tuple[Line, ...]
    preparation: Mapping[str, Any]
    rights: Rights
    versions: Mapping[str, str]
    data_hash: str
    disclaimer: str = DISCLAIMER
    pictures: tuple[Picture, ...] = field(default=(), repr=False)


def describe_card(
    manifest: Manifest,
    entries: Sequence[Entry],
    exclusions: Sequence[Exclusion],
    *,
    source: SourceFacts,
    rights: Rights,
    pictures: Sequence[Picture] = (),
) -> Card:
    """Return the card of a set of shards.

    Args:
        manifest: Of the shards.
        entries: All samples in them.
        exclusions: All that was left out or flagged.
        source: Facts of the files.
        rights: What the recipe says, else what `acquire` wrote.
        pictures: Kept and excluded ones; of the latter the first few that have no burned-in annotation are shown.
    """
    classes, sites = manifest.classes, name_sites(entries)
    tables = [
        compare_classes(entries, classes, {"plane": lambda one: one.plane, "site": lambda one: sites[one.site]}),
        compare_classes(entries, classes, {"scanner": lambda one: one.scanner}),
        compare_classes(entries, classes, {"laterality": lambda one: one.laterality}),
    ]
    if any(one.phase for one in entries):
        tables.append(compare_classes(entries, classes, {"phase": lambda one: one.phase}))
    origins = compare_classes(entries, classes, {"label from": lambda one: one.label_origin})
    presumed = any(row.values == ("other breast",) for row in origins.rows)
    left_out = [one for one in pictures if one.reason and not BURNED_IN.search(one.reason)]
    return Card(
        classes=classes,
        positive=manifest.positive,
        image_shape=manifest.image_shape,
        channels=manifest.recipe.get("channels", "grey"),
        counts=count_classes(entries, classes),
        source=source,
        split=_tabulate_splits(manifest, entries),
        tables=tuple(tables),
        origins=origins,
        rule=RULE,
        leaking=tuple(text.removeprefix("LEAKING: ") for text in manifest.warnings().values()),
        warnings=(*(text for table in tables for text in table.warnings), *((OTHER_BREAST,) if presumed else ())),
        exclusions=tuple(summarise(exclusions)),
        preparation=manifest.preparation,
        rights=rights,
        versions=manifest.versions,
        data_hash=manifest.data_hash,
        pictures=(*(one for one in pictures if not one.reason), *left_out),
    )


def write_card(folder: Path, card: Card) -> None:
    """Write `card.json`, without pictures, and `card.html`, a page that needs nothing but itself."""
    facts = asdict(card)
    del facts["pictures"]
    write_json(folder / CARD[0], facts)
    write_bytes(folder / CARD[1], render_card(card).encode())


def render_card(card: Card) -> str:
    """Return the page."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("bcdx.records", "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(png=encode_thumbnail, link=find_links, number="{:,}".format, sentence=_to_sentence)
    left_out = [one for one in card.exclusions if one.action == EXCLUDED]
    return environment.get_template("card.html").render(
        card=card,
        kept={name: [one for one in card.pictures if not one.reason and one.label == name] for name in card.classes},
        formats=_tabulate_formats(card),
        excluded=[one for one in card.pictures if one.reason],
        images_left_out=sum(one.images for one in left_out),
    )


def find_links(text: str) -> list[tuple[str, str]]:
    """Cut a text into (piece, address): DOIs, Creative Commons licences and https addresses lead there, "" nowhere."""
    pieces, end = [], 0
    for match in re.finditer(f"{DOI.pattern}|{CREATIVE_COMMONS.pattern}|{URL.pattern}", text, re.IGNORECASE):
        doi, kind, version = match.groups()
        address = match[0]
        if doi:
            address = f"https://doi.org/{doi}"
        elif kind:
            address = f"https://creativecommons.org/licenses/{kind.removeprefix('CC ').lower()}/{version}/"
        pieces += [(text[end : match.start()], ""), (match[0], address)]
        end = match.end()
    return [piece for piece in (*pieces, (text[end:], "")) if piece[0]]


def _to_sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}."


def _tabulate_formats(card: Card) -> dict[str, list[int]]:
    """Return format -> files of each class; those of the most files first."""
    of_class = {one.label: one.formats for one in card.source.classes}
    names = {name: 0 for one in card.source.classes for name in one.formats}
    table = {name: [of_class.get(label, {}).get(name, 0) for label in card.classes] for name in names}
    return dict(sorted(table.items(), key=lambda pair: (-sum(pair[1]), pair[0])))


def _tabulate_splits(manifest: Manifest, entries: Sequence[Entry]) -> CountTable:
    rows = []
    for name, facts in manifest.splits.items():
        cells = [Cell(facts.patients_per_class[one], facts.samples_per_class[one]) for one in manifest.classes]
        rows.append(Row((name,), tuple(cells), Cell(facts.patients, facts.samples)))
    return CountTable(("split",), manifest.classes, tuple(rows), count_classes(entries, manifest.classes), {})
