"""Claims about how strongly a value goes with the class."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats.contingency import association

from bcdx.records.confounding import measure_association


@given(st.integers(2, 5), st.integers(2, 4), st.integers(0, 2**16))
def test_association_is_cramers_v(values: int, classes: int, seed: int) -> None:
    """As SciPy has it; its import costs a second, which a card need not wait for."""
    counts = np.random.default_rng(seed).integers(1, 50, (values, classes))
    assert association(counts, method="cramer") == pytest.approx(measure_association(counts))


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([[5, 0], [0, 5]], 1.0), ([[5, 5], [2, 2]], 0.0), ([[5, 5]], None), ([[5, 0], [3, 0]], None)],
)
def test_association_of_plain_tables(counts: list[list[int]], expected: float | None) -> None:
    """One where the value gives the class away, none where it says nothing, undefined for one value or class."""
    assert expected == measure_association(np.array(counts))
