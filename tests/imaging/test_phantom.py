"""Claims about the synthetic collection: real DICOM, always the same, not told by brightness."""

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bcdx.config import Phantom
from bcdx.imaging.phantom import write_phantom

SMALL = Phantom(patients=6, slices_per_breast=2, size=75)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    write_phantom(folder, SMALL)
    return folder


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full")
    write_phantom(folder, Phantom())
    return folder


def read_labels(folder: Path) -> dict[str, str]:
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as stream:
        return {row["path"]: row["label"] for row in csv.DictReader(stream)}


def read_datasets(folder: Path) -> list[Dataset]:
    return [pydicom.dcmread(folder / path) for path in read_labels(folder)]


def read_bytes(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def find_ill_patients(labels: dict[str, str]) -> set[str]:
    return {path.split("/")[0] for path, label in labels.items() if label == "tumour"}


def measure_brightness(folder: Path) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """Mean and 95th percentile of each slice on its study's scale, shape (slices, 2); patients."""
    studies: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    for ds in read_datasets(folder):
        studies[ds.PatientID].append(ds.pixel_array * float(ds.get("RescaleSlope", 1.0)))
    features, patients = [], []
    for patient, slices in studies.items():
        low, high = np.percentile(slices, [0.5, 99.5])
        scaled = np.clip((np.stack(slices) - low) / (high - low), 0.0, 1.0)
        features.append([scaled.mean(axis=(1, 2)), np.percentile(scaled, 95, axis=(1, 2))])
        patients += [patient] * len(slices)
    return np.concatenate(features, axis=1).T, np.array(patients)


def test_phantom_label_table_lists_every_file(small: Path) -> None:
    """Each DICOM file has one row, and each row a file."""
    files = {path.relative_to(small).as_posix() for path in small.rglob("*.dcm")}
    assert files == set(read_labels(small))


def test_phantom_slices_fill_patients_and_breasts(small: Path) -> None:
    """The number of files is patients x two breasts x slices."""
    assert SMALL.patients * 2 * SMALL.slices_per_breast == len(read_labels(small))


def test_phantom_files_are_grey_sixteen_bit_mr(small: Path) -> None:
    """Every file reads as an unsigned 16-bit MR image of the size asked for."""
    seen = {(ds.Modality, ds.pixel_array.dtype.name, ds.pixel_array.shape) for ds in read_datasets(small)}
    assert {("MR", "uint16", (75, 75))} == seen


def test_phantom_files_say_they_are_nobody(small: Path) -> None:
    """Every file is marked as synthetic and as a phantom."""
    seen = {(ds.SyntheticData, ds.QualityControlSubject) for ds in read_datasets(small)}
    assert {("YES", "YES")} == seen


def test_phantom_instances_are_unique(small: Path) -> None:
    """No two slices share an instance UID."""
    uids = [ds.SOPInstanceUID for ds in read_datasets(small)]
    assert len(uids) == len(set(uids))


def test_phantom_side_follows_geometry(small: Path) -> None:
    """The left breast lies at positive x, the right one at negative x, at least 20 mm off."""
    for path in read_labels(small):
        x_mm = float(pydicom.dcmread(small / path).ImagePositionPatient[0])
        assert x_mm > 20.0 if "/L/" in path else x_mm < -20.0


def test_phantom_states_side_in_either_tag_or_in_none(small: Path) -> None:
    """A reader of the collection meets both laterality tags, and files with neither."""
    datasets = read_datasets(small)
    seen = {("Laterality" in ds, "ImageLaterality" in ds) for ds in datasets}
    assert {(True, False), (False, True), (False, False)} == seen


def test_phantom_rescales_some_patients(small: Path) -> None:
    """Stored values need the rescale slope in some files and not in others."""
    assert {None, 0.5} == {ds.get("RescaleSlope") for ds in read_datasets(small)}


def test_phantom_half_of_patients_are_healthy(full: Path) -> None:
    """Exactly half of the patients have no slice labelled tumour."""
    assert Phantom().patients // 2 == len(find_ill_patients(read_labels(full)))


def test_phantom_lesion_stays_in_one_breast(full: Path) -> None:
    """No patient has tumour slices on both sides."""
    sides = {path.rsplit("/", 1)[0] for path, label in read_labels(full).items() if label == "tumour"}
    assert len(sides) == len({side.split("/")[0] for side in sides})


def test_phantom_lesions_occur_in_both_breasts(full: Path) -> None:
    """Which breast is ill cannot be guessed from its side alone."""
    ill = [path.split("/")[1] for path, label in read_labels(full).items() if label == "tumour"]
    assert {"L", "R"} == set(ill)


def test_phantom_lesion_shows_in_most_slices(full: Path) -> None:
    """A lesion is seen in at least two of its breast's three slices."""
    shown: dict[str, int] = defaultdict(int)
    for path, label in read_labels(full).items():
        shown[path.split("/")[0]] += label == "tumour"
    assert {0, 2, 3} == set(shown.values())


def test_phantom_same_settings_same_bytes(small: Path, tmp_path: Path) -> None:
    """Writing twice gives the same files to the byte."""
    write_phantom(tmp_path, SMALL)
    assert read_bytes(small) == read_bytes(tmp_path)


def test_phantom_other_seed_other_pixels(small: Path, tmp_path: Path) -> None:
    """The seed changes every image."""
    write_phantom(tmp_path, SMALL.model_copy(update={"seed": SMALL.seed + 1}))
    pairs = zip(read_datasets(small), read_datasets(tmp_path), strict=True)
    assert not any(old.PixelData == new.PixelData for old, new in pairs)


@pytest.mark.parametrize("slices", [1, 9])
def test_phantom_any_slice_count_shows_each_lesion(slices: int, tmp_path: Path) -> None:
    """With one slice as with many, half of the patients are seen to be ill."""
    write_phantom(tmp_path, Phantom(patients=4, slices_per_breast=slices, size=75))
    assert len(find_ill_patients(read_labels(tmp_path))) == 2


def test_phantom_brightness_does_not_tell_who_is_ill(full: Path) -> None:
    """A linear model on each slice's mean and 95th percentile stays near chance by patient."""
    features, patients = measure_brightness(full)
    labels = np.array([label == "tumour" for label in read_labels(full).values()])
    model = make_pipeline(StandardScaler(), LogisticRegression())
    scores = cross_val_predict(model, features, labels, groups=patients, cv=GroupKFold(5), method="decision_function")
    names = np.unique(patients)
    ill = [labels[patients == name].any() for name in names]
    top = [np.sort(scores[patients == name])[-3:].mean() for name in names]
    assert abs(roc_auc_score(ill, top) - 0.5) < 0.2
