"""Claims about the whole way from drawn lesions to shards, their card and the account of what was left out."""

from __future__ import annotations

import csv
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bcdx import config
from bcdx.errors import BcdxError, LabelError, RecordsError
from bcdx.records.manifest import Manifest, read_manifest
from bcdx.records.reader import read_table
from bcdx.shard import write_records

SAGITTAL = [0, 1, 0, 0, 0, -1]
LEFT = [50.0 + 4 * number for number in range(8)]
DRAWN = (3, 4)  # slices of the left breast, as InstanceNumber counts
PATIENTS = 6


def write_bilateral(write_dicom: Any, folder: Path) -> None:
    """Per patient one sagittal series of both breasts, a localizer, and a .les mask of 4 x 5 mm on two left slices."""
    rng = np.random.default_rng(0)
    for patient in range(PATIENTS):
        known = {
            "PatientID": f"SECRET-{patient}", "StudyInstanceUID": f"1.2.{patient}", "PixelSpacing": [1.0, 1.0],
            "ImageOrientationPatient": SAGITTAL, "FrameOfReferenceUID": f"1.9.{patient}",
        }  # fmt: skip
        series = {**known, "SeriesInstanceUID": f"1.2.{patient}.1", "SeriesDescription": "SAG T1 FS BILATERAL +C"}
        for number, x in enumerate([*LEFT, *(-x for x in LEFT)], start=1):
            pixels = rng.integers(0, 4000, (16, 16)).astype(np.uint16)
            place = {"ImagePositionPatient": [x, 0.0, 0.0], "InstanceNumber": number, "SeriesNumber": 1}
            write_dicom(f"{folder.name}/{patient}/{number:02d}.dcm", pixels, **series, **place)
        scout = {**known, "SeriesInstanceUID": f"1.2.{patient}.2", "SeriesDescription": "3 PLANE LOC"}
        write_dicom(f"{folder.name}/{patient}/scout.dcm", rng.integers(0, 99, (16, 16)).astype(np.uint16), **scout)
    masks = folder.parent / "masks"
    masks.mkdir()
    for patient in range(PATIENTS):
        box = struct.pack("<6H", 2, 3, DRAWN[0], 5, 7, DRAWN[1])
        (masks / f"SECRET-{patient}.les").write_bytes(box + b"\1" * (4 * 5 * 2))


