"""Claims about a folder and its labels: what takes part, as what, and why the rest does not."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bcdx.config import Dataset, Labels, Select
from bcdx.errors import BcdxError, LabelError
from bcdx.imaging.collection import Collection, scan
from bcdx.imaging.identity import Pseudonyms
from bcdx.imaging.reading import match_patient

NAMES = Pseudonyms(b"k")


def look(folder: Path, labelled: bool = True, **settings: Any) -> Collection:
    return scan(Dataset(**settings), source=folder, pseudonyms=NAMES, labelled=labelled)


def items_of(found: Collection) -> list[Any]:
    return [item for one in found.studies for item in one.items]


def reasons(found: Collection) -> Counter[str]:
    return Counter(one.reason for one in found.exclusions)


def save_png(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(value).integers(0, 255, (10, 12), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(write_dicom: Any, tmp_path: Path) -> Path:
    """Four patients with one slice each, two of them ill, labelled by path."""
    rows = ["path,label"]
    for index in range(4):
        pixels = np.random.default_rng(index).integers(0, 999, (8, 8)).astype(np.uint16)
        write_dicom(f"in/{index}.dcm", pixels, PatientID=f"P{index}")
        rows.append(f"{index}.dcm,{'tumour' if index % 2 else 'no_tumour'}")
    (tmp_path / "in" / "labels.csv").write_text("\n".join(rows))
    return tmp_path / "in"


BY_PATH = {"labels": Labels(file="labels.csv")}


def test_scan_labels_by_path(folder: Path) -> None:
    """Four studies, two classes, the last one positive by default."""
    found = look(folder, **BY_PATH)
    assert ("no_tumour", "tumour") == found.classes
    assert [2, 2] == [sum(item.label == label for one in found.studies for item in one.items) for label in (0, 1)]
    assert not found.exclusions


@pytest.mark.parametrize("key", ["SOPInstanceUID", "SeriesInstanceUID", "PatientID"])
def test_scan_labels_by_identifier(folder: Path, write_dicom: Any, key: str) -> None:
    """The column's name says what the key is."""
    import pydicom

    rows = [f"{key};label"]
    for path in sorted(folder.glob("*.dcm")):
        rows.append(f"{pydicom.dcmread(path)[key].value};{'a' if path.stem in '01' else 'b'}")
    (folder / "labels.csv").write_text("\n".join(rows))
    found = look(folder, **BY_PATH)
    assert {0: 2, 1: 2} == Counter(item.label for one in found.studies for item in one.items)


@pytest.mark.parametrize("column", ["laterality", "Laterality"])  # as we write it, as DICOM does
def test_scan_labels_a_breast_by_patient_and_laterality(write_dicom: Any, tmp_path: Path, column: str) -> None:
    """One side of a patient may be ill while the other is not."""
    for side in "LR":
        write_dicom(f"in/{side}.dcm", np.arange(16, dtype=np.uint16).reshape(4, 4), ImageLaterality=side)
    (tmp_path / "in" / "t.csv").write_text(f"PatientID,{column},label\nP1,left,sick\nP1,R,fine\n")
    found = look(tmp_path / "in", labels=Labels(file="t.csv"))
    assert {("L", "sick"), ("R", "fine")} == {
        (item.frames[0].laterality, found.classes[item.label]) for one in found.studies for item in one.items
    }


def test_scan_takes_folders_for_labels(tmp_path: Path) -> None:
    """Without classes the topmost folder counts; with classes the nearest folder that is one."""
    for index, name in enumerate(("a/x/1.png", "b/x/2.png")):
        save_png(tmp_path / "in" / name, index)
    assert ("a", "b") == look(tmp_path / "in", patient="file").classes
    for index, name in enumerate(("s/benign/1.png", "s/malignant/2.png")):
        save_png(tmp_path / "two" / name, index)
    assert ("benign", "malignant") == look(tmp_path / "two", patient="file", classes=("benign", "malignant")).classes


