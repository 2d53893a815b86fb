"""Scores and labels in; figures, uint8 pictures of shape (height, width, 4) for TensorBoard and the report, out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bcdx.evidence.intervals import CHUNK, draw_patients
from bcdx.evidence.pictures.canvas import BLUE, DPI, GREY, SHAPES, VERMILION, Picture, render
from bcdx.evidence.statistics import BINS, Ranking, calibration_gap, divide, evaluate_once, place_in_bins, rank

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]
Texts = NDArray[np.str_]

RESAMPLES = 400
"""Enough for a band that is looked at; figures that are printed have more."""
GRID = np.linspace(0.0, 1.0, 101)
"""Values of 1 - specificity at which the band of a ROC curve is drawn."""


def draw_roc(
    scores: Floats,
    positives: Booleans,
    *,
    title: str,
    points: Mapping[str, tuple[float, float]] | None = None,
    patients: Texts | None = None,
    dpi: int = DPI,
) -> Picture:
    """Return the ROC curve beside that of chance; where a class is missing, chance alone.

    Args:
        scores: Of the positive class, shape (units,).
        positives: Shape (units,).
        title: Says the split and the level.
        points: Operating point -> (sensitivity, specificity) to mark on the plane.
        patients: Shape (units,); given, they are resampled for a 95 % band of sensitivity at each specificity.
        dpi: Pixels an inch.
    """
    from sklearn.metrics import roc_auc_score, roc_curve

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1), ylim=(0, 1.02), title=title)
        axes.plot([0, 1], [0, 1], linestyle=":", color=GREY, label="chance")
        if _has_both(positives):
            false_rate, true_rate, _ = roc_curve(positives, scores)
            axes.plot(false_rate, true_rate, color=BLUE, label=f"AUC {roc_auc_score(positives, scores):.3f}")
            if patients is not None:
                _draw_band(axes, scores, positives, patients)
        for marker, (name, (sensitivity, specificity)) in zip(SHAPES, (points or {}).items(), strict=False):
            axes.plot(1 - specificity, sensitivity, marker, color=VERMILION, markeredgecolor="white", label=name)
        axes.legend(loc="lower right", fontsize="small")

    return render(draw, dpi=dpi)


def draw_precision_recall(scores: Floats, positives: Booleans, *, title: str, dpi: int = DPI) -> Picture:
    """Return the precision-recall curve with the prevalence as its floor."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        axes.set(xlabel="recall (sensitivity)", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title=title)
        if _has_both(positives):
            precision, recall, _ = precision_recall_curve(positives, scores)
            area = average_precision_score(positives, scores)
            axes.step(recall, precision, where="post", color=BLUE, label=f"average precision {area:.3f}")
        axes.axhline(positives.mean(), linestyle=":", color=GREY, label=f"prevalence {positives.mean():.2f}")
        axes.legend(loc="lower left", fontsize="small")

    return render(draw, dpi=dpi)


def draw_reliability(
    scores: Floats, positives: Booleans, *, title: str, patients: Texts | None = None, dpi: int = DPI
) -> Picture:
    """Return the reliability diagram: in each of 10 equal-width bins how often what was predicted came true.

    Args:
        scores: Probability of the positive class, shape (units,).
        positives: Shape (units,).
        title: Says the split and the level.
        patients: Shape (units,); given, a 95 % interval of each frequency is drawn, by resampling them.
        dpi: Pixels an inch.

    Source: DeGroot and Fienberg 1983, "The comparison and evaluation of forecasters", The Statistician 32(1).
    """

    def draw(figure: Any) -> None:
        _draw_reliability(figure.subplots(2, 1, sharex=True, height_ratios=(4, 1)), scores, positives, patients)
        figure.suptitle(title)

    return render(draw, dpi=dpi)


def draw_reliabilities(
    scores: Mapping[str, Floats], positives: Booleans, *, title: str, patients: Texts | None = None, dpi: int = DPI
) -> Picture:
    """Return reliability diagrams side by side, such as before and after calibration.

    Args:
        scores: Name -> probability of the positive class, shape (units,).
        positives: Shape (units,).
        title: Of them all.
        patients: As in `draw_reliability`.
        dpi: Pixels an inch.
    """

    def draw(figure: Any) -> None:
        grid = figure.subplots(2, len(scores), sharex=True, sharey="row", height_ratios=(4, 1), squeeze=False)
        for column, (name, found) in enumerate(scores.items()):
            _draw_reliability(grid[:, column], found, positives, patients, name=name)
        for axes in grid[:, 1:].flat:
            axes.set_ylabel("")
        figure.suptitle(title)

    return render(draw, inches=(max(5.0, 4.0 * len(scores)), 4.2), dpi=dpi)


def draw_confusion(
    predicted: NDArray[np.int64], labels: NDArray[np.int64], names: Sequence[str], *, title: str, dpi: int = DPI
) -> Picture:
    """Return the confusion matrix, counts by true and predicted class."""
    from sklearn.metrics import confusion_matrix

    return draw_counts(confusion_matrix(labels, predicted, labels=range(len(names))), names, title=title, dpi=dpi)


