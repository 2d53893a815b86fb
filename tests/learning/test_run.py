"""Claims about run folders: what tells one run from another, and what their paths are relative to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bcdx.config import Fit, Network, Tune
from bcdx.errors import RunError, SettingsError
from bcdx.learning import run as runs
from bcdx.learning.data import Data
from bcdx.learning.run import Run, describe_run, is_finished, read_run, run_folder, write_run
from bcdx.records.manifest import read_manifest


@pytest.fixture
def describe(records: Path) -> Callable[..., Run]:
    """Describe a run on the small phantom's shards."""
    data = Data(records, read_manifest(records))

    def describe(settings: Fit, verb: str = "fit") -> Run:
        return describe_run(verb, settings, data, level="slice")

    return describe


def test_fingerprint_leaves_out_where_a_run_lies(describe: Callable[..., Run]) -> None:
    """The same settings and data are the same run in every folder."""
    assert describe(Fit(out="here")).fingerprint == describe(Fit(out="there", overwrite=True)).fingerprint


@pytest.mark.parametrize(
    "other", [Fit(out="x", seed=1), Fit(out="x", refit="train+validation"), Fit(out="x", network=Network(dropout=0))]
)
def test_fingerprint_tells_settings_apart(describe: Callable[..., Run], other: Fit) -> None:
    """Anything that changes the model makes another run; so does the verb."""
    assert describe(Fit(out="x")).fingerprint != describe(other).fingerprint
    assert describe(Fit(out="x")).fingerprint != describe(Fit(out="x"), "tune").fingerprint


def test_fingerprint_holds_the_precision_that_auto_stands_for(
    describe: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run begun in float32 is not gone on with in bfloat16 on another machine."""
    found = set()
    for policy in ("float32", "mixed_bfloat16"):
        monkeypatch.setattr(runs, "resolve_policy", lambda _, policy=policy: policy)
        run = describe(Fit(out="x"))
        assert policy == run.precision
        found.add(run.fingerprint)
    assert 2 == len(found)


def test_fingerprint_holds_the_content_of_the_weights(describe: Callable[..., Run], tmp_path: Path) -> None:
    """A file that was replaced under its name is another start."""
    path = tmp_path / "a.weights.h5"
    fit = Fit(out="x", network=Network(weights=str(path)))
    found = []
    for content in (b"one", b"two", b"one"):
        path.write_bytes(content)
        found.append(describe(fit).fingerprint)
    assert found[0] == found[2] != found[1]


def test_missing_weights_are_refused_before_the_run_begins(describe: Callable[..., Run], tmp_path: Path) -> None:
    """One line names the setting."""
    with pytest.raises(SettingsError, match=r"network.weights: .*none.h5: no such file"):
        describe(Fit(out="x", network=Network(weights=str(tmp_path / "none.h5"))))


def test_records_are_relative_to_the_folder_that_the_defaults_mean(
    describe: Callable[..., Run], records: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From Python `Tune()` names no folder, and still the shards are found from where the run lies."""
    monkeypatch.chdir(tmp_path)
    settings = Tune()
    assert Path("tuning/phantom") == run_folder(settings)
    run_folder(settings).mkdir(parents=True)
    assert (run_folder(settings) / describe(settings, "tune").records).resolve() == records.resolve()


def test_records_are_relative_to_the_folder_that_a_variable_means(
    describe: Callable[..., Run], records: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`--out '$RUNS/x'`: the variable stays in the settings, the path to the shards is a real one."""
    monkeypatch.setenv("RUNS", str(tmp_path / "deep" / "runs"))
    run = describe(Fit(out="$RUNS/x", dataset=str(tmp_path / "small.toml")))
    (tmp_path / "deep" / "runs" / "x").mkdir(parents=True)
    assert (tmp_path / "deep" / "runs" / "x" / run.records).resolve() == records.resolve()
    assert ("$RUNS/x", "../../../small.toml") == (run.settings["out"], run.settings["dataset"])


def test_fit_without_a_folder_is_refused() -> None:
    """Only the built-in job has one of its own."""
    with pytest.raises(SettingsError, match="`out` names no run folder"):
        run_folder(Fit(dataset="some.toml"))


def test_folder_is_taken_over_only_by_its_own_run(describe: Callable[..., Run], tmp_path: Path) -> None:
    """Empty, unfinished, finished, another's, no run at all."""
    run, other = describe(Fit(out="x")), describe(Fit(out="x", seed=1))
    folder = tmp_path / "run"
    assert not is_finished(folder, run, overwrite=False)
    folder.mkdir()
    write_run(folder, run)
    assert run == read_run(folder)
    assert not is_finished(folder, run, overwrite=False)
    (folder / runs.METRICS).write_text("{}")
    assert is_finished(folder, run, overwrite=False)
    with pytest.raises(RunError, match="holds a run with other settings or data"):
        is_finished(folder, other, overwrite=False)
    assert not is_finished(folder, other, overwrite=True)
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty and no run folder"):
        is_finished(folder, run, overwrite=True)


def test_damaged_run_is_one_line(tmp_path: Path) -> None:
    """Not a traceback."""
    (tmp_path / runs.RUN).write_text('{"format": 1')
    with pytest.raises(RunError, match="damaged, or written by another version"):
        read_run(tmp_path)
