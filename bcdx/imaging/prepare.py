"""One study in; its samples, normalised, resized and ready to be stored, out, one at a time.

A study is read twice, once for its percentiles and once for its images. Stored values are kept in between as far as
`KEPT_BYTES` goes; what lies beyond is decoded again, so that memory does not grow with the study.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bcdx.config import Dataset
from bcdx.errors import DicomError
from bcdx.imaging.channels import find_phases
from bcdx.imaging.collection import Item, Study
from bcdx.imaging.compose import TISSUE, make_sample, store_channels
from bcdx.imaging.decode import Decode, read_stored
from bcdx.imaging.frames import Frame
from bcdx.imaging.normalise import to_unit_range
from bcdx.imaging.percentiles import Tally
from bcdx.imaging.sample import Exclusion, Sample
from bcdx.imaging.stored import Stored

FLAT = "no contrast: all its pixels are equal"
NO_CONTRAST = "no contrast between its percentiles"
BY_PYDICOM = "read by pydicom: the decoder that was asked for does not read it as stored"
REPEATED = "two of its phases have the same pixels: a series was stored twice"
EMPTY = "empty: tissue on less than the wanted share"
FULL_RANGE = 65535.0
KEPT_BYTES = 256 * 2**20
"""Stored values of one study that are kept between the two readings."""

Range = tuple[float, float]


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
        stored = store_channels(dict(zip(one.phases, units, strict=True)), padding, self._dataset)
        if not (stored if isinstance(self._dataset.channels, str) else np.stack(units)).any():
            return NO_CONTRAST
        return make_sample(one.item, one.source_pixels, stored, self._dataset.size)

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
