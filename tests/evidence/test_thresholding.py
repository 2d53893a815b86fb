"""Claims about breast masks, classical thresholds within them, their figure, and Dice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bcdx.evidence.thresholding import METHODS, dice, draw_thresholds, find_candidates, mask_breast

SIDE = 96
ROWS, COLUMNS = np.indices((SIDE, SIDE))
BREAST = (ROWS - 48) ** 2 + (COLUMNS - 60) ** 2 < 34**2
LESION = (ROWS - 40) ** 2 + (COLUMNS - 50) ** 2 < 6**2


def paint(tissue: float = 0.35, lesion: float = 0.95, air: float = 0.02, seed: int = 0) -> NDArray[np.float64]:
    """A round breast with a bright round lesion, noise everywhere."""
    image = np.where(LESION, lesion, np.where(BREAST, tissue, air))
    return np.clip(image + np.random.default_rng(seed).normal(0, 0.02, image.shape), 0, 1)


@pytest.mark.parametrize("tissue", [0.1, 0.35, 0.6])
@pytest.mark.parametrize("air", [0.0, 0.02])
def test_breast_is_found_whatever_its_brightness(tissue: float, air: float) -> None:
    """Lesion included, air not."""
    assert dice(mask_breast(paint(tissue, air=air)), BREAST) > 0.93


def test_breast_is_found_beside_padding() -> None:
    """Rows and columns of zeros around a letterboxed image make no difference to what is within."""
    padded = np.pad(paint(), ((0, 0), (SIDE, SIDE)))
    expected = np.pad(BREAST, ((0, 0), (SIDE, SIDE)))
    assert dice(mask_breast(padded), expected) > 0.9


def test_both_breasts_of_an_axial_slice_are_kept_and_specks_are_not() -> None:
    """Two parts of alike size stay, a coil's bright spot goes, a dark cyst within a breast stays."""
    expected = np.concatenate([BREAST, BREAST[:, ::-1]], axis=1)
    image = np.concatenate([paint(), paint(seed=1)[:, ::-1]], axis=1)
    image[44:52, 60:66] = 0.0
    image[2:8, 2:8] = 1.0
    mask = mask_breast(image)
    assert dice(mask, expected) > 0.93
    assert mask[44:52, 60:66].all()
    assert not mask[:8, :8].any()


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_image_without_contrast_is_all_breast_without_candidates(value: float) -> None:
    """Nothing fails where there is nothing to tell apart."""
    image = np.full((32, 24), value)
    assert mask_breast(image).all()
    assert not any(found.any() for found in find_candidates(image).values())


@pytest.mark.parametrize("name", METHODS)
def test_each_method_finds_the_bright_lesion(name: str) -> None:
    """It is covered; all methods but plain Otsu, which splits tissue where it can, mark little else."""
    found = find_candidates(paint(), BREAST)[name]
    assert found[LESION].mean() > 0.9
    assert dice(found, LESION) > 0.75


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.05, 1.0))
def test_candidates_lie_within_the_breast(seed: int, share: float) -> None:
    """Whatever the image and the mask, bool masks of the image's shape."""
    generator = np.random.default_rng(seed)
    image, breast = generator.random((24, 31)), generator.random((24, 31)) < share
    for found in find_candidates(image, breast).values():
        assert (found.dtype, found.shape) == (np.dtype(bool), image.shape)
        assert not (found & ~breast).any()


def test_empty_breast_has_no_candidates() -> None:
    """A mask that covers nothing is no error."""
    assert not any(found.any() for found in find_candidates(paint(), np.zeros((SIDE, SIDE), bool)).values())


def test_hysteresis_keeps_dim_parts_of_bright_things_alone() -> None:
    """A halo around a bright core is kept, the same brightness elsewhere is not."""
    image = paint(0.2)
    halo = ((ROWS - 40) ** 2 + (COLUMNS - 50) ** 2 < 10**2) & ~LESION
    alone = (ROWS - 64) ** 2 + (COLUMNS - 70) ** 2 < 5**2
    image[halo | alone] = 0.6
    found = find_candidates(image, BREAST)["hysteresis"]
    assert found[halo].mean() > 0.8
    assert found[alone].mean() < 0.1


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_dice_is_symmetric_and_one_for_the_same(seed: int) -> None:
    """It lies between 0, for masks that do not touch, and 1."""
    one, other = np.random.default_rng(seed).random((2, 6, 7)) < 0.4
    assume(one.any() and not one.all())
    assert dice(one, other) == dice(other, one)
    assert 1.0 == dice(one, one)
    assert 0.0 == dice(one, ~one)
    assert 0.0 <= dice(one, other) <= 1.0


def test_dice_of_known_masks() -> None:
    """Two of three pixels and two of two: 2 x 2 / 5; nothing against nothing agrees."""
    assert pytest.approx(0.8) == dice(np.array([True, True, True]), np.array([True, True, False]))
    assert 1.0 == dice(np.zeros(3, bool), np.zeros(3, bool))


@pytest.mark.parametrize("shape", [(SIDE, SIDE), (SIDE, 40)])
def test_figure_has_a_row_for_the_subtraction(shape: tuple[int, int]) -> None:
    """An opaque uint8 picture, about twice as high with two rows; the same twice."""
    image, truth = paint()[:, : shape[1]], LESION[:, : shape[1]]
    one, two = draw_thresholds(image), draw_thresholds(image, image**2, truth)
    assert (np.uint8, 4) == (two.dtype, two.shape[2])
    assert (two[..., 3] == 255).all()
    assert one.shape[1] == two.shape[1]
    assert 1.6 < two.shape[0] / one.shape[0] < 2.0
    assert np.array_equal(two, draw_thresholds(image, image**2, truth))


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("patient", "corner"), [("A03V", (5, 5)), ("A0JI", (128, 20)), ("A12D", (5, 5)), ("A12E", (5, 5))]
)
def test_real_breast_is_told_from_air(shared_data: Path, patient: str, corner: tuple[int, int]) -> None:
    """Its bright middle is breast, air in front of it is not, and it takes a third to most of the image."""
    pixels = pydicom.dcmread(shared_data / "tcga_brca" / "dicom" / f"TCGA-AO-{patient}.dcm").pixel_array
    image = np.clip(pixels / np.percentile(pixels, 99.5), 0, 1)
    mask = mask_breast(image)
    assert 0.3 < mask.mean() < 0.7
    assert mask[110:140, 90:150].all()
    assert not mask[corner]