def test_scan_lists_what_takes_no_part_with_its_reason(folder: Path, write_dicom: Any) -> None:
    """Broken, empty, misnamed, colour, unlabelled: each is there with a reason, and the run goes on."""
    (folder / "empty.dcm").write_bytes(b"")
    (folder / "notes.txt").write_text("not an image")
    (folder / "fake.jpg").write_bytes(b"BM" + bytes(200))
    (folder / "cut.dcm").write_bytes((folder / "0.dcm").read_bytes()[:200])
    write_dicom("in/colour.dcm", np.ones((4, 4), np.uint8), SamplesPerPixel=3, PhotometricInterpretation="RGB")
    write_dicom("in/unlabelled.dcm", np.ones((4, 4), np.uint16))
    write_dicom("in/tiny.dcm", np.ones((1, 1), np.uint16))
    write_dicom("in/huge.dcm", np.ones((4, 4), np.uint16), Rows=20000, Columns=20000)
    write_dicom("in/nobody.dcm", np.ones((4, 4), np.uint16), PatientID=None)
    with (folder / "labels.csv").open("a") as table:
        table.write("\nno_such_file.dcm,tumour")
    found = look(folder, **BY_PATH)
    assert Counter(
        {
            "empty file": 1,
            "not an image of a kind that is read": 2,
            "no pixel data": 1,
            "not a grey image": 1,
            "no label": 1,
            "smaller than 2 x 2 pixels": 1,
            "more than 67108864 pixels": 1,
            "no PatientID": 1,
            "label without image": 1,
        }
    ) == reasons(found)
    assert len(found.studies) == 4


def test_scan_excludes_a_huge_png_before_it_is_decoded(tmp_path: Path, folder: Path) -> None:
    """The size is known from the header."""
    Image.new("L", (20000, 20000)).save(folder / "huge.png")
    assert 1 == reasons(look(folder, **BY_PATH))["more than 67108864 pixels"]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("path,label\n0.dcm,a\n0.dcm,b\n1.dcm,a\n2.dcm,b", {"two labels for one sample": 1, "no label": 1}),
        ("path,label\n0.dcm,a\n0.dcm,a\n1.dcm,b\n2.dcm,a", {"no label": 1}),  # the same label twice is no contradiction
        ("path,label\n0.dcm,a\n1.dcm,b\n2.dcm,\n3.dcm,a", {"no label": 1}),
    ],
)
def test_scan_leaves_out_contradictions(folder: Path, table: str, expected: dict[str, int]) -> None:
    """A table that contradicts itself costs the sample, not the run."""
    (folder / "labels.csv").write_text(table)
    assert Counter(expected) == reasons(look(folder, **BY_PATH))


def test_scan_leaves_out_labels_that_are_no_class(folder: Path) -> None:
    """A typo does not become a class where the recipe names them."""
    text = (folder / "labels.csv").read_text().replace("3.dcm,tumour", "3.dcm,tumor")
    (folder / "labels.csv").write_text(text)
    found = look(folder, classes=("no_tumour", "tumour"), **BY_PATH)
    assert {"label is not one of the classes": 1} == reasons(found)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("path,label\n0.dcm,a\n1.dcm,a\n2.dcm,a\n3.dcm,a", "every usable image is labelled 'a'"),
        ("file,label\n0.dcm,a", "no column 'path' or 'SOPInstanceUID'"),
        ("path,class\n0.dcm,a", "no column 'label'; it has 'path', 'class'"),
        ("path,label\n", "no labels in it"),
    ],
)
def test_scan_says_in_one_line_what_is_wrong_with_the_labels(folder: Path, table: str, words: str) -> None:
    """The message names the table and what it has."""
    (folder / "labels.csv").write_text(table)
    with pytest.raises(LabelError, match=words):
        look(folder, **BY_PATH)


def test_scan_of_nothing_usable_counts_the_reasons(tmp_path: Path) -> None:
    """And says how plain images get their patients."""
    save_png(tmp_path / "in" / "a" / "1.png")
    with pytest.raises(BcdxError, match=r"none of 1 files is usable: no patient for a plain image \(1\); name plain"):
        look(tmp_path / "in")


def test_scan_does_not_depend_on_names_or_order_of_files(folder: Path) -> None:
    """Renamed files labelled by patient give the same studies."""
    (folder / "labels.csv").write_text("PatientID,label\nP0,a\nP1,b\nP2,a\nP3,b")
    before = look(folder, **BY_PATH)
    paths = list(folder.glob("*.dcm"))
    random.Random(1).shuffle(paths)
    for index, path in enumerate(paths):
        path.rename(folder / f"renamed-{index}.dcm")
    after = look(folder, **BY_PATH)
    assert [(one.key, [item.key for item in one.items]) for one in before.studies] == [
        (one.key, [item.key for item in one.items]) for one in after.studies
    ]


def test_scan_keeps_no_identifier(folder: Path) -> None:
    """Nothing but the path names anything."""
    text = repr(look(folder, **BY_PATH).studies).replace(str(folder), "")
    assert not [name for name in ("P0", "P1", "1.2.826") if f"'{name}" in text]


