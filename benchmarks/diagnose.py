"""Diagnosis of 200 slices as a user meets it: the whole command, from process start to the last file.

Command: python benchmarks/diagnose.py --json diagnose.json
         python benchmarks/diagnose.py --run tuning/breast_dce_patches
Writes ten synthetic studies of twenty slices (512 x 512, 16 bits, both breasts) as DICOM, with as many dynamic phases
as the run takes, and runs `python -m bcdx.diagnose` on them in a process of its own, held to two cores. Unless `--run`
names a run, it makes two around networks that start at random, which cost as much as trained ones: early blocks and all
of InceptionV3, at 256 px.

Prints wall seconds, CPU seconds, the peak memory of the process and each stage's share. Goal: under 60 s and 3 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pydicom
from pydicom.uid import generate_uid

from bcdx import config

PER_STUDY, SIDE, CORES = 20, 512, 2
RUNS = {"early blocks, 256 px": ("none/mixed0+mixed3", 256), "all blocks, 256 px": ("none/mixed10", 256)}
STAGE = re.compile(r"^  (\S.*?)\s+([\d.]+) s\s+\d+ %$", re.MULTILINE)


def main() -> None:
    """Make what is missing, run the command on it, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="finished run to use; unset: two that are made")
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])  # processes that it starts inherit this
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        runs = {options.run.name: options.run} if options.run else {name: make_run(place, name) for name in RUNS}
        rows = [measure(name, folder, write_studies(place, options.slices, folder)) for name, folder in runs.items()]
    report = {"machine": f"{min(CORES, os.cpu_count() or 1)} CPU cores, {platform.machine()}", "rows": rows}
    print_report(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2))


def measure(name: str, run: Path, studies: Path) -> dict[str, Any]:
    """Run the command and return its costs."""
    out = studies.parent / f"out of {name}"
    command = [sys.executable, "-m", "bcdx.diagnose", str(run), str(studies), "--out", str(out), "-v"]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said = process.stderr.read() if process.stderr else ""
    _, status, used = os.wait4(process.pid, 0)
    wall = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(said)
    content = json.loads((out / "diagnosis.json").read_text())
    return {
        "run": name,
        "slices": content["data"]["samples"],
        "views": content["judging"]["test_views"],
        "wall_s": wall,
        "cpu_s": used.ru_utime + used.ru_stime,
        "peak_gb": used.ru_maxrss * 1024 / 1e9,
        "stages": {found[0]: float(found[1]) for found in STAGE.findall(said)},
    }


def print_report(report: dict[str, Any]) -> None:
    """Print a line per run, and its stages."""
    print(report["machine"])
    print(f"{'':<28}{'slices':>8}{'views':>7}{'wall s':>9}{'CPU s':>9}{'peak GB':>9}")
    for row in report["rows"]:
        print(
            f"{row['run']:<28}{row['slices']:>8}{row['views']:>7}{row['wall_s']:>9.1f}{row['cpu_s']:>9.1f}"
            f"{row['peak_gb']:>9.2f}"
        )
        for name, seconds in row["stages"].items():
            print(f"  {name:<34}{seconds:>25.1f} s")


def write_studies(place: Path, slices: int, run: Path) -> Path:
    """Write synthetic studies, each slice once for each phase that the run takes."""
    facts = json.loads((run / "run.json").read_text())
    phases = facts["image_shape"][2] if facts["dataset"]["channels"] == "phases" else 1
    folder = place / f"{slices} slices in {phases} phases"
    if not folder.exists():
        from bcdx.imaging.phantom import write_phantom

        patients = max(4, slices // PER_STUDY)
        write_phantom(folder, config.Phantom(patients=patients, slices_per_breast=slices // patients // 2, size=SIDE))
        for path in sorted(folder.rglob("*.dcm")) if phases > 1 else []:
            write_phases(path, phases)
    return folder


def write_phases(path: Path, phases: int) -> None:
    """Make the dynamic phases of a slice: the same anatomy, a little brighter each time."""
    ds = pydicom.dcmread(path)
    pixels = ds.pixel_array
    for phase in range(1, phases + 1):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid(
            entropy_srcs=[path.name, str(path), str(phase)]
        )
        ds.TemporalPositionIdentifier, ds.AcquisitionNumber = phase, phase
        ds.PixelData = np.minimum(pixels.astype(np.uint32) * (9 + phase) // 10, 65535).astype(np.uint16).tobytes()
        ds.save_as(path.with_name(f"{path.stem}-{phase}.dcm"))
    path.unlink()


def make_run(place: Path, name: str) -> Path:
    """Return a run folder around a network that starts at random, as if it had been trained."""
    from bcdx._files import write_json
    from bcdx.evidence.calibration import Calibration
    from bcdx.evidence.familiarity import fit_reference, write_reference
    from bcdx.learning import run as runs
    from bcdx.learning.network import FEATURES, build_model
    from bcdx.records.manifest import describe_recipe

    depth, size = RUNS[name]
    folder = place / name
    folder.mkdir()
    fit = config.Fit(network=config.Network(weights="random", depth=depth))
    shape = (size, size, 1)
    model = build_model(fit.network, input_shape=shape, classes=2, policy="float32", seed=0)
    model.save(folder / runs.MODEL)
    wide = model.get_layer(FEATURES).output.shape[-1]
    features = np.random.default_rng(0).standard_normal((300, wide)).astype(np.float32)
    write_reference(folder / "reference.npz", fit_reference(features, np.arange(300).astype(str)))
    write_json(folder / runs.CALIBRATION, Calibration(3, 1, {}).to_json())
    write_json(folder / runs.METRICS, {})
    facts = runs.Run(
        verb="fit",
        settings=fit.model_dump(mode="json"),
        fingerprint="0" * 64,
        data_hash="0" * 64,
        records="records",
        dataset=describe_recipe(config.Dataset(size=size, select=config.Select(modality=("MR",)))),
        classes=("no_tumour", "tumour"),
        positive="tumour",
        image_shape=shape,
        learned_patients=(),
        patient_is_file=False,
        level="slice",
        precision="float32",
        seed=0,
        versions={},
    )
    runs.write_run(folder, facts)
    return folder


if __name__ == "__main__":
    main()