def draw_counts(counts: NDArray[np.int64], names: Sequence[str], *, title: str, dpi: int = DPI) -> Picture:
    """Return a confusion matrix from its counts, shape (classes, classes), the truth in rows."""

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        axes.imshow(counts, cmap="Blues")
        ticks = range(len(names))
        axes.set(xticks=ticks, yticks=ticks, xticklabels=names, yticklabels=names)
        axes.set(xlabel="predicted", ylabel="true", title=title)
        for (row, column), count in np.ndenumerate(counts):
            dark = count > counts.max() / 2
            axes.text(column, row, str(count), ha="center", va="center", color="white" if dark else "black")

    return render(draw, dpi=dpi)


@dataclass(frozen=True)
class Bins:
    """Ten equal-width bins of probability.

    Attributes:
        counts: Units in each, shape (10,).
        means: Mean probability in each, NaN where it is empty.
        frequencies: Share of positives in each, NaN where it is empty.
        ece: Mean gap between mean probability and frequency, weighted by units.
    """

    counts: Floats
    means: Floats
    frequencies: Floats
    ece: float


def sort_into_bins(scores: Floats, positives: Booleans) -> Bins:
    """Return what lies in each bin; a probability of 1 counts to the last."""
    members = _find_members(scores)
    counts = members.sum(axis=0)
    means, frequencies = divide(scores @ members, counts), divide(positives @ members, counts)
    return Bins(counts, means, frequencies, evaluate_once(calibration_gap(scores, positives), len(scores)))


def resample_band(
    statistic: Callable[[Floats], Floats], patients: Texts, *, resamples: int = RESAMPLES
) -> tuple[Floats, Floats]:
    """Return the pointwise 95 % band of a statistic over resampled patients, shape (points,) each.

    Args:
        statistic: Weights of units, shape (resamples, units) -> values, shape (resamples, points); NaN where undefined.
        patients: Shape (units,).
        resamples: How many.
    """
    names, member = np.unique(patients, return_inverse=True)
    drawn = draw_patients(len(names), resamples=resamples, seed=0)
    times = np.stack([np.bincount(one, minlength=len(names)) for one in drawn]).astype(np.float64)
    rows = max(1, CHUNK // len(patients))
    found = np.concatenate([statistic(times[start : start + rows, member]) for start in range(0, resamples, rows)])
    bounds = np.full((2, found.shape[1]), np.nan)
    known = np.isfinite(found).any(axis=0)
    bounds[:, known] = np.nanquantile(found[:, known], (0.025, 0.975), axis=0)
    return bounds[0], bounds[1]


def _has_both(positives: Booleans) -> bool:
    return bool(positives.any() and not positives.all())


def _draw_band(axes: Any, scores: Floats, positives: Booleans, patients: Texts) -> None:
    ranking = rank(scores, positives)
    low, high = resample_band(lambda weights: read_sensitivities(ranking, weights), patients)
    axes.fill_between(GRID, low, high, color=BLUE, alpha=0.15, linewidth=0, label="95 %, patients resampled")


def read_sensitivities(ranking: Ranking, weights: Floats) -> Floats:
    """Return the sensitivity of each resample's ROC curve at each value of `GRID`, NaN where a class is missing.

    Args:
        ranking: Of the units.
        weights: Of units, shape (resamples, units).

    Returns:
        Shape (resamples, 101).
    """
    found, false = ranking.count(weights)
    both = (found[:, -1] > 0.0) & (false[:, -1] > 0.0)
    values = np.full((len(weights), len(GRID)), np.nan)
    for place in np.flatnonzero(both):
        values[place] = np.interp(
            GRID,
            np.concatenate([[0.0], false[place] / false[place, -1]]),
            np.concatenate([[0.0], found[place] / found[place, -1]]),
        )
    return values


def _find_members(scores: Floats) -> Floats:
    """Return which bin each unit lies in, 1 there and 0 elsewhere, shape (units, bins)."""
    members: Floats = np.eye(BINS)[place_in_bins(scores)]
    return members


def _draw_reliability(
    pair: Any, scores: Floats, positives: Booleans, patients: Texts | None, *, name: str = ""
) -> None:
    """Draw the diagram on the upper of two axes, how many units lie where on the lower."""
    upper, lower = pair
    bins, brier = sort_into_bins(scores, positives), float(np.mean((scores - positives) ** 2))
    upper.plot([0, 1], [0, 1], linestyle=":", color=GREY)
    if patients is not None:
        members = _find_members(scores)
        hits = members * positives[:, None]
        low, high = resample_band(lambda weights: divide(weights @ hits, weights @ members), patients)
        upper.vlines(bins.means, low, high, color=BLUE, alpha=0.5)
    upper.plot(bins.means, bins.frequencies, "o-", color=BLUE)
    said = f"ECE {bins.ece:.3f}, Brier {brier:.3f}"  # above the plane, for within it any corner may hold points
    upper.set_title(f"{name}\n{said}" if name else said, fontsize="small")
    upper.set(ylabel="came true", xlim=(0, 1), ylim=(-0.02, 1.02))
    drawn = lower.bar((np.arange(BINS) + 0.5) / BINS, bins.counts, width=0.9 / BINS, color=GREY)
    lower.bar_label(drawn, labels=[f"{count:.0f}" if count else "" for count in bins.counts], fontsize="x-small")
    lower.set(xlabel="predicted probability", ylabel="n", yticks=[], ylim=(0, bins.counts.max() * 1.5))
