"""Claims about the search, on trials that cost nothing: what is tried, what wins, and that a killed one goes on."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras_tuner
import pytest

from bcdx._files import write_json
from bcdx.config import Optimizer, Search, Space, Tune
from bcdx.errors import RunError, SettingsError, TrainingError
from bcdx.learning.keeper import best_trial
from bcdx.learning.progress import STATE, State
from bcdx.learning.search import TrialRunner, run_search
from bcdx.learning.trial import Selected

SPACE = Space(depth=("none/mixed0", "mixed0/mixed0", "none/mixed1"), learning_rate_range=(1e-4, 1e-2))
RATES = SPACE.model_copy(update={"depth": ()})
GRID = Space(depth=("none/mixed0", "mixed0/mixed0", "none/mixed1"), learning_rate=(1e-4, 1e-3, 1e-2))
SEARCHES = {
    "random": Tune(space=SPACE, search=Search(oracle="random", trials=8)),
    "bayesian": Tune(space=RATES, search=Search(oracle="bayesian", trials=5)),  # three at random, two by its model
    "hyperband": Tune(space=SPACE, search=Search(oracle="hyperband", trials=9), optimizer=Optimizer(epochs=4)),
    "asha": Tune(space=SPACE, search=Search(oracle="asha", trials=7), optimizer=Optimizer(epochs=9)),
    "grid": Tune(space=GRID, search=Search(oracle="grid", trials=8)),
}


def score_of(fit: Tune, epochs: int) -> float:
    """A smooth figure with its best at a rate of 1e-3."""
    rate, depth = math.log10(fit.optimizer.learning_rate), len(fit.network.depth)
    return 0.9 - 0.05 * abs(rate + 3) - 0.01 * depth + 0.001 * epochs


class Bench:
    """Counts what a search does and interrupts it at one of those moments."""

    def __init__(self, *, interrupt_at: int | None = None, score: Callable[[Tune, int], float] = score_of) -> None:
        self.moment = 0
        self.interrupt_at = interrupt_at
        self.trained: dict[str, tuple[Any, ...]] = {}
        self.continued: set[str] = set()
        self._score = score

    def tick(self) -> None:
        """Pass one moment."""
        self.moment += 1
        if self.moment == self.interrupt_at:
            raise KeyboardInterrupt

    def __call__(self, fit: Tune, epochs: int, folder: Path, name: str) -> State:
        """Pretend to train, as `train_trial` would."""
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / STATE).exists():
            self.continued.add(name)
        self.tick()
        values = (fit.network.depth, fit.optimizer.learning_rate, epochs)
        assert name not in self.trained, "a finished trial is not trained again"
        weights = "best.npz"
        state = State(epochs, best_epoch=epochs, best=self._score(fit, epochs), weights=weights, best_weights=weights)
        (folder / weights).write_text(name)
        write_json(folder / STATE, asdict(state))
        self.trained[name] = values
        self.tick()
        return state


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Selected]:
    """Run a search whose every saving is a moment too."""
    save = keras_tuner.Oracle.save

    def run(settings: Tune, folder: Path, bench: Bench) -> Selected:
        def save_and_tick(self: Any) -> None:
            bench.tick()
            save(self)

        monkeypatch.setattr(keras_tuner.Oracle, "save", save_and_tick)
        return run_search(settings, bench, folder / "trials")

    return run


def facts(selected: Selected) -> tuple[Any, ...]:
    return selected.trial, selected.fit, selected.state.best


@pytest.mark.parametrize(
    ("oracle", "share"),
    [
        *itertools.product(["random", "hyperband", "asha", "grid"], [0.0, 0.1, 0.5, 0.52, 0.54, 1.0]),
        *itertools.product(["bayesian"], [0.7, 0.9]),
    ],
)
def test_search_interrupted_anywhere_tries_and_finds_the_same(
    oracle: str, share: float, tmp_path: Path, search: Callable[..., Selected]
) -> None:
    """In the first trial, inside a later one, between two, and after the last."""
    whole, settings = Bench(), SEARCHES[oracle]
    expected = search(settings, tmp_path / "whole", whole)

    killed = Bench(interrupt_at=1 + round(share * (whole.moment - 1)))
    with pytest.raises(KeyboardInterrupt):
        search(settings, tmp_path / "halves", killed)
    resumed = Bench()
    actual = search(settings, tmp_path / "halves", resumed)

    assert whole.trained == {**killed.trained, **resumed.trained}
    assert facts(expected) == facts(actual)
    assert actual.trial == (actual.progress / "best.npz").read_text()


def test_grid_tries_every_combination_once_in_order(tmp_path: Path, search: Callable[..., Selected]) -> None:
    """The last setting changes fastest; the budget is an upper limit."""
    bench = Bench()
    search(Tune(space=GRID, search=Search(trials=50)), tmp_path, bench)
    expected = [(depth, rate, 10) for depth in GRID.depth for rate in GRID.learning_rate]
    assert expected == list(bench.trained.values())


@pytest.mark.parametrize("oracle", SEARCHES)
def test_search_leaves_the_weights_of_its_winner_alone(
    oracle: str, tmp_path: Path, search: Callable[..., Selected]
) -> None:
    """Whatever has been trained on from what."""
    selected = search(SEARCHES[oracle], tmp_path, Bench())
    assert [selected.trial] == [path.read_text() for path in tmp_path.rglob("*.npz")]


@pytest.mark.parametrize("oracle", ["hyperband", "asha"])
def test_winner_is_one_that_was_trained_to_the_end(
    oracle: str, tmp_path: Path, search: Callable[..., Selected]
) -> None:
    """Also where those that were only begun had the higher score: epochs cost score here."""
    bench = Bench(score=lambda fit, epochs: score_of(fit, 0) - 0.1 * epochs)
    selected = search(SEARCHES[oracle], tmp_path, bench)
    assert SEARCHES[oracle].optimizer.epochs == selected.state.epochs


@pytest.mark.parametrize("interrupt_at", [None, 12, 25])
def test_tie_goes_to_the_earliest_trial_whose_weights_are_kept(
    tmp_path: Path, search: Callable[..., Selected], interrupt_at: int | None
) -> None:
    """Also when the search was interrupted."""
    settings, level = Tune(space=GRID, search=Search(trials=9)), lambda fit, _: 0.9 - (fit.network.depth < "n") * 0.1
    if interrupt_at:
        with pytest.raises(KeyboardInterrupt):
            search(settings, tmp_path, Bench(interrupt_at=interrupt_at, score=level))
    selected = search(settings, tmp_path, Bench(score=level))
    assert "00" == selected.trial.zfill(2)
    kept = [path.read_text() for path in tmp_path.rglob("*.npz")]
    assert [selected.trial] == kept


def test_best_trial_is_none_without_a_finished_one() -> None:
    """A failed trial has no score."""
    failed = keras_tuner.engine.trial.Trial(keras_tuner.HyperParameters(), "0", "FAILED")
    assert best_trial([failed]) is None


def diverge(fit: Tune, _: int) -> float:
    if fit.optimizer.learning_rate > 5e-4:
        raise TrainingError("training diverged; lower it")
    return 0.8


def test_diverged_trials_are_passed_over_however_many_in_a_row(
    tmp_path: Path, search: Callable[..., Selected], caplog: pytest.LogCaptureFixture
) -> None:
    """A grid's neighbours diverge together; the others still count."""
    space = Space(depth=GRID.depth, learning_rate=(1e-4, 1e-3, 1e-2, 0.1, 1.0))
    selected = search(Tune(space=space, search=Search(trials=15)), tmp_path, Bench(score=diverge))
    assert 1e-4 == selected.fit.optimizer.learning_rate
    assert 12 == len(
        [message for message in caplog.messages if message.endswith("failed: training diverged; lower it")]
    )


