"""What the frozen part of a network makes of every sample: computed once, read by every trial.

Samples and views in; arrays (samples, ...) out, under the names of the layers that gave them: `mixed6` for the map of a
block end, `mixed6_average` or `mixed6_maximum` for its pooled vector.

Source of the idea: the bottlenecks of TensorFlow's image retraining example, which kept one pooled vector an image;
and Nakandala & Kumar 2022, "Nautilus: An Optimized System for Deep Transfer Learning over Evolving Training Datasets",
SIGMOD.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from bcdx.config import BLOCK_ENDS, Augment, Network
from bcdx.errors import StoreFullError
from bcdx.learning.augment import dihedral_view
from bcdx.learning.cut import boundary_names, vector_names
from bcdx.learning.data import Data
from bcdx.learning.entries import Place, Spec, entry_key
from bcdx.learning.network import pool_blocks
from bcdx.learning.store import Store

logger = logging.getLogger(__name__)

PIXELS = 1
"""Raised whenever the code that leads from a record to the network's input gives other pixels than before."""
ATTEMPTS = 3
"""To have outputs in the store at one time: a disk may lose what was written to it, other processes may push it out."""

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class View:
    """One version of every sample: plain, turned for scoring (`test_views`), or augmented for training.

    Attributes:
        kind: Which of them; number 0 is the plain image whatever the kind.
        number: Of the view, from 0.
        seed: Of the run; counts for augmented views alone.
        augment: Its settings, likewise.
    """

    kind: Literal["turned", "augmented"] = "turned"
    number: int = 0
    seed: int = 0
    augment: Augment = field(default_factory=Augment)

    def facts(self) -> dict[str, Any]:
        """Return what tells this view from all others."""
        if self.number == 0:
            return {"view": "plain"}
        if self.kind == "turned":
            return {"view": "turned", "number": self.number}
        return {"view": "augmented", "number": self.number, "seed": self.seed, **self.augment.model_dump()}


PLAIN = View()


def open_views(data: Data, split: str, views: Sequence[View], batch_size: int) -> Iterator[tf.Tensor]:
    """Yield batches of a split's images, float32 in [0, 1], in stored order, view after view, all of one kind."""
    numbers, first = [view.number for view in views], views[0]
    if first.kind == "augmented":
        yield from data.augmented_images((split,), batch_size, augment=first.augment, seed=first.seed, views=numbers)
        return
    plain = data.plain_images((split,), batch_size)
    for number in numbers:
        yield from plain.map(partial(dihedral_view, view=number))


@dataclass(frozen=True)
class Catalogue:
    """What one body is read for: by one fit, or by all trials of a search.

    Attributes:
        boundaries: Names of `boundary_names` of all depths that are reused, in network order.
        vectors: Names of all pooled vectors that some head reads.
    """

    boundaries: tuple[str, ...]
    vectors: tuple[str, ...]

    @classmethod
    def of(cls, networks: Sequence[Network], reused: Sequence[Network]) -> Catalogue:
        """Return the catalogue of these settings, of which some are reused at their depth."""
        pools = {block for one in networks for block in one.pooled}
        vectors = vector_names(sorted(pools, key=BLOCK_ENDS.index), networks[0].pooling)
        return cls(_ordered({name for one in reused for name in boundary_names(one)}), vectors)


@dataclass(frozen=True)
class Keeping:
    """How outputs are kept.

    Attributes:
        store: Where.
        places: Name -> "memory" or "disk"; others lie in memory.
        batch_size: Of the passes.
        as_built: Context in which the body has its initial weights, whatever fits have made of them.
    """

    store: Store
    places: Mapping[str, Place]
    batch_size: int
    as_built: Callable[[], AbstractContextManager[None]] = nullcontext


