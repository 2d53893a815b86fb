"""What is known of training and test samples in; how far shortcuts alone come, beside the result, out.

A probe never sees what the model learnt from lesions on purpose: it asks how well a trivial cue predicts the label,
what else the features know, and what chance or a leaking split would have scored. Two kinds:

- Baselines are fitted on training samples and tested on the test samples, like the model, but on one cue alone.
- The others are cross-validated inside the test split, whose images the model was never fitted on: features of images
  that it was fitted on know their labels.

More than two classes are the positive class against the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer, SplineTransformer
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from bcdx.evidence.entries import make_auc_entry, undefined
from bcdx.evidence.intervals import number_patients
from bcdx.evidence.probes.features import compare_splits, shuffle_labels, tell_apart
from bcdx.evidence.probes.linear import fit_linear, reduce_features

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]
Texts = NDArray[np.str_]
Entry = dict[str, Any]
Columns = tuple[Floats, Floats]

MARGIN = 0.02
RULE = (
    f"A probe reaches the result where its AUC per slice is within {MARGIN} of the result's AUC per slice, or at least "
    "the lower end of that one's 95 % interval."
)
ONE_CLASS = "only one class in the {} split"
KNOTS = 5


@dataclass(frozen=True)
class ProbeData:
    """A split as the probes see it; every attribute has shape (samples,), `features` (samples, features).

    Attributes:
        label: Class indices.
        patient: Codes; nothing that is written holds them.
        laterality: "L", "R" or "unknown".
        scanner: Manufacturer, model and field strength; "" where unknown.
        site: Code; "" where unknown.
        slice_index: Position in the stack; 0 for all where unknown.
        mean_intensity: Of the image that the model saw.
        features: What the model's head reads.
    """

    label: Integers
    patient: Texts
    laterality: Texts
    scanner: Texts
    site: Texts
    slice_index: Integers
    mean_intensity: Floats
    features: NDArray[np.float32]


def run_probes(
    training: ProbeData,
    test: ProbeData,
    *,
    positive: int,
    auc: float | None,
    auc_interval: tuple[float | None, float | None] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Return name -> {"auc" or "balanced_accuracy": entry, "reached", "note"}, the content of `probes.json`.

    An entry has `value`, `low`, `high`, `n` and `method`; what is undefined is null with a `reason`. `reached` is null
    where the result or the probe is undefined, or where the probe measures something else than the result does.

    Args:
        training: Samples that the model was fitted on; of their features no use is made.
        test: Samples that the result was measured on.
        positive: Class index that is looked for.
        auc: The result per image, positive class against the rest; None where undefined.
        auc_interval: Its 95 % interval, if it has one.
        seed: Decides folds, shuffles and resamples.
    """
    bar = set_bar(auc, auc_interval)
    with threadpool_limits(1):  # small matrices: threads that wait for each other take ten times the CPU time
        found = {
            name: _judge({"auc": _fit_baseline(describe, training, test, positive)}, bar, f"{note} {RULE}")
            for name, (describe, note) in BASELINES.items()
        }
        return found | _run_feature_probes(test, positive, bar, seed)


def _run_feature_probes(test: ProbeData, positive: int, bar: float | None, seed: int) -> dict[str, Any]:
    """Return the probes of the test split's features."""
    patients, positives = number_patients(test.patient), test.label == positive
    reduced = reduce_features(test.features, seed=seed)
    shuffled = shuffle_labels(reduced, positives, patients, seed=seed)
    found = {
        "shuffled_labels": _judge(shuffled, bar, shuffled["note"], highest=True),
        "image_split": {**compare_splits(reduced, positives, patients, seed=seed), "reached": None},
    }
    for name, values in (("scanner", test.scanner), ("site", test.site)):
        told = tell_apart(reduced, values, patients, what=name, seed=seed)
        found[f"features_tell_{name}"] = {**told, "reached": None}
    return found


