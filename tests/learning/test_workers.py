"""Claims about a search by several processes: real ones, on this machine, with trials that cost nothing.

Run as a program, this file is one of those processes.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bcdx._files import write_json
from bcdx.config import Optimizer, Search, Space, Tune
from bcdx.errors import BcdxError, RunError, SettingsError, TrainingError
from bcdx.learning.keeper import Keeper, Record, read_record, write_record
from bcdx.learning.oracle import make_oracle
from bcdx.learning.progress import STATE, State
from bcdx.learning.search import run_search
from bcdx.learning.trial import Selected
from bcdx.learning.watched import Journal, Watched
from bcdx.learning.workers import SearchLeftError, is_chief, is_worker, wait_for_chief

DEPTHS, RATES = ("none/mixed0", "mixed0/mixed0", "none/mixed1"), (1e-4, 1e-3, 1e-2)
GRID = Tune(space=Space(depth=DEPTHS, learning_rate=RATES), search=Search(trials=9))
ASHA = Tune(
    space=Space(depth=(), learning_rate_range=(1e-5, 1e-1)),
    search=Search(oracle="asha", trials=9),
    optimizer=Optimizer(epochs=9),
)
SEARCHES = {"grid": GRID, "asha": ASHA}
HANGS_AT, DIVERGES_AT, FATAL_AT = "hang.txt", ("mixed0/mixed0", 1e-2), "fatal.txt"


class Pretend:
    """Trains nothing; writes down who was asked for what, and hangs, diverges or fails where a file says so."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.worker = os.environ.get("KERASTUNER_TUNER_ID", "alone")

    def __call__(self, fit: Tune, epochs: int, folder: Path, name: str) -> State:
        """Return a score that depends on the values alone."""
        folder.mkdir(parents=True, exist_ok=True)
        going_on = (folder / "begun").exists()
        (folder / "begun").touch()
        if (self.home / FATAL_AT).exists():
            raise SettingsError("no such weights")
        self._hang(name)
        time.sleep(0.2)
        with (self.home / "trained.jsonl").open("a") as file:  # whole lines: they are short
            file.write(json.dumps([self.worker, name, [fit.network.depth, rate(fit), epochs], going_on]) + "\n")
        if (fit.network.depth, rate(fit)) == DIVERGES_AT:
            raise TrainingError("training diverged")
        weights = "best.npz"
        (folder / weights).write_text(name)
        best = 0.9 - 0.01 * abs(rate(fit) - 1e-3) - 0.001 * len(fit.network.depth) + 0.001 * epochs
        state = State(epochs, best_epoch=epochs, best=best, weights=weights, best_weights=weights)
        write_json(folder / STATE, vars(state))
        return state

    def _hang(self, name: str) -> None:
        """Hang where this worker is meant to; else wait until the other does, so that both take part."""
        if not (self.home / HANGS_AT).exists():
            return
        if (self.home / HANGS_AT).read_text() == self.worker:
            (self.home / "hangs").write_text(name)
            time.sleep(600)
        wait_until((self.home / "hangs").exists)


def rate(fit: Tune) -> float:
    return fit.optimizer.learning_rate


class Processes:
    """Chief and workers on one folder."""

    def __init__(self, home: Path, oracle: str) -> None:
        self.home, self.oracle, self.running = home, oracle, {}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def start(self, name: str) -> None:
        """Start a process under a name; what it says is kept."""
        place = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": str(self.port)}
        with (self.home / f"{name}.log").open("a") as said:
            self.running[name] = subprocess.Popen(
                [sys.executable, __file__, str(self.home), self.oracle],
                env={**os.environ, **place, "KERASTUNER_TUNER_ID": name},
                stdout=said,
                stderr=subprocess.STDOUT,
            )

    def kill(self, name: str) -> None:
        """Kill a process in a way that it does not notice."""
        self.running[name].send_signal(signal.SIGKILL)
        self.running[name].wait()

    def wait(self) -> dict[str, int]:
        """Return everyone's exit status."""
        return {name: process.wait(timeout=90) for name, process in self.running.items()}

    def said(self, name: str) -> str:
        """Return all that processes of this name have said."""
        return (self.home / f"{name}.log").read_text()

    def trained(self) -> list[tuple[str, str, tuple[str, float, int], bool]]:
        """Return (worker, trial, values, whether it went on) of all that was trained to the end."""
        lines = (self.home / "trained.jsonl").read_text().splitlines()
        return [(worker, name, tuple(values), on) for worker, name, values, on in map(json.loads, lines)]


