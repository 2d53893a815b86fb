"""Where a trained model's maps point on real lesions, and what classical thresholds cover of them.

Command: BCDX_DATA=... python benchmarks/localisation.py RUN --json localisation.json --pictures FOLDER
RUN is a finished run of tuning/breast_dce_patches.toml, which has seen neither of these patients.
Prints: the pointing game (how often a map's maximum lies within 0 and 15 pixels of the lesion) on the 18 boxed slices
of one Duke exam and on four TCGA-BRCA slices with masks, beside points that need no model; Dice of each threshold
method against the four masks; what each covers of the Duke boxes.

The model takes patches of 23 mm in three phases. So a slice is resampled to the patches' spacing and the model slides
over the body; "slide" is the map of P(tumour) at the middle of each window, linear in between. "Grad-CAM" is that of
the slice as a whole, shrunk to the model's input: another scale than it was trained on, where it may find nothing and
give no map, which is a miss. "peak patch" is Grad-CAM at the right scale, of the window that "slide" is surest of. The
Duke exam has two of the three phases, so the early one stands for the late one too; the TCGA slices have one, which
stands for all three, so that nothing enhances and what the model says there means little. Slices are normalised by
their own study, not by a set of patches. With one exam, and four slices of four patients, no figure here tells models
apart.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bcdx.config import Dataset, Labels
from bcdx.evidence.pointing import PUBLISHED_TOLERANCE, point_all, score_pointing
from bcdx.evidence.thresholding import METHODS, dice, draw_thresholds, find_candidates, mask_breast
from bcdx.imaging.collection import Collection, scan
from bcdx.imaging.identity import Pseudonyms
from bcdx.imaging.les import read_les
from bcdx.imaging.prepare import prepare_study
from bcdx.imaging.sample import Sample
from bcdx.learning.network import load_model
from bcdx.learning.run import MODEL, read_finished
from bcdx.learning.saliency import explain

PATCH_MM = 64 * 0.357
"""Side of the patches that the model was trained on."""
STRIDE = 1 / 3
"""From one window to the next, in parts of a window."""
BATCH = 64
COLUMNS = {"dice": 8, "covered": 12, "within": 12}
NAMES = Pseudonyms(b"a benchmark names nobody")

Floats = NDArray[np.float32]
Masks = NDArray[np.bool_]


@dataclass(frozen=True)
class Cases:
    """Slices on which a lesion is known.

    Attributes:
        name: What they are.
        images: In [0, 1], shape (slices, side, side, phases).
        lesions: Where the lesion is, bool, shape (slices, side, side).
        patients: Code of each slice's patient.
        spacing_mm: Side of a pixel.
    """

    name: str
    images: Floats
    lesions: Masks
    patients: NDArray[np.str_]
    spacing_mm: float

    @property
    def breasts(self) -> Masks:
        """Where the body is, from the last phase."""
        return np.stack([mask_breast(image[..., -1]) for image in self.images])

    @property
    def enhancement(self) -> Floats | None:
        """How much brighter the last phase is than the first, in [0, 1]; None with one phase."""
        if self.images.shape[-1] == 1:
            return None
        return np.clip(self.images[..., -1] - self.images[..., 0], 0.0, 1.0)


def main() -> None:
    """Measure everything and print it."""
    options = _parse()
    began = time.monotonic()
    data = Path(os.environ["BCDX_DATA"])
    cases = [read_duke(data), read_tcga(data)]
    report = {
        "pointing": {one.name: play(one, options.run, options.pictures) for one in cases},
        "thresholds": {one.name: measure_thresholds(one) for one in cases},
        "patch_mm": PATCH_MM,
        "stride": STRIDE,
    }
    report["minutes"] = (time.monotonic() - began) / 60
    print_report(report)
    if options.pictures:
        draw_cases(cases, options.pictures)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--pictures", type=Path, help="write threshold figures and heat maps into this folder")
    return parser.parse_args()


def read_duke(data: Path) -> Cases:
    """Return the boxed slices of the Duke exam, before and after contrast."""
    source = data / "duke_breast_mri_153"
    labels = Labels(source=str(data / "tables" / "duke_annotation_boxes.csv"))
    dataset = Dataset(source=str(source), out="unused", size=448, channels="phases", phases=2, labels=labels)
    samples = [one for one in _prepare(scan(dataset, source=source, pseudonyms=NAMES), dataset) if one.label == 1]
    lesions = np.zeros((len(samples), 448, 448), bool)
    for lesion, sample in zip(lesions, samples, strict=True):
        top, left, bottom, right = (round(value) for value in sample.lesion_box)
        lesion[top:bottom, left:right] = True
    return _join("Duke, boxes", samples, lesions)


def read_tcga(data: Path) -> Cases:
    """Return the slices with masks; one alone of each stack is at hand, so masks are matched slice by slice."""
    source = data / "tcga_brca" / "dicom"
    dataset = Dataset(source=str(source), out="unused", size=256)
    found = scan(dataset, source=source, pseudonyms=NAMES, labelled=False)
    drawn = {one.patient: one.patches for one in read_les(data / "tcga_brca" / "lesions", NAMES)}
    samples = [one for one in _prepare(found, dataset) if one.patient in drawn]
    lesions = np.zeros((len(samples), 256, 256), bool)
    for lesion, sample in zip(lesions, samples, strict=True):
        frame = found.items[sample.sample].frames[0]
        for patch in drawn[sample.patient]:
            if patch.number == frame.instance_number:
                lesion[patch.row : patch.end[0], patch.column : patch.end[1]] = patch.mask
    return _join("TCGA, masks", samples, lesions)


def _prepare(found: Collection, dataset: Dataset) -> Iterator[Sample]:
    for study in found.studies:
        yield from prepare_study(study, dataset).samples


def _join(name: str, samples: Sequence[Sample], lesions: Masks) -> Cases:
    images = np.stack([one.image for one in samples]).astype(np.float32) / np.float32(65535.0)
    return Cases(name, images, lesions, np.array([one.patient for one in samples]), samples[0].spacing_mm[0])


def play(cases: Cases, run: Path, pictures: Path | None) -> dict[str, Any]:
    """Return tolerance -> the pointing game's rates, of all maps and baselines."""
    maps = make_maps(cases, run)
    breasts, known = cases.breasts, cases.patients
    if pictures:
        draw_maps(cases, maps, pictures)
    report: dict[str, Any] = {"images": len(known), "patients": len(np.unique(known))}
    for tolerance in (0.0, PUBLISHED_TOLERANCE):
        rates: dict[str, Any] = {}
        for name, heat in maps.items():
            found = score_pointing(
                heat, cases.images[..., -1], cases.lesions, patients=known, breasts=breasts, tolerance=tolerance
            )
            rates[name] = {**found.pop("heat map"), "silent": found["silent"]}
            rates.update({key: value for key, value in found.items() if isinstance(value, dict)})
        report[f"{tolerance:g} px"] = rates
    return report


