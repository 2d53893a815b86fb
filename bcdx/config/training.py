"""Settings of `fit` and `tune`: which network, how it is trained, what is searched."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationError, model_validator
from typing_extensions import Self

from bcdx.config.base import Settings

BLOCK_ENDS = tuple(f"mixed{index}" for index in range(11))
DEPTHS = ("none", *BLOCK_ENDS)

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Level = Literal["auto", "patient", "breast", "slice"]


class Stream(Settings):
    """How records become batches."""

    batch_size: int = Field(16, ge=1, description="Samples per step; halve it first when memory runs out.")
    views: int = Field(8, ge=1, description="Augmented versions of a sample; epoch e sees view e mod views.")


class Augment(Settings):
    """What may change between the views of a sample; view 0 is the plain image."""

    flip_horizontal: bool = Field(False, description="Mirror left and right; refused where laterality is the label.")
    flip_vertical: bool = Field(True, description="Mirror top and bottom.")
    quarter_turns: bool = Field(False, description="Rotate by multiples of 90 degrees.")
    rotation_degrees: float = Field(10.0, ge=0.0, le=180.0, description="Largest rotation either way.")
    zoom: float = Field(0.1, ge=0.0, lt=1.0, description="Largest relative change of size either way.")
    shift: float = Field(0.05, ge=0.0, le=0.5, description="Largest shift either way, share of the side.")
    brightness: float = Field(0.05, ge=0.0, le=1.0, description="Largest offset either way, share of the range.")
    contrast: float = Field(0.1, ge=0.0, lt=1.0, description="Largest relative change of contrast either way.")
    rician_noise: float = Field(0.0, ge=0.0, le=0.5, description="Largest noise sigma, share of the range.")
    bias_field: float = Field(0.0, ge=0.0, lt=1.0, description="Largest relative change by a smooth coil field.")
    strength: float = Field(1.0, ge=0.0, le=1.0, description="Scales all ranges above; 0 leaves flips and turns.")

    def check_test_views(self, views: int) -> None:
        """Raise ValueError where scoring would average views that training never saw."""
        if views == 8 and not (self.quarter_turns and self.flip_horizontal):
            raise ValueError(
                "test_views = 8 needs augment.flip_horizontal and augment.quarter_turns, so that training saw them"
            )


def check_block_names(text: str) -> str:
    """Return `text` if it reads DEPTH/BLOCK[+BLOCK...] with the depth no deeper than the last block."""
    depth, slash, pools = text.partition("/")
    blocks = pools.split("+")
    known = slash and depth in DEPTHS and all(block in BLOCK_ENDS for block in blocks)
    if not known or blocks != sorted(set(blocks), key=BLOCK_ENDS.index):
        raise ValueError(
            f"expected DEPTH/BLOCK[+BLOCK...] from none, mixed0 ... mixed10 in network order, such as "
            f"mixed2/mixed0+mixed3; received {text!r}"
        )
    if DEPTHS.index(depth) > DEPTHS.index(blocks[-1]):
        raise ValueError(f"{text!r} freezes deeper than the last block it pools; use {blocks[-1]}/{pools}")
    return text


class Network(Settings):
    """The InceptionV3 body, where it is frozen and where features are read."""

    path_fields: ClassVar[tuple[str, ...]] = ("weights",)

    weights: str = Field("random", description="`imagenet`, `random`, or the path of a Keras no-top weights file.")
    depth: str = Field(
        "none/mixed0",
        description="FROZEN/POOLED: frozen up to this block end (or none) / block ends whose features are pooled, "
        "such as mixed2/mixed0+mixed3.",
    )
    pooling: Literal["average", "maximum", "both"] = Field("maximum", description="How a block's map becomes a vector.")
    image_size: int | None = Field(None, description="Input side, pixels, at least 75; unset: that of the records.")
    input_range: tuple[float, float] = Field((-1.0, 1.0), description="Range of pixels that the weights expect.")
    dropout: float = Field(0.2, ge=0.0, lt=1.0, description="Share of pooled features dropped while training.")
    head: Literal["random", "probe"] = Field(
        "random",
        description="Where the head starts: at random, or at a logistic regression on the initial features, which "
        "keeps fine-tuning at low rates from distorting them.",
    )
    probe_c: float = Field(0.01, gt=0.0, description="Inverse strength of that regression's L2 penalty.")

    @property
    def frozen(self) -> str:
        """Block end up to which everything is frozen, or `none`."""
        return self.depth.partition("/")[0]

    @property
    def pooled(self) -> tuple[str, ...]:
        """Block ends whose features are pooled, in network order; behind the last one nothing is built."""
        return tuple(self.depth.partition("/")[2].split("+"))

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_block_names(self.depth)
        if self.image_size is not None and self.image_size < 75:
            raise ValueError(f"image_size must be at least 75 px for InceptionV3, received {self.image_size}")
        return self


class Optimizer(Settings):
    """AdamW with linear warm-up and cosine decay."""

    learning_rate: float = Field(1e-3, gt=0.0, description="Peak rate.")
    weight_decay: float = Field(1e-4, ge=0.0, description="Decoupled weight decay.")
    epochs: int = Field(10, ge=1, description="Epochs of the schedule.")
    warmup: Share = Field(0.1, description="Share of all steps spent warming up.")
    keep: Literal["best", "last"] = Field(
        "best",
        description="Weights that a fit ends with: those of the best epoch on validation, with early stopping, or of "
        "the last one of the schedule, scored then alone: for splits so small that the best epoch is chance.",
    )
    patience: int = Field(5, ge=1, description="Epochs without a better validation AUC before stopping.")
    balance: Literal["bias", "weights", "none"] = Field(
        "bias", description="Class imbalance: initial bias of the head, class weights, or nothing."
    )
    precision: Literal["auto", "float32", "mixed_float16", "mixed_bfloat16"] = Field(
        "auto",
        description="auto: float16 on GPUs of capability 7.0, bfloat16 from 8.0 or on CPUs with avx512_bf16 (Intel's "
        "only with amx_bf16 too, for without it bfloat16 is slower), else float32.",
    )


class Reuse(Settings):
    """Where the outputs of frozen layers are kept, so that epochs and trials share them; changes no result."""

    path_fields: ClassVar[tuple[str, ...]] = ("folder",)

    keep: Literal["auto", "memory", "disk", "none"] = Field(
        "auto",
        description="auto: on disk where that is worth its bytes, else in memory, else not at all; none: every image "
        "goes through the whole network in every epoch.",
    )
    folder: str | None = Field(None, description="Folder for what is kept on disk; unset: `.prefix` beside the run's.")
    memory_gib: float = Field(4.0, ge=0.0, description="Memory that may be used for it, GiB.")
    disk_gib: float = Field(20.0, ge=0.0, description="Disk space that the folder may take, GiB.")


class Objective(Settings):
    """What the search maximises: validation ROC AUC at a level."""

    level: Level = Field(
        "auto",
        description="auto: the coarsest of patient, breast, slice at which both classes have at least 5 units in "
        "training and in validation.",
    )
    top_slices: int = Field(3, ge=1, description="A patient's or breast's score is the mean of this many slices.")


class Report(Settings):
    """What is shown beside a run's figures; changes no model."""

    prevalence: float = Field(
        0.01,
        gt=0.0,
        lt=1.0,
        description="Share of patients with the positive class at which predictive values are stated; the default is "
        "the order of magnitude in screening.",
    )
    images_every: int = Field(
        5,
        ge=0,
        description="Epochs between TensorBoard's pictures of validation (ROC, precision-recall, confusion, "
        "Grad-CAM); 0: none while training.",
    )
    examples: int = Field(6, ge=0, description="Best and worst cases that the report shows, each.")


