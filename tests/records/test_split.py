"""Claims about who goes into which split."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcdx.config import Split
from bcdx.errors import RecordsError
from bcdx.records.split import assign_splits, check_classes


def digest(name: object) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()


PATIENTS = st.dictionaries(
    st.integers(0, 10**6).map(digest), st.sampled_from([frozenset({0}), frozenset({1}), frozenset({0, 1})]), min_size=3
)


@settings(max_examples=100, deadline=None)
@given(PATIENTS, st.randoms())
def test_split_depends_on_the_set_of_patients_alone(patients: dict[str, frozenset[int]], random: object) -> None:
    """Any order of input gives the same split, and everyone is in exactly one."""
    shuffled = list(patients.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    expected = assign_splits(patients, Split())
    assert expected == assign_splits(dict(shuffled), Split())
    assert set(expected) == set(patients)
    assert {"train", "validation", "test"} == set(expected.values())


def test_split_meets_its_shares_and_is_stratified() -> None:
    """Of 100 ill and 100 well patients each stratum is cut alike."""
    patients = {digest(index): frozenset({index % 2}) for index in range(200)}
    counts = Counter(
        (patients[one], name) for one, name in assign_splits(patients, Split(validation=0.2, test=0.3)).items()
    )
    for label in (frozenset({0}), frozenset({1})):
        assert [50, 20, 30] == [counts[label, name] for name in ("train", "validation", "test")]


def test_small_stratum_has_one_patient_in_each_split() -> None:
    """Three patients of a rare kind are spread, so that no split lacks it."""
    patients = {digest(index): frozenset({int(index < 3)}) for index in range(60)}
    found = assign_splits(patients, Split(validation=0.1, test=0.1))
    assert {"train", "validation", "test"} == {name for one, name in found.items() if patients[one] == {1}}


def test_all_test_is_legal() -> None:
    """An external set has no training."""
    patients = {digest(index): frozenset({index % 2}) for index in range(5)}
    assert {"test"} == set(assign_splits(patients, Split(test=1.0, validation=0.0)).values())


def test_fewer_patients_than_splits_is_an_error() -> None:
    """Two patients cannot fill three splits."""
    with pytest.raises(RecordsError, match="2 patients cannot fill 3 splits"):
        assign_splits({digest(index): frozenset({0}) for index in range(2)}, Split())


def test_training_without_a_class_is_an_error_and_a_test_without_one_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What cannot be learned stops the run; what cannot be measured is said."""
    with pytest.raises(RecordsError, match="no 'b' in training"):
        check_classes({"train": [3, 0]}, ["a", "b"])
    check_classes({"train": [3, 3], "test": [2, 0]}, ["a", "b"])
    assert "no b in the test split" in caplog.text
