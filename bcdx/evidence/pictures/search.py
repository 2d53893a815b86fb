"""Trials and subgroups in; pictures of the search and of who is served how well out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bcdx.evidence.pictures.canvas import (
    BLUE,
    DPI,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SHAPES,
    SKY,
    VERMILION,
    Picture,
    render,
)
from bcdx.evidence.report.facts import TrialFacts

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, VERMILION, SKY)
SCALE = "viridis"
SCORE = "validation AUC"
MOST_ROWS = 30
"""Subgroups in one figure; a table has them all."""


def describe_trial(trial: TrialFacts) -> dict[str, Any]:
    """Return what is shown of a trial's values: depth as two, Keras Tuner's own as epochs alone."""
    found: dict[str, Any] = {}
    for name, value in trial.values.items():
        if name == "depth":
            found["frozen depth"], _, found["pooled blocks"] = str(value).partition("/")
        elif name == "tuner/epochs":
            found["epochs"] = value
        elif not name.startswith("tuner/"):
            found[name.replace("_", " ")] = value
    return found


def list_varying(trials: Sequence[TrialFacts]) -> list[str]:
    """Return the names of values that differ between trials, in order."""
    shown = [describe_trial(one) for one in trials]
    names = list(dict.fromkeys(name for one in shown for name in one))
    return [name for name in names if len({one.get(name) for one in shown}) > 1]


def draw_parallel_coordinates(
    trials: Sequence[TrialFacts], *, title: str, selected: str = "", dpi: int = DPI
) -> Picture:
    """Return one line a trial over the values that vary, ending at and coloured by validation AUC.

    Trials without a score are left out; rates stand on a logarithmic axis. Lines lie a little apart, so that equal
    values do not hide each other.

    Args:
        trials: At least one with a score.
        title: Of the picture.
        selected: Name of the trial whose line is thick.
        dpi: Pixels an inch.
    """
    from matplotlib import colormaps

    scored = sorted((one for one in trials if one.score is not None), key=lambda one: float(one.score or 0.0))
    names = [*list_varying(scored), SCORE]
    shown = [{**describe_trial(one), SCORE: one.score} for one in scored]
    columns = [_place([one.get(name) for one in shown], name) for name in names]

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        heights, last = np.array([places for places, _ in columns]), len(names) - 1
        for index in range(len(scored)):
            apart = 0.04 * (index / max(1, len(scored) - 1) - 0.5)
            line = heights[:, index] + apart * (np.arange(len(names)) < last)
            colour = colormaps[SCALE](0.9 * heights[-1, index])
            axes.plot(
                range(len(names)),
                line,
                color=colour,
                linewidth=3.5 if scored[index].name == selected else 1.2,
                alpha=0.9,
            )
        for place, (_, ticks) in enumerate(columns):
            _draw_axis(axes, place, ticks, last=place == last)
        axes.set(xticks=range(len(names)), xticklabels=names, yticks=[], ylim=(-0.06, 1.06), title=title)
        axes.set_xlim(-0.35, last + 0.35)
        axes.spines[:].set_visible(False)

    return render(draw, inches=(max(5.0, 1.7 * len(names)), 4.0), dpi=dpi)


def draw_depths(trials: Sequence[TrialFacts], *, title: str, dpi: int = DPI) -> Picture:
    """Return validation AUC over frozen depth, a shape and colour for each set of pooled blocks.

    Trials that stopped early are hollow: they had fewer epochs than the others.
    """
    scored = [(describe_trial(one), one) for one in trials if one.score is not None and "depth" in one.values]
    depths = _order({shown["frozen depth"] for shown, _ in scored})
    pools = sorted({shown["pooled blocks"] for shown, _ in scored}, key=lambda name: (len(name), name))

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        for index, pool in enumerate(pools):
            mine = [
                (depths.index(shown["frozen depth"]), one) for shown, one in scored if shown["pooled blocks"] == pool
            ]
            apart = 0.3 * ((index + 0.5) / len(pools) - 0.5)
            colour, shape = COLOURS[index % len(COLOURS)], SHAPES[(index + index // len(COLOURS)) % len(SHAPES)]
            axes.plot([], [], shape, color=colour, label=f"pooled {pool}")
            for place, one in mine:
                face = colour if one.whole else "none"
                axes.plot(place + apart, one.score, shape, color=colour, markerfacecolor=face)
        axes.set(xlabel="frozen up to", ylabel=SCORE, xticks=range(len(depths)), xticklabels=depths, title=title)
        axes.set_xlim(-0.5, max(1, len(depths)) - 0.5)
        if scored:
            axes.legend(fontsize="x-small")

    return render(draw, dpi=dpi)


def draw_subgroups(
    subgroups: Mapping[str, Sequence[Mapping[str, Any]]], *, overall: float | None, title: str, dpi: int = DPI
) -> Picture:
    """Return a forest plot of ROC AUC: a row for each value of each grouping, with its units and patients.

    Args:
        subgroups: Grouping -> [{"value", "n", "patients", "auc": {"value", "low", "high"}}].
        overall: AUC of all units, a line; None: no line.
        title: Says the split and the level.
        dpi: Pixels an inch.
    """
    rows = [(grouping, one) for grouping, found in subgroups.items() for one in found]
    rows = sorted(rows, key=lambda row: -row[1]["n"])[:MOST_ROWS]
    rows = [row for name in subgroups for row in rows if row[0] == name]
    about = "" if overall is None else f"; dotted: all, {overall:.3f}"

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        if overall is not None:
            axes.axvline(overall, linestyle=":", color=GREY)
        for place, (_, one) in enumerate(rows):
            _draw_row(axes, place, one["auc"])
        labels = [f"{name}: {one['value']}\nn {one['n']}, {one['patients']} patients" for name, one in rows]
        axes.set(xlabel=f"ROC AUC, 95 % interval{about}", yticks=range(len(rows)), title=title, xlim=(0, 1.02))
        axes.set_yticklabels(labels, fontsize="small")
        axes.set_ylim(len(rows) - 0.5, -0.5)

    return render(draw, inches=(8.0, 1.1 + 0.4 * max(1, len(rows))), dpi=dpi)


def _draw_row(axes: Any, place: int, entry: Mapping[str, Any]) -> None:
    if entry["value"] is None:
        axes.text(0.02, place, "undefined", va="center", fontsize="small", color=GREY)
        return
    if entry["low"] is not None:
        axes.hlines(place, entry["low"], entry["high"], color=BLUE)
    axes.plot(entry["value"], place, "o", color=BLUE)


def _draw_axis(axes: Any, place: int, ticks: Sequence[tuple[float, str]], *, last: bool) -> None:
    axes.axvline(place, color=GREY, linewidth=0.8, zorder=0)
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
    for height, text in ticks:
        side, gap = ("left", 0.05) if last else ("right", -0.05)
        axes.text(place + gap, height, text, ha=side, va="center", fontsize="x-small", bbox=box)


def _place(values: Sequence[Any], name: str) -> tuple[np.ndarray[Any, np.dtype[np.float64]], list[tuple[float, str]]]:
    """Return the height of each value in [0, 1], and the ticks: height and text."""
    if all(isinstance(one, (int, float)) for one in values):
        rates = "rate" in name or "decay" in name
        scaled = np.array([math.log10(one) if rates and one > 0 else float(one) for one in values])
        low, high = scaled.min(), scaled.max()
        heights = (scaled - low) / (high - low) if high > low else np.full(len(scaled), 0.5)
        texts = {
            round(float(at), 6): f"{one:.3f}" if name == SCORE else f"{one:g}"
            for at, one in zip(heights, values, strict=True)
        }
        return heights, _thin(sorted(texts.items()))
    known = _order({str(one) for one in values})
    places = {one: index / max(1, len(known) - 1) for index, one in enumerate(known)}
    return np.array([places[str(one)] for one in values]), [
        (at, text.replace("+", "\n+ ")) for text, at in places.items()
    ]


def _thin(ticks: list[tuple[float, str]], gap: float = 0.06) -> list[tuple[float, str]]:
    """Return ticks from both ends inwards, without those that would cover another."""
    kept: list[tuple[float, str]] = []
    for one in (*ticks[-1:], *ticks[:-1]):
        if all(abs(one[0] - other[0]) >= gap for other in kept):
            kept.append(one)
    return kept


def _order(names: set[str]) -> list[str]:
    """Return names in order, numbers in them by size: none, mixed0, ..., mixed9, mixed10."""

    def key(name: str) -> tuple[Any, ...]:
        first = name.split("+", maxsplit=1)[0]
        digits = "".join(one for one in first if one.isdigit())
        return (name != "none", int(digits or 0), len(name), name)

    return sorted(names, key=key)
