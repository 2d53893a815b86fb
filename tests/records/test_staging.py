"""Claims about prepared studies: what a killed run leaves can be used again and names nobody."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from bcdx.imaging.sample import Exclusion, Prepared, Sample
from bcdx.records.staging import read_image, stage_study


@dataclass(frozen=True)
class Study:
    """All that staging asks of one."""

    key: str = "study"


IMAGES = [np.random.default_rng(seed).integers(0, 2**16, (3, 4, 2)).astype(np.uint16) for seed in (0, 1)]
PREPARED = Prepared(
    tuple(
        Sample(image, 1, "p", "d", "s", f"x{index}", spacing_mm=(0.5, 0.25), source_pixels=("a", "b"))
        for index, image in enumerate(IMAGES)
    ),
    (Exclusion("left", "cannot be decoded", "/home/CANARY/a.dcm"),),
    ({"unit": "s", "low": 0.0, "high": 1.0},),
)


def test_staged_study_is_read_back_as_it_was_and_not_prepared_again(tmp_path: Path) -> None:
    """The second time nothing is computed."""
    first = stage_study(Study(), lambda _: PREPARED, tmp_path)
    again = stage_study(Study(), lambda _: pytest.fail("prepared twice"), tmp_path)
    assert first == again
    for image, entry in zip(IMAGES, again.entries, strict=True):
        np.testing.assert_array_equal(image, np.frombuffer(read_image(tmp_path, entry), "<u2").reshape(entry.shape))


def test_staging_names_no_file(tmp_path: Path) -> None:
    """A killed run leaves it beside the output."""
    staged = stage_study(Study(), lambda _: PREPARED, tmp_path)
    assert [("left", "")] == [(one.key, one.path) for one in staged.exclusions]
    assert not [path for path in tmp_path.iterdir() if b"CANARY" in path.read_bytes()]


class Broken:
    """A study whose second sample is never made."""

    exclusions: tuple[Exclusion, ...] = ()
    normalisation: tuple[dict[str, float | str], ...] = ()

    @property
    def samples(self) -> Iterator[Sample]:
        """One, then the end of the world."""
        yield PREPARED.samples[0]
        raise KeyboardInterrupt


def test_study_broken_off_leaves_nothing_and_is_prepared_again(tmp_path: Path) -> None:
    """Neither an index nor half of the pixels."""
    with pytest.raises(KeyboardInterrupt):
        stage_study(Study(), lambda _: Broken(), tmp_path)
    assert [] == list(tmp_path.iterdir())
    assert 2 == len(stage_study(Study(), lambda _: PREPARED, tmp_path).entries)


def test_index_is_written_after_the_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A study without one is prepared again."""

    def fail(*_: object, **__: object) -> None:
        assert (tmp_path / "study.raw").exists()
        raise OSError

    with monkeypatch.context() as patch:
        patch.setattr("bcdx.records.staging.write_bytes", fail)
        with pytest.raises(OSError):
            stage_study(Study(), lambda _: PREPARED, tmp_path)
    assert 2 == len(stage_study(Study(), lambda _: PREPARED, tmp_path).entries)


def test_samples_are_written_as_they_are_made(tmp_path: Path) -> None:
    """No two images of a study are in memory at once."""

    class Stream(Broken):
        @property
        def samples(self) -> Iterator[Sample]:
            for number in range(50):
                image = np.full((64, 64, 1), number, np.uint16)
                held.append(weakref.ref(image))
                yield Sample(image, 0, "p", "d", "s", f"x{number}")
                del image
                assert sum(one() is not None for one in held) <= 1

    held: list[weakref.ref[np.ndarray]] = []
    staged = stage_study(Study(), lambda _: Stream(), tmp_path)
    assert [number * 64 * 64 * 2 for number in range(50)] == [entry.offset for entry in staged.entries]


def test_same_pixels_in_another_shape_are_another_image(tmp_path: Path) -> None:
    """The hash covers the shape."""
    flat = np.zeros((2, 8, 1), np.uint16)
    samples = (Sample(flat, 0, "p", "d", "s", "a"), Sample(flat.reshape(4, 4, 1), 0, "p", "d", "s", "b"))
    staged = stage_study(Study(), lambda _: Prepared(samples), tmp_path)
    assert 2 == len({entry.pixels for entry in staged.entries})