def make_maps(cases: Cases, folder: Path) -> dict[str, Floats]:
    """Return maps by name, shape (slices, side, side); those without a model last."""
    run, _ = read_finished(folder)
    model = load_model(folder / MODEL)
    positive = run.classes.index(run.positive)
    phases = np.minimum(np.arange(run.image_shape[2]), cases.images.shape[-1] - 1)
    images = cases.images[..., phases]
    inner = run.image_shape[0]
    small = np.stack([_resize(image, (inner, inner)) for image in images])
    shape = images.shape[1:3]
    cams = np.stack(
        [_resize(heat[..., np.newaxis], shape)[..., 0] for heat in explain(model, small, positive=positive)]
    )
    sliding = [
        slide(model, image, breast, (PATCH_MM / cases.spacing_mm, inner, positive))
        for image, breast in zip(images, cases.breasts, strict=True)
    ]
    maps = {"slide": np.stack(sliding), "Grad-CAM": cams}
    maps["peak patch"] = _explain_peaks(model, images, maps["slide"], (PATCH_MM / cases.spacing_mm, inner, positive))
    maps["Grad-CAM in breast"] = np.where(cases.breasts, cams, 0.0)
    enhancement = cases.enhancement
    if enhancement is not None:
        smooth = [ndimage.gaussian_filter(one, 0.01 * max(shape)) for one in enhancement]
        maps["enhancement in breast"] = np.where(cases.breasts, np.stack(smooth), 0.0)
    return maps


