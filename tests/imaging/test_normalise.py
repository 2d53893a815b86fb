"""Claims about the way from real units to stored values, and what is made of those."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from bcdx.imaging.normalise import (
    find_place,
    fit_square,
    hash_likeness,
    pass_through_jpeg,
    quantise,
    to_unit_range,
)
from bcdx.imaging.stored import Rule, Stored


def test_unit_range_cuts_what_lies_beyond_and_blacks_out_padding() -> None:
    """Padding may even be no number."""
    pixels = np.array([[-5, 0, 5, 10, 15, np.nan]], np.float32)
    found = to_unit_range(Stored(pixels, None, mask=np.isnan(pixels)), 0, 10)
    assert [0, 0, 0.5, 1, 1, 0] == found[0].tolist()


def test_unit_range_of_integers_is_that_of_their_real_units() -> None:
    """Rescale and sign come first, padding goes by what is stored."""
    values = np.array([[-4, 0, 5, 10, 77]], np.int16)
    found = to_unit_range(Stored(values, Rule(2.0, -20.0, negated=True), (77, 99)), 0, 20)
    assert [1, 1, 0.5, 0, 0] == found[0].tolist()


def test_quantise_uses_the_full_range_and_rounds() -> None:
    """65535 steps; what lies outside is cut, not wrapped; half goes to even."""
    assert [0, 0, 32768, 65535, 65535] == quantise(np.array([-0.1, 0, 0.5, 1, 1.1], np.float32)).tolist()


@pytest.mark.parametrize(
    ("shape", "size", "inner"), [((10, 20), 20, (10, 20)), ((20, 10), 40, (40, 20)), ((5, 5), 9, (9, 9))]
)
@pytest.mark.parametrize("fill", [0.0, 0.5])
def test_fit_square_keeps_the_aspect_ratio(
    shape: tuple[int, int], size: int, inner: tuple[int, int], fill: float
) -> None:
    """The image is as large as it fits, centred, on what it is filled with; untouched where no resize is needed."""
    pixels = np.random.default_rng(0).random(shape).astype(np.float32) / 3 + 0.6
    square, place = fit_square(pixels, size, fill=fill), find_place(shape, size)
    inside = square > 0.55
    assert {np.float32(fill)} >= set(square[~inside].tolist())
    filled = np.argwhere(inside)
    assert inner == tuple(filled.max(axis=0) - filled.min(axis=0) + 1) == (place.height, place.width)
    assert [place.top, place.left] == filled.min(axis=0).tolist()
    assert place.scale == size / max(shape)
    if max(shape) == size:
        np.testing.assert_array_equal(pixels, square[inside].reshape(shape))


def draw(channels: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    smooth = np.asarray(Image.fromarray(rng.random((6, 6)).astype(np.float32)).resize((48, 48)))
    return quantise(np.stack([smooth * (1 - 0.3 * channel) for channel in range(channels)], axis=-1))


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_jpeg_leaves_eight_bits_and_its_traces(channels: int) -> None:
    """Values are multiples of 257, near what they were, and those of Pillow's own file."""
    image = draw(channels)
    found = pass_through_jpeg(image, 75)
    assert (image.shape, np.uint16) == (found.shape, found.dtype)
    assert not (found % 257).any()
    assert 0 < np.abs(found.astype(int) - image).mean() < 2000
    file = io.BytesIO()
    eight = np.rint(image / 257).astype(np.uint8)
    Image.fromarray(eight if channels == 3 else eight[..., 0]).save(file, "JPEG", quality=75)
    expected = np.asarray(Image.open(file)).astype(np.uint16) * 257
    np.testing.assert_array_equal(expected, found if channels == 3 else found[..., 0])


def count_bits(one: str, other: str) -> int:
    return (int(one, 16) ^ int(other, 16)).bit_count()


def test_likeness_is_near_for_near_images_only() -> None:
    """Noise, another scale or another contrast change few bits; another image half of them."""
    image = draw(1)
    rng = np.random.default_rng(1)
    noisy = np.clip(image + rng.normal(0, 500, image.shape), 0, 65535).astype(np.uint16)
    larger = quantise(fit_square(image[..., 0].astype(np.float32) / 65535, 300))[..., None]
    other = np.ascontiguousarray(image[::-1, ::-1])
    code = hash_likeness(image)
    assert 16 == len(code)
    assert max(count_bits(code, hash_likeness(one)) for one in (noisy, larger, image // 2)) <= 8
    assert count_bits(code, hash_likeness(other)) > 16