@contextmanager
def processes(home: Path, oracle: str) -> Iterator[Processes]:
    """Leave none behind."""
    all_ = Processes(home, oracle)
    try:
        yield all_
    finally:
        for process in all_.running.values():
            process.kill()
            process.wait()


def wait_until(happened: Callable[[], bool]) -> None:
    for _ in range(2400):
        if happened():
            return
        time.sleep(0.05)
    raise TimeoutError("it did not happen within two minutes")


def alone(home: Path, oracle: str) -> Selected:
    home.mkdir()
    return run_search(SEARCHES[oracle], Pretend(home), home / "trials")


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """A grid of nine by a chief and two workers, of which one was killed in a trial and came back."""
    home = tmp_path_factory.mktemp("grid")
    (home / HANGS_AT).write_text("worker1")
    with processes(home, "grid") as all_:
        for name in ("worker0", "worker1", "chief"):
            all_.start(name)
        wait_until((home / "hangs").exists)
        all_.kill("worker1")
        (home / HANGS_AT).unlink()
        all_.start("worker1")
        all_.status = all_.wait()
        yield all_


def test_everyone_leaves_with_status_0(grid: Processes) -> None:
    """The chief last, with the winner; the workers without."""
    assert {"worker0": 0, "worker1": 0, "chief": 0} == grid.status, grid.said("chief")
    assert "winner" not in grid.said("worker0") + grid.said("worker1")


def test_every_combination_is_trained_once_over_all_workers(grid: Processes) -> None:
    """Both took part."""
    expected = {(depth, rate, 10): 1 for depth in DEPTHS for rate in RATES}
    assert expected == Counter(values for _, _, values, _ in grid.trained())
    assert {"worker0", "worker1"} == {worker for worker, *_ in grid.trained()}


def test_killed_worker_that_returns_goes_on_with_its_trial(grid: Processes) -> None:
    """Nobody else got it; its progress was there."""
    hung = (grid.home / "hangs").read_text()
    assert [("worker1", True)] == [(worker, on) for worker, name, _, on in grid.trained() if name == hung]


def test_winner_is_that_of_one_process(grid: Processes, tmp_path: Path) -> None:
    """Name, values and score; its weights alone remain."""
    one = alone(tmp_path / "alone", "grid")
    last = grid.said("chief").strip().splitlines()[-1]
    assert f"winner {one.trial} {one.fit.network.depth} {rate(one.fit)} {one.state.best}" == last
    assert [one.trial] == [path.read_text() for path in grid.home.rglob("*.npz")]


def test_chief_says_why_a_workers_trial_failed(grid: Processes) -> None:
    """Keras Tuner does not send it the reason."""
    assert "failed: training diverged" in grid.said("chief")


def test_time_of_all_workers_is_on_record(grid: Processes) -> None:
    """It is what the search's time budget counts."""
    folders = list((grid.home / "trials").glob("trial_*"))
    assert 9 == len(folders)
    assert all(read_record(folder).seconds >= 0.2 for folder in folders)