def read_exclusions(folder: Path) -> list[dict[str, str]]:
    with (folder / "exclusions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def lesion_set(write_dicom: Any, tmp_path: Path) -> Path:
    write_bilateral(write_dicom, tmp_path / "dicom")
    return tmp_path


def shard(home: Path, out: str, **changes: Any) -> Manifest:
    labels = config.Labels(source=str(home / "masks"), **changes.pop("labels", {}))
    base: dict[str, Any] = {"source": str(home / "dicom"), "out": str(home / out), "size": 16, "workers": 1}
    return write_records(config.Dataset.model_validate({**base, "labels": labels, **changes}))


@pytest.mark.parametrize(("other", "normal"), [("exclude", 0), ("normal", 8)])
def test_bilateral_stacks_are_labelled_breast_by_breast(lesion_set: Path, other: str, normal: int) -> None:
    """Two slices with the lesion, none within its margin of 4 mm; the other breast only where it is asked for."""
    manifest = shard(lesion_set, "out", labels={"other_breast": other, "margin_mm": 4.0})
    table = read_table(lesion_set / "out", manifest, ("train", "validation", "test"))
    counts = {name: int((table.label_origin == name).sum()) for name in ("lesion", "same breast", "other breast")}
    assert {"lesion": 2 * PATIENTS, "same breast": 4 * PATIENTS, "other breast": normal * PATIENTS} == counts
    assert {"L"} == set(table.laterality[table.label_origin == "lesion"])
    assert {"R"} >= set(table.laterality[table.label_origin == "other breast"])
    assert {20.0} == set(table.lesion_mm2[table.label == 1].tolist())
    reasons = {row["reason"]: int(row["images"]) for row in read_exclusions(lesion_set / "out")}
    assert (
        manifest.images
        == 17 * PATIENTS
        == manifest.used
        + sum(int(row["images"]) for row in read_exclusions(lesion_set / "out") if row["action"] == "excluded")
    )
    assert "kind of series not selected: localizer" in reasons


def test_the_breast_that_is_not_selected_still_holds_its_lesion(lesion_set: Path) -> None:
    """With the right breast alone the left one's lesion is known, so that the right one is the other breast."""
    rules = {"laterality": ["R"], "edge_slices": 1}
    with pytest.raises(LabelError, match="at least two classes"):
        shard(lesion_set, "out", labels={"other_breast": "normal"}, select=rules)
    manifest = shard(lesion_set, "left", select={**rules, "laterality": ["L"]})
    assert 2 * PATIENTS == sum(one.samples_per_class["tumour"] for one in manifest.splits.values())
    left_out = {row["reason"] for row in read_exclusions(lesion_set / "left")}
    assert {"edge of its stack", "the breast without a lesion, where the other one has some"} <= left_out


def test_no_identifier_reaches_what_stands_beside_the_shards(lesion_set: Path) -> None:
    """Nor a path, in the card, its facts, the exclusions and the manifest."""
    shard(lesion_set, "out")
    for name in ("card.html", "card.json", "exclusions.csv", "manifest.json"):
        text = (lesion_set / "out" / name).read_text()
        assert not [word for word in ("SECRET", str(lesion_set), "BILATERAL", "1.2.0") if word in text], name


def test_changed_masks_make_shards_stale(lesion_set: Path) -> None:
    """The masks are labels; shards of others are not silently kept."""
    shard(lesion_set, "out")
    shard(lesion_set, "out")
    path = lesion_set / "masks" / "SECRET-0.les"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(RecordsError, match="stale"):
        shard(lesion_set, "out")


@pytest.mark.real_data
def test_a_real_exam_is_labelled_by_its_box(shared_data: Path, tmp_path: Path) -> None:
    """Slices 83 to 100 of 70 to 115 show the lesion; two on either side are ambiguous; both passes are one sample."""
    manifest = write_records(
        config.Dataset(
            source=str(shared_data / "duke_breast_mri_153"), out=str(tmp_path / "out"), size=64, workers=1,
            channels=("pre", "early", "early-pre"), split=config.Split(validation=0, test=0),
            labels=config.Labels(source=str(shared_data / "tables" / "duke_annotation_boxes.csv")),
        )
    )  # fmt: skip
    assert {"no_tumour": 24, "tumour": 18} == manifest.splits["train"].samples_per_class
    assert (93, 84) == (manifest.images, manifest.used)
    rows = read_exclusions(tmp_path / "out")
    assert 8 == sum(row["reason"] == "within margin_mm of a lesion's end" for row in rows)
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert [["axial", "unknown"]] == [row["values"] for row in card["tables"][0]["rows"]]
    assert read_manifest(tmp_path / "out") == manifest


def test_lesion_drawn_on_another_plane_labels_no_slice_of_the_wanted_one(write_dicom: Any, tmp_path: Path) -> None:
    """Its numbers would fit the sagittal stack as well; but the dynamic axial one is what was meant."""
    rng = np.random.default_rng(0)
    axial = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "SeriesDescription": "AX DYN"}
    sagittal = {"ImageOrientationPatient": SAGITTAL, "SeriesDescription": "SAG T1"}
    (tmp_path / "masks").mkdir()
    for patient in range(PATIENTS):
        known = {"PatientID": f"P{patient}", "StudyInstanceUID": f"1.2.{patient}", "PixelSpacing": [1.0, 1.0]}
        for series, facts in (("1", axial), ("2", axial), ("3", sagittal)):
            for number in range(1, 9):
                x, z = (4.0 * number + 40, 0.0) if series == "3" else (-8.0, 4.0 * number)
                write_dicom(
                    f"dicom/{patient}/{series}/{number}.dcm", rng.integers(0, 4000, (16, 16)).astype(np.uint16),
                    **known, **facts, SeriesInstanceUID=f"1.2.{patient}.{series}", SeriesNumber=int(series),
                    InstanceNumber=number, ImagePositionPatient=[x, 0.0, z], AcquisitionTime=f"10000{series}",
                )  # fmt: skip
        box = struct.pack("<6H", 2, 3, 3, 5, 7, 4)
        (tmp_path / "masks" / f"P{patient}.les").write_bytes(box + b"\1" * 40)
    with pytest.raises(BcdxError, match="drawn on another stack"):
        shard(tmp_path, "out", select={"plane": ["sagittal"]})
    manifest = shard(tmp_path, "out", select={"plane": ["axial"]})
    assert 2 * 2 * PATIENTS == sum(one.samples_per_class["tumour"] for one in manifest.splits.values())
