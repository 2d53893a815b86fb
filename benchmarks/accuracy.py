"""Accuracy on the real patches: bcdx's fine-tuned network beside a plain linear reference, by patient.

Data: `breast_dce_patches` (526 patches of 84 patients, three phases each), found through BCDX_DATA.
Command: BCDX_DATA=... python benchmarks/accuracy.py --json accuracy.json
Prints: per seed the pooled out-of-fold ROC AUC per sample of both, their means, and the paired difference with a 95 %
interval by resampling patients; of the network also sensitivity at 98 % specificity, read off the pooled ROC, and the
expected calibration error (10 equal bins) before and after calibration. Each fold's calibrator is fitted on the
patients that its search was validated on, as in `tune`. Beside them: the 77 % and 98 % that a study of 2019 reported on
other images, split by image.

Five folds by patient (StratifiedGroupKFold), seeds 0, 1, 2. Both learn from the same records and folds. Ours is what
`tune` does, inside the training folds alone: a fifth of their patients is the validation split of a search over the
space of tuning/breast_dce_patches.toml (the whole grid, without rungs), and the winner is refitted on all of them,
over the whole schedule. To save time the candidates for depth are first narrowed to one by cross-validating a linear
probe on their pooled blocks, by patient and again inside the training folds; of candidates with the same blocks the
first alone takes part.

The reference: logistic regression (C = 0.01) on standardised features of the pretrained body, average and maximum of
mixed3, fitted on all eight flips and quarter turns and averaged over them.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bcdx._recipes import load_recipe
from bcdx.config import Dataset, Network, Search, Tune
from bcdx.evidence.calibration import Calibrator, fit_calibrator
from bcdx.evidence.intervals import resample_patients
from bcdx.evidence.operating import specific_threshold
from bcdx.evidence.pictures.curves import sort_into_bins
from bcdx.learning.augment import all_views
from bcdx.learning.data import Data
from bcdx.learning.network import build_model
from bcdx.learning.precision import resolve_policy
from bcdx.learning.reuse import open_learner
from bcdx.learning.scoring import score_split
from bcdx.learning.search import search_winner
from bcdx.learning.training import Plan, score_best, train
from bcdx.learning.trial import Selected
from bcdx.records.reader import Table
from bcdx.shard import write_records

RECIPES = Path(__file__).parents[1]
SPLITS = ("train", "validation", "test")
FOLDS, INNER_FOLDS, VIEWS, REFERENCE_C = 5, 3, 8, 0.01
REFERENCE_BLOCKS = "mixed3"

Scores = NDArray[np.float64]
Features = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Fold(Data):
    """Part of a collection under the names of splits, as the learning room wants it."""

    whole: dict[str, NDArray[Any]] = field(default_factory=dict)
    rows: Table | None = None
    members: dict[str, NDArray[np.int64]] = field(default_factory=dict)

    def _chosen(self, splits: Sequence[str]) -> NDArray[np.int64]:
        return np.concatenate([self.members[name] for name in splits])

    def samples(self, splits: Sequence[str]) -> int:
        """Return how many samples the splits hold."""
        return len(self._chosen(splits))

    def table(self, splits: Sequence[str]) -> Table:
        """Return what is known of the samples."""
        chosen = self._chosen(splits)
        return Table(**{name: values[chosen] for name, values in vars(self.rows).items()})

    def records(self, splits: Sequence[str]) -> tf.data.Dataset:
        """Return the records."""
        chosen = self._chosen(splits)
        return tf.data.Dataset.from_tensor_slices({name: values[chosen] for name, values in self.whole.items()})


def main() -> None:
    """Run the comparison and print it."""
    options = _parse()
    logging.getLogger("bcdx").setLevel(logging.WARNING)
    began = time.monotonic()
    fit = load_recipe(RECIPES / "tuning/breast_dce_patches.toml", Tune)
    with tempfile.TemporaryDirectory() as scratch:
        collection = load_collection(options.records or make_records(Path(scratch)))
        features = extract_features(collection, fit)
        results = [compare_seed(collection, features, fit, seed) for seed in options.seeds]
    report = summarise(collection, results, options.seeds)
    report["minutes"] = (time.monotonic() - began) / 60
    report["machine"] = f"{os.cpu_count()} CPU cores, {platform.machine()}, {resolve_policy(fit.optimizer.precision)}"
    print_table(report, options.seeds)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--records", type=Path, help="shards of the patches; unset: made for the occasion")
    parser.add_argument("--json", type=Path, help="write the figures here")
    return parser.parse_args()


def make_records(scratch: Path) -> Path:
    """Shard the patches by their recipe."""
    dataset = load_recipe(RECIPES / "tfrecords/breast_dce_patches.toml", Dataset)
    write_records(dataset.model_copy(update={"out": str(scratch / "records")}))
    return scratch / "records"


def load_collection(folder: Path) -> Fold:
    """Read all records of all splits into memory; the folds are drawn anew."""
    from bcdx.records.manifest import read_manifest

    stored = Data(folder, read_manifest(folder))
    kept = stored.records(SPLITS).map(lambda record: {name: record[name] for name in ("image", "label", "sample_seed")})
    columns = next(iter(kept.batch(stored.samples(SPLITS)).as_numpy_iterator()))
    everyone = np.arange(stored.samples(SPLITS))
    return Fold(folder, stored.manifest, columns, stored.table(SPLITS), {"all": everyone})


def extract_features(collection: Fold, fit: Tune) -> Features:
    """Return block -> average and maximum of each sample's eight views, shape (samples, 8, features)."""
    blocks = sorted({block for candidate in fit.space.depth for block in pooled(candidate)} | {REFERENCE_BLOCKS})
    network = Network(weights=fit.network.weights, depth=f"none/{'+'.join(blocks)}", pooling="both")
    model = build_model(network, input_shape=collection.manifest.image_shape, classes=2, policy="float32", seed=0)
    outputs = {
        block: [model.get_layer(f"{block}_{kind}").output for kind in ("average", "maximum")] for block in blocks
    }
    body = keras.Model(model.inputs, outputs)
    views = [body(images) for images, _ in all_views(collection.plain_batches(("all",), 64), VIEWS)]
    samples = collection.samples(("all",))
    joined = {b: np.concatenate([np.concatenate(one[b], axis=1) for one in views]) for b in blocks}
    return {block: found.reshape(VIEWS, samples, -1).swapaxes(0, 1) for block, found in joined.items()}


