"""One body, read by many fits: settings of a fit in; a network at its start, ready to train, out.

The body is built once. What a fit trains is a view on its layers, compiled once per (depth, dropout, weight decay) and
put back to its start for the next fit. Its inputs are images or, where that is worth the bytes, what the frozen part
made of them before.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import tensorflow as tf

from bcdx.config import BLOCK_ENDS, Fit
from bcdx.learning.cut import boundary_names, split_model
from bcdx.learning.data import Data
from bcdx.learning.entries import Place
from bcdx.learning.network import attach_head, build_body, freeze
from bcdx.learning.optimizer import Slots, make_optimizer, scale_loss, set_peak
from bcdx.learning.precision import JIT_COMPILE, resolve_policy
from bcdx.learning.prefix import Catalogue, Keeping, Prefix
from bcdx.learning.snapshot import Recent, Snapshot, put_back, reset, take_start, take_weights
from bcdx.learning.start import Start, find_start, probe_views
from bcdx.learning.statistics import set_batchnorm
from bcdx.learning.store import Store
from bcdx.learning.trainee import Trainee

COMPILED = 8
"""Networks kept compiled at most; the one used longest ago goes first."""

Places = Mapping[str, Place]
"""Depth setting -> where what its frozen part gives is kept; a depth that is missing is trained from images."""


@dataclass(frozen=True)
class Compiled:
    """A network that can be put back to where its fits start.

    Attributes:
        model: What is trained: behind the cut, or all of it.
        joined: All of it, from images to probabilities, on the same weights.
        start: What `model` starts from, as `take_start` gives it, but for the weights of the body.
        run: Inputs of `model` -> probabilities, in inference mode.
    """

    model: keras.Model
    joined: keras.Model
    start: Snapshot
    run: Callable[..., tf.Tensor]


class Learner:
    """What all fits on the same splits share: the body, what its frozen parts give, compiled networks.

    Fits take turns: the one prepared last owns the weights.

    Args:
        fit: Settings that all fits have in common.
        data: The shards.
        splits: Splits to learn from.
        depths: All values of `network.depth` that will be asked for.
        choose: Body -> which of them start from kept outputs, and where those lie.
        store: That keeps them.
    """

    def __init__(
        self,
        fit: Fit,
        data: Data,
        splits: tuple[str, ...],
        *,
        depths: Sequence[str],
        choose: Callable[[keras.Model], Places],
        store: Store,
    ) -> None:
        self.data, self.splits, self.store = data, splits, store
        self.recent = Recent()
        self._fit, self.choose = fit, choose
        self._networks = {depth: fit.network.model_copy(update={"depth": depth}) for depth in depths}
        self._compiled: OrderedDict[tuple[Any, ...], Compiled] = OrderedDict()
        self._slots = Slots()
        self._starts: dict[tuple[Any, ...], Start] = {}
        self._dirty = False
        self._earlier_pass_seconds = 0.0
        self.step_seconds: dict[str, list[float]] = {}

    def prepare(self, fit: Fit) -> Trainee:
        """Return the network of these settings as it stands before its first step."""
        reused, initial = fit.network.depth in self._places, self._initial
        compiled = self._find_compiled(fit, reused=reused)
        freeze(self.body, "none")
        put_back(self.body, initial)  # its frozen part too, for earlier fits may have trained that
        freeze(compiled.joined, "none" if reused else fit.network.frozen)
        reset(compiled.model, compiled.start)
        self._find_start(fit).set_head(compiled.joined)
        set_peak(compiled.model.optimizer, fit.optimizer.learning_rate)
        self._dirty = True
        prefix = self.prefix if reused else None
        return Trainee(fit, self.data, self.splits, compiled.model, compiled.joined, compiled.run, prefix)

    def stop_reusing(self, depth: str) -> bool:
        """Train a depth from images from now on; return whether that is a change."""
        stopped = self._places.pop(depth, None) is not None
        if stopped:
            self._earlier_pass_seconds = self.pass_seconds
            del self.prefix  # the next one does without this depth's boundary
        return stopped

    @property
    def pass_seconds(self) -> float:
        """Time of all forward passes through frozen layers so far."""
        return self._earlier_pass_seconds + self.prefix.pass_seconds

    @property
    def reused(self) -> list[str]:
        """Depths that start from kept outputs."""
        return [*self._places]

    @cached_property
    def body(self) -> keras.Model:
        """InceptionV3 up to the last block that is read, with the weights from which every fit starts."""
        forget_earlier_models()
        fit = self._fit
        whole = build_body(fit.network, input_shape=self.data.manifest.image_shape, policy=self._policy, seed=fit.seed)
        last = max((network.pooled[-1] for network in self._networks.values()), key=BLOCK_ENDS.index)
        body = keras.Model(whole.inputs, whole.get_layer(last).output)
        if fit.network.weights == "random":
            set_batchnorm(body, self.data.plain_images(self.splits, fit.stream.batch_size))
        freeze(body, "none")
        return body

    @cached_property
    def _places(self) -> dict[str, Place]:
        return dict(self.choose(self.body))

    @cached_property
    def prefix(self) -> Prefix:
        """What the body's layers give for each sample, as far as it has been asked for."""
        networks = [*self._networks.values()]
        kept = {name: place for depth, place in self._places.items() for name in boundary_names(self._networks[depth])}
        catalogue = Catalogue.of(networks, [self._networks[depth] for depth in self._places])
        everywhere: Place = "disk" if "disk" in kept.values() else "memory"
        places = {**dict.fromkeys(catalogue.vectors, everywhere), **kept}
        keeping = Keeping(self.store, places, self._fit.stream.batch_size, self._as_built)
        return Prefix(self.data, self.body, self._fit.network, catalogue, keeping)

    @property
    def _policy(self) -> str:
        return resolve_policy(self._fit.optimizer.precision)

    @cached_property
    def _initial(self) -> Snapshot:
        freeze(self.body, "none")
        return take_weights(self.body)

    @contextmanager
    def _as_built(self) -> Iterator[None]:
        """Let the block see the body's initial weights, whatever a fit has made of them."""
        if not self._dirty:
            yield
            return
        flags = [layer.trainable for layer in self.body.layers]
        freeze(self.body, "none")
        held = take_weights(self.body)
        put_back(self.body, self._initial)
        try:
            yield
        finally:
            put_back(self.body, held)
            for layer, flag in zip(self.body.layers, flags, strict=True):  # a step not traced yet will read them
                layer.trainable = flag

    def _find_compiled(self, fit: Fit, *, reused: bool) -> Compiled:
        key = (fit.network.depth, fit.network.dropout, fit.optimizer.weight_decay, reused)
        if key not in self._compiled:
            while len(self._compiled) >= COMPILED:
                self._compiled.popitem(last=False)
            self._compiled[key] = self._compile(fit, boundary_names(fit.network) if reused else ())
        self._compiled.move_to_end(key)
        return self._compiled[key]

    def _compile(self, fit: Fit, names: Sequence[str]) -> Compiled:
        network = fit.network
        joined = attach_head(self.body, network, classes=len(self.data.manifest.classes), seed=fit.seed)
        self._find_start(fit).set_normalisation(joined)
        freeze(joined, "none" if names else network.frozen)
        model = split_model(joined, names) if names else keras.Model(joined.inputs, joined.outputs[0])
        steps = self.data.steps(self.splits, fit.stream.batch_size)
        optimizer = make_optimizer(fit.optimizer, steps, slots=self._slots)
        model.compile(scale_loss(optimizer, self._policy), _make_loss(self.data), jit_compile=JIT_COMPILE)
        model.optimizer.build(model.trainable_variables)
        start = {name: value for name, value in take_start(model).items() if name not in self._initial}
        return Compiled(model, joined, start, _inference(model))

    def _find_start(self, fit: Fit) -> Start:
        key = (fit.network.pooled, tuple(map(str, probe_views(fit))))
        if key not in self._starts:
            self._starts[key] = find_start(fit, self.data, self.splits, self.prefix)
        return self._starts[key]


def forget_earlier_models() -> None:
    """Start Keras's counters of layer names anew, keeping the dtype policy.

    Names decide the order in which TensorFlow adds up gradients: with them a second body in one process differs from
    the first by rounding, which training then amplifies. It also frees what earlier ones left behind.
    """
    policy = keras.config.dtype_policy()
    keras.backend.clear_session()
    keras.config.set_dtype_policy(policy)


def _make_loss(data: Data) -> keras.losses.Loss:
    if len(data.manifest.classes) == 2:
        return keras.losses.BinaryCrossentropy()
    return keras.losses.SparseCategoricalCrossentropy()


def _inference(model: keras.Model) -> Callable[..., tf.Tensor]:
    """Return the model in inference mode, traced once whatever the batch size."""
    signature = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in model.inputs]
    run: Callable[..., tf.Tensor] = tf.function(
        lambda *inputs: model(list(inputs), training=False), input_signature=signature
    )
    return run
