"""One study in; its samples, normalised, resized and ready to be stored, out, one at a time.

A study is read twice, once for its percentiles and once for its images. Stored values are kept in between as far as
`KEPT_BYTES` goes; what lies beyond is decoded again, so that memory does not grow with the study.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bcdx.config import Dataset
from bcdx.errors import DicomError
from bcdx.imaging.channels import describe_channels, fill_value, find_phases, make_channels
from bcdx.imaging.collection import Item, Study
from bcdx.imaging.decode import Decode, read_stored
from bcdx.imaging.frames import Frame
from bcdx.imaging.normalise import (
    Stack,
    find_place,
    fit_square,
    hash_likeness,
    pass_through_jpeg,
    quantise,
    to_unit_range,
)
from bcdx.imaging.percentiles import Tally
from bcdx.imaging.sample import NO_BOX, Box, Exclusion, Mark, Sample
from bcdx.imaging.stored import Mask, Pixels, Stored

FLAT = "no contrast: all its pixels are equal"
NO_CONTRAST = "no contrast between its percentiles"
BY_PYDICOM = "read by pydicom: the decoder that was asked for does not read it as stored"
REPEATED = "two of its phases have the same pixels: a series was stored twice"
EMPTY = "empty: tissue on less than the wanted share"
TISSUE = 0.1
"""Brighter than this part of the normalised range is tissue."""
FULL_RANGE = 65535.0
KEPT_BYTES = 256 * 2**20
"""Stored values of one study that are kept between the two readings."""

Range = tuple[float, float]

UNMARKED = Mark("", origin="")


@dataclass(frozen=True)
class _Looked:
    """What the first reading found of one sample: its phases' numbers, ranges' keys, and codes of their pixels."""

    item: Item
    phases: tuple[int, ...]
    keys: tuple[str, ...]
    source_pixels: tuple[str, ...]


def prepare_study(study: Study, dataset: Dataset, decode: Decode | None = None) -> PreparedStudy:
    """Read, normalise and resize all samples of a study, each when it is asked for.

    One pair of percentiles is shared by what `normalise.unit` says; a sample with one unreadable phase, or with none
    that shows anything, is left out as a whole and does not count for them. With unit "none", real units 0 to 65535
    are stored as they are and what lies outside is cut.

    Args:
        study: What to prepare.
        dataset: How.
        decode: A decoder that is asked before pydicom.
    """
    return PreparedStudy(study, dataset, decode)


class _Asked:
    """A decoder that is asked before pydicom, and the files that it has left to pydicom."""

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self.passed: set[str] = set()

    def __call__(self, path: Path, header: Any) -> Any:
        found = self._decode(path, header)
        if found is None:
            self.passed.add(str(path))
        return found


class PreparedStudy:
    """What one study becomes, as a stream; it offers what `imaging.sample.Prepared` does.

    Attributes:
        samples: One after the other, once.
    """

    def __init__(self, study: Study, dataset: Dataset, decode: Decode | None) -> None:
        self._dataset = dataset
        self._decode = None if decode is None else _Asked(decode)
        self._kept: dict[str, tuple[Stored, ...]] = {}
        self._kept_bytes = 0
        self._tallies: dict[str, Tally] = {}
        self._ranges: dict[str, Range] = {}
        self._left: list[Exclusion] = []
        self._done = False
        self.samples: Iterator[Sample] = self._prepare(study)

    @property
    def exclusions(self) -> tuple[Exclusion, ...]:
        """All that was left out; known when all samples have been taken."""
        self._check_done()
        return tuple(self._left)

    @property
    def normalisation(self) -> tuple[dict[str, float | str], ...]:
        """The real values that became 0 and 65535, by unit; known when all samples have been taken."""
        self._check_done()
        return tuple({"unit": key, "low": low, "high": high} for key, (low, high) in sorted(self._ranges.items()))

    def _check_done(self) -> None:
        if not self._done:
            raise RuntimeError("a study's exclusions and normalisation are known when all its samples have been taken")

    def _prepare(self, study: Study) -> Iterator[Sample]:
        for items in _group_items(study.items, self._dataset):
            looked = [one for item in items if (one := self._look(item)) is not None]
            self._find_ranges(looked)
            for one in looked:
                sample = self._finish(one)
                if isinstance(sample, Sample):
                    self._remark(one.item)
                    yield sample
                else:
                    self._leave_out(one.item, sample)
        self._done = True

    def _leave_out(self, item: Item, reason: str) -> None:
        self._left.append(Exclusion(item.key, reason, item.frames[0].path, images=len(item.frames)))

    def _remark(self, item: Item) -> None:
        """Note that another decoder than the recipe's has read a sample: no fallback is silent."""
        if self._decode is not None and any(frame.path in self._decode.passed for frame in item.frames):
            self._left.append(Exclusion(item.key, BY_PYDICOM, item.frames[0].path, flagged=True))

    def _look(self, item: Item) -> _Looked | None:
        """Read a sample for its percentiles, None where it is left out: it cannot be read, or all of it is flat."""
        try:
            phases = find_phases(self._dataset.channels, len(item.frames))
            images = self._read(item, phases)
            hashes = _hash_sources(images)
        except DicomError as error:
            self._leave_out(item, error.reason)
            return None
        if len(set(hashes)) < len(hashes):
            self._leave_out(item, REPEATED)
            return None
        keys = tuple(_unit_key(item, item.frames[number], self._dataset) for number in phases)
        rule = self._dataset.normalise
        for image, key in zip(images, keys, strict=True):
            if key == "none":
                self._ranges[key] = (0.0, FULL_RANGE)
            else:
                self._tallies.setdefault(key, Tally(rule.low, rule.high)).add(image)
        self._keep(item, images)
        return _Looked(item, phases, keys, hashes)

    def _find_ranges(self, looked: Sequence[_Looked]) -> None:
        while unsettled := {key: one for key, one in self._tallies.items() if not one.settled}:
            for tally in unsettled.values():
                tally.new_look()
            for one in looked:
                if not unsettled.keys().isdisjoint(one.keys):
                    for image, key in zip(self._read_again(one), one.keys, strict=True):
                        self._tallies[key].look_again(image)
        self._ranges.update({key: tally.percentiles() for key, tally in self._tallies.items()})
        self._tallies.clear()

    def _finish(self, one: _Looked) -> Sample | str:
        """Return a sample, or why it is left out."""
        ranges = [self._ranges[key] for key in one.keys]
        if not all(high > low for low, high in ranges):
            return NO_CONTRAST
        images = self._read_again(one)
        self._forget(one.item)
        units = [to_unit_range(image, *pair) for image, pair in zip(images, ranges, strict=True)]
        least = self._dataset.select.min_tissue
        if least and np.count_nonzero(units[0] > TISSUE) < least * units[0].size:
            return EMPTY
        padding = {number: image.padding for number, image in zip(one.phases, images, strict=True)}
        stored = _store(dict(zip(one.phases, units, strict=True)), padding, self._dataset)
        if not (stored if isinstance(self._dataset.channels, str) else np.stack(units)).any():
            return NO_CONTRAST
        return _make_sample(one, stored, self._dataset.size)

    def _read(self, item: Item, phases: Sequence[int]) -> tuple[Stored, ...]:
        voi, decode = self._dataset.voi, self._decode
        return tuple(read_stored(item.frames[number], voi=voi, decode=decode) for number in phases)

    def _read_again(self, one: _Looked) -> tuple[Stored, ...]:
        kept = self._kept.get(one.item.key)
        return self._read(one.item, one.phases) if kept is None else kept

    def _keep(self, item: Item, images: tuple[Stored, ...]) -> None:
        size = _count_bytes(images)
        if self._kept_bytes + size <= KEPT_BYTES:
            self._kept[item.key] = images
            self._kept_bytes += size

    def _forget(self, item: Item) -> None:
        self._kept_bytes -= _count_bytes(self._kept.pop(item.key, ()))