def test_diverged_trials_are_not_trained_again_when_a_search_goes_on(tmp_path: Path) -> None:
    """That they fail is on record, as a score is."""
    settings = Tune(space=Space(depth=GRID.depth, learning_rate=(1e-4, 1e-3)), search=Search(trials=6))
    first, second = Bench(score=diverge), Bench(score=diverge)
    run_search(settings, first, tmp_path / "trials")
    run_search(settings, second, tmp_path / "trials")
    assert 0 == second.moment < first.moment


def test_grid_larger_than_the_budget_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is not tried is not left out in silence."""
    run_search(Tune(search=Search(trials=3)), Bench(), tmp_path / "trials")
    assert any("3 tries that many of 4 combinations" in one for one in caplog.messages)


def test_search_in_which_all_diverge_says_so(tmp_path: Path, search: Callable[..., Selected]) -> None:
    """The last reason stands in the error."""
    space = Space(learning_rate=(1e-2, 1.0))
    with pytest.raises(RunError, match="no trial succeeded: training diverged; lower it"):
        search(Tune(space=space), tmp_path, Bench(score=diverge))


def test_error_that_all_trials_would_meet_stops_the_search(tmp_path: Path, search: Callable[..., Selected]) -> None:
    """It comes out as it is, after one trial."""

    def fail(*_: Any) -> float:
        raise SettingsError("no such weights")

    with pytest.raises(SettingsError, match="no such weights"):
        search(Tune(), tmp_path, Bench(score=fail))


def test_progress_of_other_values_is_not_taken_for_a_trials_own(
    tmp_path: Path, search: Callable[..., Selected], caplog: pytest.LogCaptureFixture
) -> None:
    """Another version of Keras Tuner may draw other numbers: what lies there is then dropped, with a warning."""
    search(SEARCHES["random"], tmp_path, Bench())
    record = tmp_path / "trials" / "trial_3" / "record.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "values": {"depth": "none/mixed9"}}))
    bench = Bench()
    search(SEARCHES["random"], tmp_path, bench)
    assert ["3"] == list(bench.trained)
    assert 1 == len([message for message in caplog.messages if "trial_3 holds a trial of other values" in message])


@pytest.mark.parametrize("interrupted", [False, True])
def test_time_budget_is_over_the_whole_search(
    tmp_path: Path, search: Callable[..., Selected], monkeypatch: pytest.MonkeyPatch, interrupted: bool
) -> None:
    """Trials of 10 s against 25 s: three are trained, whether or not the process was another for the last."""
    now = [0.0]
    monkeypatch.setattr("bcdx.learning.search.time.monotonic", lambda: now[0])

    def slow(fit: Tune, epochs: int) -> float:
        now[0] += 10.0
        return score_of(fit, epochs)

    settings = Tune(space=GRID, search=Search(trials=9, seconds=25.0))
    first, second = Bench(score=slow), Bench(score=slow)
    if interrupted:
        monkeypatch.setattr(TrialRunner, "pre_create_trial", _interrupt_after(first, TrialRunner.pre_create_trial))
        with pytest.raises(KeyboardInterrupt):
            search(settings, tmp_path, first)
    search(settings, tmp_path, second)
    assert 3 == len({**first.trained, **second.trained})


def _interrupt_after(bench: Bench, go_on: Callable[[Any], None]) -> Callable[[Any], None]:
    def pre_create_trial(self: Any) -> None:
        if len(bench.trained) == 2 and bench.interrupt_at is None:
            bench.interrupt_at = 0
            raise KeyboardInterrupt
        go_on(self)

    return pre_create_trial


def test_hyperband_stops_at_its_budget(tmp_path: Path, search: Callable[..., Selected]) -> None:
    """And trains some to the end, going on from where they were."""
    bench = Bench()
    search(SEARCHES["hyperband"], tmp_path, bench)
    assert 9 == len(bench.trained)
    assert {2, 4} == {epochs for _, _, epochs in bench.trained.values()}


def test_hyperband_interrupted_while_it_copies_progress_goes_on_with_all_of_it(
    tmp_path: Path, search: Callable[..., Selected], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later round starts from the whole of the earlier one or not at all."""
    first = Bench()
    with monkeypatch.context() as patch:
        patch.setattr("bcdx.learning.search.shutil.copytree", _copy_a_part)
        with pytest.raises(KeyboardInterrupt):
            search(SEARCHES["hyperband"], tmp_path, first)
    second = Bench()
    search(SEARCHES["hyperband"], tmp_path, second)
    assert next(iter(second.trained)) in second.continued
    assert 9 == len(first.trained) + len(second.trained)


def _copy_a_part(source: Path, target: Path, **_: Any) -> None:
    (target / "best.npz").write_text("a part")
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"space": Space()}, "begins with 5 different trials, but `space` holds 4 combinations"),
        ({"search": Search(oracle="hyperband", trials=4)}, "in fewer than 7 trials, received search.trials = 4"),
    ],
)
def test_hyperband_refuses_what_would_end_with_models_only_begun(
    tmp_path: Path, search: Callable[..., Selected], change: dict[str, Any], message: str
) -> None:
    """Its first bracket needs different combinations and enough trials."""
    with pytest.raises(SettingsError, match=message):
        search(SEARCHES["hyperband"].model_copy(update=change), tmp_path, Bench())
