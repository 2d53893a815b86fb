"""Claims about probes: each finds the shortcut that was planted, and none where there is none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from bcdx.evidence.intervals import number_patients
from bcdx.evidence.probes import features as feature_probes
from bcdx.evidence.probes.features import compare_splits, exchange_labels
from bcdx.evidence.probes.linear import fold_by_patient, reduce_features
from bcdx.evidence.probes.run import ProbeData, run_probes, set_bar

NAMES = {
    "slice_index",
    "mean_intensity",
    "acquisition",
    "shuffled_labels",
    "image_split",
    "features_tell_scanner",
    "features_tell_site",
}


def draw(*, seed: int = 0, patients: int = 20, images: int = 6, strength: float = 0.0) -> ProbeData:
    """Both classes in every patient; features know the label by `strength`, and nothing else does."""
    generator = np.random.default_rng(seed)
    count = patients * images
    label = np.tile(np.arange(images) % 2, patients)
    features = generator.standard_normal((count, 40)).astype(np.float32)
    features[:, 0] += strength * label
    return ProbeData(
        label=label,
        patient=np.repeat([f"p{one}" for one in range(patients)], images),
        laterality=np.full(count, "L"),
        scanner=np.repeat(generator.permutation(np.resize(["A", "B"], patients)), images),
        site=np.full(count, ""),
        slice_index=np.concatenate([generator.permutation(images) for _ in range(patients)]),
        mean_intensity=generator.random(count),
        features=features,
    )


def probe(training: ProbeData, test: ProbeData, auc: float | None = 0.9) -> dict[str, dict[str, object]]:
    """All probes of a result with the interval 0.85 to 0.95."""
    return run_probes(training, test, positive=1, auc=auc, auc_interval=(0.85, 0.95))


@pytest.fixture(autouse=True, scope="module")
def few_shuffles() -> Iterator[None]:
    """Ten say here what fifty do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_probes, "SHUFFLES", 10)
        yield


@pytest.fixture(scope="module")
def clean() -> dict[str, dict[str, object]]:
    """Nothing but the features knows the label."""
    return probe(draw(), draw(seed=1, strength=3.0))


def test_probes_are_all_there_and_plain_data(clean: dict[str, dict[str, object]]) -> None:
    """Every probe has its note and its flag, and JSON takes them without NaN."""
    assert set(clean) == NAMES
    assert all({"reached", "note"} <= set(one) for one in clean.values())
    assert json.loads(json.dumps(clean, allow_nan=False)) == clean


def test_probes_find_nothing_where_nothing_is_planted(clean: dict[str, dict[str, object]]) -> None:
    """No flag, and labels that mean nothing are guessed at chance."""
    assert not any(one["reached"] for one in clean.values())
    assert clean["shuffled_labels"]["auc"]["value"] == pytest.approx(0.5, abs=0.05)  # type: ignore[index]
    assert clean["image_split"]["auc_by_patient"]["value"] > 0.9  # type: ignore[index]
    assert clean["features_tell_scanner"]["above_chance"] is False


def test_probes_name_no_patient_site_or_scanner() -> None:
    """What is written holds counts and words alone."""
    test = replace(
        draw(), site=np.where(draw().scanner == "A", "SITECODE", "OTHERCODE"), scanner=np.full(120, "SCANNER")
    )
    written = json.dumps(probe(test, test))
    assert not any(name in written for name in ("SITECODE", "OTHERCODE", "SCANNER", "p1"))


@pytest.mark.parametrize("shape", ["end", "middle"])
def test_slice_index_that_gives_the_class_away_is_flagged(shape: str) -> None:
    """Tumours at one end of the stack, and tumours in its middle, which no straight line tells."""
    low, high = (3, 5) if shape == "end" else (2, 3)

    def plant(data: ProbeData) -> ProbeData:
        return replace(data, label=((data.slice_index >= low) & (data.slice_index <= high)).astype(np.int64))

    assert probe(plant(draw()), plant(draw(seed=1)))["slice_index"]["reached"] is True


def test_mean_intensity_that_gives_the_class_away_is_flagged() -> None:
    """Also where the relation is no straight line: tumours neither dark nor bright."""

    def plant(data: ProbeData) -> ProbeData:
        return replace(data, label=(np.abs(data.mean_intensity - 0.5) < 0.25).astype(np.int64))

    assert probe(plant(draw()), plant(draw(seed=1)))["mean_intensity"]["reached"] is True


def test_scanner_that_gives_the_class_away_is_flagged() -> None:
    """One class a scanner, as where cases and controls come from different places; an unknown scanner is no error."""

    def plant(data: ProbeData) -> ProbeData:
        return replace(data, label=(data.scanner == "A").astype(np.int64))

    test = plant(draw(seed=1))
    assert probe(plant(draw()), replace(test, scanner=test.scanner.astype("<U3")))["acquisition"]["reached"] is True
    assert probe(plant(draw()), replace(test, scanner=np.full(120, "new")))["acquisition"]["reached"] is False


