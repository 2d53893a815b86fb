"""A plan in; what the terminal shows of it out: how much there is, what is left out and why, licences and citations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bcdx.catalogue.plan import Plan
from bcdx.catalogue.provenance import list_citations
from bcdx.catalogue.series import Series

TOTAL = "total"


@dataclass(frozen=True)
class Amount:
    """How much some series are; gigabytes of 10**9 bytes."""

    patients: int
    studies: int
    series: int
    images: int
    gigabytes: float


def measure(series: Sequence[Series]) -> dict[str, Amount]:
    """Return how much there is of each modality, and in total."""
    names = sorted({one.modality for one in series}, key=lambda name: (name not in {"MR", "MG"}, name != "MR", name))
    amounts = {name: _add_up([one for one in series if one.modality == name]) for name in names}
    return {**amounts, TOTAL: _add_up(series)}


def _add_up(series: Sequence[Series]) -> Amount:
    return Amount(
        patients=len({one.patient for one in series}),
        studies=len({one.study for one in series}),
        series=len(series),
        images=sum(one.images for one in series),
        gigabytes=sum(one.megabytes for one in series) / 1000,
    )


def show_plan(plan: Plan) -> str:
    """Return both tables, the reasons for what is left out, licences and citations, as text."""
    modalities = dict.fromkeys(["MR", "MG", *sorted({one.modality for one in plan.whole})])
    lines = [
        f"{plan.collection} in {plan.catalogue}",
        "",
        *_show_amounts(f"all {', '.join(modalities)}", plan.whole),
        "",
        *_show_amounts("kept by the rules", plan.kept),
        "",
        *_show_left_out(plan),
        *_show_licences(plan.kept or plan.whole),
    ]
    return "\n".join(lines)


def _show_amounts(title: str, series: Sequence[Series]) -> list[str]:
    width = max(24, len(title) + 2)
    lines = [f"{title:<{width}}{'patients':>10}{'studies':>10}{'series':>10}{'images':>12}{'GB':>10}"]
    for name, amount in measure(series).items():
        counts = f"{amount.patients:>10,}{amount.studies:>10,}{amount.series:>10,}{amount.images:>12,}"
        lines.append(f"  {name:<{width - 2}}{counts}{amount.gigabytes:>10.1f}")
    return lines


def _show_left_out(plan: Plan) -> list[str]:
    if not plan.left_out:
        return ["left out: nothing", ""]
    width = max(54, *(len(reason) + 4 for reason in plan.left_out))
    lines = [f"{'left out because':<{width}}{'series':>10}{'images':>12}"]
    for reason, series in plan.left_out.items():
        lines.append(f"  {reason:<{width - 2}}{len(series):>10,}{sum(one.images for one in series):>12,}")
    return [*lines, ""]


def _show_licences(series: Sequence[Series]) -> list[str]:
    licences = sorted(Counter(one.licence for one in series).items())
    lines = [f"licence {licence or 'not stated'}: {count:,} series" for licence, count in licences]
    return [*lines, "cite", *(f"  {line}" for line in list_citations(one.doi for one in series))]
