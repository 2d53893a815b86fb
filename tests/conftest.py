"""What all tests share: a private key and private folders of their own, and the way to the real images."""

from __future__ import annotations

import csv
import functools
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

HERE = Path(__file__).parent
RUN = "finished run"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put first what takes long: processes then end together."""
    items.sort(key=lambda item: _order(_find_group(item.nodeid.partition("::")[0])))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give a process whole files, and one of them all files that share the finished run: it is made once."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _find_group(nodeid.partition("::")[0])

    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


@functools.cache
def _find_group(file: str) -> str:
    """Return what a file's tests are dealt with: `RUN`, or the file alone."""
    path = HERE.parent / file
    return RUN if path.is_file() and re.search("(finished|calibrated)_run", path.read_text()) else file


def _order(group: str) -> int:
    return 0 if group == RUN else 1 if "/learning/" in group else 2


@pytest.fixture(autouse=True, scope="session")
def private_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep keys and indexes of the tests away from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BCDX_PSEUDONYM_KEY", "a key for tests")
        for name in ("CONFIG", "STATE", "CACHE"):
            patch.setenv(f"XDG_{name}_HOME", str(tmp_path_factory.mktemp(name.lower())))
        yield


@pytest.fixture(autouse=True, scope="session")
def usual_signals() -> Iterator[None]:
    """Let processes that tests start be stopped, though the tests run under nohup or in the background."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    ignored = [one for one in usual if signal.getsignal(one) == signal.SIG_IGN]
    for one in ignored:
        signal.signal(one, usual[one])
    yield
    for one in ignored:
        signal.signal(one, signal.SIG_IGN)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real images: $BCDX_DATA, else ../shared/data beside the checkout."""
    folder = Path(os.environ.get("BCDX_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real images: BCDX_DATA is not set and ../shared/data is missing")
    return folder.resolve()


@pytest.fixture(scope="session")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of a small phantom: 36 patients, one slice of each breast, 75 px."""
    from bcdx import config
    from bcdx.shard import write_records

    out = tmp_path_factory.mktemp("records") / "small"
    phantom = config.Phantom(patients=36, slices_per_breast=1, size=75)
    write_records(config.Dataset(out=str(out), size=75, phantom=phantom, min_shards=2, workers=1))
    return out


WriteDicom = Callable[..., Path]


@pytest.fixture
def write_dicom(tmp_path: Path) -> WriteDicom:
    """A function (name, pixels, **elements) -> path of a DICOM file; an element set to None is left out."""

    def write(name: str, pixels: np.ndarray, **elements: Any) -> Path:
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID = MRImageStorage
        for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
            setattr(ds, keyword, generate_uid(entropy_srcs=[keyword, name]))
        ds.PatientID, ds.Modality, ds.PhotometricInterpretation = "P1", "MR", "MONOCHROME2"
        ds.Rows, ds.Columns = pixels.shape[-2:]
        ds.SamplesPerPixel, ds.PixelRepresentation = 1, int(pixels.dtype.kind == "i")
        ds.BitsAllocated = ds.BitsStored = pixels.dtype.itemsize * 8
        ds.HighBit = ds.BitsStored - 1
        ds.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
        ds["PixelData"].VR = "OW"
        for keyword, value in elements.items():
            if value is None:
                del ds[keyword]
            else:
                setattr(ds, keyword, value)
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        ds.save_as(path, enforce_file_format=True)
        return path

    return write


CANARIES = {
    "PatientName": "CANARYNAME^ANNA",
    "PatientBirthDate": "19010203",
    "StudyDate": "19310405",
    "InstitutionName": "CANARYCLINIC",
    "StudyDescription": "CANARYSTUDY",
    "AccessionNumber": "CANARYACC",
}
"""Identifiers planted in every file of the small collection; `CANARYID` and the UIDs' root `1.2.77777` come on top."""


@pytest.fixture(scope="session")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of DICOM files with planted identifiers, its label table, and the recipe `small.toml` beside it."""
    import pydicom

    from bcdx.config import Phantom
    from bcdx.imaging.phantom import write_phantom

    home = tmp_path_factory.mktemp("CANARYPATH")
    write_phantom(home / "dicom", Phantom(patients=36, slices_per_breast=1, size=75))
    for path in (home / "dicom").rglob("*.dcm"):
        ds = pydicom.dcmread(path)
        for keyword, value in CANARIES.items():
            setattr(ds, keyword, value)
        ds.PatientID = f"CANARYID-{ds.PatientID}"
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
            setattr(ds, keyword, f"1.2.77777.{ds[keyword].value.split('.')[-1][:40]}")
        ds.save_as(path)
    (home / "small.toml").write_text(
        'source = "$BCDX_TEST_SOURCE"\nsize = 75\nmin_shards = 2\n[labels]\nfile = "labels.csv"\n'
    )
    (home / "search.toml").write_text(
        'dataset = "small.toml"\n[optimizer]\nepochs = 2\n[search]\ntrials = 2\n'
        '[space]\ndepth = ["mixed0/mixed1"]\n[report]\nexamples = 2\n'
    )
    os.environ["BCDX_TEST_SOURCE"] = str(home / "dicom")
    return home


PLATT = (1.5, 1.0)
"""Slope and intercept of the calibrator of `calibrated_run`."""


@pytest.fixture(scope="session")
def finished_run(collection: Path) -> Path:
    """The run folder of a search of two trials on the small collection, made by the command."""
    done = run_command("tune", str(collection / "search.toml"))
    if done.returncode:
        raise RuntimeError(done.stderr)
    (collection / "said.txt").write_text(done.stdout + done.stderr)
    return collection / "search"


@pytest.fixture(scope="session")
def calibrated_run(finished_run: Path) -> Path:
    """A copy of the run whose scores differ from its probabilities at every level: by Platt's `PLATT`.

    Thresholds are chosen on the run's validation scores; `predictions.csv` tells the probabilities that belong to them,
    `metrics.json` still those of the run.
    """
    from bcdx.evidence.calibration import Calibration, Calibrator, LevelCalibration
    from bcdx.evidence.operating import choose_operating_points
    from bcdx.evidence.scores import LEVELS
    from bcdx.learning.run import CALIBRATION, read_finished
    from bcdx.learning.scoring import PREDICTIONS, VALIDATION, read_predictions

    folder = finished_run.with_name("calibrated")
    shutil.copytree(finished_run, folder)
    run, found = read_finished(folder)
    _, cases = read_predictions(folder / VALIDATION, run, top_slices=found.top_slices)
    calibrator, levels = Calibrator("platt", *PLATT, n=len(cases.labels)), {}
    for level in LEVELS:
        units = cases.at_level(level)
        assert units is not None, level
        scores = calibrator.apply(units.probabilities, cases.positive)[:, cases.positive]
        levels[level] = LevelCalibration(calibrator, choose_operating_points(scores, units.labels == cases.positive))
    calibration = Calibration(found.top_slices, found.test_views, levels)
    (folder / CALIBRATION).write_text(json.dumps(calibration.to_json()))
    with (folder / PREDICTIONS).open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (folder / PREDICTIONS).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, "probability": f"{_calibrate(float(row['score'])):.6f}"} for row in rows)
    return folder


def _calibrate(score: float) -> float:
    """Return what Platt's map makes of a score; of 0 and 1 themselves."""
    slope, intercept = PLATT
    odds = math.exp(intercept) * (score / (1.0 - score)) ** slope if score < 1.0 else math.inf
    return 1.0 - 1.0 / (1.0 + odds)


def run_command(verb: str, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run `python -m bcdx.VERB` as a user would."""
    command = [sys.executable, "-m", f"bcdx.{verb}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, timeout=500)
