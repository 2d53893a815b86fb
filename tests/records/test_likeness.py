"""Claims about slices of two patients that look alike: all near ones are found, and anatomy alone is not enough."""

from __future__ import annotations

import logging
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bcdx.imaging.sample import Exclusion
from bcdx.records.likeness import ALIKE, MOST_PARTNERS, confirm, find_alike, note_alike
from bcdx.records.staging import Entry

Pair = tuple[Entry, Entry]


def codes(pairs: list[Pair]) -> set[frozenset[str]]:
    """The pairs by sample code."""
    return {frozenset((one.sample, other.sample)) for one, other in pairs}


def compare_all(entries: list[Entry], most_bits: int) -> set[frozenset[str]]:
    """What the search must find, pair by pair."""
    return {
        frozenset((one.sample, other.sample))
        for one, other in combinations(entries, 2)
        if one.split_digest != other.split_digest
        and (int(one.likeness, 16) ^ int(other.likeness, 16)).bit_count() <= most_bits
    }


def make_stacks(make_entry: Any, seed: int, *, patients: int = 30, slices: int = 8) -> list[Entry]:
    """Entries whose hashes wander along each stack, from a start that all patients nearly share."""
    rng = np.random.default_rng(seed)
    shared, entries = int(rng.integers(0, 2**63)), []
    for patient in range(patients):
        value = shared ^ sum(1 << int(bit) for bit in rng.choice(64, 3, replace=False))
        for _ in range(slices):
            value ^= sum(1 << int(bit) for bit in rng.choice(64, 2, replace=False))
            number = len(entries)
            entries.append(make_entry(number, split_digest=f"digest{patient}", likeness=f"{value:016x}"))
    return entries


@pytest.mark.parametrize("most_bits", [0, 1, 4, 7])
@pytest.mark.parametrize("seed", range(5))
def test_find_alike_finds_what_comparing_all_pairs_finds(make_entry: Any, seed: int, most_bits: int) -> None:
    """Where no slice has more partners than are looked at."""
    entries = make_stacks(make_entry, seed, patients=4 if most_bits == 7 else 8, slices=4)
    assert compare_all(entries, most_bits) == codes(find_alike(entries, most_bits=most_bits))


def test_order_of_entries_makes_no_difference(make_entry: Any) -> None:
    """Nor which of two comes first."""
    entries = make_stacks(make_entry, 5, patients=8, slices=4)
    shuffled = [entries[index] for index in np.random.default_rng(0).permutation(len(entries))]
    assert find_alike(entries)
    assert find_alike(entries) == find_alike(shuffled)


@given(st.sets(st.integers(0, 63), max_size=8))
def test_hashes_are_near_up_to_four_bits(bits: set[int]) -> None:
    """Whichever bits these are."""
    base = Entry(
        0, "a", "a", "s", "a", "L", "sagittal", "", "", "", 0, (1.0, 1.0), ("a",), "table", -1.0, (-1.0,) * 4, "0" * 16,
        "a", "f", 0, (4, 4, 1),
    )  # fmt: skip
    value = sum(1 << bit for bit in bits)
    other = replace(base, sample="b", split_digest="b", pixels="b", source_pixels=("b",), likeness=f"{value:016x}")
    assert (len(bits) <= 4) == bool(find_alike([base, other]))


def test_slices_of_one_patient_are_no_pair(make_entry: Any) -> None:
    """Neighbouring slices always look alike."""
    assert [] == find_alike([make_entry(number, split_digest="one") for number in range(50)])


@pytest.mark.parametrize("shared", [{"pixels": "pixels0"}, {"source_pixels": ("other", "source0")}])
def test_same_pixels_are_a_pair_whatever_the_hash(make_entry: Any, shared: dict[str, Any]) -> None:
    """As stored, or one phase as it was in the file; they need no confirmation."""
    entries = [make_entry(0, likeness="0" * 16), make_entry(1, likeness="f" * 16, **shared)]
    pairs = find_alike(entries)
    assert {frozenset(("sample0", "sample1"))} == codes(pairs)
    noise = {one.sample: np.random.default_rng(one.label).bytes(one.size_bytes) for one in entries}
    assert pairs == confirm(pairs, lambda one: noise[one.sample])


