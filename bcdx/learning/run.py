"""The run folder: which settings, data and software made it, and whether it is finished."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from bcdx._files import write_json
from bcdx._recipes import expand_path, portable_path, rebase_paths
from bcdx._versions import installed_versions
from bcdx.config import Fit, as_recipe
from bcdx.errors import RunError, SettingsError
from bcdx.evidence.calibration import Calibration, read_calibration
from bcdx.learning.data import Data
from bcdx.learning.network import find_weights
from bcdx.learning.precision import resolve_policy
from bcdx.records.manifest import CARD, warn_of_split
from bcdx.records.reader import Table

logger = logging.getLogger(__name__)

RUN, METRICS, MODEL, CALIBRATION = "run.json", "metrics.json", "model.keras", "calibration.json"
REFERENCE = "reference.npz"
TRACKED = ("tensorflow", "keras", "keras-tuner", "numpy", "pydicom", "scikit-learn")
LEARNED_UNKNOWN = (
    "whether the model has learned from these patients cannot be told: files name no patient, or the run's shards were "
    "made under another pseudonym key"
)
NOT_IDENTITY = {"out", "overwrite", "dataset", "records", "reuse", "report"}
"""Settings that change where a run lies, not what it is; the data are told apart by their hash."""


class Run(BaseModel):
    """What `run.json` holds: enough to repeat the run and to use its model on other data.

    Attributes:
        verb: `tune` or `fit`.
        settings: The recipe as it was run, paths relative to the run folder, `$VARS` unexpanded.
        fingerprint: SHA-256 over settings, data, initial weights and precision; another one means another run.
        data_hash: Hash over the shards.
        records: Folder of the shards, relative to the run folder.
        dataset: The dataset recipe without its paths: how new images must be prepared.
        modalities: DICOM Modality of the images, "" for plain ones; empty where nothing tells.
        planes: Planes of the images of training and validation; empty where nothing tells of some of them.
        learned_patients: Keyed hashes of the patients of training and validation.
        key_check: Of the shards' codes; see `records.manifest.Manifest`.
        patient_is_file: Every file was taken for a patient; intervals are then too narrow.
        level: Level of the objective: patient, breast or slice.
        precision: Keras dtype policy.
        selection: Trial, hyperparameters, epochs and validation AUC of the winner, once known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    verb: str
    settings: dict[str, Any]
    fingerprint: str
    data_hash: str
    records: str
    dataset: dict[str, Any]
    classes: tuple[str, ...]
    positive: str
    image_shape: tuple[int, int, int]
    modalities: tuple[str, ...] = ()
    planes: tuple[str, ...] = ()
    learned_patients: tuple[str, ...]
    key_check: str = ""
    patient_is_file: bool
    level: str
    precision: str
    seed: int
    versions: dict[str, str]
    git_revision: str | None = None
    selection: dict[str, Any] | None = None

    @property
    def leaking(self) -> bool:
        """Whether images, not patients, were dealt to the splits."""
        return bool(self.dataset.get("split", {}).get("unit") == "image")

    def can_match(self, key_check: str, *, patient_is_file: bool) -> bool:
        """Return whether codes of other images' patients can be found among those that the run has learned from."""
        return not self.patient_is_file and not patient_is_file and self.key_check == key_check

    def warnings(self) -> dict[str, str]:
        """Return what must stand beside every figure of this run, by name."""
        return warn_of_split(patient_is_file=self.patient_is_file, leaking=self.leaking)


def find_modalities(data: Data) -> tuple[str, ...]:
    """Return the Modality values of the shards' images, "" for plain ones: the recipe's, else those of their card."""
    named = data.manifest.recipe.get("select", {}).get("modality", ())
    return tuple(named) or _read_card(data.folder / CARD[0])


def find_planes(table: Table) -> tuple[str, ...]:
    """Return the planes of samples; nothing where that of some is unknown, for then any was taken."""
    found = tuple(sorted(set(table.plane.tolist())))
    return () if "unknown" in found else found


def _read_card(path: Path) -> tuple[str, ...]:
    try:
        card: dict[str, Any] = json.loads(path.read_text())
        formats = {name for one in card["source"]["classes"] for name in one["formats"]}
    except (OSError, ValueError, KeyError, TypeError):
        return ()
    # such as "DICOM, MR, Explicit VR Little Endian"; a plain image's is its kind alone
    parts = [name.split(", ") for name in sorted(formats)]
    return tuple(sorted({part[1] if part[0] == "DICOM" and len(part) > 2 else "" for part in parts}))


