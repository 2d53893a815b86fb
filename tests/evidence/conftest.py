"""Cases made to order. Fixtures last a session, so that properties can ask for them too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume
from numpy.typing import NDArray

from bcdx.evidence.cases import Cases


def pair_scores(positives: Any) -> NDArray[np.float64]:
    """Rows of (negative, positive) probabilities."""
    return np.stack([1.0 - np.asarray(positives), np.asarray(positives)], axis=1)


@pytest.fixture(scope="session")
def as_two_classes() -> Callable[[Any], NDArray[np.float64]]:
    """A function (scores of the positive class) -> rows of (negative, positive) probabilities."""
    return pair_scores


@pytest.fixture(scope="session")
def make_cases() -> Callable[..., Cases]:
    """A function (scores, labels, patients=, sides=, top=) -> cases of two classes.

    A patient each unless letters say otherwise; sides by letter, `?` is unknown.
    """

    def make(
        scores: list[float], labels: list[int], *, patients: str | None = None, sides: str | None = None, top: int = 3
    ) -> Cases:
        count = len(scores)
        names = list(patients) if patients else [f"p{index}" for index in range(count)]
        lateralities = ["unknown" if side == "?" else side for side in sides or "L" * count]
        return Cases(pair_scores(scores), np.array(labels), np.array(names), np.array(lateralities), 1, top)

    return make


@pytest.fixture(scope="session")
def make_random_cases() -> Callable[..., Cases]:
    """A function (count=60, classes=2) -> cases of three slices a patient, all classes present."""

    def make(count: int = 60, classes: int = 2) -> Cases:
        probabilities = np.random.default_rng(0).dirichlet(np.ones(classes), count)
        labels = np.arange(count) // 3 % classes
        patients = np.array([f"p{index // 3:03d}" for index in range(count)])
        return Cases(probabilities, labels, patients, np.array(["L"] * count), classes - 1)

    return make


@pytest.fixture(scope="session")
def split_columns() -> Callable[[Any], tuple[NDArray[np.float64], NDArray[np.bool_]]]:
    """A function (rows of score in twelfths and whether positive) -> scores in [0, 1] and positives, both present."""

    def split(rows: list[tuple[int, bool]]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        scores, positives = (np.array(column) for column in zip(*rows, strict=True))
        assume(positives.any() and not positives.all())
        return scores / 12, positives

    return split
