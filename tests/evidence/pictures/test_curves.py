"""Claims about figures, read off their pixels."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from bcdx.evidence.pictures.curves import (
    GRID,
    draw_confusion,
    draw_precision_recall,
    draw_reliabilities,
    draw_reliability,
    draw_roc,
    read_sensitivities,
    resample_band,
    sort_into_bins,
)
from bcdx.evidence.statistics import Statistic, calibration_gap, rank

CURVE = (0, 114, 178)
"""The blue of a curve."""
POINT = (213, 94, 0)
"""The vermilion of an operating point."""
FULL = (8, 48, 107)
"""The blue of a matrix's highest count."""


def find_colour(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.int64]:
    """Rows and columns of the pixels of exactly that colour, shape (pixels, 2)."""
    return np.argwhere((picture[..., :3] == colour).all(axis=-1))


def draw_curve(scores: list[float], positives: list[bool]) -> NDArray[np.uint8]:
    return draw_precision_recall(np.array(scores), np.array(positives), title="test")


def test_figures_are_opaque_pictures() -> None:
    """TensorBoard takes them as they are: uint8 RGBA."""
    scores, positives = np.array([0.1, 0.9]), np.array([False, True])
    for picture in (
        draw_curve([0.1, 0.9], [False, True]),
        draw_roc(scores, positives, title="test"),
        draw_reliability(scores, positives, title="test"),
        draw_confusion(np.array([0, 1]), np.array([0, 1]), ["healthy", "ill"], title="test"),
    ):
        assert (picture.dtype.name, picture.shape) == ("uint8", (400, 500, 4))
        assert (picture[..., 3] == 255).all()


def test_curve_of_a_perfect_model_runs_along_the_top() -> None:
    """Precision 1 at every recall lies in the figure's upper quarter."""
    curve = find_colour(draw_curve([0.1, 0.2, 0.8, 0.9], [False, False, True, True]), CURVE)
    top = curve[curve[:, 0] < 100]
    assert top[:, 1].max() - top[:, 1].min() > 300


def test_curve_of_a_reversed_model_does_not() -> None:
    """A model that ranks ill below healthy never comes near precision 1."""
    curve = find_colour(draw_curve([0.9, 0.8, 0.7, 0.1], [False, False, False, True]), CURVE)
    assert len(curve) > 0
    assert curve[:, 0].min() > 100


@pytest.mark.parametrize("positive", [True, False])
def test_curve_of_one_class_is_not_drawn(positive: bool) -> None:
    """Where it is undefined only the prevalence line is left, and nothing fails."""
    assert len(find_colour(draw_curve([0.1, 0.9], [positive, positive]), CURVE)) == 0


def test_confusion_has_the_truth_in_rows() -> None:
    """Healthy cases called ill fill the upper right cell."""
    picture = draw_confusion(np.array([1, 1, 1]), np.array([0, 0, 0]), ["healthy", "ill"], title="test")
    row, column = find_colour(picture, FULL).mean(axis=0)
    assert row < 200
    assert column > 250


def test_confusion_shows_classes_that_do_not_occur() -> None:
    """A class without cases keeps its row and column: the one full cell is a ninth of the matrix, not a quarter."""
    cells = []
    for names in (["a", "b"], ["a", "b", "c"]):
        picture = draw_confusion(np.array([0, 0]), np.array([0, 0]), names, title="test")
        cells.append(len(find_colour(picture, FULL)))
    assert cells[1] / cells[0] == pytest.approx(4 / 9, rel=0.15)


def test_figures_are_the_same_twice() -> None:
    """Equal numbers give equal pixels."""
    scores, positives = [0.1, 0.6, 0.4, 0.9], [False, False, True, True]
    assert np.array_equal(draw_curve(scores, positives), draw_curve(scores, positives))


