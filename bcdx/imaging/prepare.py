"""One study in; its samples, normalised, resized and ready to be stored, out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bcdx.config import Dataset
from bcdx.errors import DicomError
from bcdx.imaging.collection import Item, Study
from bcdx.imaging.decode import read_slice
from bcdx.imaging.frames import Slice
from bcdx.imaging.normalise import fit_square, percentile_range, quantise, to_unit_range
from bcdx.imaging.sample import Exclusion, Prepared, Sample

FLAT = "no contrast: all its pixels are equal"
NO_CONTRAST = "no contrast between its percentiles"
FULL_RANGE = 65535.0

Read = tuple[Item, tuple[Slice, ...]]


def prepare_study(study: Study, dataset: Dataset) -> Prepared:
    """Read, normalise and resize all samples of a study.

    One pair of percentiles is shared by what `normalise.unit` says; a sample with one unreadable phase, or with none
    that shows anything, is left out as a whole and does not count for them. With unit "none", real units 0 to 65535
    are stored as they are and what lies outside is cut.
    """
    read: list[Read] = []
    exclusions: list[Exclusion] = []
    for item in study.items:
        try:
            read.append((item, _read_item(item, voi=dataset.voi)))
        except DicomError as error:
            exclusions.append(Exclusion(item.key, error.reason, item.frames[0].path))
    ranges = _find_ranges(read, dataset)
    samples = []
    for item, slices in read:
        pairs = [ranges[_unit_key(item, one, dataset)] for one in slices]
        sample = _make_sample(item, slices, pairs, dataset.size) if all(high > low for low, high in pairs) else None
        if sample is not None and sample.image.any():
            samples.append(sample)
        else:
            exclusions.append(Exclusion(item.key, NO_CONTRAST, item.frames[0].path))
    normalisation: tuple[dict[str, float | str], ...] = tuple(
        {"unit": key, "low": low, "high": high} for key, (low, high) in sorted(ranges.items())
    )
    return Prepared(tuple(samples), tuple(exclusions), normalisation)


def describe_preparation(dataset: Dataset) -> dict[str, Any]:
    """Return the steps from stored values to a record, as the manifest keeps them."""
    rule = dataset.normalise
    return {
        "steps": [
            "padding mask from PixelPaddingValue and PixelPaddingRangeLimit",
            "modality LUT or rescale",
            *(["VOI LUT or window"] if dataset.voi else []),
            "negation of MONOCHROME1",
            "(x - low) / (high - low), cut to [0, 1], per unit in `normalisation`",
            "padding to 0",
            f"Pillow bilinear to fit {dataset.size} x {dataset.size}, centred on 0",
            "round(65535 x) as uint16",
        ],
        "unit": rule.unit,
        "percentiles": [rule.low, rule.high],
        "channels": dataset.channels,
    }


def _read_item(item: Item, *, voi: bool) -> tuple[Slice, ...]:
    """Return the slices of a sample.

    Raises:
        DicomError: One cannot be read, or all are flat.
    """
    slices = tuple(read_slice(frame, voi=voi) for frame in item.frames)
    if all(one.is_flat for one in slices):
        raise DicomError(FLAT)
    return slices


def _unit_of(item: Item, dataset: Dataset) -> str:
    if dataset.normalise.unit != "auto":
        return dataset.normalise.unit
    first = item.frames[0]
    return "image" if first.is_plain or first.modality == "MG" else "study"


def _unit_key(item: Item, one: Slice, dataset: Dataset) -> str:
    unit = _unit_of(item, dataset)
    codes = {"study": one.frame.study, "series": one.frame.series, "image": item.key, "none": "none"}
    return codes[unit]


def _find_ranges(read: Sequence[Read], dataset: Dataset) -> dict[str, tuple[float, float]]:
    members: dict[str, list[Slice]] = {}
    for item, slices in read:
        for one in slices:
            members.setdefault(_unit_key(item, one, dataset), []).append(one)
    rule = dataset.normalise
    return {
        key: (0.0, FULL_RANGE) if key == "none" else percentile_range(slices, rule.low, rule.high)
        for key, slices in members.items()
    }


def _make_sample(item: Item, slices: Sequence[Slice], pairs: Sequence[tuple[float, float]], size: int) -> Sample:
    squares = [fit_square(to_unit_range(one, low, high), size) for one, (low, high) in zip(slices, pairs, strict=True)]
    frame, scale = item.frames[0], squares[0][1]
    return Sample(
        image=quantise(np.stack([square for square, _ in squares], axis=-1)),
        label=item.label,
        patient=frame.patient,
        split_digest=frame.split_digest,
        study=frame.study,
        sample=item.key,
        laterality=frame.laterality,
        plane=frame.plane,
        scanner=frame.scanner,
        site=frame.site,
        slice_index=item.slice_index,
        spacing_mm=(frame.spacing_mm[0] / scale, frame.spacing_mm[1] / scale),
        source_pixels=tuple(_hash_pixels(one.pixels) for one in slices if not one.is_flat),
    )


def _hash_pixels(pixels: NDArray[np.float32]) -> str:
    rows, columns = pixels.shape
    return hashlib.sha256(f"{rows}x{columns}:".encode() + pixels.astype("<f4").tobytes()).hexdigest()
