"""How often 95 % intervals of ROC AUC hold the truth, where images of a patient are alike.

Command: python benchmarks/coverage.py --json coverage.json
Prints: for each setting the share of 2,000 simulated studies whose interval holds the true AUC, with the standard
error of that share, and the interval's mean width, for four intervals side by side:

- Obuchowski's variance by patient on the logit scale, reached by Student's t, which `metrics.json` has;
- the same, reached by the normal's 1.96;
- the plain percentile bootstrap over patients, 2,000 resamples;
- the image-level interval: the first with DeLong's variance, as if every image were a patient.

A study: 100 patients with 4 images each; then studies as small as a test split: 17 patients with 7 images, 33 with 6.
Within a class an image's score is normal with variance 1, of which the patient has 0.6 and the image 0.4, so that two
images of one patient correlate by 0.6 within a class; positives lie higher by as much as gives the true AUC between
images of different patients. Three ways in which patients hold classes, for it decides what taking images for patients
does:

- `patient`: each patient is ill or healthy with probability 1/2, and so are all its images (the main setting);
- `image`: each image is positive or negative with probability 1/2, so that nearly all patients hold both;
- `lesion`: half of the patients are healthy; of the others each image is positive with probability 1/2.

Where patients hold both classes, some of the pairs that the AUC counts lie within a patient, whose scores differ less
by chance. Of 100 patients that is 0.8 % of the pairs, which moves the AUC by at most 0.0008; the truth stays that
between patients. Of 17 it is up to some 6 %, and what that moves counts against the coverage.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from bcdx.evidence.clustered import ClusteredAuc, find_interval, measure_auc
from bcdx.evidence.intervals import percentile_interval

CORRELATION = 0.6
HOLDINGS = ("patient", "image", "lesion")
METHODS = ("Obuchowski-logit, t", "the same, normal", "percentile bootstrap", "image-level")
NORMAL = 10**9
"""Degrees of freedom at which Student's t is the normal."""
WANTED, OF_PATIENTS = (0.92, 0.975), 100
"""What is wanted of studies of at least so many patients."""
BATCH = 50


class Setting(NamedTuple):
    """How studies are drawn."""

    patients: int
    images: int
    truth: float
    holding: str

    def __str__(self) -> str:
        """Return the head of its row."""
        return f"{f'{self.patients} x {self.images}':<9}{self.truth:<6}{self.holding:<9}"


SETTINGS = (
    *(Setting(100, 4, truth, holding) for holding in HOLDINGS for truth in (0.85, 0.95)),
    *(Setting(17, 7, truth, "image") for truth in (0.85, 0.95, 0.97)),
    Setting(17, 7, 0.95, "lesion"),
    Setting(33, 6, 0.95, "lesion"),
)

Study = tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]


def draw_study(setting: Setting, study: int) -> Study:
    """Return scores, positives and patients of one study, shape (patients x images,) each."""
    patients, images, truth, holding = setting
    generator = np.random.default_rng([patients, images, round(1000 * truth), HOLDINGS.index(holding), study])
    owner = np.repeat(np.arange(patients), images)
    ill = generator.random(patients) < 0.5
    by_image = generator.random(len(owner)) < 0.5
    positives = {"patient": ill[owner], "image": by_image, "lesion": ill[owner] & by_image}[holding]
    own, rest = generator.normal(size=patients), generator.normal(size=len(owner))
    shift = np.sqrt(2.0) * norm.ppf(truth)
    scores = shift * positives + np.sqrt(CORRELATION) * own[owner] + np.sqrt(1.0 - CORRELATION) * rest
    return scores, positives, owner


def find_intervals(study: Study, resamples: int, seed: int) -> list[tuple[float, float]]:
    """Return the interval of each method; all of [0, 1] where there is none."""
    scores, positives, owner = study
    if positives.all() or not positives.any():
        return [(0.0, 1.0)] * len(METHODS)
    by_patient, by_image = (measure_auc(scores, positives, units) for units in (owner, np.arange(len(owner))))
    found = [
        bound_auc(by_patient, by_patient.freedom),
        bound_auc(by_patient, NORMAL),
        percentile_interval(resample_auc(study, resamples, seed))[:2],
        bound_auc(by_image, by_image.freedom),
    ]
    return [(0.0 if low is None else low, 1.0 if high is None else high) for low, high in found]


