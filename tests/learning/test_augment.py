"""Claims about augmentation: a pure function of seed, sample and view."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from bcdx.config import Augment
from bcdx.errors import SettingsError
from bcdx.learning.augment import all_views, augment_image, check_flips, dihedral_view, warp

NOTHING = {
    "rotation_degrees": 0.0,
    "zoom": 0.0,
    "shift": 0.0,
    "brightness": 0.0,
    "contrast": 0.0,
    "flip_vertical": False,
}
EVERYTHING = Augment(
    flip_horizontal=True, flip_vertical=True, quarter_turns=True, rician_noise=0.05, bias_field=0.3, brightness=0.2
)


@pytest.fixture
def image() -> np.ndarray:
    """A random square image of two channels."""
    return np.random.default_rng(0).random((16, 16, 2), np.float32)


def view_of(image: np.ndarray, augment: Augment, *, seed: int = 1, sample: int = 7, view: int = 3) -> np.ndarray:
    return augment_image(tf.constant(image), augment, seed, tf.constant(sample, tf.int64), tf.constant(view)).numpy()


def test_view_0_is_the_plain_image_bit_by_bit(image: np.ndarray) -> None:
    """Whatever is turned on."""
    np.testing.assert_array_equal(image, view_of(image, EVERYTHING, view=0))


@pytest.mark.parametrize("change", [{"seed": 2}, {"sample": 8}, {"view": 4}])
def test_view_depends_on_seed_sample_and_view(image: np.ndarray, change: dict[str, int]) -> None:
    """Each alone makes another image; all equal, the same one."""
    np.testing.assert_array_equal(view_of(image, EVERYTHING), view_of(image, EVERYTHING))
    assert (view_of(image, EVERYTHING) != view_of(image, EVERYTHING, **change)).any()


def test_view_is_the_same_eagerly_and_inside_tf_data(image: np.ndarray) -> None:
    """Every path through the system trains on the same pixels."""
    samples = tf.data.Dataset.from_tensor_slices(tf.range(3, dtype=tf.int64))
    inside = samples.map(lambda sample: augment_image(tf.constant(image), EVERYTHING, 1, sample, tf.constant(2)))
    for sample, actual in enumerate(inside):
        np.testing.assert_allclose(view_of(image, EVERYTHING, sample=sample, view=2), actual, atol=1e-6)


@pytest.mark.parametrize(
    ("setting", "allowed"),
    [
        ({"flip_horizontal": True}, [lambda x: x, lambda x: x[:, ::-1]]),
        ({"flip_vertical": True}, [lambda x: x, lambda x: x[::-1]]),
        ({"quarter_turns": True}, [lambda x, k=k: np.rot90(x, k) for k in range(4)]),
    ],
)
def test_flips_and_turns_are_exact_permutations(
    image: np.ndarray, setting: dict[str, bool], allowed: list[Callable[[np.ndarray], np.ndarray]]
) -> None:
    """No interpolation, and every one of them occurs."""
    found = set()
    for view in range(1, 40):
        seen = view_of(image, Augment(**{**NOTHING, **setting}), view=view)
        matches = [index for index, change in enumerate(allowed) if (change(image) == seen).all()]
        assert 1 == len(matches)
        found.add(matches[0])
    assert set(range(len(allowed))) == found


def test_nothing_turned_on_changes_nothing(image: np.ndarray) -> None:
    """And strength 0 leaves flips and turns alone."""
    np.testing.assert_array_equal(image, view_of(image, Augment(**NOTHING)))
    np.testing.assert_array_equal(image, view_of(image, Augment(flip_vertical=False, strength=0.0, bias_field=0.5)))


def test_every_view_stays_in_range_and_shape(image: np.ndarray) -> None:
    """Pixels in [0, 1], whatever is drawn."""
    for view in range(1, 20):
        seen = view_of(image, EVERYTHING, view=view)
        assert image.shape == seen.shape
        assert 0.0 <= seen.min() and seen.max() <= 1.0


def test_warp_turns_about_the_centre_and_shifts() -> None:
    """A quarter turn by warping is numpy's rot90; a shift by two pixels moves by two."""
    image = np.random.default_rng(0).random((9, 9, 1)).astype(np.float32)
    one, zero = tf.constant(1.0), tf.constant(0.0)
    turned = warp(tf.constant(image), radians=tf.constant(np.pi / 2, tf.float32), scale=one, shift_px=(zero, zero))
    assert min(np.abs(np.rot90(image, k) - turned).max() for k in (1, 3)) < 1e-4
    moved = warp(tf.constant(image), radians=zero, scale=one, shift_px=(tf.constant(2.0), tf.constant(-1.0))).numpy()
    np.testing.assert_allclose(image[1:, :-2], moved[:-1, 2:], atol=1e-6)
    assert not moved[:, :2].any()