class Fit(Settings):
    """One model from one set of hyperparameters; the defaults are the built-in phantom job."""

    path_fields: ClassVar[tuple[str, ...]] = ("dataset", "records", "out")

    dataset: str = Field("phantom", description="Dataset recipe; `phantom`: the built-in one.")
    records: str | None = Field(None, description="Folder of shards; unset: beside the dataset recipe.")
    out: str | None = Field(None, description="Run folder; unset: named after the recipe, beside it.")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of weights, order, augmentation and search.")
    network: Network = Network()
    optimizer: Optimizer = Optimizer()
    stream: Stream = Stream()
    augment: Augment = Augment()
    objective: Objective = Objective()
    refit: Literal["train", "train+validation"] = Field(
        "train",
        description="What the final model learns from. train: the selected fit's own weights, to which calibration and "
        "operating points then belong; train+validation: both splits, anew, for as many epochs as the selected fit "
        "kept: more data, and calibration of a sister model.",
    )
    test_views: Literal[1, 8] = Field(
        1, description="Views averaged when scoring: the plain image, or its eight flips and quarter turns."
    )
    reuse: Reuse = Reuse()
    report: Report = Report()
    overwrite: bool = Field(False, description="Discard an earlier run in the same folder and start anew.")

    @model_validator(mode="after")
    def _check_test_views(self) -> Self:
        self.augment.check_test_views(self.test_views)
        return self