def slide(model: Any, image: Floats, breast: Masks, window: tuple[float, int, int]) -> Floats:
    """Return P(positive) of windows around each place of the breast, 0 elsewhere.

    Args:
        image: Shape (height, width, phases).
        window: Side in pixels of the image, side that the model takes, positive class.
    """
    side, inner, positive = window
    scale = inner / side
    large = _resize(image, tuple(round(length * scale) for length in image.shape[:2]))
    half = inner // 2
    padded = np.pad(large, ((half, half), (half, half), (0, 0)))
    step = round(inner * STRIDE)
    rows, columns = (np.arange(0, length, step) for length in large.shape[:2])
    grid = [(row, column) for row in range(len(rows)) for column in range(len(columns))]
    inside = [
        (row, column)
        for row, column in grid
        if breast[min(int(rows[row] / scale), len(breast) - 1), min(int(columns[column] / scale), breast.shape[1] - 1)]
    ]
    patches = (
        padded[rows[row] : rows[row] + inner, columns[column] : columns[column] + inner] for row, column in inside
    )
    coarse = np.zeros((len(rows), len(columns)), np.float32)
    for at, value in zip(inside, _predict(model, list(patches), positive), strict=True):
        coarse[at] = value
    places = np.meshgrid(*(np.arange(length) * scale / step for length in image.shape[:2]), indexing="ij")
    heat: Floats = ndimage.map_coordinates(coarse, places, order=1, mode="nearest")
    return np.where(breast, heat, np.float32(0.0))


def _explain_peaks(model: Any, images: Floats, maps: Floats, window: tuple[float, int, int]) -> Floats:
    """Return Grad-CAM of the window around each map's maximum, 0 outside it; arguments as in `slide`."""
    side, inner, positive = window
    half = round(side / 2)
    padded = np.pad(images, ((0, 0), (half, half), (half, half), (0, 0)))
    points = point_all(maps)
    patches = [
        one[row : row + 2 * half, column : column + 2 * half] for one, (row, column) in zip(padded, points, strict=True)
    ]
    heats = explain(model, np.stack([_resize(one, (inner, inner)) for one in patches]), positive=positive)
    found = np.zeros(padded.shape[:3], np.float32)
    for whole, heat, (row, column) in zip(found, heats, points, strict=True):
        whole[row : row + 2 * half, column : column + 2 * half] = _resize(heat[..., None], (2 * half, 2 * half))[..., 0]
    return found[:, half:-half, half:-half]


def _predict(model: Any, patches: Sequence[Floats], positive: int) -> Floats:
    found = np.concatenate(
        [model.predict_on_batch(np.stack(patches[at : at + BATCH])) for at in range(0, len(patches), BATCH)]
    )
    if found.shape[1] == 1:
        found = np.concatenate([1.0 - found, found], axis=1)
    return found[:, positive]


def _resize(image: Floats, shape: tuple[int, ...]) -> Floats:
    """Return an image, shape (height, width, channels), of another size; averages where it shrinks."""
    from skimage.transform import resize

    return resize(image, (*shape[:2], image.shape[2]), order=1, anti_aliasing=shape[0] < image.shape[0]).astype(
        np.float32
    )


def measure_thresholds(cases: Cases) -> dict[str, Any]:
    """Return image or subtraction -> method -> Dice, share of the lesion covered, share of the candidates in it."""
    rows = {"image": cases.images[..., -1]}
    if cases.enhancement is not None:
        rows["subtraction"] = cases.enhancement
    breasts = cases.breasts
    return {name: _measure_methods(shown, breasts, cases.lesions) for name, shown in rows.items()}


