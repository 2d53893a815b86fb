"""Claims about the pointing game: where a map points, what a hit is, and how sure its rate is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest

from bcdx.evidence.pointing import (
    find_brightest,
    find_wilson_interval,
    hits,
    measure_rate,
    point,
    score_pointing,
)


def spot(row: int, column: int, shape: tuple[int, int] = (20, 30)) -> NDArray[np.float64]:
    """A map that is highest at one pixel and falls off around it."""
    rows, columns = np.indices(shape)
    return np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 20.0)


@settings(max_examples=50, deadline=None)
@given(row=st.integers(0, 19), column=st.integers(0, 29))
def test_map_points_at_its_maximum(row: int, column: int) -> None:
    """Wherever it is; NaN is never hottest."""
    heat = spot(row, column)
    assert (row, column) == point(heat)
    heat[(row + 1) % 20, column] = np.nan
    assert (row, column) == point(heat)


def test_plateau_points_at_its_middle() -> None:
    """Of two plateaus at that of the larger, of a flat map at its centre."""
    heat = np.zeros((20, 30))
    heat[2:5, 4:9] = 1.0
    assert (3, 6) == point(heat)
    heat[10:15, 10:21] = 1.0
    assert (12, 15) == point(heat)
    row, column = point(np.zeros((21, 31)))
    assert (10, 15) == (row, column)


def test_middle_of_a_hollow_plateau_is_on_it() -> None:
    """The mean of a ring's pixels is not one of them."""
    heat = np.zeros((9, 9))
    heat[2:7, 2:7] = 1.0
    heat[3:6, 3:6] = 0.0
    assert 1.0 == heat[point(heat)]


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), tolerance=st.sampled_from([0.0, 1.0, 2.5, 15.0]))
def test_box_and_its_mask_are_hit_alike(seed: int, tolerance: float) -> None:
    """Boxes of whole pixels are masks, with any tolerance."""
    generator = np.random.default_rng(seed)
    points = np.stack([generator.integers(0, 20, 8), generator.integers(0, 30, 8)], axis=1)
    first = np.stack([generator.integers(0, 15, 8), generator.integers(0, 25, 8)], axis=1)
    boxes = np.concatenate([first, first + generator.integers(1, 5, (8, 2))], axis=1)
    masks = np.zeros((8, 20, 30), bool)
    for mask, (top, left, bottom, right) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = True
    assert hits(points, masks, tolerance).tolist() == hits(points, boxes.astype(float), tolerance).tolist()


def test_box_ends_before_its_last_row() -> None:
    """In the record convention row 4 is out of a box from 2 to 4, but within a tolerance of one pixel."""
    boxes = np.array([[2.0, 2.0, 4.0, 4.0]] * 4)
    points = np.array([[2, 2], [3, 3], [4, 3], [4, 4]])
    assert [True, True, False, False] == hits(points, boxes).tolist()
    assert [True, True, True, False] == hits(points, boxes, 1.0).tolist()


def test_unknown_box_is_never_hit_and_takes_no_part() -> None:
    """-1 is no place at the upper left."""
    maps = np.stack([spot(0, 0), spot(3, 4)])
    boxes = np.array([[-1.0] * 4, [2.0, 2.0, 6.0, 6.0]])
    assert [False, True] == hits(np.array([[0, 0], [3, 4]]), boxes, 100.0).tolist()
    found = score_pointing(maps, maps, boxes)
    assert (1, 1, 1.0) == (found["n"], found["patients"], found["heat map"]["value"])
    none = score_pointing(maps[:1], maps[:1], boxes[:1])
    assert (0, None) == (none["n"], none["heat map"]["value"])


def test_baselines_need_no_model() -> None:
    """The heat map finds the lesion, the brightest point something else, the breast's centre another thing."""
    images = np.stack([np.stack([spot(15, 25)] * 3, axis=-1)] * 2)
    breasts = np.zeros((2, 20, 30), bool)
    breasts[:, 0:7, 0:9] = True
    boxes = np.array([[2.0, 3.0, 5.0, 6.0]] * 2)
    found = score_pointing(np.stack([spot(3, 4)] * 2), images, boxes, breasts=breasts)
    rates = {name: one["value"] for name, one in found.items() if isinstance(one, dict)}
    assert {"heat map": 1.0, "centre": 0.0, "brightest": 0.0, "breast centre": 1.0} == rates
    assert (15, 25) == find_brightest(images[0, ..., 0])
    assert (6, 8) == find_brightest(images[0, ..., 0], breasts[0])


def test_map_that_says_nothing_is_a_miss() -> None:
    """It would point at the centre, where lesions often are."""
    maps, boxes = np.zeros((1, 20, 30)), np.array([[5.0, 5.0, 15.0, 25.0]])
    found = score_pointing(maps, maps, boxes)
    assert (1, 0.0, 1.0) == (found["silent"], found["heat map"]["value"], found["centre"]["value"])


@pytest.mark.parametrize(("share", "n"), [(0.0, 4), (0.5, 4), (0.9, 20), (1.0, 18)])
def test_wilson_interval_is_that_of_scipy(share: float, n: int) -> None:
    """Of independent images."""
    expected = binomtest(round(share * n), n).proportion_ci(method="wilson")
    assert pytest.approx(tuple(expected), abs=1e-12) == find_wilson_interval(round(share * n) / n, n)


def test_interval_is_as_wide_as_patients_are_few() -> None:
    """Eighteen slices of one patient say no more than one; of eighteen patients all they can."""
    found = np.ones(18, bool)
    one, many = (measure_rate(found, np.array(codes)) for codes in (["a"] * 18, [str(at) for at in range(18)]))
    assert pytest.approx(find_wilson_interval(1.0, 1)) == (one["low"], one["high"])
    assert pytest.approx(find_wilson_interval(1.0, 18)) == (many["low"], many["high"])


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_interval_of_alike_images_is_wider(seed: int) -> None:
    """Patients whose images are all hits or all misses count as one image each; the interval holds the value."""
    generator = np.random.default_rng(seed)
    fate = generator.random(10) < 0.6
    patients = np.repeat(np.arange(10).astype(str), 4)
    alike = measure_rate(np.repeat(fate, 4), patients)
    mixed = measure_rate(generator.random(40) < 0.6, patients)
    assert alike["low"] <= alike["value"] <= alike["high"]
    if 0 < fate.sum() < 10:
        low, high = find_wilson_interval(alike["value"], 10)
        assert alike["high"] - alike["low"] == pytest.approx(high - low, rel=0.12)
    low, high = find_wilson_interval(mixed["value"], 40)
    assert mixed["high"] - mixed["low"] >= high - low - 1e-12


def test_interval_covers_as_often_as_it_says() -> None:
    """Twenty patients, four images each, half of what decides is the patient: 95 % within what 600 rounds allow."""
    generator = np.random.default_rng(0)
    patients, covered = np.repeat(np.arange(20).astype(str), 4), 0
    for _ in range(600):
        shares = np.repeat(generator.beta(0.7, 0.3, 20), 4)
        one = measure_rate(generator.random(80) < shares, patients)
        covered += one["low"] <= 0.7 <= one["high"]
    assert 0.92 < covered / 600 < 0.98