def pooled(candidate: str) -> list[str]:
    """Return the blocks that a candidate such as none/mixed3+mixed5 reads."""
    return candidate.split("/")[1].split("+")


def compare_seed(collection: Fold, features: Features, fit: Tune, seed: int) -> dict[str, Any]:
    """Return out-of-fold scores of the network and of the reference for one seed."""
    labels, patients = collection.rows.label, collection.rows.patient
    ours, calibrated, reference = (np.zeros(len(labels)) for _ in range(3))
    chosen = []
    for number, (train_rows, test_rows) in enumerate(split_by_patient(FOLDS, seed, labels, patients)):
        began = time.monotonic()
        reference[test_rows] = probe(features[REFERENCE_BLOCKS], labels, train_rows, test_rows)
        candidate = choose_candidate(features, labels, patients, train_rows, fit.space.depth, seed)
        space = fit.space.model_copy(update={"depth": (candidate,)})
        search = Search(trials=len(space.learning_rate))
        settings = fit.model_copy(update={"seed": seed, "space": space, "search": search})
        members = {**hold_out(train_rows, labels, patients, seed), "test": test_rows}
        (ours[test_rows], calibrated[test_rows]), selected = search_and_refit(collection, settings, members)
        chosen.append(selected)
        aucs = [roc_auc_score(labels[test_rows], scores[test_rows]) for scores in (ours, reference)]
        spent = time.monotonic() - began
        print(f"seed {seed} fold {number}: {selected}; AUC {aucs[0]:.4f}, {aucs[1]:.4f}; {spent:.0f} s", flush=True)
    found = {"ours": ours, "calibrated": calibrated, "reference": reference, "chosen": chosen}
    print(f"seed {seed}: ours {roc_auc_score(labels, ours):.4f}, reference {roc_auc_score(labels, reference):.4f}")
    return found


