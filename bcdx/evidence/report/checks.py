"""Probes, checks of heat maps and familiarity in; what they say, as rows and sentences, out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bcdx.evidence.familiarity import FEWEST_PATIENTS
from bcdx.evidence.probes.run import RULE
from bcdx.evidence.report.facts import ReportFacts
from bcdx.evidence.report.words import describe_value, humanise
from bcdx.evidence.words import Entry, describe_entry, describe_interval

PROBE_NAMES = {
    "slice_index": "place of the slice",
    "mean_intensity": "mean intensity",
    "acquisition": "scanner and site",
    "shuffled_labels": "shuffled labels",
    "image_split": "split by image",
    "features_tell_scanner": "features tell the scanner",
    "features_tell_site": "features tell the site",
}
FIGURE_NAMES = {
    "auc": "ROC AUC",
    "auc_by_image": "ROC AUC, split by image",
    "auc_by_patient": "ROC AUC, split by patient",
    "difference": "image less patient",
    "balanced_accuracy": "balanced accuracy",
}

UNLIKE = (
    "Unlike means: farther from the training images, as the model sees them, than 99 % of training images are from "
    "those of other patients. So about 1 % of images of the same kind are expected to be. Many more say that these "
    "images are of another kind (scanner, protocol, preparation) and that the model was not made for them."
)
ABSTAINING = (
    "The verb diagnose says nothing of a patient or breast where one of the {top} images that decide is unlike. At 1 % "
    "an image up to about {top} % of patients of the same kind are left without a verdict."
)


@dataclass(frozen=True)
class Probe:
    """What a probe found, in words.

    Attributes:
        name: Of the probe.
        rows: Figure, value, 95 % interval and n, as texts; of what has no interval the last two are empty.
        reached: Whether it comes as far as the result per slice; None where it is not compared.
        note: What it means, without the rule that all share.
    """

    name: str
    rows: tuple[tuple[str, str, str, str], ...]
    reached: bool | None
    note: str


def list_probes(probes: Mapping[str, Any]) -> list[Probe]:
    """Return what each probe found."""
    found = {name: probe for name, probe in probes.items() if isinstance(probe, Mapping)}
    return [
        Probe(
            name_probe(name),
            tuple(_list_rows(probe)),
            probe.get("reached"),
            str(probe.get("note", "")).removesuffix(RULE).strip(),
        )
        for name, probe in found.items()
    ]


def name_probe(name: str) -> str:
    """Return a probe's name in words."""
    return PROBE_NAMES.get(name, humanise(name))


def _list_rows(probe: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    for key, one in probe.items():
        name = FIGURE_NAMES.get(key, humanise(key))
        if key in {"reached", "note"} or one is None:
            continue
        if not isinstance(one, Mapping):
            yield name, describe_value(one), "", ""
        elif one.get("value") is None:
            yield name, f"undefined: {one.get('reason', 'no reason is known')}", "", str(one.get("n", ""))
        else:
            yield name, f"{one['value']:.3f}", describe_interval(one), str(one.get("n", ""))


def describe_checks(facts: ReportFacts) -> list[str]:
    """Return what is known of heat maps, one sentence or two a check."""
    positive, found = str(facts.metrics["positive"]), facts.saliency
    said = [_describe_random(found.randomised, positive)] if found.randomised else []
    return said + [_describe_pointing(one) for one in found.pointing if one["n"]]


def _describe_random(found: Mapping[str, Any], positive: str) -> str:
    if found["passed"] is None:
        return (
            f"Whether heat maps depend on what the model has learned could not be checked: no map of {positive} "
            "images shows anything."
        )
    same = (
        f"(rank correlation {found['correlation']:.2f} over {found['n']} {positive} images; between "
        f"-{found['limit']:.2f} and {found['limit']:.2f} counts as different)"
    )
    if found["passed"]:
        return (
            "Heat maps depend on what the model has learned: a model of the same form with random weights gives "
            f"different maps of the same images {same}."
        )
    return (
        "Heat maps hardly depend on what the model has learned: a model of the same form with random weights gives "
        f"much the same maps {same}. They show the image, not the model's reasons: do not rely on them."
    )


def _describe_pointing(found: Mapping[str, Any]) -> str:
    near = f" or at most {found['tolerance']:g} pixels beside it" if found["tolerance"] else ""
    heat: Entry = found["heat map"]
    silent = f" {found['silent']} maps show nothing and count as misses." if found["silent"] else ""
    return (
        f"Of {found['n']} images of {found['patients']} patients it is known where the lesion lies. The hottest point "
        f"of the heat map lay in the lesion's box{near} in {heat['hits']} of them: {describe_entry(heat, 2)}. "
        f"The middle of the image would have done so in {found['centre']['hits']}, its brightest point in "
        f"{found['brightest']['hits']}.{silent}"
    )


def describe_familiarity(facts: ReportFacts) -> list[str]:
    """Return how many tested images are unlike those of training, and what that means; nothing where none tells."""
    found = facts.metrics.get("familiarity")
    if not found:
        return []
    if found["unfamiliar"] is None:
        return [f"Fewer than {FEWEST_PATIENTS} patients were learned from: how unlike a new image is cannot be told."]
    images, patients, unlike = found["n"], found["patients"], found["unfamiliar"]
    counted = f"None of the {images} images of {patients} patients is unlike those of training."
    if unlike:
        counted = (
            f"{unlike} of {images} images ({unlike / images:.1%}) are unlike those of training, of "
            f"{found['patients_with_unfamiliar']} of {patients} patients."
        )
    return [counted, UNLIKE, ABSTAINING.format(top=facts.cases.top_slices)]