def test_figures_need_neither_a_screen_nor_tensorflow_nor_dicom() -> None:
    """Drawing in a fresh process loads no plotting window, no TensorFlow and no pydicom."""
    code = (
        "import sys; import numpy as np; from bcdx.evidence import metrics, summary;"
        "from bcdx.evidence.pictures import curves as figures;"
        "figures.draw_precision_recall(np.array([0.1, 0.9]), np.array([False, True]), title='test');"
        "print(sorted({'matplotlib.pyplot', 'tensorflow', 'keras', 'pydicom'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_figures_can_be_drawn_finer() -> None:
    """Twice the dots an inch are four times the pixels."""
    picture = draw_roc(np.array([0.1, 0.9]), np.array([False, True]), title="test", dpi=200)
    assert (800, 1000, 4) == picture.shape


def test_roc_of_a_perfect_model_runs_up_and_along_the_top() -> None:
    """The curve touches the upper left corner of the plane; a reversed one does not."""
    positives = np.array([False, False, True, True])
    perfect, reversed_ = (
        find_colour(draw_roc(np.array(scores), positives, title="test"), CURVE)
        for scores in ([0.1, 0.2, 0.8, 0.9], [0.9, 0.8, 0.2, 0.1])
    )
    assert perfect[perfect[:, 1] < 100][:, 0].min() < 60
    assert reversed_[reversed_[:, 1] < 100].size == 0 or reversed_[reversed_[:, 1] < 100][:, 0].min() > 60


@pytest.mark.parametrize("positive", [True, False])
def test_roc_of_one_class_is_not_drawn(positive: bool) -> None:
    """Only the line of chance is left, with patients or without."""
    for patients in (None, np.array(["a", "b"])):
        picture = draw_roc(np.array([0.1, 0.9]), np.array([positive] * 2), title="test", patients=patients)
        assert len(find_colour(picture, CURVE)) == 0


def test_roc_marks_each_operating_point() -> None:
    """A point of sensitivity 1 and specificity 1 lies in the upper left of the plane."""
    scores, positives = np.array([0.1, 0.9]), np.array([False, True])
    found = find_colour(draw_roc(scores, positives, title="t", points={"Youden": (1.0, 1.0)}), POINT)
    assert found[:, 1].min() < 100
    assert found[:, 0].min() < 60


def test_bins_hold_every_unit_and_add_up_to_the_metric() -> None:
    """A probability of exactly 1 lies in the last bin; ECE is the one that is printed."""
    rng = np.random.default_rng(0)
    scores = np.append(rng.random(200), [0.0, 1.0])
    positives = np.append(rng.random(200) < 0.4, [False, True])
    bins = sort_into_bins(scores, positives)
    assert 202 == bins.counts.sum()
    expected = calibration_gap(scores, positives)(np.ones((1, 202)))[0]
    assert expected == pytest.approx(bins.ece, abs=1e-12)


def test_reliabilities_stand_side_by_side() -> None:
    """Two diagrams are wider than one, and as high."""
    scores, positives = np.array([0.2, 0.7, 0.9]), np.array([False, True, True])
    picture = draw_reliabilities(
        {"before": scores, "after": scores**2}, positives, title="test", patients=np.array(["a", "b", "b"])
    )
    one = draw_reliabilities({"only": scores}, positives, title="test")
    assert (800, 4) == (picture.shape[1], picture.shape[2])
    assert one.shape[0] == picture.shape[0]
    assert one.shape[1] < picture.shape[1]


def test_band_spans_the_value_and_knows_nothing_of_images() -> None:
    """Repeating every image of a patient does not narrow the band."""
    values, patients = np.arange(12.0), np.array([f"p{n}" for n in range(12)])

    def average(found: NDArray[np.float64]) -> Statistic:
        return lambda weights: (weights @ found / weights.sum(axis=1))[:, None]

    low, high = resample_band(average(values), patients)
    assert low[0] < values.mean() < high[0]
    again = resample_band(average(np.repeat(values, 50)), np.repeat(patients, 50))
    assert again[0] == pytest.approx(low)
    assert again[1] == pytest.approx(high)


def test_band_is_undefined_where_every_resample_is() -> None:
    """And rests on the others where some are not."""

    def half_known(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        known = np.where(np.arange(len(weights)) % 2, 1.0, np.nan)
        return np.stack([np.full(len(weights), np.nan), known], axis=1)

    low, high = resample_band(half_known, np.array(["a", "b"]))
    assert np.isnan([low[0], high[0]]).all()
    assert (low[1], high[1]) == (1.0, 1.0)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_sensitivities_of_a_resample_are_those_of_its_units(seed: int) -> None:
    """A weight of 2 is a unit drawn twice; scores are tied; where a class is not drawn there is no curve."""
    generator = np.random.default_rng(seed)
    scores, positives = generator.integers(0, 6, 20) / 5, generator.random(20) < 0.4
    units = generator.integers(0, 20, 20)
    weights = np.bincount(units, minlength=20)[None].astype(np.float64)
    actual = read_sensitivities(rank(scores, positives), weights)[0]
    if positives[units].all() or not positives[units].any():
        assert np.isnan(actual).all()
        return
    false, true, _ = roc_curve(positives[units], scores[units], drop_intermediate=False)
    assert actual == pytest.approx(np.interp(GRID, false, true))