def _measure_methods(images: Floats, breasts: Masks, lesions: Masks) -> dict[str, Any]:
    found = [find_candidates(image, breast) for image, breast in zip(images, breasts, strict=True)]
    report = {}
    for name in METHODS:
        pairs = [(one[name], lesion) for one, lesion in zip(found, lesions, strict=True)]
        report[name] = {
            "dice": [dice(mask, lesion) for mask, lesion in pairs],
            "covered": [float(mask[lesion].mean()) for mask, lesion in pairs],
            "within": [float(lesion[mask].mean()) if mask.any() else 0.0 for mask, lesion in pairs],
        }
    return report


def print_report(report: dict[str, Any]) -> None:
    """Print both tables."""
    print(f"{'the hottest point is in the lesion':<36}{'within 0 px':>24}{'within 15 px':>26}")
    for name, found in report["pointing"].items():
        print(f"{name}: {found['images']} slices, patients: {found['patients']}")
        columns = [value for key, value in found.items() if key.endswith("px")]
        for row in columns[0]:
            silent = f"   no map: {columns[0][row]['silent']}" if columns[0][row].get("silent") else ""
            print(f"  {row:<32}" + "".join(_describe_rate(column[row]) for column in columns) + silent)
    print("Intervals: 95 %, Wilson; fewer than 5 patients: each patient counts as one slice")
    print(f"\n{'mean over slices':<30}{'Dice':>8}{'of lesion':>12}{'in lesion':>12}")
    for name, kinds in report["thresholds"].items():
        for kind, methods in kinds.items():
            print(f"{name}, {kind}")
            for method, one in methods.items():
                cells = "".join(f"{np.mean(one[key]):>{width}.2f}" for key, width in COLUMNS.items())
                each = " ".join(f"{value:.2f}" for value in one["dice"]) if len(one["dice"]) < 6 else ""
                print(f"  {method:<28}{cells}   {each}")
    print(f"{report['minutes']:.1f} minutes")


def _describe_rate(one: dict[str, Any]) -> str:
    return f"{one['hits']:>6}/{one['n']:<3}{one['value']:>5.2f} ({one['low']:.2f} to {one['high']:.2f})"


def draw_cases(cases: Sequence[Cases], folder: Path) -> None:
    """Write the threshold figure of each case's middle slices."""
    from matplotlib.image import imsave

    folder.mkdir(parents=True, exist_ok=True)
    for one in cases:
        enhancement = one.enhancement
        for at in range(0, len(one.images), 9 if len(one.images) > 4 else 1):
            other = None if enhancement is None else enhancement[at]
            picture = draw_thresholds(one.images[at, ..., -1], other, one.lesions[at])
            imsave(folder / f"thresholds_{one.name[:4].strip()}_{at}.png", picture)


def draw_maps(cases: Cases, maps: dict[str, Floats], folder: Path) -> None:
    """Write image, maps and lesion of some slices, side by side."""
    from matplotlib.image import imsave

    from bcdx.evidence.pictures.canvas import render
    from bcdx.evidence.pointing import point

    folder.mkdir(parents=True, exist_ok=True)

    def draw(figure: Any, at: int) -> None:
        grid = figure.subplots(1, 1 + len(maps))
        for axes, (name, heat) in zip(grid, {"image": None, **maps}.items(), strict=True):
            axes.imshow(cases.images[at, ..., -1], cmap="gray", vmin=0, vmax=1)
            if heat is not None:
                axes.imshow(heat[at], cmap="inferno", alpha=0.5)
                row, column = point(heat[at])
                axes.plot(column, row, "c+", markersize=12)
            axes.contour(cases.lesions[at], levels=[0.5], colors="lime", linewidths=0.8)
            axes.set_axis_off()
            axes.set_title(name if heat is None else f"{name} (max {heat[at].max():.2f})", fontsize=8)

    for at in range(0, len(cases.images), 6 if len(cases.images) > 4 else 1):
        picture = render(lambda figure, at=at: draw(figure, at), inches=(3.0 * (1 + len(maps)), 3.2))
        imsave(folder / f"maps_{cases.name[:4].strip()}_{at}.png", picture)


if __name__ == "__main__":
    main()
