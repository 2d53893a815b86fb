"""What became of a study's images in; what must be read beside its verdicts, as data and in sentences, out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LEARNED = "the model was trained on images of this patient, or chosen by them: what it says here is no test of it"


@dataclass(frozen=True)
class Caveats:
    """What holds for one study alone.

    Attributes:
        learned: Its patient is of the run's training or validation; None where that cannot be told.
        left_out: Why images of it take no part -> how many.
        remarks: What is odd about images that were judged -> how many.
    """

    learned: bool | None = False
    left_out: Mapping[str, int] = field(default_factory=dict)
    remarks: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"learned": self.learned, "left_out": _list(self.left_out), "remarks": _list(self.remarks)}

    def tell(self) -> tuple[str, ...]:
        """Return sentences for who reads the study's report."""
        sentences = [LEARNED] if self.learned else []
        if self.left_out:
            sentences.append(
                f"{sum(self.left_out.values())} images of the study were not judged: {_join(self.left_out)}"
            )
        if self.remarks:
            sentences.append(f"images that were judged although something about them is odd: {_join(self.remarks)}")
        return tuple(sentences)


def _list(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    return [{"reason": reason, "images": count} for reason, count in counts.items()]


def _join(counts: Mapping[str, int]) -> str:
    return "; ".join(f"{reason} ({count})" for reason, count in counts.items())
