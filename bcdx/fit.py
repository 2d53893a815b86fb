"""VERB: one model from one set of hyperparameters. A recipe and its shards in, a run folder out."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from bcdx.config import Fit

if TYPE_CHECKING:
    from bcdx.learning.job import Outcome


def fit_model(settings: Fit) -> Outcome:
    """Train on existing shards, set thresholds on validation, refit as told, test once.

    Raises:
        BcdxError: The recipe, the shards or the run folder cannot be used.
    """
    from bcdx.learning.job import carry_out
    from bcdx.learning.trial import fit_alone

    return carry_out("fit", settings, fit_alone)


if __name__ == "__main__":
    from bcdx._cli import run_verb

    sys.exit(run_verb("fit"))