def test_scan_selects(folder: Path) -> None:
    """What is not selected is listed."""
    with pytest.raises(BcdxError, match=r"modality not selected \(4\)"):
        look(folder, select=Select(modality=("MG",)), **BY_PATH)


def test_copies_of_one_instance_count_once_unless_each_file_has_a_label(folder: Path) -> None:
    """A copy labelled by file is asked for; by identifier it would only count twice."""
    (folder / "copy.dcm").write_bytes((folder / "0.dcm").read_bytes())
    (folder / "labels.csv").write_text("PatientID,label\nP0,a\nP1,b\nP2,a\nP3,b")
    assert {"same SOPInstanceUID as another file": 1} == reasons(look(folder, **BY_PATH))
    (folder / "labels.csv").write_text("path,label\n0.dcm,a\n1.dcm,b\n2.dcm,a\n3.dcm,b\ncopy.dcm,a")
    found = look(folder, **BY_PATH)
    assert 5 == sum(len(one.items) for one in found.studies)


@pytest.mark.parametrize("channels", ["grey", "phases"])
def test_copies_of_one_instance_with_two_labels_are_all_left_out(write_dicom: Any, folder: Path, channels: Any) -> None:
    """Whichever file were taken, half of the tables would be contradicted."""
    place = {"ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    rows = ["path,label"]
    for patient, phase in ((patient, phase) for patient in "abc" for phase in (1, 2)):
        pixels = np.random.default_rng(ord(patient) + phase).integers(0, 99, (8, 8)).astype(np.uint16)
        same = {"PatientID": patient, "StudyInstanceUID": f"1.{ord(patient)}", "TemporalPositionIdentifier": phase}
        write_dicom(f"in/{patient}{phase}.dcm", pixels, **same, **place)
        rows.append(f"{patient}{phase}.dcm,{'x' if patient == 'a' else 'y'}")
    (folder / "copy.dcm").write_bytes((folder / "b1.dcm").read_bytes())
    (folder / "labels.csv").write_text("\n".join([*rows, "copy.dcm,x"]))
    found = look(folder, channels=channels, **BY_PATH)
    assert 2 == reasons(found)["two labels for one sample"]
    assert not [item for item in items_of(found) if "b1" in item.frames[0].path]


def test_copies_in_folders_of_two_classes_are_all_left_out(write_dicom: Any, tmp_path: Path) -> None:
    """A folder's name is a label like any other."""
    for name in ("a/1.dcm", "a/2.dcm", "b/3.dcm"):
        write_dicom(f"in/{name}", np.arange(16, dtype=np.uint16).reshape(4, 4), PatientID=name)
    (tmp_path / "in" / "b" / "copy.dcm").write_bytes((tmp_path / "in" / "a" / "1.dcm").read_bytes())
    found = look(tmp_path / "in")
    assert ({"two labels for one sample": 2}, 2) == (reasons(found), len(items_of(found)))


def test_labels_of_images_that_are_not_selected_have_an_image(folder: Path, write_dicom: Any) -> None:
    """Nor is a damaged file missing: each is listed once, with its own reason."""
    write_dicom("in/mg.dcm", np.ones((4, 4), np.uint16), Modality="MG")
    (folder / "cut.dcm").write_bytes((folder / "0.dcm").read_bytes()[:200])
    with (folder / "labels.csv").open("a") as table:
        table.write("\nmg.dcm,tumour\ncut.dcm,tumour")
    found = look(folder, select=Select(modality=("MR",)), **BY_PATH)
    assert {"modality not selected": 1, "no pixel data": 1} == reasons(found)


def test_dicom_without_patient_taken_by_file_is_marked(write_dicom: Any, tmp_path: Path) -> None:
    """As a plain image is; a PatientID of its own needs no mark."""
    for index in range(2):
        write_dicom(f"in/{index}.dcm", np.ones((4, 4), np.uint16), PatientID=None)
        write_dicom(f"named/{index}.dcm", np.ones((4, 4), np.uint16), PatientID=f"P{index}")
    marks = [look(tmp_path / name, labelled=False, patient="file").patient_is_file for name in ("in", "named")]
    assert [True, False] == marks


@pytest.mark.parametrize("whole", [True, False])
def test_files_of_one_name_in_several_sources_stay_apart(tmp_path: Path, whole: bool) -> None:
    """Folders or files, in any order: each has a key and a patient of its own."""
    for index, name in enumerate("ab"):
        save_png(tmp_path / name / "1.png", index)
    sources = [tmp_path / name if whole else tmp_path / name / "1.png" for name in "ab"]
    keys = []
    for paths in (sources, sources[::-1]):
        found = scan(Dataset(patient="file"), source=paths, pseudonyms=NAMES, labelled=False)
        assert (2, 0) == (len({item.frames[0].patient for item in items_of(found)}), len(found.exclusions))
        keys.append({item.key for item in items_of(found)})
    assert keys[0] == keys[1]


def test_copy_that_alone_has_a_label_is_kept(folder: Path, write_dicom: Any) -> None:
    """Which of two equal files the table names is chance; the sample is not lost with the other one."""
    pixels = np.random.default_rng(9).integers(0, 999, (8, 8)).astype(np.uint16)
    place = {"ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [1, 1]}
    for phase in (1, 2):
        for number in (0, 1):
            write_dicom(f"in/p{phase}-{number}.dcm", pixels * phase, SOPInstanceUID=f"1.2.{phase}", PatientID="P9",
                        StudyInstanceUID="1.9", SeriesInstanceUID="1.9.1", FrameOfReferenceUID="1.8",
                        TemporalPositionIdentifier=phase, **place)  # fmt: skip
    (folder / "labels.csv").write_text("path,label\np1-1.dcm,a\np2-1.dcm,a\n")
    with pytest.raises(LabelError, match="every usable image is labelled 'a'"):
        look(folder, channels="phases", **BY_PATH)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        (r"mdb(?P<pair>\d+)", "mdb023.pgm", "pair 12"),
        (r"mdb(?P<pair>\d+)", "mdb024.pgm", "pair 12"),
        (r"(?P<patient>p\d+)_", "x/p7_1.png", "p7"),
        (r"p(\d+)_", "x/p7_1.png", "7"),
        (r"p\d+", "x/p7_1.png", "p7"),
        (r"q", "x/p7_1.png", ""),
    ],
)
def test_match_patient_reads_groups(pattern: str, name: str, expected: str) -> None:
    """Named group, else first group, else the whole match; `pair` joins neighbours."""
    assert expected == match_patient(pattern, name)


