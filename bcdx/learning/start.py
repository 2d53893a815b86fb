"""Where a head starts: the normalisation of its features, and its first weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from bcdx.config import Fit
from bcdx.learning.cut import vector_names
from bcdx.learning.data import Data
from bcdx.learning.network import FEATURE_NORM, HEAD
from bcdx.learning.prefix import PLAIN, Prefix, View
from bcdx.learning.probe import fit_probe
from bcdx.learning.statistics import measure_features, normalise, set_normalisation

Features = NDArray[np.float32]


@dataclass(frozen=True)
class Start:
    """What a head takes from the training samples before the first step.

    Attributes:
        mean: Of each feature, shape (features,).
        variance: Likewise, floored.
        kernel: First weights, shape (features, outputs); None: as they were drawn.
        bias: Shape (outputs,); None: zeros.
    """

    mean: Features
    variance: Features
    kernel: Features | None = None
    bias: Features | None = None

    def set_normalisation(self, model: keras.Model) -> None:
        """Give the model these statistics, before it is compiled: its graph takes them in as constants."""
        set_normalisation(model.get_layer(FEATURE_NORM), self.mean, self.variance)

    def set_head(self, model: keras.Model) -> None:
        """Give the head its first weights, where they are not those that it has been drawn with."""
        head = model.get_layer(HEAD)
        kernel, bias = head.get_weights()
        head.set_weights([kernel if self.kernel is None else self.kernel, bias if self.bias is None else self.bias])


def find_start(fit: Fit, data: Data, splits: Sequence[str], prefix: Prefix) -> Start:
    """Return the start of a fit's head, from the initial features of the training samples."""
    network = fit.network
    names = vector_names(network.pooled, network.pooling)

    def read(views: Sequence[View]) -> Features:
        parts = zip(*(prefix.read_features(split, views, names) for split in splits), strict=True)
        found = [part for view in parts for part in view]  # all splits in one view, then in the next
        return np.concatenate([np.concatenate([part[name] for name in names], axis=1) for part in found])

    mean, variance = measure_features(read([PLAIN]))
    if network.head == "probe":
        views = probe_views(fit)
        features = normalise(read(views), mean, variance)
        labels = np.tile(data.table(splits).label, len(views))
        balanced = fit.optimizer.balance == "weights"
        return Start(mean, variance, *fit_probe(features, labels, c=network.probe_c, balanced=balanced))
    if fit.optimizer.balance == "bias":
        return Start(mean, variance, bias=log_odds(data.class_counts(splits)))
    return Start(mean, variance)


def probe_views(fit: Fit) -> list[View]:
    """Return the views that a probe learns from: those that testing averages, else all of training; none: no probe."""
    if fit.network.head != "probe":
        return []
    if fit.test_views == 8:
        return [View("turned", number) for number in range(fit.test_views)]
    return [View("augmented", number, fit.seed, fit.augment) for number in range(fit.stream.views)]


def log_odds(counts: Sequence[int]) -> Any:
    """Return the bias at which a head gives the classes' shares, so that no step goes into learning them."""
    logits = np.log(np.maximum(np.asarray(counts, np.float64), 1.0) / max(sum(counts), 1))
    return np.asarray(logits[1:] - logits[:1] if len(counts) == 2 else logits, np.float32)
