"""The job that runs without any data: its time, memory and score, beside a model that sees brightness alone.

Command: python benchmarks/phantom.py --json phantom.json
Prints: wall time and peak memory of `python -m bcdx.tune` in an empty folder, its test ROC AUC per patient with its
interval, and that of a logistic regression on each slice's mean and 95th percentile, on the same splits (a patient's
score is the mean of the three highest slices for both).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bcdx.evidence.calibration import LevelCalibration
from bcdx.evidence.cases import Cases
from bcdx.evidence.metrics import evaluate_level
from bcdx.learning.data import Data
from bcdx.records.manifest import read_manifest


def main() -> None:
    """Run the job, then the comparison, and print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        report = run_job(Path(scratch))
        report["brightness_auc"] = score_brightness(Path(scratch) / "tfrecords" / "phantom")
    report["machine"] = f"{os.cpu_count()} CPU cores, {platform.machine()}"
    print(f"{report['seconds']:.0f} s, {report['peak_gib']:.2f} GiB on {report['machine']}, {report['precision']}")
    for name in ("auc", "brightness_auc"):
        entry = report[name]
        print(f"{name:<16}{entry['value']:.3f} ({entry['low']:.3f} to {entry['high']:.3f}; n = {entry['n']} patients)")
    if options.json:
        options.json.write_text(json.dumps(report, indent=2))


def run_job(folder: Path) -> dict[str, Any]:
    """Return seconds, peak memory of the largest process and the patient-level AUC of the default job."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "bcdx.tune"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - began
    metrics = json.loads((folder / "tuning" / "phantom" / "metrics.json").read_text())
    run = json.loads((folder / "tuning" / "phantom" / "run.json").read_text())
    peak_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    facts = {"seconds": seconds, "peak_gib": peak_kib / 2**20, "precision": run["precision"]}
    return {**facts, "auc": metrics["patient"]["auc"]}


def score_brightness(records: Path) -> dict[str, Any]:
    """Return the test AUC per patient of a logistic regression on two figures of brightness."""
    data = Data(records, read_manifest(records))
    model = make_pipeline(StandardScaler(), LogisticRegression())
    model.fit(measure_brightness(data, ("train", "validation")), data.table(("train", "validation")).label)
    table = data.table(("test",))
    scores = model.predict_proba(measure_brightness(data, ("test",)))
    cases = Cases(scores, table.label, table.patient, table.laterality, positive=1)
    found: dict[str, Any] = evaluate_level(cases, "patient", LevelCalibration(), 2000, 0)["auc"]
    return found


def measure_brightness(data: Data, splits: tuple[str, ...]) -> NDArray[np.float64]:
    """Return mean and 95th percentile of each stored slice, shape (samples, 2)."""
    images = np.concatenate([batch.numpy() for batch in data.plain_images(splits, 64)])
    pixels = images.reshape(len(images), -1)
    return np.stack([pixels.mean(axis=1), np.percentile(pixels, 95, axis=1)], axis=1)


if __name__ == "__main__":
    main()