def test_plain_images_take_their_patient_from_the_table(tmp_path: Path) -> None:
    """A PatientID column beside the path is enough."""
    for index in range(4):
        save_png(tmp_path / "in" / f"{index}.png", index)
    (tmp_path / "in" / "t.csv").write_text("path,label,PatientID\n0.png,a,x\n1.png,b,x\n2.png,a,y\n3.png,b,y\n")
    found = look(tmp_path / "in", labels=Labels(file="t.csv"))
    assert 2 == len({item.frames[0].patient for one in found.studies for item in one.items})
    assert not found.patient_is_file


@pytest.mark.real_data
def test_real_patches_are_three_phases_in_order(shared_data: Path) -> None:
    """526 samples of 84 patients, ordered by TemporalPositionIdentifier."""
    found = look(shared_data / "breast_dce_patches", channels="phases", labels=Labels(file="labels.csv"))
    items = [item for one in found.studies for item in one.items]
    assert (526, 84) == (len(items), len({item.frames[0].patient for item in items}))
    assert {(1.0, 2.0, 3.0)} == {tuple(frame.time_keys[0] for frame in item.frames) for item in items}


@pytest.mark.real_data
def test_real_passes_in_two_series_are_told_apart_by_time(shared_data: Path) -> None:
    """Duke's pre-contrast pass comes first although AcquisitionNumber is 1 in both."""
    found = look(shared_data / "duke_breast_mri_153", labelled=False, channels="phases")
    pairs = [[Path(frame.path).parent.name for frame in item.frames] for one in found.studies for item in one.items]
    assert [["pre", "post1"]] * 46 == pairs
    assert {"a segmentation, not an image": 1} == reasons(found)


@pytest.mark.real_data
def test_real_misnamed_files_are_refused_in_one_line(shared_data: Path) -> None:
    """BMP in .jpg is no image that is read."""
    with pytest.raises(BcdxError, match=r"none of 10 files is usable: not an image of a kind that is read \(10\)"):
        look(shared_data / "misnamed_bmp_thermograms", patient="file")


@pytest.mark.real_data
def test_real_passes_as_single_samples_know_their_phase(shared_data: Path) -> None:
    """Each pass by itself: subgroups can tell them apart."""
    found = look(shared_data / "duke_breast_mri_153", labelled=False)
    told = {(Path(item.frames[0].path).parent.name, item.phase) for one in found.studies for item in one.items}
    assert {("pre", "pre"), ("post1", "post")} == told
