"""All that training changes in a compiled model: taken out as arrays, put back, written and read."""

from __future__ import annotations

import os
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from bcdx.errors import RunError

Snapshot = Mapping[str, NDArray[Any]]
"""`weights/`, `seeds/` or `optimizer/`, followed by what names the variable in any process -> its value."""

SLOTS = ("_momentum", "_velocity")
"""Ends of the names of what AdamW keeps of each weight."""


def take_weights(model: keras.Model) -> Snapshot:
    """Return copies of the trainable weights."""
    return {name: np.array(variable) for name, variable in _name_weights(model)}


def take_state(model: keras.Model) -> Snapshot:
    """Return copies of all that the next step depends on: weights, states of seed generators, the optimizer's own."""
    return {name: np.array(variable) for name, variable in _name_state(model)}


def weights_of(snapshot: Snapshot) -> Snapshot:
    """Return the weights of a snapshot alone."""
    return {name: value for name, value in snapshot.items() if name.startswith("weights/")}


def take_start(model: keras.Model) -> Snapshot:
    """Return the state of a compiled model that has made no step, without the optimizer's slots: those are zeros."""
    return {name: np.array(variable) for name, variable in _name_state(model) if not name.endswith(SLOTS)}


def reset(model: keras.Model, start: Snapshot) -> None:
    """Bring a compiled model back to what `take_start` returned, or to a part of that; its slots to zeros."""
    for name, variable in _name_state(model):
        if name.endswith(SLOTS):
            variable.assign(keras.ops.zeros_like(variable))
        elif name in start:
            variable.assign(start[name])


def put_back(model: keras.Model, snapshot: Snapshot) -> None:
    """Give a model the values of a snapshot of the same network, whatever part of it was frozen or cut off there.

    Raises:
        RunError: It lacks something.
    """
    full = any(not name.startswith("weights/") for name in snapshot)
    for name, variable in _name_state(model) if full else _name_weights(model):
        if name not in snapshot:
            raise RunError(f"{name} is missing from what was kept of this fit; start anew with --overwrite")
        variable.assign(snapshot[name])


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write a snapshot beside its place, then rename it; it is not compressed, for weights hardly are."""
    partial = path.with_name(f".{path.stem}.partial")
    arrays: dict[str, Any] = {**snapshot}  # NumPy 1 takes savez's allow_pickle for one more array
    try:
        with partial.open("wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def read_snapshot(path: Path) -> Snapshot:
    """Read a snapshot; the archive's checksums are compared.

    Raises:
        RunError: It is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"{path}: missing or damaged; delete the folder it lies in, and the fit starts anew") from error


def nbytes(snapshot: Snapshot) -> int:
    """Return the memory that a snapshot takes."""
    return sum(array.nbytes for array in snapshot.values())


def _name_weights(model: keras.Model) -> Iterator[tuple[str, Any]]:
    for variable in model.trainable_variables:
        yield f"weights/{variable.path}", variable


def _name_state(model: keras.Model) -> Iterator[tuple[str, Any]]:
    yield from _name_weights(model)
    seeds = [variable for variable in model.non_trainable_variables if "seed_generator" in variable.path]
    for number, variable in enumerate(seeds):  # their names count up with every model that a process builds
        yield f"seeds/{number}", variable
    for variable in _optimizer_variables(model.optimizer):
        yield f"optimizer/{variable.name}", variable


def _optimizer_variables(optimizer: Any) -> list[Any]:
    """Return the optimizer's variables, an inner one's too, each once."""
    found = {id(variable): variable for variable in optimizer.variables}
    inner = getattr(optimizer, "inner_optimizer", None)
    if inner is not None:
        found.update({id(variable): variable for variable in inner.variables})
    return list(found.values())


class Recent:
    """The latest snapshots by name, within a number of bytes: to go on with a fit without reading it from disk.

    Args:
        most_bytes: What all of them may take; the one used longest ago goes first.
    """

    def __init__(self, most_bytes: int = 2**30) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[str, Snapshot] = OrderedDict()

    def keep(self, name: str, snapshot: Snapshot) -> None:
        """Keep a snapshot, as long as there is room."""
        self._kept[name] = snapshot
        while self._kept and sum(map(nbytes, self._kept.values())) > self._most_bytes:
            self._kept.popitem(last=False)

    def find(self, name: str) -> Snapshot | None:
        """Return the snapshot of that name, if it is still there."""
        if name in self._kept:
            self._kept.move_to_end(name)
        return self._kept.get(name)
