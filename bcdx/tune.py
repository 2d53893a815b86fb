"""VERB: the main job. A tuning recipe in; shards -> search -> refit of the winner -> one test -> run folder out."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from bcdx._recipes import load_dataset
from bcdx.config import Tune

if TYPE_CHECKING:
    from bcdx.learning.job import Outcome


def search_models(settings: Tune) -> Outcome:
    """Search, refit the winner, test once; a finished run is read, a killed one goes on.

    Makes the shards first where the dataset recipe has none, and refuses stale ones.

    Raises:
        BcdxError: The recipe, the data or the run folder cannot be used.
    """
    from bcdx.learning.job import carry_out
    from bcdx.learning.search import search_winner
    from bcdx.learning.workers import is_worker
    from bcdx.shard import write_records

    if not is_worker():  # workers wait for what their chief makes
        write_records(load_dataset(settings))
    return carry_out("tune", settings, search_winner)


if __name__ == "__main__":
    from bcdx._cli import run_verb

    sys.exit(run_verb("tune"))
