"""Claims about the commands: help, flags, exit status, and what the last line says."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import bcdx
from bcdx._cli import VERBS, main

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_help_lists_settings_without_importing_tensorflow(verb: str) -> None:
    """`--help` is quick because it loads neither TensorFlow nor pydicom."""
    code = (
        "import sys; from bcdx._cli import main; status = main(sys.argv[1:]);"
        "sys.exit(status or any(name in sys.modules for name in ('tensorflow', 'keras', 'pydicom', 'sklearn')))"
    )
    command = [sys.executable, "-c", code, verb, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--out" in done.stdout


def test_importing_bcdx_costs_no_tensorflow() -> None:
    """Public names load their modules when they are first used."""
    code = "import sys, bcdx; sys.exit('tensorflow' in sys.modules or not callable(bcdx.search_models))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_verb_is_a_public_function() -> None:
    """What the shell can do, a script can, by the package's own names."""
    named = {verb.function.split(":")[1] for verb in VERBS.values()}
    assert set() == named - set(bcdx.__all__)
    assert set() == {name for name in bcdx.__all__ if getattr(bcdx, name, None) is None}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tune", "no_such.toml"], "no_such.toml: no such recipe"),
        (["tune", "--optimizer.epochs", "0"], "greater than or equal to 1"),
        (["tune", "--nope", "1"], "--nope"),
        (["tune", "--space.depth", "mixed3/mixed0"], "freezes deeper"),
        (["shard", "--split.test", "0.9"], "validation + test must be at most 1"),
        (["evaluate"], "RUN"),
        (["diagnose", "no_such_run"], "paths"),
        (["evaluate", "no_such_run"], "no_such_run: no run folder"),
        (["shard", "--source", "no_such_folder", "--out", "o"], "no_such_folder: no such file or folder"),
        (["paint"], "no verb 'paint'"),
    ],
)
def test_bad_command_ends_with_status_2_and_one_line(
    words: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last line on stderr is the error, and no folder is left behind."""
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "error: " in last
    assert expected in last
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fault", "status", "expected"),
    [
        (KeyError("01"), 1, "KeyError: '01' (a fault of bcdx; -v shows where)"),
        (MemoryError(), 2, "out of memory"),
        (PermissionError(13, "Permission denied", "out"), 2, "Permission denied: out"),
        (KeyboardInterrupt(), 130, "goes on where it stopped"),
    ],
)
def test_what_nobody_foresaw_is_one_line_too(
    fault: BaseException,
    status: int,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A traceback is for those who ask for it; the status tells a fault of bcdx from one of its input."""

    def fail(_: object) -> None:
        raise fault

    monkeypatch.setattr("bcdx.shard.write_records", fail)
    assert status == main(["shard"])
    said = capsys.readouterr().err
    assert expected in said.strip().splitlines()[-1]
    assert "Traceback" not in said


STAGING = """
import pathlib, sys, time
from bcdx import _cli, _files, shard

def write(settings):
    with _files.staged_folder(pathlib.Path(settings.out)) as stage:
        (stage / "half.dcm").write_bytes(b"whose")
        print("begun", flush=True)
        time.sleep(60)

shard.write_records = write
sys.exit(_cli.main(["shard", "--out", sys.argv[1]]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_verb_that_is_told_to_stop_leaves_nothing_half_written(number: signal.Signals, tmp_path: Path) -> None:
    """A scheduler's SIGTERM and a closed terminal end it as Ctrl-C does: half a folder may name patients."""
    command = [sys.executable, "-c", STAGING, str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "begun\n" == process.stdout.readline()
        assert 1 == len(list(tmp_path.iterdir()))
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert (130, []) == (process.returncode, list(tmp_path.iterdir()))
    assert "bcdx.shard: interrupted" in said.splitlines()[-1]


def test_signals_mean_afterwards_what_they_meant_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was ignored, as under nohup, stays so throughout; a program that calls bcdx keeps its own handlers."""
    seen: list[object] = []
    monkeypatch.setattr(
        "bcdx.shard.write_records",
        lambda _: seen.extend(signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGHUP)),
    )
    before = signal.getsignal(signal.SIGTERM), signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert 0 == main(["shard"])
        assert signal.SIG_IGN == seen[1] == signal.getsignal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before[1])
    assert callable(seen[0])
    assert before[0] == signal.getsignal(signal.SIGTERM)


def test_a_forked_worker_is_ended_by_a_signal_at_once() -> None:
    """What its parent sends to be rid of it must not be caught, as an interrupt would be, by the task that it runs."""
    code = (
        "import os, signal, time; from bcdx._cli import _stopped_by_signals\n"
        "with _stopped_by_signals():\n"
        "    child = os.fork()\n"
        "    if child:\n"
        "        time.sleep(0.5); os.kill(child, signal.SIGTERM); status = os.waitpid(child, 0)[1]\n"
        "        os._exit(os.WTERMSIG(status))\n"
        "    try:\n"
        "        time.sleep(30)\n"
        "    except BaseException:\n"
        "        os._exit(0)\n"
    )
    assert signal.SIGTERM == subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode


def test_output_that_nobody_reads_is_no_fault() -> None:
    """`| head` closes the pipe; the work was done, and no traceback follows."""
    code = "import sys; from bcdx._cli import _write_out; sys.stdin.read(); _write_out('a line')"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stdin is not None
    process.stdin.close()
    assert process.stderr is not None
    assert (0, b"") == (process.wait(), process.stderr.read())


def test_tensorflow_greets_nobody() -> None:
    """Its native lines stay out of the terminal, and what comes after them does not."""
    code = "import os; from bcdx._native import import_tensorflow as run; run(); os.write(2, b'after')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "after"


def test_flag_beats_recipe_and_recipe_beats_default(tmp_path: Path) -> None:
    """Precedence, on one setting each."""
    from bcdx._cli import _read_settings

    recipe = tmp_path / "r.toml"
    recipe.write_text("seed = 3\n[optimizer]\nepochs = 7\npatience = 4\n")
    settings = _read_settings("tune", [str(recipe), "--optimizer.epochs", "9"])
    assert settings is not None
    chosen = settings.model_dump()
    assert (chosen["seed"], chosen["optimizer"]["epochs"], chosen["optimizer"]["patience"]) == (3, 9, 4)
    assert chosen["optimizer"]["weight_decay"] == 1e-4


def test_listing_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m bcdx` tells what there is."""
    assert main([]) == 0
    said = capsys.readouterr().out
    assert [verb for verb in VERBS if verb not in said] == []


def test_package_has_no_assert_and_no_print() -> None:
    """Checks that may be switched off are none, and only the shell's side speaks to the terminal."""
    for path in (ROOT / "bcdx").rglob("*.py"):
        code = path.read_text()
        assert "\n    assert " not in code, path
        assert not re.search(r"(?<![\w.])print\(", code), path
