"""Claims about a tested split: what it is compared with, and on which samples that was fitted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from bcdx._recipes import load_recipe
from bcdx.config import Fit
from bcdx.evidence.cases import Cases
from bcdx.evidence.familiarity import read_reference
from bcdx.learning.run import REFERENCE, read_run
from bcdx.learning.testing import rank_slices
from bcdx.records.manifest import read_manifest
from bcdx.records.reader import read_table


@pytest.mark.parametrize("positive", [0, 1, 2])
def test_probes_stand_beside_the_positive_class_against_the_rest(positive: int) -> None:
    """Not beside the mean over classes, which the metrics of several have."""
    generator = np.random.default_rng(0)
    labels, patients = np.arange(60) % 3, np.array([f"p{one // 2}" for one in range(60)])
    scores = generator.dirichlet(np.ones(3), 60) + 0.2 * np.eye(3)[labels]
    found = rank_slices(Cases(scores, labels, patients, np.array(["L"] * 60), positive))
    assert roc_auc_score(labels == positive, scores[:, positive]) == pytest.approx(found["value"])
    assert found["low"] < found["value"] < found["high"]


def test_rank_of_one_class_is_undefined() -> None:
    """Null with a reason."""
    cases = Cases(np.full((3, 2), 0.5), np.ones(3, np.int64), np.array(list("abc")), np.array(["L"] * 3), 1)
    assert rank_slices(cases)["reason"] == "only one class in the split"


def test_reference_is_of_the_images_that_the_model_was_fitted_on(finished_run: Path) -> None:
    """Without a refit on validation too, those of training alone: validation's are as new to it as any."""
    assert load_recipe(finished_run / "best.toml", Fit).refit == "train"
    records = finished_run / read_run(finished_run).records
    expected = read_table(records, read_manifest(records), ("train",))
    found = read_reference(finished_run / REFERENCE)
    assert (len(expected.label), len(set(expected.patient))) == (found.images, found.patients)