def probe(features: NDArray[np.float32], labels: Scores, train_rows: Any, test_rows: Any) -> Scores:
    """Return the mean over views of a logistic regression fitted on all views of the training rows."""
    width = features.shape[-1]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=REFERENCE_C, max_iter=300))
    model.fit(features[train_rows].reshape(-1, width), np.repeat(labels[train_rows], VIEWS))
    scores = model.predict_proba(features[test_rows].reshape(-1, width))[:, 1]
    return scores.reshape(-1, VIEWS).mean(axis=1)


def choose_candidate(
    features: Features, labels: Any, patients: Any, train_rows: Any, candidates: Sequence[str], seed: int
) -> str:
    """Return the candidate whose linear probe is best by patient inside the training rows."""
    parts = split_by_patient(INNER_FOLDS, seed, labels[train_rows], patients[train_rows])
    scores = {}
    for candidate in candidates:
        joined = np.concatenate([features[block] for block in pooled(candidate)], axis=-1)
        out_of_fold = np.zeros(len(labels))
        for kept, held in parts:
            out_of_fold[train_rows[held]] = probe(joined, labels, train_rows[kept], train_rows[held])
        scores[candidate] = roc_auc_score(labels[train_rows], out_of_fold[train_rows])
    return max(scores, key=lambda candidate: scores[candidate])


def split_by_patient(folds: int, seed: int, labels: Any, patients: Any) -> list[tuple[Any, Any]]:
    """Return (training rows, held-out rows) of each fold."""
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    return list(splitter.split(labels, labels, patients))


def hold_out(rows: Any, labels: Any, patients: Any, seed: int) -> dict[str, Any]:
    """Return the training rows in two parts by patient: a fifth of the patients validates."""
    train, validation = split_by_patient(FOLDS, seed, labels[rows], patients[rows])[0]
    return {"train": rows[train], "validation": rows[validation]}


def search_and_refit(
    collection: Fold, fit: Tune, members: dict[str, Any]
) -> tuple[tuple[Scores, Scores], dict[str, Any]]:
    """Return raw and calibrated scores of the test rows and what was selected: a search and a refit as in `tune`."""
    fold = Fold(collection.folder, collection.manifest, collection.whole, collection.rows, members)
    with tempfile.TemporaryDirectory() as scratch:
        home, splits = Path(scratch) / "run", ("train", "validation")
        selected = search_winner(fit, fold, "slice", home)
        epochs = selected.state.best_epoch
        calibrator = calibrate_on_validation(selected, fold, home)
        learner = open_learner(selected.fit, fold, splits, home, epochs=epochs)
        trainee, _ = train(Plan(selected.fit, epochs=epochs), learner, home / "refit")
        scores = score_split(trainee.joined, fold, "test", batch_size=64, views=fit.test_views)
    winner = {"depth": selected.fit.network.depth, "learning_rate": selected.fit.optimizer.learning_rate}
    pair = scores[:, 1], calibrator.apply(scores, 1)[:, 1]
    return pair, {**winner, "epochs": selected.state.best_epoch, "calibration": asdict(calibrator)}


def calibrate_on_validation(selected: Selected, fold: Fold, home: Path) -> Calibrator:
    """Return the calibrator that the selected fit's scores of its own validation patients give."""
    learner = selected.learner or open_learner(selected.fit, fold, ("train",), home)
    _, scores = score_best(selected.fit, learner, selected.progress, "validation")
    table = fold.table(("validation",))
    return fit_calibrator(scores, table.label, table.patient, positive=1)


