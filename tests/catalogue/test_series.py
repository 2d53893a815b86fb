"""Claims about reading the catalogue."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bcdx.catalogue import extra
from bcdx.catalogue.series import CatalogueFile, Series, find_catalogue, read_series
from bcdx.catalogue.tables import measure
from bcdx.errors import BcdxError, SettingsError

duckdb = pytest.importorskip("duckdb")

COLLECTION = "small_brca"

New = Callable[..., Series]
Save = Callable[..., CatalogueFile]


def test_read_series_returns_what_was_written_in_order(new_series: New, save_catalogue: Save, tmp_path: Path) -> None:
    """Rows of other modalities and collections stay where they are; order in the file makes no difference."""
    series = [new_series("1.2.3", patient="P2"), new_series("1.2.9"), new_series("1.2.5", multi_frame=True)]
    other = new_series("1.2.7", modality="SM")
    catalogue = save_catalogue(tmp_path / "index.parquet", [*series, other])
    assert (series[2], series[1], series[0]) == read_series(catalogue, COLLECTION, ("MR", "MG"))


def test_read_series_takes_a_missing_description_as_empty(
    new_series: New, save_catalogue: Save, tmp_path: Path
) -> None:
    """The catalogue has NULL there."""
    path = tmp_path / "index.parquet"
    catalogue = save_catalogue(path, [new_series(description="")])
    duckdb.execute(f"COPY (SELECT * REPLACE (NULL AS SeriesDescription) FROM '{path}') TO '{path}2' (FORMAT parquet)")
    moved = CatalogueFile(Path(f"{path}2"), catalogue.version)
    assert read_series(catalogue, COLLECTION, ["MR"]) == read_series(moved, COLLECTION, ["MR"])


@pytest.mark.parametrize("name", ["small-brca", "SMALL_BRCA", "smal_brca", "small"])
def test_an_unknown_collection_is_answered_with_near_names(
    new_series: New, save_catalogue: Save, tmp_path: Path, name: str
) -> None:
    """Hyphens and capitals are the usual slips."""
    catalogue = save_catalogue(tmp_path / "index.parquet", [new_series()])
    with pytest.raises(SettingsError, match=f"no '{name}'; did you mean {COLLECTION}"):
        read_series(catalogue, name, ["MR"])


def test_a_collection_without_the_modalities_says_what_it_holds(
    new_series: New, save_catalogue: Save, tmp_path: Path
) -> None:
    """So that the user can name them."""
    catalogue = save_catalogue(tmp_path / "index.parquet", [new_series(modality="CT")])
    with pytest.raises(SettingsError, match="holds no MG or MR; it holds CT"):
        read_series(catalogue, COLLECTION, ["MR", "MG"])


def test_a_catalogue_of_before_sop_classes_is_read_and_an_older_one_refused(
    new_series: New, save_catalogue: Save, tmp_path: Path
) -> None:
    """Release 22 lacks SOPClassUID; without the store's names nothing could be fetched."""
    path = tmp_path / "index.parquet"
    save_catalogue(path, [new_series()])
    duckdb.execute(f"COPY (SELECT * EXCLUDE SOPClassUID FROM '{path}') TO '{tmp_path / '22.parquet'}'")
    duckdb.execute(f"COPY (SELECT * EXCLUDE aws_bucket FROM '{path}') TO '{tmp_path / '17.parquet'}'")
    assert (new_series(),) == read_series(CatalogueFile(tmp_path / "22.parquet", "22"), COLLECTION, ["MR"])
    with pytest.raises(BcdxError, match="lacks the column aws_bucket; pip install -U idc-index-data"):
        read_series(CatalogueFile(tmp_path / "17.parquet", "17"), COLLECTION, ["MR"])


def test_a_file_that_is_no_catalogue_is_an_error(tmp_path: Path) -> None:
    """One line, whatever duckdb says."""
    (tmp_path / "index.parquet").write_bytes(b"nothing of the kind")
    with pytest.raises(BcdxError, match="cannot be read as a catalogue"):
        read_series(CatalogueFile(tmp_path / "index.parquet", "x"), COLLECTION, ["MR"])


def test_a_missing_package_is_an_error_that_says_what_to_install() -> None:
    """Most users need no catalogue."""
    with pytest.raises(BcdxError, match=r"needs no_such_package, .*; pip install 'bcdx\[acquire\]'"):
        extra.import_extra("no_such_package.part")


def test_the_real_catalogue_holds_the_known_amounts_of_tcga_brca() -> None:
    """Those of release 25.0.5."""
    pytest.importorskip("idc_index_data")
    catalogue = find_catalogue()
    if catalogue.version != "idc-index-data 25.0.5":
        pytest.skip(f"the amounts are those of another release than {catalogue.version}")
    amounts = measure(read_series(catalogue, "tcga_brca", ("MR", "MG")))
    assert (139, 230_167, 88.1) == (
        amounts["total"].patients,
        amounts["total"].images,
        round(amounts["total"].gigabytes, 1),
    )
    assert (137, 5) == (amounts["MR"].patients, amounts["MG"].patients)
