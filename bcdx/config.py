"""Every setting of every verb, as frozen models that document and check themselves."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

BLOCK_ENDS = tuple(f"mixed{index}" for index in range(11))
DEPTHS = ("none", *BLOCK_ENDS)

Paths = Annotated[tuple[str, ...], Field(min_length=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Plane = Literal["sagittal", "axial", "coronal"]
Laterality = Literal["L", "R"]
Level = Literal["auto", "patient", "breast", "slice"]


class Settings(BaseModel):
    """Base of all settings: frozen, strict about names, silent about nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path_fields: ClassVar[tuple[str, ...]] = ()
    """Fields holding a path: relative to the recipe in a recipe, to the shell in a flag."""


class Phantom(Settings):
    """The built-in collection of synthetic sagittal breast MR, written as real DICOM."""

    patients: int = Field(96, ge=4, description="Patients; half of them have no lesion.")
    slices_per_breast: int = Field(3, ge=1, description="Sagittal slices of each breast.")
    size: int = Field(96, ge=75, description="Rows and columns of a slice, in pixels.")
    seed: int = Field(2019, ge=0, description="Seed of all anatomy, lesions and noise.")


class Labels(Settings):
    """Where the class of each image comes from."""

    file: str | None = Field(
        None,
        description="Label table, relative to `source`; unset: the nearest folder named like one of `classes`, or "
        "the topmost folder where `classes` is unset.",
    )
    key: str | None = Field(
        None,
        description="Key column: path, SOPInstanceUID, SeriesInstanceUID or PatientID (with a "
        "`laterality` or `Laterality` column if there is one); unset: the first of these that the table has.",
    )
    column: str = Field("label", description="Column that holds the label.")
    patient: str | None = Field(
        None, description="Column with a plain image's patient; unset: `PatientID` or `patient` if present."
    )
    pattern: str | None = Field(
        None,
        description="For tables that are not CSV: a regular expression matched against each line, whose "
        "named groups are the columns; lines that do not match are passed over.",
    )
    rename: dict[str, str] = Field(
        default_factory=dict, description="Label in the table -> class name; others stay as they are."
    )


class Select(Settings):
    """Which images take part; an empty list accepts all."""

    modality: tuple[str, ...] = Field((), description="DICOM Modality values to keep, such as MR.")
    plane: tuple[Plane, ...] = Field((), description="Planes to keep.")
    laterality: tuple[Laterality, ...] = Field((), description="Breasts to keep.")


class Normalise(Settings):
    """Map real units to the full range of uint16 by one pair of percentiles per unit."""

    unit: Literal["auto", "study", "series", "image", "none"] = Field(
        "auto",
        description="What shares one pair of percentiles; auto: image for mammography (MG) and plain "
        "images, study otherwise; none: the type's own range.",
    )
    low: float = Field(0.5, ge=0.0, lt=50.0, description="Percentile mapped to 0.")
    high: float = Field(99.5, gt=50.0, le=100.0, description="Percentile mapped to 65535.")


class Split(Settings):
    """Shares of the patients; what remains is training."""

    validation: Share = Field(0.16, description="Share of patients for validation.")
    test: Share = Field(0.34, description="Share of patients for the test.")
    salt: str = Field("bcdx", description="Changes who goes where; the same salt gives the same split.")

    @model_validator(mode="after")
    def _leave_no_overlap(self) -> Self:
        if self.validation + self.test > 1.0 + 1e-9:
            raise ValueError(f"validation + test must be at most 1, received {self.validation + self.test:g}")
        return self


