"""How often 95 % intervals of ROC AUC hold the truth, where images of a patient are alike.

Command: python benchmarks/coverage.py --json coverage.json
Prints: for each setting the share of 2,000 simulated studies whose interval holds the true AUC, with the standard
error of that share, and the interval's mean width, for three intervals side by side:

- Obuchowski's variance by patient on the logit scale, which `metrics.json` has;
- the plain percentile bootstrap over patients, 2,000 resamples;
- the image-level interval: the same logit with DeLong's variance, as if every image were a patient.

A study: 100 patients with 4 images each. Within a class an image's score is normal with variance 1, of which the
patient has 0.6 and the image 0.4, so that two images of one patient correlate by 0.6 within a class; positives lie
higher by as much as gives the true AUC between images of different patients. Three ways in which patients hold classes,
for it decides what taking images for patients does:

- `patient`: each patient is ill or healthy with probability 1/2, and so are all its images (the main setting);
- `image`: each image is positive or negative with probability 1/2, so that nearly all patients hold both;
- `lesion`: half of the patients are healthy; of the others each image is positive with probability 1/2.

Where patients hold both classes, 0.8 % of the pairs that the AUC counts lie within a patient, whose scores differ less
by chance; that moves the AUC by at most 0.0008, and the truth stays that between patients.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from bcdx.evidence.clustered import find_interval, measure_auc
from bcdx.evidence.intervals import percentile_interval

PATIENTS, IMAGES, CORRELATION = 100, 4, 0.6
TRUTHS = (0.85, 0.95)
HOLDINGS = ("patient", "image", "lesion")
METHODS = ("Obuchowski-logit", "percentile bootstrap", "image-level")
WANTED = (0.92, 0.975)
BATCH = 50

Study = tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]


def draw_study(truth: float, holding: str, generator: np.random.Generator) -> Study:
    """Return scores, positives and patients of one study, shape (400,) each."""
    owner = np.repeat(np.arange(PATIENTS), IMAGES)
    ill = generator.random(PATIENTS) < 0.5
    by_image = generator.random(len(owner)) < 0.5
    positives = {"patient": ill[owner], "image": by_image, "lesion": ill[owner] & by_image}[holding]
    own, rest = generator.normal(size=PATIENTS), generator.normal(size=len(owner))
    shift = np.sqrt(2.0) * norm.ppf(truth)
    scores = shift * positives + np.sqrt(CORRELATION) * own[owner] + np.sqrt(1.0 - CORRELATION) * rest
    return scores, positives, owner


def find_intervals(study: Study, resamples: int, seed: int) -> list[tuple[float, float]]:
    """Return the interval of each method; all of [0, 1] where there is none."""
    scores, positives, owner = study
    found = []
    for units in (owner, np.arange(len(owner))):
        measured = measure_auc(scores, positives, units.astype(str))
        value, variance = float(measured.values[0]), float(measured.covariance[0, 0])
        low, high, _ = find_interval(value, variance, pairs=measured.pairs, freedom=measured.freedom)
        found.append((low, high))
    found.insert(1, percentile_interval(resample_auc(study, resamples, seed))[:2])
    return [(0.0 if low is None else low, 1.0 if high is None else high) for low, high in found]


def resample_auc(study: Study, resamples: int, seed: int) -> NDArray[np.float64]:
    """Return AUC in resamples of whole patients, shape (resamples,); NaN where a class is missing.

    What each patient's positives win against each patient's negatives is counted once; a resample then weighs it by
    how often both were drawn. It is what `evidence.intervals.bootstrap` gives, in less time.
    """
    scores, positives, owner = study
    ill, healthy = np.eye(PATIENTS)[owner[positives]], np.eye(PATIENTS)[owner[~positives]]
    higher = np.sign(scores[positives][:, None] - scores[~positives]) / 2.0 + 0.5
    wins = ill.T @ higher @ healthy
    share = np.full(PATIENTS, 1.0 / PATIENTS)
    drawn = np.random.default_rng(seed).multinomial(PATIENTS, share, resamples).astype(np.float64)
    pairs = (drawn @ ill.sum(axis=0)) * (drawn @ healthy.sum(axis=0))
    return np.where(pairs > 0, ((drawn @ wins) * drawn).sum(axis=1) / np.maximum(pairs, 1), np.nan)


def run_batch(job: tuple[float, str, int, int, int]) -> NDArray[np.float64]:
    """Return the intervals of consecutive studies, shape (studies, methods, 2)."""
    truth, holding, start, stop, resamples = job
    place = TRUTHS.index(truth), HOLDINGS.index(holding)
    return np.array([
        find_intervals(draw_study(truth, holding, np.random.default_rng([*place, study])), resamples, study)
        for study in range(start, stop)
    ])  # fmt: skip


def simulate(pool: ProcessPoolExecutor, truth: float, holding: str, studies: int, resamples: int) -> dict[str, Any]:
    """Return method -> coverage, its standard error and mean width, of one setting."""
    jobs = [(truth, holding, start, min(start + BATCH, studies), resamples) for start in range(0, studies, BATCH)]
    found = np.concatenate(list(pool.map(run_batch, jobs)))
    report = {}
    for place, method in enumerate(METHODS):
        low, high = found[:, place].T
        covered = float(((low <= truth) & (truth <= high)).mean())
        error = float(np.sqrt(covered * (1.0 - covered) / studies))
        report[method] = {"coverage": covered, "standard_error": error, "width": float((high - low).mean())}
    return {"truth": truth, "holding": holding, **report}


def main() -> None:
    """Simulate every setting and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--studies", type=int, default=2000, help="simulated studies per setting")
    parser.add_argument("--resamples", type=int, default=2000, help="of the bootstrap")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    began = time.monotonic()
    print(f"coverage of 95 % intervals, {options.studies} studies of {PATIENTS} patients x {IMAGES} images, in %")
    print(f"{'AUC':<6}{'class by':<10}" + "".join(f"{method:<30}" for method in METHODS))
    rows = []
    with ProcessPoolExecutor(options.processes) as pool:
        for holding in HOLDINGS:
            for truth in TRUTHS:
                row = simulate(pool, truth, holding, options.studies, options.resamples)
                cells = "".join(f"{describe(row[method]):<30}" for method in METHODS)
                print(f"{truth:<6}{holding:<10}{cells}".rstrip(), flush=True)
                rows.append(row)
    reached = all(WANTED[0] <= row[METHODS[0]]["coverage"] <= WANTED[1] for row in rows)
    seconds = time.monotonic() - began
    print(f"{METHODS[0]} within 92 to 97.5 % throughout: {'yes' if reached else 'NO'}; {seconds:.0f} s")
    if options.json:
        machine = f"{os.cpu_count()} CPU cores, {platform.machine()}"
        report = {"machine": machine, "seconds": seconds, "studies": options.studies, "settings": rows}
        options.json.write_text(json.dumps(report, indent=2))


def describe(found: dict[str, float]) -> str:
    """Return coverage with its standard error, and the mean width."""
    return f"{100 * found['coverage']:.1f} +- {100 * found['standard_error']:.1f}, width {found['width']:.3f}"


if __name__ == "__main__":
    main()
