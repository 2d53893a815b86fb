"""Features of the test split in; what else they know, and what chance and a leaking split score on them, out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bcdx.evidence.entries import undefined
from bcdx.evidence.intervals import bootstrap, percentile_interval
from bcdx.evidence.probes.linear import (
    FEWEST_FOLDS,
    area_over_folds,
    count_folds,
    cross_fit,
    cross_predict,
    fold_by_image,
    fold_by_patient,
)
from bcdx.evidence.statistics import Statistic, evaluate_once, macro, share

Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]
Texts = NDArray[np.str_]
Floats = NDArray[np.float64]
Entry = dict[str, Any]

RESAMPLES = 2000
SHUFFLES = 50
ENOUGH_PATIENTS = 5
"""Patients that a scanner or site needs to take part."""
BOOTSTRAP = "percentile bootstrap over patients, scores held fixed"
FEW = f"fewer than {FEWEST_FOLDS} test patients hold a class"

SHUFFLED = (
    "A linear model of the test features, cross-validated by patient, after labels were exchanged between patients: "
    "patients are put in a random order, and each is given the labels of the one at its place, in random order, "
    f"repeated or cut to its number of images. Mean and 95 % range of {SHUFFLES} shuffles; a mean far from 0.5 says "
    "that the way of measuring leaks. It reaches the result where the upper end of that range does."
)
SPLITS = (
    "A linear model of the test features, cross-validated once by image and once by patient. The difference is what "
    "images of one patient on both sides of a split flatter such a linear model by, not the result itself."
)
TOLD = (
    "A linear model of the test features, cross-validated by patient, told to name the {}. Above chance means that the "
    "features know it: a result is then trustworthy only where each {} has both classes."
)


def shuffle_labels(reduced: Floats, positives: Booleans, patients: Integers, *, seed: int) -> Entry:
    """Return the AUC of a linear model on labels that mean nothing: mean and 95 % range of 50 shuffles.

    Args:
        reduced: Features, reduced, shape (samples, components).
        positives: Shape (samples,).
        patients: Numbers from 0 on, shape (samples,).
    """
    values: list[float] = []
    if not _explain_classes(positives, patients):
        drawn = (exchange_labels(positives, patients, seed=seed + shuffle) for shuffle in range(SHUFFLES))
        for labels in (one for one in drawn if not _explain_classes(one, patients)):
            folds = count_folds(labels.astype(np.int64), patients)
            fold = fold_by_patient(labels.astype(np.int64), patients, folds=folds, seed=seed)
            area = area_over_folds(cross_fit(reduced, labels, fold), labels, fold)
            values.append(evaluate_once(area, len(labels)))
    kept = np.array([value for value in values if np.isfinite(value)])
    if 2 * len(kept) < SHUFFLES:
        reason = _explain_classes(positives, patients) or "most shuffles leave too few patients with a class"
        return {"auc": undefined(len(positives), reason), "note": SHUFFLED}
    low, high = np.percentile(kept, (2.5, 97.5))
    entry = {"value": float(kept.mean()), "low": float(low), "high": float(high), "n": len(positives)}
    return {"auc": {**entry, "method": f"range of {len(kept)} shuffles"}, "note": SHUFFLED}


def exchange_labels(positives: Booleans, patients: Integers, *, seed: int) -> Booleans:
    """Return labels after patients have exchanged theirs, shape (samples,).

    What a patient has as a whole (one class, or both and how much of each) goes to one other. Within a patient the
    order is random: were it kept, labels that alternate in every patient alike would all stay where they are.

    Args:
        positives: Shape (samples,).
        patients: Numbers from 0 on, shape (samples,).
    """
    generator = np.random.default_rng(seed)
    rows = [np.flatnonzero(patients == one) for one in range(int(patients.max()) + 1)]
    found = np.empty_like(positives)
    for mine, giver in zip(rows, generator.permutation(len(rows)), strict=True):
        found[mine] = np.resize(generator.permutation(positives[rows[giver]]), len(mine))
    return found


def compare_splits(reduced: Floats, positives: Booleans, patients: Integers, *, seed: int) -> Entry:
    """Return the AUC of a linear model cross-validated by image, by patient, and the difference, with intervals."""
    n, names = len(positives), ("auc_by_image", "auc_by_patient", "difference")
    if reason := _explain_classes(positives, patients):
        return {**{name: undefined(n, reason) for name in names}, "note": SPLITS}
    targets = positives.astype(np.int64)
    folds = count_folds(targets, patients)
    dealt = (
        fold_by_image(targets, folds=folds, seed=seed),
        fold_by_patient(targets, patients, folds=folds, seed=seed),
    )
    image, patient = (area_over_folds(cross_fit(reduced, positives, fold), positives, fold) for fold in dealt)
    statistics: dict[str, Statistic] = dict(zip(names, (image, patient, lambda w: image(w) - patient(w)), strict=True))
    return {**_measure(statistics, patients, n, seed), "note": SPLITS}


def tell_apart(reduced: Floats, values: Texts, patients: Integers, *, what: str, seed: int) -> Entry:
    """Return how well a linear model of the features names each image's scanner or site, beside chance.

    Args:
        reduced: Features, reduced, shape (samples, components).
        values: Of each sample, "" where unknown; those with fewer than 5 patients take no part.
        patients: Numbers from 0 on, shape (samples,).
        what: `scanner` or `site`.
    """
    note = TOLD.format(what, what)
    holders = {value: len(np.unique(patients[values == value])) for value in np.unique(values) if value}
    kept = [value for value, count in holders.items() if count >= ENOUGH_PATIENTS]
    mine = np.isin(values, kept)
    if len(kept) < 2:
        reason = f"fewer than two {what}s have {ENOUGH_PATIENTS} test patients"
        return {"balanced_accuracy": undefined(int(mine.sum()), reason), "chance": None, "note": note}
    _, targets = np.unique(values[mine], return_inverse=True)
    owners = patients[mine]
    fold = fold_by_patient(targets, owners, folds=count_folds(targets, owners), seed=seed)
    told = cross_predict(reduced[mine], targets, fold)
    right = macro([share(told == one, targets == one) for one in range(len(kept))])
    found = _measure({"balanced_accuracy": right}, owners, len(targets), seed)
    low, chance = found["balanced_accuracy"]["low"], 1.0 / len(kept)
    return {**found, "chance": chance, "above_chance": None if low is None else low > chance, "note": note}


def _explain_classes(positives: Booleans, patients: Integers) -> str:
    """Return why there is nothing to cross-validate by patient, "" where there is."""
    holders = [len(np.unique(patients[mine])) for mine in (positives, ~positives)]
    return FEW if min(holders) < FEWEST_FOLDS else ""


def _measure(statistics: dict[str, Statistic], patients: Integers, n: int, seed: int) -> Entry:
    """Return each statistic with its interval, all from the same resamples of patients."""
    resampled = bootstrap(statistics, patients, resamples=RESAMPLES, seed=seed)
    return {name: _describe(one, resampled[name], n) for name, one in statistics.items()}


def _describe(statistic: Statistic, resampled: Floats, n: int) -> Entry:
    value = evaluate_once(statistic, n)
    if not np.isfinite(value):
        return undefined(n, "no fold holds both classes")
    low, high, used = percentile_interval(resampled)
    return {"value": value, "low": low, "high": high, "n": n, "resamples": used, "method": BOOTSTRAP}
