"""What was left out or flagged in; `exclusions.csv`, its summary and the account of all images out."""

from __future__ import annotations

import csv
import io
import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bcdx._files import write_bytes
from bcdx.errors import RecordsError
from bcdx.imaging.sample import Exclusion

logger = logging.getLogger(__name__)

EXCLUSIONS = "exclusions.csv"
SHOWN_FILES = 5
EXCLUDED, FLAGGED = "excluded", "flagged"
BURNED_IN = re.compile("burned", re.IGNORECASE)
"""Reasons that a picture must not be shown for: it may carry a name."""


@dataclass(frozen=True)
class Line:
    """One action and reason, and what it befell.

    Attributes:
        action: `EXCLUDED` or `FLAGGED`.
        reason: Fixed phrase.
        count: Files, frames, samples or label rows.
        images: Images that these stand for.
    """

    action: str
    reason: str
    count: int
    images: int


def write_exclusions(path: Path, exclusions: Iterable[Exclusion]) -> None:
    """Write the table key, action, reason, images: ordered by action, reason and key, and without any path."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("key", "action", "reason", "images"))
    for one in sorted(exclusions, key=lambda one: (_action(one), one.reason, one.key, one.images)):
        writer.writerow((one.key, _action(one), one.reason, one.images))
    write_bytes(path, text.getvalue().encode())


def check_account(images_in: int, used: int, exclusions: Iterable[Exclusion]) -> None:
    """Raise unless every image is either used or left out, once. What is flagged is used.

    Args:
        images_in: Images found; an unreadable file is one.
        used: Images that went into samples.
        exclusions: All that was left out or flagged.

    Raises:
        RecordsError: The sums differ.
    """
    left_out = sum(one.images for one in exclusions if not one.flagged)
    if images_in != used + left_out:
        off = images_in - used - left_out
        what = f"{off} are in neither" if off > 0 else f"{-off} are counted twice"
        raise RecordsError(
            f"{images_in} images in, {used} used and {left_out} left out: {what}. "
            "No image may be lost without a reason: a fault of bcdx, please report it"
        )


def summarise(exclusions: Iterable[Exclusion]) -> list[Line]:
    """Return one line per action and reason: excluded before flagged, then the most frequent first."""
    sums: dict[tuple[str, str], tuple[int, int]] = {}
    for one in exclusions:
        count, images = sums.get((_action(one), one.reason), (0, 0))
        sums[_action(one), one.reason] = (count + 1, images + one.images)
    lines = [Line(action, reason, count, images) for (action, reason), (count, images) in sums.items()]
    return sorted(lines, key=lambda line: (line.action, -line.count, line.reason))


def report_exclusions(exclusions: Sequence[Exclusion]) -> None:
    """Tell the terminal what was left out or is odd, and why; files are named here and in the private index alone."""
    paths: dict[tuple[str, str], list[str]] = {}
    for one in exclusions:
        paths.setdefault(("odd, but kept" if one.flagged else "left out", one.reason), []).append(one.path)
    for (action, reason), found in sorted(paths.items(), key=lambda pair: (pair[0][0], -len(pair[1]))):
        named = sorted({path for path in found if path})
        more = f" and {len(named) - SHOWN_FILES} more" if len(named) > SHOWN_FILES else ""
        shown = f": {', '.join(named[:SHOWN_FILES])}{more}" if named else ""
        logger.warning("%s %d: %s%s", action, len(found), reason, shown)


def _action(one: Exclusion) -> str:
    return FLAGGED if one.flagged else EXCLUDED