class Dataset(Settings):
    """DICOM files (or an image folder) and their labels, turned into TFRecord shards.

    The defaults are the built-in phantom collection.
    """

    path_fields: ClassVar[tuple[str, ...]] = ("source", "out")

    source: str = Field("phantom", description="Folder of images; `phantom`: the built-in collection.")
    out: str | None = Field(None, description="Folder for the shards; unset: named after the recipe, beside it.")
    classes: tuple[str, ...] = Field((), description="Class names in order; unset: the labels found, sorted.")
    positive: str | None = Field(None, description="The class that is looked for; unset: the last one.")
    patient: str | None = Field(
        None,
        description="Patient of a file that names none, as no plain image does: a regular expression over its "
        "relative path, whose group `patient` (or first group, or whole match) is the patient; a group `pair` holds a "
        "running number of which 2k-1 and 2k are one patient; or `file`: every file its own patient, marked in all "
        "results.",
    )
    channels: Literal["grey", "phases"] = Field(
        "grey", description="grey: one channel; phases: the dynamic phases of a position."
    )
    phases: int | None = Field(
        None, ge=2, le=3, description="Phases per sample, first ones in time; unset: what most positions have."
    )
    size: int = Field(96, ge=1, le=4096, description="Side of the stored square, pixels; aspect ratio is kept.")
    voi: bool = Field(False, description="Apply the file's own VOI LUT or window first.")
    labels: Labels = Labels()
    select: Select = Select()
    normalise: Normalise = Normalise()
    split: Split = Split()
    merge_duplicates: bool = Field(
        False, description="Treat patients that share identical pixels as one; else they are an error."
    )
    shard_bytes: int = Field(128 * 2**20, ge=2**10, description="Aim for the size of a shard, bytes.")
    min_shards: int = Field(8, ge=1, description="Shards of a non-empty split at least.")
    workers: int = Field(2, ge=1, description="Processes that read images.")
    overwrite: bool = Field(False, description="Replace shards that are already there.")
    phantom: Phantom = Phantom()

    @model_validator(mode="after")
    def _check_classes(self) -> Self:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes must differ from each other, received {list(self.classes)}")
        if len(self.classes) == 1:
            raise ValueError(f"at least two classes are needed, received {list(self.classes)}")
        if self.positive is not None and self.classes and self.positive not in self.classes:
            raise ValueError(f"positive must be one of {list(self.classes)}, received {self.positive!r}")
        return self


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
    refit: Literal["train+validation", "train"] = Field(
        "train+validation",
        description="What the final model learns from: both splits for as many epochs as the selected fit kept, or "
        "training alone (the selected fit's own weights).",
    )
    test_views: Literal[1, 8] = Field(
        1, description="Views averaged when scoring: the plain image, or its eight flips and quarter turns."
    )
    reuse: Reuse = Reuse()
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


class Evaluate(Settings):
    """A trained run on held-out shards."""

    run: str = Field(description="Run folder of `tune` or `fit`.")
    records: str | None = Field(None, description="Folder of shards; unset: those of the run.")
    out: str | None = Field(None, description="Folder for metrics.json; unset: RUN-on-RECORDS beside the run.")
    split: Literal["train", "validation", "test"] = Field("test", description="Split to score.")
    test_views: Literal[1, 8] | None = Field(None, description="Views averaged; unset: as the run was tested.")
    batch_size: int = Field(32, ge=1, description="Samples per step.")
    overwrite: bool = Field(False, description="Replace an earlier evaluation in the same folder.")


class Diagnose(Settings):
    """A trained run on new DICOM files or folders."""

    run: str = Field(description="Run folder of `tune` or `fit`.")
    paths: Paths = Field(description="DICOM files or folders, at least one.")
    out: str = Field("diagnosis", description="Folder for diagnosis.json.")
    top_slices: int | None = Field(None, ge=1, description="Slices averaged; unset: as the run was selected.")
    test_views: Literal[1, 8] | None = Field(None, description="Views averaged; unset: as the run was tested.")
    batch_size: int = Field(32, ge=1, description="Samples per step.")
    overwrite: bool = Field(False, description="Replace an earlier diagnosis in the same folder.")


def as_recipe(settings: Settings) -> dict[str, Any]:
    """Return the settings as plain data that TOML and JSON can hold (unset fields left out)."""
    return settings.model_dump(mode="json", exclude_none=True)