def test_a_crowd_of_equal_hashes_is_bounded_and_said(make_entry: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Each slice is still compared with some of other patients, also one whose partners have enough."""
    entries = [make_entry(number, likeness="0" * 15 + "1") for number in range(400)]
    entries += [make_entry(400, likeness="0" * 15 + "3")]
    with caplog.at_level(logging.WARNING):
        pairs = find_alike(entries)
    assert "share a hash with many of other patients" in caplog.text
    assert {entry.sample for entry in entries} == {one.sample for pair in pairs for one in pair}
    assert len(pairs) <= MOST_PARTNERS * len(entries)


def test_a_crowd_of_one_patient_hides_nobody(make_entry: Any) -> None:
    """Thousands of empty slices of one, a single one of another: each of the former looks like the latter."""
    entries = [make_entry(number, split_digest="m") for number in range(3000)]
    for owner in ("a", "z"):
        pairs = find_alike([*entries, make_entry(3000, split_digest=owner)])
        assert {"sample3000"} == {code for pair in codes(pairs) for code in pair} - {one.sample for one in entries}
        assert 3000 == len(pairs)


def test_many_near_hashes_are_bounded_and_none_is_passed_over(make_entry: Any) -> None:
    """Every slice that has a near one of another patient stands in a pair."""
    entries = make_stacks(make_entry, 1, patients=60, slices=8)
    expected = {code for pair in compare_all(entries, 4) for code in pair}
    assert expected == {code for pair in codes(find_alike(entries)) for code in pair}


def blobs(seed: int, channels: int = 1) -> np.ndarray:
    """An image as smooth as a breast, uint16, 96 x 96."""
    coarse = np.random.default_rng(seed).random((12, 12, channels)).astype(np.float32)
    planes = [
        np.asarray(Image.fromarray(coarse[..., k]).resize((96, 96), Image.Resampling.BICUBIC)) for k in range(channels)
    ]
    return (np.clip(np.stack(planes, -1), 0, 1) * 65535).astype(np.uint16)


def is_confirmed(make_entry: Any, one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two images with equal hashes pass."""
    pair = (make_entry(0, shape=one.shape), make_entry(1, shape=other.shape))
    images = {"sample0": one.astype("<u2").tobytes(), "sample1": other.astype("<u2").tobytes()}
    return bool(confirm([pair], lambda entry: images[entry.sample]))


def test_copies_are_confirmed_however_they_were_rendered(make_entry: Any) -> None:
    """Noise, another window, half the brightness."""
    image = blobs(0, channels=3).astype(float)
    noise = np.random.default_rng(0).normal(0, 2000, image.shape)
    for copy in (image, np.clip(image + noise, 0, 65535), np.clip(1.2 * image - 4000, 0, 65535), image / 2):
        assert is_confirmed(make_entry, image, copy)


def test_images_that_differ_are_not_confirmed(make_entry: Any) -> None:
    """Other images, other channels, one phase of two swapped, flat images."""
    image = blobs(0, channels=2)
    assert not is_confirmed(make_entry, image, blobs(1, channels=2))
    assert not is_confirmed(make_entry, image, image[..., :1])
    assert not is_confirmed(make_entry, image, image[..., ::-1])
    assert not is_confirmed(make_entry, np.zeros_like(image), np.zeros_like(image))


@pytest.mark.parametrize(("action", "dropped"), [("flag", set()), ("exclude", {"sample0", "sample1", "sample2"})])
def test_notes_cover_every_slice_once_and_both_sides_go(make_entry: Any, action: Any, dropped: set[str]) -> None:
    """Images count as often as the caller says: each phase is one."""
    entries = [make_entry(number) for number in range(3)]
    notes, drop = note_alike([(entries[0], entries[1]), (entries[0], entries[2])], action, {"sample1": 3})
    flagged = action == "flag"
    expected = [Exclusion(f"sample{n}", ALIKE, images=count, flagged=flagged) for n, count in enumerate((1, 3, 1))]
    assert (expected, dropped) == (notes, drop)
