"""Claims about heat on images."""

from __future__ import annotations

import numpy as np
import pytest

from bcdx.evidence.pictures.overlays import draw_overlay

IMAGE = np.linspace(0.0, 1.0, 48, dtype=np.float32).reshape(4, 4, 3)


def test_overlay_without_heat_is_the_grey_image() -> None:
    """All three colours are the mean of the image's channels."""
    grey = np.rint(255 * IMAGE.mean(axis=-1)).astype(np.uint8)
    picture = draw_overlay(IMAGE, np.zeros((4, 4)))
    assert (picture.dtype.name, picture.shape) == ("uint8", (4, 4, 3))
    for colour in range(3):
        assert np.abs(picture[..., colour].astype(int) - grey).max() <= 1


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_overlay_takes_any_number_of_channels(channels: int) -> None:
    """Phases and differences are shown as their mean."""
    assert (4, 4, 3) == draw_overlay(np.full((4, 4, channels), 0.5), np.ones((4, 4))).shape


def test_overlay_leaves_the_image_visible_where_it_is_hottest() -> None:
    """A bright and a dark pixel under full heat still differ by a third of the range."""
    picture = draw_overlay(np.array([[[0.0], [1.0]]]), np.ones((1, 2))).astype(int)
    assert (picture[0, 1] - picture[0, 0]).min() >= 85


def test_overlay_grows_more_colourful_with_heat() -> None:
    """The spread between the colours of a mid-grey pixel rises with its heat."""
    picture = draw_overlay(np.full((1, 5, 1), 0.5), np.linspace(0, 1, 5)[None]).astype(int)
    spread = np.ptp(picture[0], axis=-1)
    assert (np.diff(spread) > 0).all()


def test_overlay_cuts_what_lies_outside() -> None:
    """Values beyond [0, 1] look like the ends of the range."""
    inside, outside = (draw_overlay(np.full((1, 1, 1), one), np.full((1, 1), one)) for one in (1.0, 7.0))
    assert np.array_equal(inside, outside)
