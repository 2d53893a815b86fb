"""Sharding beside the loop that one would write by hand: CPU time a slice, throughput, memory.

Command: python benchmarks/shard.py --slices 10000 --json shard.json
Writes synthetic MR slices (512 x 512, 16 bits, a hundred slices a study, headers of some 160 elements as files of
TCGA-BRCA have) into a scratch folder and turns them into TFRecords of 256 x 256 in processes of their own:

- bcdx with 1 and with 2 workers, and with 1 worker on a fifth of the studies (memory must not grow with the slices),
- plain: pydicom, pixel_array, numpy.percentile over the study, Pillow, tf.train.Example; its stored pixels are checked
  to equal those of bcdx,
- bare: pydicom, pixel_array and tf.train.Example alone, the source pixels as they are, for orientation.

Prints CPU-ms and wall-ms a slice (start of Python and TensorFlow included), the peak memory of all processes together
(sampled; pages that they share count once) and the two ratios that matter.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

SIDE, STORED, PER_STUDY, SHARDS = 512, 256, 100, 8
PERCENTILES = (0.5, 99.5)
USUAL = (
    "SliceLocation", "SpacingBetweenSlices", "RepetitionTime", "EchoTime", "NumberOfAverages", "ImagingFrequency",
    "ImagedNucleus", "PercentSampling", "PercentPhaseFieldOfView", "PixelBandwidth", "ProtocolName", "FlipAngle", "SAR",
    "dBdt", "TransmitCoilName", "ReceiveCoilName", "SoftwareVersions", "DeviceSerialNumber", "StationName",
    "ContrastBolusAgent", "ContrastBolusVolume", "ContrastBolusTotalDose", "ScanningSequence", "SequenceVariant",
    "ScanOptions", "SequenceName", "TriggerTime", "PatientWeight", "PatientSize", "StudyID", "AccessionNumber",
    "StudyDescription", "InstitutionAddress", "InstitutionalDepartmentName", "PerformedProcedureStepDescription",
    "RequestedProcedureDescription", "PositionReferenceIndicator", "BodyPartExamined", "WindowCenter", "WindowWidth",
    "PatientPosition", "PatientIdentityRemoved", "DeidentificationMethod", "ReconstructionDiameter",
    "AcquisitionNumber",
)  # fmt: skip
"""Elements that nearly every MR file has; what they hold does not matter here."""
TEXTS = ("patient", "study", "sample", "laterality", "plane", "scanner", "site", "label_origin")


def main() -> None:
    """Write the collection, run each contender on it, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=10000)
    parser.add_argument("--repeats", type=int, default=1, help="runs of each contender; the median counts")
    parser.add_argument("--scratch", type=Path, help="folder for the collection, kept for the next time")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--contender", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        name, source, out = options.contender
        run_contender(name, Path(source), Path(out))
        return
    with tempfile.TemporaryDirectory() as scratch:
        place = options.scratch or Path(scratch)
        studies = max(10, options.slices // PER_STUDY)
        source, few = place / f"studies-{studies}", place / f"studies-{studies}-fifth"
        write_collection(source, studies)
        link_some(source, few, max(10, studies // 5))
        os.sync()
        for path in source.rglob("*.dcm"):  # all find the files in memory
            path.read_bytes()
        report = compare(source, few, Path(scratch), options.repeats)
    report["machine"] = f"{os.cpu_count()} CPU cores, {platform.machine()}"
    print_report(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2))


def compare(source: Path, few: Path, scratch: Path, repeats: int) -> dict[str, Any]:
    """Run every contender `repeats` times in turn and return the medians, the ratios and whether pixels agree."""
    runs: dict[str, list[dict[str, float]]] = {}
    plan = {"bcdx-1": source, "plain": source, "bcdx-2": source, "bare": source, "bcdx-1 on a fifth": few}
    for repeat in range(repeats):
        for name, folder in plan.items():
            out = scratch / f"{name.replace(' ', '-')}-{repeat}"
            runs.setdefault(name, []).append(measure(name.split()[0], folder, out))
    found = {
        name: {key: float(np.median([one[key] for one in ones])) for key in ones[0]} for name, ones in runs.items()
    }
    same = hash_images(scratch / "bcdx-1-0") == hash_images(scratch / "plain-0") == hash_images(scratch / "bcdx-2-0")
    return {
        "contenders": found,
        "less_cpu": found["plain"]["cpu_ms"] / found["bcdx-1"]["cpu_ms"],
        "two_workers": found["bcdx-1"]["wall_ms"] / found["bcdx-2"]["wall_ms"],
        "same_pixels": same,
    }


def print_report(report: dict[str, Any]) -> None:
    """Print the table and the ratios."""
    print(f"{report['machine']}; {SIDE} x {SIDE} to {STORED} x {STORED}")
    print(f"{'':<20}{'slices':>8}{'CPU-ms a slice':>16}{'wall-ms a slice':>17}{'slices/s':>10}{'peak MiB':>10}")
    for name, one in report["contenders"].items():
        rate = 1000.0 / one["wall_ms"]
        print(
            f"{name:<20}{one['slices']:>8.0f}{one['cpu_ms']:>16.2f}{one['wall_ms']:>17.2f}{rate:>10.0f}"
            f"{one['peak_mib']:>10.0f}"
        )
    print(f"CPU a slice, plain over bcdx with one worker: {report['less_cpu']:.2f}")
    print(f"throughput, two workers over one: {report['two_workers']:.2f}")
    print(f"stored pixels of bcdx and plain are {'equal' if report['same_pixels'] else 'NOT EQUAL'}")


def measure(name: str, source: Path, out: Path) -> dict[str, float]:
    """Run one contender in a process of its own and return its costs, those of its workers included."""
    slices = sum(1 for _ in source.rglob("*.dcm"))
    command = [sys.executable, __file__, "--contender", name, str(source), str(out)]
    began = time.monotonic()
    process = subprocess.Popen(command)
    watch = _Watch(process.pid)
    watch.start()
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    watch.stop()
    if process.returncode:
        raise SystemExit(f"{name} ended with status {process.returncode}")
    cpu = used.ru_utime + used.ru_stime
    return {
        "slices": slices,
        "cpu_ms": 1000.0 * cpu / slices,
        "wall_ms": 1000.0 * seconds / slices,
        "peak_mib": watch.peak_kib / 1024,
        "largest_process_mib": used.ru_maxrss / 1024,
    }


class _Watch(threading.Thread):
    """Samples the memory of a process and its descendants."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peak_kib, self.done = pid, 0, threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.2):
            found = [read_memory_kib(pid) for pid in list_family(self.pid)]
            # libraries are the same files in all of them
            self.peak_kib = max(self.peak_kib, sum(own for own, _ in found) + max(files for _, files in found))

    def stop(self) -> None:
        self.done.set()
        self.join()


def list_family(pid: int) -> Iterator[int]:
    """Yield a process and all that it started, as /proc tells."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in children:
            yield from list_family(int(child))


def read_memory_kib(pid: int) -> tuple[int, int]:
    """Return a process's share of anonymous pages, and its pages of files; 0 where the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return 0, 0
    found = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return found.get("Pss_Anon", 0), found.get("Rss", 0) - found.get("Anonymous", 0)


def write_collection(folder: Path, studies: int) -> None:
    """Write `studies` studies of a hundred slices, and a label for each patient."""
    if (folder / "labels.csv").exists():
        return
    row, column = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    disc = row**2 + column**2 < 0.7
    for number in range(studies):
        (folder / f"study{number:04d}").mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(number + 1)
        for index in range(PER_STUDY):
            write_slice(folder / f"study{number:04d}" / f"{index:03d}.dcm", (number, index), draw_slice(rng, disc))
    rows = [f"P{number:04d},{'tumour' if number % 2 else 'none'}" for number in range(studies)]
    (folder / "labels.csv").write_text("\n".join(["PatientID,label", *rows, ""]))


def link_some(source: Path, folder: Path, studies: int) -> None:
    """Make a collection of the first studies of another, by hard links."""
    if (folder / "labels.csv").exists():
        return
    for study in sorted(source.glob("study*"))[:studies]:
        (folder / study.name).mkdir(parents=True, exist_ok=True)
        for path in study.iterdir():
            os.link(path, folder / study.name / path.name)
    lines = (source / "labels.csv").read_text().splitlines()
    (folder / "labels.csv").write_text("\n".join([*lines[: studies + 1], ""]))


def draw_slice(rng: np.random.Generator, disc: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """Return a slice unlike all others: smooth tissue in a disc, air around it, Rician noise."""
    blobs = Image.fromarray(rng.uniform(100.0, 900.0, (12, 12)).astype(np.float32))
    tissue = np.where(disc, np.asarray(blobs.resize((SIDE, SIDE), Image.Resampling.BICUBIC)), 8.0)
    real, imaginary = rng.standard_normal((2, SIDE, SIDE), np.float32) * 12.0
    return np.hypot(tissue + real, imaginary).astype(np.uint16)


def write_slice(path: Path, place: tuple[int, int], pixels: NDArray[np.uint16]) -> None:
    """Write one DICOM file with as many elements as a scanner's have."""
    number, index = place
    uid = [generate_uid(entropy_srcs=["bench", f"{number}.{part}"]) for part in ("study", "series", "frame")]
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = MRImageStorage
    ds.SOPInstanceUID = generate_uid(entropy_srcs=["bench", f"{number}.{index}"])
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = uid
    ds.PatientID, ds.Modality, ds.Manufacturer, ds.ManufacturerModelName = f"P{number:04d}", "MR", "SIEMENS", "Avanto"
    ds.MagneticFieldStrength, ds.InstitutionName, ds.Laterality = 1.5, f"clinic {number % 3}", "L"
    ds.SeriesNumber, ds.InstanceNumber, ds.PixelSpacing, ds.SliceThickness = 4, index + 1, [0.4, 0.4], 2.0
    ds.ImageOrientationPatient, ds.ImagePositionPatient = [0, 1, 0, 0, 0, -1], [20.0 + index, -100.0, 100.0]
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.Rows, ds.Columns = 16, 12, 11, SIDE, SIDE
    ds.SeriesDescription, ds.ImageType = "sag dyn", ["ORIGINAL", "PRIMARY", "M", "ND"]
    for kind in ("Study", "Series", "Acquisition", "Content"):
        setattr(ds, f"{kind}Date", "20200101")
        setattr(ds, f"{kind}Time", f"1010{index % 60:02d}.5")
    for keyword in USUAL:
        setattr(ds, keyword, "1")
    block = ds.private_block(0x0019, "BENCH", create=True)
    for element in range(75):  # what scanners add of their own
        block.add_new(element, "LO", f"value {element} of the sequence")
    ds.PixelData = pixels.tobytes()
    ds["PixelData"].VR = "OW"
    ds.save_as(path, enforce_file_format=True)


def run_contender(name: str, source: Path, out: Path) -> None:
    """Do one contender's work."""
    if name.startswith("bcdx"):
        from bcdx import config
        from bcdx.shard import write_records

        labels = config.Labels(file="labels.csv")
        write_records(
            config.Dataset(source=str(source), out=str(out), size=STORED, labels=labels, workers=int(name[-1]))
        )
        return
    out.mkdir()
    loop = shard_plainly if name == "plain" else shard_barely
    loop(source, out)


def shard_plainly(source: Path, out: Path) -> None:
    """The loop that one would write: a study at a time, normalised by its percentiles, resized, stored."""
    import tensorflow as tf

    labels = dict(line.split(",") for line in (source / "labels.csv").read_text().splitlines()[1:])
    folders = sorted(source.glob("study*"))
    writers = [tf.io.TFRecordWriter(str(out / f"train-{number:05d}.tfrecord")) for number in range(SHARDS)]
    for number, folder in enumerate(folders):
        headers = [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]
        stack = np.stack([ds.pixel_array for ds in headers])
        low, high = np.percentile(stack, PERCENTILES)
        for ds, pixels in zip(headers, stack, strict=True):
            image = normalise(pixels, float(low), float(high))
            label = int(labels[ds.PatientID] == "tumour")
            writers[number % SHARDS].write(make_example(ds, image, label).SerializeToString())
    for writer in writers:
        writer.close()


def normalise(pixels: NDArray[np.uint16], low: float, high: float) -> NDArray[np.uint16]:
    """Return the stored image: unit range, Pillow's bilinear filter, 16 bits."""
    unit = np.clip((pixels.astype(np.float32) - np.float32(low)) / np.float32(high - low), 0.0, 1.0)
    small = np.asarray(Image.fromarray(unit).resize((STORED, STORED), Image.Resampling.BILINEAR))
    return np.rint(np.clip(small, 0.0, 1.0) * np.float32(65535.0)).astype(np.uint16)


def make_example(ds: Dataset, image: NDArray[np.uint16], label: int) -> Any:
    """Return a record with the features of bcdx."""
    from tensorflow.train import BytesList, Example, Feature, Features, FloatList, Int64List

    texts: Sequence[Any] = (
        ds.PatientID, ds.StudyInstanceUID, ds.SOPInstanceUID, ds.get("Laterality", ""), "sagittal",
        f"{ds.Manufacturer} {ds.ManufacturerModelName} {ds.MagneticFieldStrength:g}T", ds.InstitutionName, "table",
    )  # fmt: skip
    numbers = {
        "shape": [*image.shape, 1],
        "label": [label],
        "sample_seed": [ds.InstanceNumber],
        "slice_index": [ds.InstanceNumber],
    }
    floats = {
        "spacing_mm": [float(value) * SIDE / STORED for value in ds.PixelSpacing],
        "lesion_mm2": [-1.0],
        "lesion_box": [-1.0] * 4,
    }
    features = {"image": Feature(bytes_list=BytesList(value=[image.tobytes()]))}
    for name, text in zip(TEXTS, texts, strict=True):
        features[name] = Feature(bytes_list=BytesList(value=[str(text).encode()]))
    features.update({name: Feature(int64_list=Int64List(value=values)) for name, values in numbers.items()})
    features.update({name: Feature(float_list=FloatList(value=values)) for name, values in floats.items()})
    return Example(features=Features(feature=features))


def shard_barely(source: Path, out: Path) -> None:
    """The least: decode and store, nothing normalised."""
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(out / "train-00000.tfrecord")) as writer:
        for path in sorted(source.rglob("*.dcm")):
            pixels = pydicom.dcmread(path).pixel_array
            feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[pixels.tobytes()]))
            example = tf.train.Example(features=tf.train.Features(feature={"image": feature}))
            writer.write(example.SerializeToString())


def hash_images(folder: Path) -> list[str]:
    """Return the hashes of all stored images, sorted."""
    import tensorflow as tf

    found = []
    for record in tf.data.TFRecordDataset(sorted(map(str, folder.glob("*.tfrecord")))).as_numpy_iterator():
        image = tf.train.Example.FromString(record).features.feature["image"].bytes_list.value[0]
        found.append(hashlib.sha256(image).hexdigest())
    return sorted(found)


if __name__ == "__main__":
    main()