def test_warp_enlarges_about_the_centre() -> None:
    """At twice the size the centre stays and the border leaves."""
    image = np.zeros((9, 9, 1), np.float32)
    image[4, 4], image[0, 0] = 1.0, 1.0
    larger = warp(tf.constant(image), radians=tf.constant(0.0), scale=tf.constant(2.0),
                  shift_px=(tf.constant(0.0), tf.constant(0.0))).numpy()  # fmt: skip
    assert 1.0 == larger[4, 4, 0]
    assert 0.0 == larger[0, 0, 0]


def test_dihedral_views_are_the_eight_of_the_square(image: np.ndarray) -> None:
    """All different, the first the image itself."""
    views = [dihedral_view(tf.constant(image[np.newaxis]), view).numpy()[0] for view in range(8)]
    np.testing.assert_array_equal(image, views[0])
    assert 8 == len({view.tobytes() for view in views})


@pytest.mark.parametrize("labelled", [False, True])
def test_all_views_come_one_after_the_other(labelled: bool) -> None:
    """Eight of each image, with the labels that belong to them where there are any."""
    images, labels = np.random.default_rng(0).random((3, 4, 4, 1), np.float32), np.arange(3)
    found = list(all_views(tf.data.Dataset.from_tensor_slices((images, labels) if labelled else images).batch(2), 8))
    seen = np.concatenate([one[0] if labelled else one for one in found])
    np.testing.assert_array_equal(np.concatenate([dihedral_view(tf.constant(images), view) for view in range(8)]), seen)
    if labelled:
        np.testing.assert_array_equal(np.tile(labels, 8), np.concatenate([one[1] for one in found]))


@pytest.mark.parametrize(
    ("labels", "sides", "classes"),
    [
        ([0, 0, 1, 1], ["L", "L", "R", "R"], ["a", "b"]),  # the side decides the label
        ([0, 1, 0, 1], ["L", "L", "R", "R"], ["left tumour", "right tumour"]),
        ([0, 1], ["unknown"] * 2, ["L", "R"]),
        ([0, 1], ["unknown"] * 2, ["tumour_RIGHT", "normal"]),
        ([0, 1], ["unknown"] * 2, ["leftTumour", "normal"]),
    ],
)
def test_mirroring_is_refused_where_the_side_is_the_label(
    labels: list[int], sides: list[str], classes: list[str]
) -> None:
    """A mirrored left breast is not a right one with the same label."""
    with pytest.raises(SettingsError, match="flip_horizontal"):
        check_flips(Augment(flip_horizontal=True), np.array(labels), np.array(sides), classes)
    check_flips(Augment(flip_horizontal=False), np.array(labels), np.array(sides), classes)


def test_mirroring_is_allowed_where_both_sides_have_both_labels() -> None:
    """Tumours on the left and on the right."""
    check_flips(Augment(flip_horizontal=True), np.array([0, 1, 0, 1]), np.array(["L", "L", "R", "R"]), ["a", "b"])


def test_mirroring_is_allowed_where_a_class_only_sounds_like_a_side() -> None:
    """Bright holds right, and cleft left: whole words count."""
    check_flips(
        Augment(flip_horizontal=True), np.array([0, 1, 0, 1]), np.array(["L", "L", "R", "R"]), ["bright", "cleft"]
    )