def run_folder(settings: Fit) -> Path:
    """Return the run folder that the settings name.

    Raises:
        SettingsError: They name none.
    """
    if settings.out is not None:
        return expand_path(settings.out)
    if settings.dataset == "phantom":
        return Path("tuning/phantom")
    raise SettingsError("`out` names no run folder")


def describe_run(verb: str, fit: Fit, data: Data, *, level: str) -> Run:
    """Return the facts of a run that is about to start."""
    folder = run_folder(fit)
    settings = as_recipe(rebase_paths(fit, folder))
    manifest = data.manifest
    policy = resolve_policy(fit.optimizer.precision)
    learned = data.table(("train", "validation"))
    return Run(
        verb=verb,
        settings=settings,
        fingerprint=_fingerprint(verb, settings, manifest.data_hash, policy, _hash_weights(fit.network.weights)),
        data_hash=manifest.data_hash,
        records=portable_path(str(data.folder), folder),
        dataset=manifest.recipe,
        classes=manifest.classes,
        positive=manifest.positive,
        image_shape=manifest.image_shape,
        modalities=find_modalities(data),
        planes=find_planes(learned),
        learned_patients=tuple(sorted(set(learned.patient.tolist()))),
        key_check=manifest.key_check,
        patient_is_file=manifest.patient_is_file,
        level=level,
        precision=policy,
        seed=fit.seed,
        versions=installed_versions(TRACKED),
        git_revision=_git_revision(),
    )


def is_finished(folder: Path, run: Run, *, overwrite: bool) -> bool:
    """Return whether `folder` holds this very run, finished; clear it if it is to be overwritten.

    Raises:
        RunError: It holds something else.
    """
    if overwrite and (folder / RUN).exists():
        shutil.rmtree(folder)
    if not folder.exists() or not any(folder.iterdir()):
        return False
    if not (folder / RUN).exists():
        raise RunError(f"{folder}: not empty and no run folder; choose another --out")
    if read_run(folder).fingerprint != run.fingerprint:
        raise RunError(
            f"{folder}: holds a run with other settings or data; choose another --out, or start anew with --overwrite"
        )
    return (folder / METRICS).exists()


def write_run(folder: Path, run: Run) -> None:
    """Write `run.json`."""
    write_json(folder / RUN, run.model_dump(mode="json"))


def read_run(folder: Path) -> Run:
    """Read `run.json`.

    Raises:
        RunError: There is none, or it cannot be understood.
    """
    try:
        return Run.model_validate_json((folder / RUN).read_bytes())
    except FileNotFoundError as error:
        raise RunError(f"{folder}: no run folder; expected one that `tune` or `fit` wrote") from error
    except ValidationError as error:
        raise RunError(f"{folder / RUN}: damaged, or written by another version of bcdx") from error


def read_finished(folder: Path) -> tuple[Run, Calibration]:
    """Return a finished run and its calibration.

    Raises:
        RunError: The run is missing or unfinished.
    """
    run = read_run(folder)
    missing = [name for name in (MODEL, CALIBRATION, METRICS) if not (folder / name).exists()]
    if missing:
        raise RunError(f"{folder}: the run is not finished ({', '.join(missing)} missing); run the same command again")
    return run, read_calibration_file(folder)


def read_calibration_file(folder: Path) -> Calibration:
    """Return what validation decided.

    Raises:
        RunError: The file is damaged, or of another version.
    """
    try:
        return read_calibration(json.loads((folder / CALIBRATION).read_text()))
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{folder / CALIBRATION}: damaged, or written by another version of bcdx") from error


def _fingerprint(verb: str, settings: dict[str, Any], *facts: str | None) -> str:
    kept = {name: value for name, value in settings.items() if name not in NOT_IDENTITY}
    text = json.dumps([verb, kept, *facts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _hash_weights(weights: str) -> str | None:
    """Return the SHA-256 of the file that training starts from; None for what has a name."""
    path = find_weights(weights)
    return None if path is None else hashlib.sha256(path.read_bytes()).hexdigest()


def _git_revision() -> str | None:
    """Return the revision of the working directory's repository, if there is one."""
    command: Sequence[str] = ("git", "rev-parse", "HEAD")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
