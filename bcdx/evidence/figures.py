"""Figures as pictures: uint8 arrays of shape (height, width, 4), for TensorBoard and files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]


def draw_precision_recall(scores: NDArray[np.float64], positives: NDArray[np.bool_], *, title: str) -> Picture:
    """Return the precision-recall curve with the prevalence as its floor."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    def draw(axes: Any) -> None:
        axes.set(xlabel="recall (sensitivity)", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title=title)
        if positives.any() and not positives.all():
            precision, recall, _ = precision_recall_curve(positives, scores)
            area = average_precision_score(positives, scores)
            axes.step(recall, precision, where="post", label=f"average precision {area:.3f}")
        axes.axhline(positives.mean(), linestyle=":", color="grey", label=f"prevalence {positives.mean():.2f}")
        axes.legend(loc="lower left")

    return _render(draw)


def draw_confusion(
    predicted: NDArray[np.int64], labels: NDArray[np.int64], names: Sequence[str], *, title: str
) -> Picture:
    """Return the confusion matrix, counts by true and predicted class."""
    from sklearn.metrics import confusion_matrix

    counts = confusion_matrix(labels, predicted, labels=range(len(names)))

    def draw(axes: Any) -> None:
        axes.imshow(counts, cmap="Blues")
        ticks = range(len(names))
        axes.set(xticks=ticks, yticks=ticks, xticklabels=names, yticklabels=names)
        axes.set(xlabel="predicted", ylabel="true", title=title)
        for (row, column), count in np.ndenumerate(counts):
            dark = count > counts.max() / 2
            axes.text(column, row, str(count), ha="center", va="center", color="white" if dark else "black")

    return _render(draw)


def _render(draw: Callable[[Any], None]) -> Picture:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    draw(figure.add_subplot())
    canvas.draw()
    return np.asarray(canvas.buffer_rgba()).copy()