def test_features_that_know_the_scanner_are_found() -> None:
    """Balanced accuracy stands beside chance and lies above it."""
    test = draw()
    test.features[:, :9] += 3.0 * (test.scanner == "A")[:, None]
    found = probe(draw(seed=1), test)["features_tell_scanner"]
    assert (found["chance"], found["above_chance"], found["reached"]) == (0.5, True, None)
    assert found["balanced_accuracy"]["value"] > 0.9  # type: ignore[index]


def test_image_split_flatters_where_features_know_the_patient() -> None:
    """Labels that differ between patients alone, and features that know who it is and nothing else."""
    test = draw()
    generator = np.random.default_rng(2)
    label = np.repeat(generator.permutation(np.arange(20) % 2), 6)
    features = 5.0 * np.repeat(generator.standard_normal((20, 40)), 6, axis=0) + test.features
    reduced = reduce_features(features.astype(np.float32), seed=0)
    found = compare_splits(reduced, label == 1, number_patients(test.patient), seed=0)
    assert found["auc_by_image"]["value"] > 0.95
    assert found["difference"]["low"] > 0.1


def test_exchanged_labels_move_between_whole_patients() -> None:
    """Patients of one class keep one class, classes change hands, and labels that alternate alike do not stay."""
    patients = np.repeat(np.arange(30), 5)
    positives = patients < 12
    found = exchange_labels(positives, patients, seed=0).reshape(30, 5)
    assert (found == found[:, :1]).all()
    assert (found[:, 0].sum(), (found.ravel() == positives).all()) == (12, False)
    alike = np.tile(np.arange(6) % 2 == 0, 20)
    assert 0.3 < (exchange_labels(alike, np.repeat(np.arange(20), 6), seed=0) == alike).mean() < 0.7


def test_probes_do_not_depend_on_patients_codes() -> None:
    """Codes come from a private key; whoever has another key gets the same figures."""
    test = draw(strength=1.0)
    renamed = replace(test, patient=np.array([f"q{99 - int(one[1:])}" for one in test.patient]))
    actual, expected = (probe(draw(seed=1), one) for one in (renamed, test))
    for name in ("shuffled_labels", "image_split", "features_tell_scanner"):
        assert expected[name] == actual[name]


def test_folds_by_patient_keep_patients_together() -> None:
    """No patient stands in two folds."""
    patients = np.repeat(np.arange(23), 3)
    fold = fold_by_patient(np.tile([0, 1, 1], 23), patients, folds=5, seed=0)
    assert all(len(set(fold[patients == one])) == 1 for one in range(23))
    assert set(fold) == set(range(5))


@pytest.mark.parametrize(
    ("auc", "interval", "expected"),
    [
        (0.9, (0.85, 0.95), 0.85),
        (0.9, (0.89, 0.91), 0.88),  # a narrow interval: within 0.02 counts
        (0.9, (None, None), 0.88),
        (0.9, None, 0.88),
        (None, (0.85, 0.95), None),
    ],
)
def test_bar_is_the_lower_of_both_rules(
    auc: float | None, interval: tuple[float | None, float | None] | None, expected: float | None
) -> None:
    """A probe reaches the result by either rule; nothing reaches what is undefined."""
    actual = set_bar(auc, interval)
    assert actual == (expected if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("odd", ["one class", "two patients", "one image", "unknown places", "constant features"])
def test_probes_say_why_they_are_undefined(odd: str) -> None:
    """Splits too small or too uniform to measure give nulls with reasons, never an error or NaN."""
    test = draw()
    if odd == "one class":
        test = replace(test, label=np.ones(120, np.int64))
    elif odd == "two patients":
        test = draw(patients=2)
    elif odd == "one image":
        test = draw(patients=1, images=1)
    elif odd == "unknown places":
        test = replace(test, slice_index=np.zeros(120, np.int64))
    else:
        test = replace(test, features=np.zeros((120, 40), np.float32))
    found = probe(draw(seed=1), test, auc=None)
    json.dumps(found, allow_nan=False)
    assert {None} == {one["reached"] for one in found.values()}
    entries = [entry for one in found.values() for entry in one.values() if isinstance(entry, dict)]
    assert all("reason" in entry for entry in entries if entry["value"] is None)


def test_probes_take_three_classes_as_positive_against_rest() -> None:
    """Which of the other classes an image has changes nothing."""
    test = draw(strength=2.0)
    three = replace(test, label=np.where(test.label == 1, 1, np.resize([0, 2], 120)))
    assert probe(draw(seed=1), test)["image_split"] == probe(draw(seed=1), three)["image_split"]


def test_probe_that_could_not_be_measured_reaches_nothing_nor_falls_short() -> None:
    """Null, not false: nobody knows."""
    found = probe(draw(seed=1), replace(draw(), slice_index=np.zeros(120, np.int64)))
    assert found["slice_index"]["auc"]["value"] is None  # type: ignore[index]
    assert found["slice_index"]["reached"] is None
    assert found["mean_intensity"]["reached"] is False


def test_probes_say_what_they_are_compared_with(clean: dict[str, dict[str, object]]) -> None:
    """A result per slice, and of shuffled labels the upper end of their range."""
    assert "the result's AUC per slice" in str(clean["mean_intensity"]["note"])
    assert "the upper end of that range" in str(clean["shuffled_labels"]["note"])