def _count_bytes(images: Sequence[Stored]) -> int:
    return sum(one.values.nbytes for one in images)


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


def _group_items(items: Sequence[Item], dataset: Dataset) -> Iterator[Sequence[Item]]:
    """Yield samples that may share percentiles: first those of a study or series, then each of the others alone."""
    alone = {item.key for item in items if _unit_of(item, dataset) in {"image", "none"}}
    yield [item for item in items if item.key not in alone]
    yield from ([item] for item in items if item.key in alone)


def _unit_of(item: Item, dataset: Dataset) -> str:
    if dataset.normalise.unit != "auto":
        return dataset.normalise.unit
    first = item.frames[0]
    return "image" if first.is_plain or first.modality == "MG" else "study"


def _unit_key(item: Item, frame: Frame, dataset: Dataset) -> str:
    codes = {"study": frame.study, "series": frame.series, "image": item.key, "none": "none"}
    return codes[_unit_of(item, dataset)]


def _hash_sources(images: Sequence[Stored]) -> tuple[str, ...]:
    """Return a code of each image that is not flat.

    Raises:
        DicomError: All are.
    """
    hashes = tuple(one.hash_source() for one in images if not one.is_flat)
    if not hashes:
        raise DicomError(FLAT)
    return hashes


def _store(units: Mapping[int, Pixels], padding: Mapping[int, Mask | None], dataset: Dataset) -> Stack:
    """Return the stored image, shape (size, size, channels)."""
    names = dataset.channels
    channels = [
        quantise(fit_square(pixels, dataset.size, fill=fill_value(names, number)))
        for number, pixels in enumerate(make_channels(names, units, padding))
    ]
    image = np.stack(channels, axis=-1)
    return image if dataset.jpeg_quality is None else pass_through_jpeg(image, dataset.jpeg_quality)


def _make_sample(one: _Looked, image: Stack, size: int) -> Sample:
    item, frame = one.item, one.item.frames[0]
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
        scanner=frame.scanner,
        site=frame.site,
        slice_index=item.slice_index,
        spacing_mm=(frame.spacing_mm[0] / scale, frame.spacing_mm[1] / scale),
        source_pixels=one.source_pixels,
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