class Space(Settings):
    """What the search may vary; an empty list leaves the setting of `network`, `optimizer` or `augment`."""

    homes: ClassVar[dict[str, str]] = {
        "depth": "network",
        "dropout": "network",
        "learning_rate": "optimizer",
        "weight_decay": "optimizer",
        "strength": "augment",
    }
    """What may vary -> the part of `Fit` that holds it."""

    depth: tuple[str, ...] = Field(
        ("none/mixed0", "mixed0/mixed0"), description="Candidates FROZEN/POOLED, such as mixed2/mixed0+mixed3."
    )
    learning_rate: tuple[float, ...] = Field((1e-3, 3e-3), description="Candidates for the peak rate.")
    learning_rate_range: tuple[float, float] | None = Field(
        None, description="Lowest and highest peak rate, drawn log-uniformly instead of `learning_rate`."
    )
    dropout: tuple[float, ...] = Field((), description="Candidates.")
    weight_decay: tuple[float, ...] = Field((), description="Candidates.")
    strength: tuple[float, ...] = Field((), description="Candidates for the strength of augmentation.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, home in self.homes.items():
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"{name} names a candidate twice: {list(values)}")
            for value in values:
                _check_candidate(home, name, value)
        ends = self.learning_rate_range
        if ends is not None and not 0.0 < ends[0] < ends[1]:
            raise ValueError(f"learning_rate_range must be two rates above 0, the lower one first, received {ends}")
        return self


def _check_candidate(home: str, name: str, value: Any) -> None:
    """Raise ValueError where a fit would refuse what the search is to try."""
    parts: dict[str, type[Settings]] = {"network": Network, "optimizer": Optimizer, "augment": Augment}
    try:
        parts[home].model_validate({name: value})
    except ValidationError as error:
        message = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise ValueError(message if "received" in message else f"{name}: {message}, received {value!r}") from error


class Search(Settings):
    """How the space is searched."""

    oracle: Literal["random", "bayesian", "hyperband", "asha", "grid"] = Field(
        "grid",
        description="Who proposes trials: an oracle of Keras Tuner, or asha, which begins all briefly and trains the "
        "best of them on.",
    )
    trials: int = Field(
        4,
        ge=1,
        description="Trials at most; hyperband refuses too few for its first bracket; asha counts what it begins, not "
        "how often it trains on.",
    )
    factor: int = Field(
        3, ge=2, description="asha and hyperband: one trial in so many is trained on, for so many times as long."
    )
    min_epochs: int = Field(1, ge=1, description="asha: epochs after which trials are first compared.")
    seconds: float | None = Field(
        None,
        gt=0.0,
        description="No new trial starts when those before took this long in all, interruptions left out; results "
        "then depend on the machine.",
    )


class Tune(Fit):
    """The main job: shards -> search -> refit of the winner -> one test.

    The defaults are the built-in phantom job.
    """

    space: Space = Space()
    search: Search = Search()