def summarise(collection: Fold, results: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> dict[str, Any]:
    """Return the figures: AUC per seed and their means, the paired difference and its interval."""
    labels, patients = collection.rows.label, collection.rows.patient
    scores = {name: np.stack([one[name] for one in results]) for name in ("ours", "calibrated", "reference")}

    def mean_auc(name: str, rows: Any) -> float:
        return float(np.mean([roc_auc_score(labels[rows], one[rows]) for one in scores[name]]))

    everyone = np.arange(len(labels))
    drawn = list(resample_patients(patients, resamples=2000, seed=0))
    means = {name: np.array([mean_auc(name, rows) for rows in drawn]) for name in scores}
    return {
        "seeds": list(seeds),
        "auc": {name: [float(roc_auc_score(labels, one)) for one in scores[name]] for name in scores},
        "mean": {name: mean_auc(name, everyone) for name in scores},
        "interval": {name: np.percentile(found, (2.5, 97.5)).tolist() for name, found in means.items()},
        "difference": mean_auc("ours", everyone) - mean_auc("reference", everyone),
        "difference_interval": np.percentile(means["ours"] - means["reference"], (2.5, 97.5)).tolist(),
        "sensitivity_at_98_specificity": [sensitive_at(one, labels) for one in scores["ours"]],
        "sensitivity_interval": np.percentile(
            [np.mean([sensitive_at(one[rows], labels[rows]) for one in scores["ours"]]) for rows in drawn], (2.5, 97.5)
        ).tolist(),
        "ece": {name: [gap(one, labels) for one in scores[name]] for name in ("ours", "calibrated")},
        "chosen": [one["chosen"] for one in results],
        "samples": len(labels),
        "patients": len(set(patients.tolist())),
    }


def sensitive_at(scores: Scores, labels: Scores, specificity: float = 0.98) -> float:
    """Return the sensitivity at a specificity, read off these scores' own ROC."""
    called = scores >= specific_threshold(scores, labels == 1, specificity)
    return float(called[labels == 1].mean())


def gap(scores: Scores, labels: Scores) -> float:
    """Return the expected calibration error over 10 equal-width bins."""
    return sort_into_bins(scores, labels == 1).ece


def print_table(report: Mapping[str, Any], seeds: Sequence[int]) -> None:
    """Print the figures."""
    print(f"\n{report['samples']} samples of {report['patients']} patients, {FOLDS} folds by patient, AUC per sample")
    print(f"{'':<12}{''.join(f'seed {seed:<6}' for seed in seeds)}{'mean':<8}95 % interval, patients resampled")
    for name in ("ours", "reference"):
        figures = "".join(f"{value:<11.4f}" for value in report["auc"][name])
        low, high = report["interval"][name]
        print(f"{name:<12}{figures}{report['mean'][name]:<8.4f}{low:.4f} to {high:.4f}")
    low, high = report["difference_interval"]
    print(f"difference  {report['difference']:+.4f} ({low:+.4f} to {high:+.4f})")
    low, high = report["sensitivity_interval"]
    found = report["sensitivity_at_98_specificity"]
    print(
        f"sensitivity at 98 % specificity: {', '.join(f'{one:.3f}' for one in found)}; "
        f"mean {np.mean(found):.3f} ({low:.3f} to {high:.3f})"
    )
    print("  a study of 2019 (other images, split by image): sensitivity 0.77, specificity 0.98")
    for name, words in (("ours", "before"), ("calibrated", "after")):
        print(f"ECE {words} calibration: {', '.join(f'{one:.3f}' for one in report['ece'][name])}")
    print(f"{report['minutes']:.1f} minutes on {report['machine']}")


if __name__ == "__main__":
    main()
