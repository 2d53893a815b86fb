"""The phases of one sample in units of their range in; the stored image and the finished sample out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bcdx.config import Dataset
from bcdx.imaging.channels import describe_channels, fill_value, make_channels
from bcdx.imaging.collection import Item
from bcdx.imaging.normalise import Stack, find_place, fit_square, hash_likeness, pass_through_jpeg, quantise
from bcdx.imaging.sample import NO_BOX, Box, Mark, Sample
from bcdx.imaging.stored import Mask, Pixels

TISSUE = 0.1
"""Brighter than this part of the normalised range is tissue."""
UNMARKED = Mark("", origin="")


def describe_preparation(dataset: Dataset) -> dict[str, Any]:
    """Return the steps from stored values to a record, as the manifest keeps them."""
    rule, computed = dataset.normalise, describe_channels(dataset.channels)
    return {
        "steps": [
            "padding mask from PixelPaddingValue and PixelPaddingRangeLimit",
            "modality LUT or rescale",
            *(["VOI LUT or window"] if dataset.voi else []),
            "negation of MONOCHROME1",
            "(x - low) / (high - low), cut to [0, 1], per unit in `normalisation`",
            "padding to 0",
            *(["channels computed from the phases, each as `computed` says"] if computed else []),
            f"Pillow bilinear to fit {dataset.size} x {dataset.size}, centred on {'its padding' if computed else '0'}",
            "round(65535 x) as uint16",
            *([f"8-bit JPEG of quality {dataset.jpeg_quality}, times 257"] if dataset.jpeg_quality else []),
        ],
        "unit": rule.unit,
        "percentiles": [rule.low, rule.high],
        "channels": dataset.channels if isinstance(dataset.channels, str) else list(dataset.channels),
        **({"computed": computed} if computed else {}),
        **({"min_tissue": dataset.select.min_tissue, "tissue": f"x > {TISSUE:g}"} if dataset.select.min_tissue else {}),
    }


def store_channels(units: Mapping[int, Pixels], padding: Mapping[int, Mask | None], dataset: Dataset) -> Stack:
    """Return the stored image, shape (size, size, channels)."""
    names = dataset.channels
    channels = [
        quantise(fit_square(pixels, dataset.size, fill=fill_value(names, number)))
        for number, pixels in enumerate(make_channels(names, units, padding))
    ]
    image = np.stack(channels, axis=-1)
    return image if dataset.jpeg_quality is None else pass_through_jpeg(image, dataset.jpeg_quality)


def make_sample(item: Item, source_pixels: tuple[str, ...], image: Stack, size: int) -> Sample:
    """Return a sample with all that is known of it.

    Args:
        item: What it was to be.
        source_pixels: Codes of its phases' pixels before normalisation.
        image: The stored image.
        size: Its side, pixels.
    """
    frame = item.frames[0]
    mark, scale = item.mark or UNMARKED, find_place(frame.shape, size).scale
    return Sample(
        image=image,
        label=item.label,
        patient=frame.patient,
        split_digest=frame.split_digest,
        study=frame.study,
        sample=item.key,
        laterality=frame.laterality,
        plane=frame.plane,
        phase=item.phase,
        scanner=frame.scanner,
        site=frame.site,
        slice_index=item.slice_index,
        spacing_mm=(frame.spacing_mm[0] / scale, frame.spacing_mm[1] / scale),
        source_pixels=source_pixels,
        label_origin=mark.origin,
        lesion_mm2=mark.lesion_mm2,
        lesion_box=place_box(mark.lesion_box, frame.shape, size),
        likeness=hash_likeness(image),
    )


def place_box(box: Box, shape: tuple[int, int], size: int) -> Box:
    """Return rows and columns of a source image as those of its square; `NO_BOX` stays."""
    if box == NO_BOX:
        return NO_BOX
    place = find_place(shape, size)
    down, across = place.height / shape[0], place.width / shape[1]
    top, left, bottom, right = box
    return (
        place.top + top * down, place.left + left * across, place.top + bottom * down, place.left + right * across,
    )  # fmt: skip
