"""Time and memory of planning an acquisition on the full catalogue of the Imaging Data Commons.

Command: python benchmarks/catalogue.py --json catalogue.json
Prints: for each collection the series of the whole catalogue, those looked at and those kept, the wall time from the
start of a process to the two tables (the interpreter, all imports and reading the parquet file included; the lowest and
the median of several runs, one at a time), the CPU-seconds of all its threads and the highest resident memory of a run.
To hold: under 5 s and under 1 GB.

tcga_brca is the origin's collection, ispy2 the largest one of breast MR, and nlst, more than half of the catalogue, the
worst case for any rules: its modality is CT. Needs the extra `acquire`, no network.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bcdx.catalogue.extra import import_extra
from bcdx.catalogue.series import find_catalogue

RUNS = 5
MOST_SECONDS, MOST_GB = 5.0, 1.0

CASES = {
    "tcga_brca": {"modality": ["MR"], "plane": ["sagittal"], "laterality": ["L"]},
    "ispy2": {"modality": ["MR"], "kind": ["t1"], "min_slices": 20},
    "nlst": {"modality": ["CT"], "min_slices": 20},
}
"""Collection -> rules."""

PLAN = """
import json, resource, sys
from bcdx.acquire import acquire_collection
from bcdx.config import Acquire
done = acquire_collection(Acquire.model_validate(json.loads(sys.argv[1])))
text = done.summary()
used = resource.getrusage(resource.RUSAGE_SELF)
counts = {"looked_at": len(done.plan.whole), "kept": len(done.plan.kept)}
print(json.dumps({**counts, "cpu_s": used.ru_utime + used.ru_stime, "kib": used.ru_maxrss}))
"""


def main() -> None:
    """Plan every collection several times and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    catalogue = find_catalogue()
    query = f"SELECT count(*) FROM read_parquet('{catalogue.path}')"
    rows = import_extra("duckdb").execute(query).fetchone()[0]
    report: dict[str, Any] = {
        "catalogue": catalogue.version,
        "series": rows,
        "machine": f"{os.cpu_count()} CPU cores, {platform.machine()}",
        "cases": {name: measure(name, rules) for name, rules in CASES.items()},
    }
    print(f"{catalogue.version}: {rows:,} series; {report['machine']}")
    titles = ("looked at", "kept", "s, lowest", "s, median", "CPU-s", "GB, peak")
    print(f"{'collection':<14}{''.join(f'{title:>12}' for title in titles)}")
    for name, case in report["cases"].items():
        seconds = f"{case['lowest_s']:>12.2f}{case['median_s']:>12.2f}{case['cpu_s']:>12.2f}"
        print(f"{name:<14}{case['looked_at']:>12,}{case['kept']:>12,}{seconds}{case['peak_gb']:>12.2f}")
    if options.json:
        options.json.write_text(json.dumps(report, indent=2))
    for name, case in report["cases"].items():
        if case["median_s"] >= MOST_SECONDS or case["peak_gb"] >= MOST_GB:
            print(f"{name}: over {MOST_SECONDS:g} s or {MOST_GB:g} GB")


def measure(collection: str, rules: dict[str, Any]) -> dict[str, Any]:
    """Return counts, seconds and memory of planning one collection, each time in a process of its own."""
    settings = json.dumps({"dry_run": True, "catalogue": {"collection": collection}, "select": rules})
    seconds, found = [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(RUNS):
            began = time.monotonic()
            done = subprocess.run(
                [sys.executable, "-c", PLAN, settings], cwd=folder, check=True, capture_output=True, text=True
            )
            seconds.append(time.monotonic() - began)
            found.append(json.loads(done.stdout))
    return {
        "looked_at": found[0]["looked_at"],
        "kept": found[0]["kept"],
        "lowest_s": min(seconds),
        "median_s": statistics.median(seconds),
        "cpu_s": statistics.median(one["cpu_s"] for one in found),
        "peak_gb": max(one["kib"] for one in found) * 1024 / 1e9,
    }


if __name__ == "__main__":
    main()