def test_late_worker_finds_nothing_to_do(grid: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal says that the search is over; no chief needs to be there."""
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", str(grid.port))
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "worker2")
    wait_for_chief(Journal(grid.home / "trials").is_over)


def test_score_that_only_the_killed_chief_heard_is_taken_from_the_record(tmp_path: Path) -> None:
    """A worker tells score and end in two calls; the kill may come between them."""
    killed = _chief(tmp_path)
    trial = killed.create_trial("worker0")
    write_record(tmp_path / "trial_0", Record(trial.hyperparameters.values, score=0.75))
    killed.update_trial("0", {"val_auc": 0.75})

    chief = _chief(tmp_path)
    assert {"worker0": "0"} == {worker: one.trial_id for worker, one in chief.ongoing_trials.items()}
    trial.status = "COMPLETED"
    chief.end_trial(trial)
    assert ({}, 0.75) == (chief.ongoing_trials, chief.trials["0"].score)


def _chief(folder: Path) -> Watched:
    """Return the oracle of a chief that was started on a folder, without its server."""
    oracle = make_oracle(GRID)
    oracle._set_project_dir(str(folder.parent), folder.name)
    oracle.watcher = Keeper(oracle, folder, None)
    oracle.watcher.replay(Journal(folder))
    return oracle


@pytest.mark.slow
@pytest.mark.parametrize("oracle", SEARCHES)
def test_killed_chief_that_returns_knows_what_it_knew(oracle: str, tmp_path: Path) -> None:
    """The workers wait for it and go on; nothing is trained twice, whatever the order in which trials ended."""
    with processes(tmp_path, oracle) as all_:
        for name in ("chief", "worker0", "worker1"):
            all_.start(name)
        wait_until(lambda: (tmp_path / "trained.jsonl").exists() and len(all_.trained()) >= 5)
        all_.kill("chief")
        time.sleep(1.0)  # the workers end their trials and find nobody to tell
        all_.start("chief")
        assert {"worker0": 0, "worker1": 0, "chief": 0} == all_.wait(), all_.said("chief")
        assert {1} == set(Counter(values for _, _, values, _ in all_.trained()).values())
        assert "going on with" in all_.said("chief")
        if oracle == "grid":
            assert f"winner {alone(tmp_path / 'alone', oracle).trial} " in all_.said("chief")
        else:
            assert any(epochs == 9 for _, _, (_, _, epochs), _ in all_.trained())


@pytest.mark.slow
def test_error_that_all_trials_would_meet_ends_chief_and_workers(tmp_path: Path) -> None:
    """The chief says what it was; the same command, with the cause removed, then succeeds."""
    (tmp_path / FATAL_AT).touch()
    with processes(tmp_path, "grid") as all_:
        all_.start("chief")
        all_.start("worker0")
        assert {"chief": 2, "worker0": 2} == all_.wait()
        assert "no such weights" in all_.said("chief")
        (tmp_path / FATAL_AT).unlink()
        all_.start("chief")
        all_.start("worker0")
        assert {"chief": 0, "worker0": 0} == all_.wait()
        assert 9 == len(all_.trained())


@pytest.mark.parametrize(
    ("name", "expected"), [("chief", (True, False)), ("my-chief-0", (True, False)), ("worker0", (False, True))]
)
def test_role_is_in_the_name(monkeypatch: pytest.MonkeyPatch, name: str, expected: tuple[bool, bool]) -> None:
    """As Keras Tuner has it."""
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "1")
    monkeypatch.setenv("KERASTUNER_TUNER_ID", name)
    assert expected == (is_chief(), is_worker())


def test_variables_that_are_set_in_part_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Else each process would search alone, on the same folder."""
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    with pytest.raises(SettingsError, match="not KERASTUNER_ORACLE_PORT, KERASTUNER_TUNER_ID"):
        run_search(GRID, Pretend(tmp_path), tmp_path / "trials")


def test_address_in_use_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two chiefs on one port would each answer some of the workers."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
        monkeypatch.setenv("KERASTUNER_ORACLE_PORT", str(taken.getsockname()[1]))
        monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
        with pytest.raises(RunError, match="the chief cannot listen there"):
            run_search(GRID, Pretend(tmp_path), tmp_path / "trials")


def main(home: str, oracle: str) -> int:
    """Search; the chief says what won."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logger = logging.getLogger("bcdx")
    try:
        one = run_search(SEARCHES[oracle], Pretend(Path(home)), Path(home) / "trials")
    except SearchLeftError:
        return 0
    except BcdxError as error:
        logger.info("error: %s", error)
        return 2
    logger.info("winner %s %s %s %s", one.trial, one.fit.network.depth, rate(one.fit), one.state.best)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