def set_bar(auc: float | None, interval: tuple[float | None, float | None] | None) -> float | None:
    """Return the AUC from which on a probe reaches the result, None where the result is undefined."""
    if auc is None:
        return None
    low = interval[0] if interval else None
    return auc - MARGIN if low is None else min(low, auc - MARGIN)


def _judge(probe: Entry, bar: float | None, note: str, *, highest: bool = False) -> Entry:
    """Add what the probe means; `highest` takes the upper end of its range for its AUC."""
    value = probe["auc"]["high" if highest else "value"]
    reached = None if bar is None or value is None else value >= bar
    return {**probe, "reached": reached, "note": note}


def _fit_baseline(
    describe: Callable[[ProbeData, ProbeData], Columns | str], training: ProbeData, test: ProbeData, positive: int
) -> Entry:
    """Return the test AUC of a model on one cue, fitted on training."""
    for name, split in (("training", training), ("test", test)):
        if len(np.unique(split.label == positive)) < 2:
            return undefined(len(test.label), ONE_CLASS.format(name))
    columns = describe(training, test)
    if isinstance(columns, str):
        return undefined(len(test.label), columns)
    model = fit_linear(columns[0], training.label == positive, penalty=1.0)
    return make_auc_entry(model.decision_function(columns[1]), test.label == positive, test.patient)


def _place_slices(training: ProbeData, test: ProbeData) -> Columns | str:
    """Return smooth functions of each slice's index and of its distance from its stack's middle."""
    if not training.slice_index.any() or not test.slice_index.any():
        return "the slices' places are unknown"
    return _bend(*(np.stack([one.slice_index, _leave_middle(one)], axis=1) for one in (training, test)))


def _leave_middle(data: ProbeData) -> Floats:
    """Return each slice's distance, in slices, from the middle of those that its patient's side has in the split."""
    _, stack = np.unique(np.char.add(np.char.add(data.patient, "/"), data.laterality), return_inverse=True)
    low, high = np.full(stack.max() + 1, np.inf), np.full(stack.max() + 1, -np.inf)
    np.minimum.at(low, stack, data.slice_index)
    np.maximum.at(high, stack, data.slice_index)
    return np.abs(data.slice_index - (low + high)[stack] / 2.0)


def _average_pixels(training: ProbeData, test: ProbeData) -> Columns | str:
    """Return smooth functions of mean intensity."""
    if len(np.unique(training.mean_intensity)) < 2:
        return "mean intensity is the same in all training images"
    return _bend(training.mean_intensity[:, None], test.mean_intensity[:, None])


def _bend(training: Floats, test: Floats) -> Columns:
    """Return cubic splines of each column's rank among the training samples.

    Ranks spread any distribution evenly over the knots. Beyond the training samples the curves stay level.
    """
    ranks = QuantileTransformer(n_quantiles=min(100, len(training))).fit(training)
    splines = SplineTransformer(KNOTS, extrapolation="constant", include_bias=False)
    fitted = splines.fit_transform(ranks.transform(training))
    return fitted, splines.transform(ranks.transform(test))


def _name_machines(training: ProbeData, test: ProbeData) -> Columns | str:
    """Return which scanner and site each image comes from, as 0 and 1."""
    names = [np.stack([one.scanner, one.site], axis=1) for one in (training, test)]
    if all(len(np.unique(column)) < 2 for column in names[0].T):
        return "all training images come from one scanner and site, or they are unknown"
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(names[0])
    return encoder.transform(names[0]), encoder.transform(names[1])


BASELINES: dict[str, tuple[Callable[[ProbeData, ProbeData], Columns | str], str]] = {
    "slice_index": (_place_slices, "Fitted on the slice's place in its stack alone, no pixel seen."),
    "mean_intensity": (_average_pixels, "Fitted on the image's mean intensity alone."),
    "acquisition": (_name_machines, "Fitted on scanner and site alone, no pixel seen."),
}
"""Name -> what gives its columns for training and test, or why there are none; how it was made."""
