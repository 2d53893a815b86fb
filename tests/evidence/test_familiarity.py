"""Claims about familiarity: new patients of the same kind are familiar, other images are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bcdx.errors import RunError
from bcdx.evidence.familiarity import (
    Reference,
    fit_reference,
    judge_unit,
    measure_distances,
    read_reference,
    write_reference,
)

MIXING = np.random.default_rng(9).standard_normal((12, 200))


def draw(*, seed: int, patients: int = 60, images: int = 5) -> tuple[NDArray[np.float32], NDArray[np.str_]]:
    """Features of twelve causes, in part the patient's; 200 features."""
    generator = np.random.default_rng(seed)
    causes = np.repeat(generator.standard_normal((patients, 12)), images, axis=0)
    causes += generator.standard_normal(causes.shape)
    features = causes @ MIXING + generator.standard_normal((len(causes), 200))
    return features.astype(np.float32), np.repeat([f"p{one}" for one in range(patients)], images)


@pytest.fixture(scope="module")
def reference() -> Reference:
    """Of 60 patients with five images each."""
    return fit_reference(*draw(seed=0))


def test_limit_is_rarely_exceeded_by_new_patients(reference: Reference) -> None:
    """About one image in a hundred."""
    strange = measure_distances(reference, draw(seed=1, patients=400)[0]) > reference.limit
    assert 0.001 < strange.mean() < 0.03


def test_distance_of_usual_images_is_one_or_less(reference: Reference) -> None:
    """So that a distance can be read without the limit."""
    assert 0.5 < np.median(measure_distances(reference, draw(seed=1)[0])) < 1.1


def test_images_of_another_kind_are_unfamiliar(reference: Reference) -> None:
    """Shifted causes, or features that are not finite."""
    features = draw(seed=1)[0]
    other = features + 6.0 * MIXING[:3].sum(axis=0).astype(np.float32)
    assert (measure_distances(reference, other) > reference.limit).mean() > 0.95
    features[0, 3] = np.nan
    assert measure_distances(reference, features)[0] == np.inf


def test_distance_is_an_images_own(reference: Reference) -> None:
    """It does not depend on what else is measured at the same time."""
    features = draw(seed=1)[0]
    together, alone = measure_distances(reference, features), measure_distances(reference, features[7:8])
    assert together[7] == pytest.approx(alone[0])


def test_reference_does_not_depend_on_patients_codes() -> None:
    """Codes come from a private key; the limit must not."""
    features, patients = draw(seed=0, patients=20)
    renamed = np.array([f"q{99 - int(one[1:])}" for one in patients])
    assert fit_reference(features, renamed).limit == fit_reference(features, patients).limit


def test_limit_of_few_patients_is_infinite() -> None:
    """Nothing can be called unfamiliar where nobody knows what is usual; one image is no error."""
    few, one = fit_reference(*draw(seed=0, patients=9)), fit_reference(*draw(seed=0, patients=1, images=1))
    assert (few.limit, one.limit) == (np.inf, np.inf)
    assert np.isfinite(measure_distances(one, draw(seed=1)[0])).all()


def test_constant_features_give_finite_distances() -> None:
    """A network that says nothing is no error."""
    patients = np.array([f"p{one}" for one in range(20)])
    found = fit_reference(np.zeros((20, 8), np.float32), patients)
    assert measure_distances(found, np.zeros((3, 8), np.float32)) == pytest.approx(np.zeros(3))


def test_reference_reads_back_what_was_written(reference: Reference, tmp_path: Path) -> None:
    """Distances agree to single precision; twice written, the bytes are the same; no row for each image is kept."""
    features = draw(seed=1)[0]
    for name in ("a.npz", "b.npz"):
        write_reference(tmp_path / name, reference)
    found = read_reference(tmp_path / "a.npz")
    assert (found.limit, found.patients, found.images) == (reference.limit, 60, 300)
    assert measure_distances(found, features) == pytest.approx(measure_distances(reference, features), rel=1e-4)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert reference.axes.shape == (30, 200)


@pytest.mark.parametrize("content", [None, b"", b"no archive", b"PK\x03\x04 half"])
def test_damaged_reference_is_refused(content: bytes | None, tmp_path: Path) -> None:
    """One line that names the file."""
    path = tmp_path / "reference.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunError, match=r"reference\.npz"):
        read_reference(path)


def test_features_of_another_model_are_refused(reference: Reference) -> None:
    """Their number gives them away."""
    with pytest.raises(RunError, match="another model"):
        measure_distances(reference, np.zeros((2, 7), np.float32))


@pytest.mark.parametrize(
    ("distances", "deciding", "expected"),
    [
        ([0.9, 1.0, 1.1], [0], False),
        ([9.0, 1.0, 1.1, 0.9], [0, 1], True),  # the score rests on a strange slice
        ([9.0, 1.0, 1.1, 0.9], [1, 2], False),  # the strange one, say at the stack's end, decides nothing
        ([9.0, 9.0, 1.1, 0.9], [2, 3], True),  # half of the study is strange
        ([2.0], [0], False),  # at the limit
    ],
)
def test_unit_is_unfamiliar_where_its_score_or_its_kind_is(
    distances: list[float], deciding: list[int], expected: bool
) -> None:
    """With a limit of 2."""
    assert expected == judge_unit(np.array(distances), 2.0, deciding=deciding)