class Prefix:
    """Outputs of one body's layers for the samples of a data set, kept in a store.

    Args:
        data: The shards.
        body: As `network.build_body` returns it, with the weights that all fits start from.
        network: Its settings.
        catalogue: What is read; one pass gives all of it.
        keeping: How it is kept.
    """

    def __init__(self, data: Data, body: keras.Model, network: Network, catalogue: Catalogue, keeping: Keeping) -> None:
        self._data, self._body, self._network = data, body, network
        self._catalogue, self._keeping, self._store = catalogue, keeping, keeping.store
        self._readers: dict[tuple[str, ...], Callable[..., Any]] = {}
        self._samples = _SampleDigests(data)
        self._tensors = _tensors(body, network.pooling, {*catalogue.boundaries, *catalogue.vectors})
        with keeping.as_built():
            self._weights = _digest_weights(body, self._tensors)
        self.pass_seconds = 0.0

    def read_boundaries(self, split: str, views: Sequence[View], names: Sequence[str]) -> list[Arrays]:
        """Return what suffixes start from, view by view; the first to ask has the pass run for all boundaries."""
        return self._read(split, views, names, self._catalogue.boundaries)

    def read_features(self, split: str, views: Sequence[View], names: Sequence[str]) -> list[Arrays]:
        """Return pooled vectors of the initial body, view by view, behind the boundaries too."""
        trained = any(view.kind == "augmented" for view in views) or len(views) == 1  # not those that scoring turns
        also = self._catalogue.boundaries if trained else ()
        return self._read(split, views, names, (*self._catalogue.vectors, *also))

    def _read(self, split: str, views: Sequence[View], names: Sequence[str], also: Sequence[str]) -> list[Arrays]:
        try:
            return self._find_all(split, views, names, also)
        except StoreFullError:
            if set(also) <= set(names):
                raise
            return self._find_all(split, views, names, ())  # what others will ask for has no room: they will see

    def _find_all(self, split: str, views: Sequence[View], names: Sequence[str], also: Sequence[str]) -> list[Arrays]:
        for _ in range(ATTEMPTS):
            found = [self._find(split, view, names) for view in views]
            missing = [view for view, arrays in zip(views, found, strict=True) if arrays is None]
            if not missing:
                return [arrays for arrays in found if arrays is not None]
            batches = open_views(self._data, split, missing, self._keeping.batch_size)
            for view in missing:
                self._compute(split, view, names, also, batches)
        raise StoreFullError(
            f"what was computed for {split} was lost {ATTEMPTS} times; another reuse.folder may keep it"
        )

    def _find(self, split: str, view: View, names: Sequence[str]) -> Arrays | None:
        arrays = {name: self._store.get(self._facts(split, view, name)) for name in names}
        return None if any(one is None for one in arrays.values()) else arrays  # type: ignore[return-value]

    def _compute(
        self, split: str, view: View, names: Sequence[str], also: Sequence[str], batches: Iterator[tf.Tensor]
    ) -> None:
        """Take a view's batches and keep what the body gives, unless another process has done so by now."""
        images = islice(batches, -(-self._data.samples((split,)) // self._keeping.batch_size))
        with self._store.lock(entry_key(self._facts(split, view, names[0]))):
            if self._find(split, view, names) is not None:
                deque(images, maxlen=0)
                return
            began = time.monotonic()
            wanted = [one for one in _ordered({*names, *also}) if self._find(split, view, [one]) is None]
            run = self._reader(tuple(wanted))
            with (
                self._keeping.as_built(),
                self._store.write({one: self._spec(split, view, one) for one in wanted}) as writers,
            ):
                for batch in images:
                    for name, rows in run(batch).items():
                        writers[name].append(rows.numpy())
            self.pass_seconds += time.monotonic() - began

    def _reader(self, names: tuple[str, ...]) -> Callable[..., Any]:
        if names not in self._readers:
            prefix = keras.Model(self._body.inputs, {name: self._tensors[name] for name in names})
            signature = [tf.TensorSpec(self._body.inputs[0].shape, tf.float32)]
            self._readers[names] = tf.function(lambda images: prefix(images, training=False), input_signature=signature)
        return self._readers[names]

    def _spec(self, split: str, view: View, name: str) -> Spec:
        tensor = self._tensors[name]
        shape = (self._data.samples((split,)), *tensor.shape[1:])
        return Spec(self._facts(split, view, name), shape, str(tensor.dtype), self._keeping.places.get(name, "memory"))

    def _facts(self, split: str, view: View, name: str) -> dict[str, Any]:
        network = self._network
        return {
            "layer": name,
            "weights": self._weights[name],
            "input": [*self._body.inputs[0].shape[1:], network.image_size, *network.input_range],
            "dtype": str(self._tensors[name].dtype),
            "samples": self._samples[split],
            "versions": [PIXELS, tf.__version__, keras.__version__],
            **view.facts(),
        }


def _digest_weights(body: keras.Model, names: Iterable[str]) -> dict[str, str]:
    """Return name -> SHA-256 over the weights and types of all layers up to it."""
    digest, found = hashlib.sha256(), {}
    for layer in body.layers:  # in the order in which they are run: block ends are one tensor wide
        digest.update(f"{type(layer).__name__} {layer.dtype_policy.name}".encode())
        for array in layer.get_weights():
            digest.update(np.ascontiguousarray(array).data)
        found[layer.name] = digest.hexdigest()
    return {name: found[name.partition("_")[0]] for name in names}


class _SampleDigests(dict[str, str]):
    """Split -> SHA-256 over the shards and the samples taken from them, in order."""

    def __init__(self, data: Data) -> None:
        super().__init__()
        self._data = data

    def __missing__(self, split: str) -> str:
        samples = "\n".join(self._data.table((split,)).sample.tolist())
        self[split] = hashlib.sha256(f"{self._data.manifest.data_hash}\n{samples}".encode()).hexdigest()
        return self[split]


def _tensors(body: keras.Model, pooling: str, names: set[str]) -> dict[str, Any]:
    vectors = pool_blocks(body, [block for block in BLOCK_ENDS if vector_names([block], pooling)[0] in names], pooling)
    return {**{name: body.get_layer(name).output for name in names if name in BLOCK_ENDS}, **vectors}


def _ordered(names: set[str]) -> tuple[str, ...]:
    return tuple(sorted(names, key=lambda name: (BLOCK_ENDS.index(name.partition("_")[0]), name)))
