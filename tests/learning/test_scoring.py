"""Claims about predictions on disk: what was scored is what is read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bcdx.config import Fit
from bcdx.errors import RunError
from bcdx.evidence.calibration import Calibration, Calibrator, LevelCalibration
from bcdx.evidence.comparison import compare_runs
from bcdx.learning.data import Data
from bcdx.learning.run import Run, describe_run
from bcdx.learning.scoring import make_cases, read_predictions, write_predictions
from bcdx.records.manifest import read_manifest

HALVED = Calibration(3, 1, {"slice": LevelCalibration(Calibrator("temperature", 0.5, 0.0, 40))})


@pytest.fixture(scope="module")
def data(records: Path) -> Data:
    """Small shards."""
    return Data(records, read_manifest(records))


@pytest.fixture(scope="module")
def run(data: Data) -> Run:
    """A run on them."""
    return describe_run("fit", Fit(out="x"), data, level="slice")


def test_predictions_are_read_as_they_were_written(data: Data, run: Run, tmp_path: Path) -> None:
    """Samples in order and raw scores to nine digits; the calibrated probability stands beside them."""
    table = data.table(("test",))
    scores = np.random.default_rng(0).random(len(table.label))
    cases = make_cases(np.stack([1 - scores, scores], axis=1), table, run, top_slices=3)
    write_predictions(tmp_path / "predictions.csv", cases, table, run, HALVED)
    samples, actual = read_predictions(tmp_path / "predictions.csv", run, top_slices=3)
    assert table.sample.tolist() == samples
    assert cases.probabilities == pytest.approx(actual.probabilities, abs=1e-6)
    assert (cases.labels == actual.labels).all()
    shown = float((tmp_path / "predictions.csv").read_text().splitlines()[1].split(",")[4])
    assert HALVED.levels["slice"].calibrator.apply(cases.probabilities, 1)[0, 1] == pytest.approx(shown, abs=1e-6)


def test_predictions_of_another_version_are_refused(run: Run, tmp_path: Path) -> None:
    """A column that is missing is named by its file, not by a traceback."""
    (tmp_path / "predictions.csv").write_text("sample,label\na,b\n")
    with pytest.raises(RunError, match="another version"):
        read_predictions(tmp_path / "predictions.csv", run, top_slices=3)


def test_cases_group_lesions_by_their_area(data: Data, run: Run) -> None:
    """Without lesions drawn, the size is unknown; the scanner is known."""
    table = data.table(("test",))
    cases = make_cases(np.full((len(table.label), 2), 0.5), table, run, top_slices=3)
    assert set(cases.groups["lesion size"]) == {""}
    assert all(cases.groups["scanner"] == table.scanner)


def test_run_beside_itself_does_not_differ(data: Data, run: Run, tmp_path: Path) -> None:
    """Scores below a millionth are told apart by what is written: difference 0, p 1."""
    table = data.table(("test",))
    generator = np.random.default_rng(0)
    scores = (1e-6 * generator.random(len(table.label)).astype(np.float32)).astype(np.float64)
    cases = make_cases(np.stack([1 - scores, scores], axis=1), table, run, top_slices=3)
    write_predictions(tmp_path / "predictions.csv", cases, table, run, HALVED)
    _, again = read_predictions(tmp_path / "predictions.csv", run, top_slices=3)
    for level in ("slice", "breast", "patient"):
        found = compare_runs(cases, again)[level]
        assert [0.0, 0.0, 0.0, 1.0] == [found[key] for key in ("value", "low", "high", "p_value")]
