"""How well SeriesDescription is read: the labelled tables of `tests/resources`, and descriptions a second.

Command: python benchmarks/descriptions.py
The tables hold 330 different descriptions of breast MR, drawn at random from the catalogue of the Imaging Data Commons
(idc-index-data 25.0.5) by SHA-256 and labelled before the parser was written; `held` was not opened until it was done.
"""

from __future__ import annotations

import csv
import time
from pathlib import Path

from bcdx.imaging.descriptions import parse_description

TABLES = sorted((Path(__file__).parents[1] / "tests" / "resources").glob("series_descriptions_*.csv"))
COLUMNS = ("plane", "laterality", "kind")


def main() -> None:
    """Print the table."""
    print(f"{'':<28}{'rows':>6}{'answered':>10}{'right':>8}{'tellable':>10}{'left open':>11}{'L for R':>9}")
    for path in TABLES:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        for column in COLUMNS:
            print(f"{path.stem.rpartition('_')[2] + ', ' + column:<28}{len(rows):>6}{compare(rows, column)}")
    print(f"{measure_speed():,.0f} different descriptions a second")


def compare(rows: list[dict[str, str]], column: str) -> str:
    """Return the counts of one column as cells of a line."""
    pairs = [(row[column], getattr(parse_description(row["description"]), column)) for row in rows]
    answered = [(expected, actual) for expected, actual in pairs if actual != "unknown"]
    right = sum(expected == actual for expected, actual in answered)
    tellable = [(expected, actual) for expected, actual in pairs if expected != "unknown"]
    left_open = sum(actual == "unknown" for _, actual in tellable)
    swapped = sum({expected, actual} == {"L", "R"} for expected, actual in pairs)
    return f"{len(answered):>10}{right:>8}{len(tellable):>10}{left_open:>11}{swapped:>9}"


def measure_speed() -> float:
    """Return how many texts that were not read before are read in a second."""
    with TABLES[0].open(newline="") as file:
        rows = list(csv.DictReader(file))
    texts = [f"{row['description']} {number}" for number in range(20) for row in rows]
    began = time.perf_counter()
    for text in texts:
        parse_description(text)
    return len(texts) / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