def bound_auc(found: ClusteredAuc, freedom: int) -> tuple[float | None, float | None]:
    """Return the ends of the interval that `metrics.json` would have with these degrees of freedom."""
    auc, variance = float(found.values[0]), float(found.covariance[0, 0])
    return find_interval(auc, variance, pairs=found.pairs, freedom=freedom)[:2]


def resample_auc(study: Study, resamples: int, seed: int) -> NDArray[np.float64]:
    """Return AUC in resamples of whole patients, shape (resamples,); NaN where a class is missing.

    What each patient's positives win against each patient's negatives is counted once; a resample then weighs it by
    how often both were drawn. It is what `evidence.intervals.bootstrap` gives, in less time.
    """
    scores, positives, owner = study
    patients = int(owner.max()) + 1
    ill, healthy = np.eye(patients)[owner[positives]], np.eye(patients)[owner[~positives]]
    higher = np.sign(scores[positives][:, None] - scores[~positives]) / 2.0 + 0.5
    wins = ill.T @ higher @ healthy
    share = np.full(patients, 1.0 / patients)
    drawn = np.random.default_rng(seed).multinomial(patients, share, resamples).astype(np.float64)
    pairs = (drawn @ ill.sum(axis=0)) * (drawn @ healthy.sum(axis=0))
    return np.where(pairs > 0, ((drawn @ wins) * drawn).sum(axis=1) / np.maximum(pairs, 1), np.nan)


def run_batch(job: tuple[Setting, int, int, int]) -> NDArray[np.float64]:
    """Return the intervals of consecutive studies, shape (studies, methods, 2)."""
    setting, start, stop, resamples = job
    return np.array([find_intervals(draw_study(setting, study), resamples, study) for study in range(start, stop)])


def simulate(pool: ProcessPoolExecutor, setting: Setting, studies: int, resamples: int) -> dict[str, Any]:
    """Return method -> coverage, its standard error and mean width, of one setting."""
    jobs = [(setting, start, min(start + BATCH, studies), resamples) for start in range(0, studies, BATCH)]
    found = np.concatenate(list(pool.map(run_batch, jobs)))
    report = {}
    for place, method in enumerate(METHODS):
        low, high = found[:, place].T
        covered = float(((low <= setting.truth) & (setting.truth <= high)).mean())
        error = float(np.sqrt(covered * (1.0 - covered) / studies))
        report[method] = {"coverage": covered, "standard_error": error, "width": float((high - low).mean())}
    return {**setting._asdict(), **report}


def main() -> None:
    """Simulate every setting and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--studies", type=int, default=2000, help="simulated studies per setting")
    parser.add_argument("--resamples", type=int, default=2000, help="of the bootstrap")
    parser.add_argument("--most-patients", type=int, default=OF_PATIENTS, help="leave larger studies out")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    began = time.monotonic()
    print(f"coverage of 95 % intervals, {options.studies} studies each, in %")
    print(f"{'patients':<9}{'AUC':<6}{'class by':<9}" + "".join(f"{method:<24}" for method in METHODS).rstrip())
    rows = []
    with ProcessPoolExecutor(options.processes) as pool:
        for setting in (one for one in SETTINGS if one.patients <= options.most_patients):
            row = simulate(pool, setting, options.studies, options.resamples)
            print(str(setting) + "".join(f"{describe(row[method]):<24}" for method in METHODS).rstrip(), flush=True)
            rows.append(row)
    large = [row[METHODS[0]]["coverage"] for row in rows if row["patients"] >= OF_PATIENTS]
    small = [row[METHODS[0]]["coverage"] for row in rows if row["patients"] < OF_PATIENTS]
    seconds = time.monotonic() - began
    if large:
        reached = all(WANTED[0] <= one <= WANTED[1] for one in large)
        print(f"{METHODS[0]}: {OF_PATIENTS} patients within 92 to 97.5 % throughout: {'yes' if reached else 'NO'}")
    print(f"{METHODS[0]}: fewer patients: {100 * min(small):.1f} to {100 * max(small):.1f} %; {seconds:.0f} s")
    if options.json:
        machine = f"{os.cpu_count()} CPU cores, {platform.machine()}"
        report = {"machine": machine, "seconds": seconds, "studies": options.studies, "settings": rows}
        options.json.write_text(json.dumps(report, indent=2))


def describe(found: dict[str, float]) -> str:
    """Return coverage with its standard error, and the mean width."""
    return f"{100 * found['coverage']:.1f} +- {100 * found['standard_error']:.1f}, w {found['width']:.3f}"


if __name__ == "__main__":
    main()
