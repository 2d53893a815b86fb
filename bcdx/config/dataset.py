"""Settings of `acquire` and `shard`: which images, which labels, which split."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from bcdx.config.base import Settings

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Plane = Literal["sagittal", "axial", "coronal"]
Laterality = Literal["L", "R"]
Phase = Literal["pre", "early", "late"]


class Phantom(Settings):
    """The built-in collection of synthetic sagittal breast MR, written as real DICOM."""

    patients: int = Field(96, ge=4, description="Patients; half of them have no lesion.")
    slices_per_breast: int = Field(3, ge=1, description="Sagittal slices of each breast.")
    size: int = Field(96, ge=75, description="Rows and columns of a slice, in pixels.")
    seed: int = Field(2019, ge=0, description="Seed of all anatomy, lesions and noise.")


class Catalogue(Settings):
    """Where `acquire` finds a public collection: the NCI Imaging Data Commons."""

    collection: str | None = Field(None, description="Collection as the catalogue spells it, such as tcga_brca.")
    patients: tuple[str, ...] = Field((), description="PatientIDs to fetch; empty: all that the rules keep.")
    skip_series: tuple[str, ...] = Field(
        (), description="SeriesInstanceUIDs to leave out, such as a series that the store holds otherwise than listed."
    )
    endpoint_url: str = Field(
        "https://s3.amazonaws.com",
        description="S3 endpoint that holds the catalogue's buckets; read without an account.",
    )
    connections: int = Field(8, ge=1, le=64, description="Files fetched at a time.")
    attempts: int = Field(8, ge=1, description="Tries for a file before giving up, with growing pauses.")


class Labels(Settings):
    """Where the class of each image comes from.

    Either a table with a label for each image (`file`), or lesions drawn by a reader (`source`, `segments`), from which
    each slice's label follows.
    """

    path_fields: ClassVar[tuple[str, ...]] = ("source",)

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
    source: str | None = Field(
        None,
        description="Lesions: a folder or zip of .les masks, a table of boxes (CSV), or a file or folder of DICOM SEG.",
    )
    page: str | None = Field(None, description="Web page that `source` can be had from; named where it is missing.")
    format: Literal["auto", "les", "boxes", "seg"] = Field(
        "auto",
        description="Kind of `source`; auto: by its content. seg without `source`: SEG objects among the images.",
    )
    segments: tuple[str, ...] = Field(
        (),
        description="Segments of DICOM SEG that are lesions, by SegmentLabel or the meaning of their property type.",
    )
    min_area_mm2: float = Field(10.0, gt=0.0, description="A slice is tumour where lesions cover at least this area.")
    margin_mm: float = Field(
        3.0, ge=0.0, description="Slices that near to a lesion's end, along the stack, are ambiguous and left out."
    )
    other_breast: Literal["exclude", "normal"] = Field(
        "exclude",
        description="Slices of the breast without a lesion, where the other one has some: left out, or taken as normal "
        "and marked so (nobody has drawn there).",
    )

    @property
    def from_lesions(self) -> bool:
        """Whether labels follow from drawn lesions instead of a table or folders."""
        return self.source is not None or self.format != "auto" or bool(self.segments)

    @model_validator(mode="after")
    def _check_one_source(self) -> Self:
        if self.from_lesions and self.file is not None:
            raise ValueError(
                f"give a label table (file) or lesions (source, format, segments), not both: {self.file!r}"
            )
        return self


Kind = Literal[
    "localizer", "calibration", "spectroscopy", "cad", "map", "mip", "subtraction", "reformat", "diffusion", "t2", "t1",
    "other",
]  # fmt: skip
"""What a series of MR is, as its description and ImageType say."""


class Select(Settings):
    """Which series and slices take part; an empty list accepts all.

    `acquire` applies the rules to the catalogue's descriptions and keeps what they do not tell; `shard` applies them to
    headers and geometry, where what is unknown is left out.
    """

    modality: tuple[str, ...] = Field((), description="DICOM Modality values to keep, such as MR.")
    plane: tuple[Plane, ...] = Field((), description="Planes to keep.")
    laterality: tuple[Laterality, ...] = Field((), description="Breasts to keep.")
    phase: tuple[Phase, ...] = Field(
        (), description="Dynamic phases to keep: pre is the first at a position, early the second, late the last."
    )
    description: tuple[str, ...] = Field(
        (), description="Regular expressions, case ignored; SeriesDescription must match one."
    )
    skip_description: tuple[str, ...] = Field(
        (), description="Regular expressions, case ignored; series whose SeriesDescription matches one are left out."
    )
    kind: tuple[Kind, ...] = Field((), description="Kinds of MR series to keep; empty: all but `skip_kind`.")
    skip_kind: tuple[Kind, ...] = Field(
        ("localizer", "calibration", "spectroscopy", "cad", "map", "mip", "subtraction", "reformat"),
        description="Kinds of MR series to leave out.",
    )
    min_slices: int = Field(1, ge=1, description="Images that a series must have, as it is or in the catalogue.")
    edge_slices: int = Field(
        0, ge=0, description="Slice positions left out at either end of each stack, of each breast on its own."
    )
    min_tissue: float = Field(
        0.0,
        ge=0.0,
        lt=1.0,
        description="A slice is empty where less than this share of its area is brighter than a tenth of its "
        "normalised range.",
    )
    burned_in: Literal["exclude", "flag"] = Field(
        "exclude", description="Images whose BurnedInAnnotation says YES: left out, or kept and listed."
    )
    near_duplicates: Literal["flag", "exclude", "ignore"] = Field(
        "flag", description="Slices of two patients that look alike: kept and listed, both left out, or not looked for."
    )

    @model_validator(mode="after")
    def _check_patterns(self) -> Self:
        for name in ("description", "skip_description"):
            for pattern in getattr(self, name):
                try:
                    re.compile(pattern)
                except re.error as error:
                    raise ValueError(f"{name}: {pattern!r} is not a regular expression: {error}") from error
        return self


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

    unit: Literal["patient", "image"] = Field(
        "patient",
        description="What is dealt to the splits. image: each image on its own, so that a patient's other images are "
        "in training when one is tested; for comparison with studies that did so, and marked as leaking everywhere.",
    )
    validation: Share = Field(0.16, description="Share of patients for validation.")
    test: Share = Field(0.34, description="Share of patients for the test.")
    salt: str = Field("bcdx", description="Changes who goes where; the same salt gives the same split.")

    @model_validator(mode="after")
    def _leave_no_overlap(self) -> Self:
        if self.validation + self.test > 1.0 + 1e-9:
            raise ValueError(f"validation + test must be at most 1, received {self.validation + self.test:g}")
        return self


PHASES = ("pre", "early", "late")
WASH_IN = "wash-in"


def list_phases(channel: str) -> tuple[str, ...]:
    """Return the phases that a channel is made of, the later one of a difference first."""
    return tuple(("early-pre" if channel == WASH_IN else channel).split("-"))


def check_channel(name: str) -> str:
    """Return `name` if it is a phase, a difference of two phases, or wash-in."""
    later, dash, earlier = name.partition("-")
    difference = dash and later in PHASES and earlier in PHASES and PHASES.index(later) > PHASES.index(earlier)
    if name not in {*PHASES, WASH_IN} and not difference:
        raise ValueError(
            f"expected pre, early, late, a later phase less an earlier one such as early-pre, or {WASH_IN}; "
            f"received {name!r}"
        )
    return name


class Dataset(Settings):
    """DICOM files (or an image folder) and their labels, turned into TFRecord shards.

    The defaults are the built-in phantom collection.
    """

    path_fields: ClassVar[tuple[str, ...]] = ("source", "out")

    source: str = Field(
        "phantom",
        description="Folder of images; `acquire` fetches them there; `phantom`: the built-in collection.",
    )
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
    channels: Literal["grey", "phases"] | Annotated[tuple[str, ...], Field(min_length=1, max_length=3)] = Field(
        "grey",
        description="grey: one channel; phases: the dynamic phases of a position; or a list of up to three of pre, "
        "early, late (phases in time), differences such as early-pre, and wash-in (early-pre over pre).",
    )
    phases: int | None = Field(
        None, ge=2, le=3, description="Phases per sample, first ones in time; unset: what most positions have."
    )
    size: int = Field(96, ge=1, le=4096, description="Side of the stored square, pixels; aspect ratio is kept.")
    voi: bool = Field(False, description="Apply the file's own VOI LUT or window first.")
    jpeg_quality: int | None = Field(
        None,
        ge=1,
        le=100,
        description="Pass each image through an 8-bit JPEG of this quality, as early studies did; unset: 16 bits stay.",
    )
    decoder: Literal["pydicom", "tfio"] = Field(
        "pydicom",
        description="Who decodes pixels. tfio: tensorflow-io, for the files that it reads as stored (unsigned, "
        "MONOCHROME2, no rescale, no overlay), pydicom for the others.",
    )
    licence: str = Field("", description="Licence of the images, for the dataset card; unset: what `acquire` wrote.")
    citations: tuple[str, ...] = Field(
        (), description="What users must cite, for the card; unset: what `acquire` wrote."
    )
    catalogue: Catalogue = Catalogue()
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
    def _check_channels(self) -> Self:
        if isinstance(self.channels, tuple):
            for name in self.channels:
                check_channel(name)
        return self

    @model_validator(mode="after")
    def _check_classes(self) -> Self:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes must differ from each other, received {list(self.classes)}")
        if len(self.classes) == 1:
            raise ValueError(f"at least two classes are needed, received {list(self.classes)}")
        if self.positive is not None and self.classes and self.positive not in self.classes:
            raise ValueError(f"positive must be one of {list(self.classes)}, received {self.positive!r}")
        if self.labels.from_lesions and len(self.classes) not in {0, 2}:
            raise ValueError(f"lesions tell two classes apart, received {list(self.classes)}")
        return self


class Acquire(Dataset):
    """A public collection -> DICOM files in `source`, as the dataset recipe's rules narrow it down.

    Of the recipe it reads `source`, `catalogue` and `select`; all else there is for `shard`.
    """

    dry_run: bool = Field(False, description="Print what the collection holds and what the rules keep; fetch nothing.")
