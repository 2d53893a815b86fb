"""Claims about the manifest: what it may say, and when shards are stale."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from bcdx.config import Dataset, Labels, Split
from bcdx.errors import RecordsError
from bcdx.records.manifest import describe_recipe, fingerprint_recipe, is_fresh, read_manifest

RECIPE = Dataset(source="/home/CANARY/in", out="/home/CANARY/out", labels=Labels(file="../CANARY.csv"))


def test_published_recipe_names_no_place() -> None:
    """Neither source nor output nor label table."""
    assert "CANARY" not in json.dumps(describe_recipe(RECIPE))


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"source": "/elsewhere"}, True),
        ({"out": "/elsewhere"}, True),
        ({"workers": 7}, True),
        ({"overwrite": True}, True),
        ({"size": 80}, False),
        ({"split": Split(salt="pepper")}, False),
    ],
)
def test_fingerprint_is_of_what_is_in_the_shards(change: dict[str, Any], same: bool) -> None:
    """Place and pace do not matter."""
    assert same == (fingerprint_recipe(RECIPE) == fingerprint_recipe(RECIPE.model_copy(update=change)))


@pytest.mark.parametrize(
    ("size", "labels", "expected"),
    [(75, "", True), (75, "other", False), (75, None, True), (76, None, False), (76, "", False)],
)
def test_shards_are_fresh_by_recipe_and_label_table(
    records: Path, size: int, labels: str | None, expected: bool
) -> None:
    """A table that is not at hand is taken as unchanged; the recipe never is."""
    manifest = read_manifest(records)
    dataset = Dataset.model_validate({**manifest.recipe, "source": "phantom", "size": size})
    assert expected == is_fresh(manifest, dataset, labels)


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'{"format": 1, "surprise": 2}'])
def test_damaged_manifest_is_an_error(records: Path, tmp_path: Path, content: bytes) -> None:
    """Also one with fields of another version."""
    shutil.copytree(records, tmp_path / "copy")
    (tmp_path / "copy" / "manifest.json").write_bytes(content)
    with pytest.raises(RecordsError, match="damaged, or written by another version"):
        read_manifest(tmp_path / "copy")
