"""Claims about successive halving, on trials that cost nothing: who goes on, how far, and what it spends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
import pytest

from bcdx._files import write_json
from bcdx.config import Optimizer, Search, Space, Tune
from bcdx.errors import TrainingError
from bcdx.learning.asha import EARLIER, FIRST, RUNG, Asha, rung_epochs
from bcdx.learning.oracle import make_oracle
from bcdx.learning.progress import STATE, State
from bcdx.learning.search import TrialRunner, run_search
from bcdx.learning.trial import Selected

Score = Callable[[Tune, int], float]


def settings(*, trials: int = 9, epochs: int = 9, seed: int = 0, **search: Any) -> Tune:
    """A search of rates in a range; rungs of 1, 3 and 9 epochs."""
    space = Space(depth=(), learning_rate_range=(1e-5, 1e-1))
    kind = Search(oracle="asha", trials=trials, **search)
    return Tune(space=space, search=kind, optimizer=Optimizer(epochs=epochs), seed=seed)


def rate(fit: Tune) -> float:
    return float(np.log10(fit.optimizer.learning_rate))


def near_1e_3(fit: Tune, epochs: int) -> float:
    """Better with time, best at 1e-3, and ranked alike at all times."""
    return 0.5 - 0.1 * abs(rate(fit) + 3) + 0.01 * epochs


class Bench:
    """Keeps what was trained, in order, as (rate, epochs), and the epochs that this took."""

    def __init__(self, score: Score = near_1e_3) -> None:
        self.trained: list[tuple[float, int]] = []
        self.spent = 0
        self.weights: list[set[str]] = []
        self._score = score

    def __call__(self, fit: Tune, epochs: int, folder: Path, name: str) -> State:
        """Pretend to train on from what lies in the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        begun = (folder / "epochs").exists()
        self.spent += epochs - (int((folder / "epochs").read_text()) if begun else 0)
        (folder / "epochs").write_text(str(epochs))
        self.trained.append((fit.optimizer.learning_rate, epochs))
        self.weights.append({path.parts[-3] for path in folder.parents[1].rglob("*.npz")})
        best, weights = self._score(fit, epochs), "best.npz"
        (folder / weights).write_text(name)
        state = State(epochs, best_epoch=epochs, best=best, weights=weights, best_weights=weights)
        write_json(folder / STATE, {**vars(state)})
        return state

    def at(self, epochs: int) -> list[float]:
        """Return the rates trained for so long, in order."""
        return [rate for rate, reached in self.trained if reached == epochs]


@pytest.mark.parametrize(
    ("epochs", "factor", "least", "expected"),
    [
        (9, 3, 1, [1, 3, 9]),
        (10, 3, 1, [2, 4, 10]),  # rounded up
        (10, 3, 4, [10]),  # 10 / 3 is below four, though it would be rounded up to it
        (16, 2, 3, [4, 8, 16]),
        (2, 3, 1, [2]),
        (1, 3, 5, [1]),  # a schedule shorter than the least is run whole
    ],
)
def test_rung_epochs_divide_the_schedule(epochs: int, factor: int, least: int, expected: list[int]) -> None:
    """Ceilings of E / factor^k, as long as E / factor^k is not below the least."""
    assert expected == rung_epochs(epochs, factor=factor, least=least)


@pytest.mark.parametrize("seed", range(5))
def test_nine_begin_three_or_more_go_on_and_the_best_is_trained_to_the_end(tmp_path: Path, seed: int) -> None:
    """Going on early, without waiting for all, may send a few more than a third."""
    bench = Bench()
    selected = run_search(settings(seed=seed), bench, tmp_path / "trials")
    begun = bench.at(1)
    assert 9 == len(begun) == len(set(begun))
    assert 3 <= len(bench.at(3)) <= 6
    assert 1 <= len(bench.at(9)) <= len(bench.at(3))
    best = min(begun, key=lambda value: abs(np.log10(value) + 3))
    assert best == selected.fit.optimizer.learning_rate
    assert (best, 9) in bench.trained


def test_only_the_best_third_of_the_finished_ones_goes_on(tmp_path: Path) -> None:
    """With scores that fall from trial to trial nothing but the very first third does: 0, then 1, then 2."""
    falling = iter(np.linspace(0.9, 0.1, 9))
    bench = Bench(lambda _, epochs: float(next(falling)) if epochs == 1 else 0.9)
    run_search(settings(), bench, tmp_path / "trials")
    assert bench.at(1)[:3] == bench.at(3)
    assert [1, 1, 1, 3, 1, 1, 1, 3, 1, 1, 1, 3, 9] == [epochs for _, epochs in bench.trained]


def test_ties_go_to_the_earlier_trial(tmp_path: Path) -> None:
    """Where all are alike, the first goes on and wins."""
    bench = Bench(lambda *_: 0.5)
    selected = run_search(settings(), bench, tmp_path / "trials")
    assert [bench.at(1)[0]] == bench.at(9)
    assert selected.fit.optimizer.learning_rate == bench.at(1)[0]


def test_what_goes_on_pays_only_for_the_epochs_it_lacks(tmp_path: Path) -> None:
    """Its progress is the earlier trial's: begun 1 epoch each, second rung 2 more, third 6 more."""
    bench = Bench()
    run_search(settings(), bench, tmp_path / "trials")
    assert len(bench.at(1)) + 2 * len(bench.at(3)) + 6 * len(bench.at(9)) == bench.spent


def test_trial_that_goes_on_names_the_one_it_goes_on_from(tmp_path: Path) -> None:
    """Same values; one rung higher; from the epochs where the other stopped."""
    tuner = TrialRunner(settings(), Bench(), tmp_path / "trials")
    tuner.run()
    values = {name: trial.hyperparameters.values for name, trial in tuner.oracle.trials.items()}
    later = [one for one in values.values() if EARLIER in one]
    for one in later:
        other = values[one[EARLIER]]
        assert (one["learning_rate"], one[RUNG], one[FIRST]) == (
            other["learning_rate"], other[RUNG] + 1, other["tuner/epochs"],
        )  # fmt: skip
    assert Counter(one[EARLIER] for one in later).most_common(1)[0][1] == 1


def test_finite_space_is_tried_whole_and_none_of_it_twice(tmp_path: Path) -> None:
    """Six combinations against a budget of twenty."""
    space = Space(depth=("none/mixed0", "mixed0/mixed0"), learning_rate=(1e-4, 1e-3, 1e-2))
    begun: list[tuple[str, float]] = []

    def score(fit: Tune, epochs: int) -> float:
        if epochs == 1:
            begun.append((fit.network.depth, fit.optimizer.learning_rate))
        return near_1e_3(fit, epochs)

    run_search(settings(trials=20).model_copy(update={"space": space}), Bench(score), tmp_path / "trials")
    assert sorted((depth, rate) for depth in space.depth for rate in space.learning_rate) == sorted(begun)


def test_fewer_than_a_rung_needs_still_gives_one_trained_to_the_end(tmp_path: Path) -> None:
    """Two trials never have a best third; the better one is sent on when nothing else is left to do."""
    bench = Bench()
    selected = run_search(settings(trials=2), bench, tmp_path / "trials")
    assert [1, 1, 3, 9] == [epochs for _, epochs in bench.trained]
    assert 9 == selected.state.epochs


def test_next_best_is_trained_to_the_end_where_the_best_diverges_on_the_way(tmp_path: Path) -> None:
    """One that failed counts as finished and never goes on."""
    tried: list[float] = []

    def score(fit: Tune, epochs: int) -> float:
        if epochs == 9 and len(tried) < 2:
            tried.append(fit.optimizer.learning_rate)
            raise TrainingError("training diverged")
        return near_1e_3(fit, epochs)

    selected = run_search(settings(trials=4), Bench(score), tmp_path / "trials")
    assert 9 == selected.state.epochs
    assert selected.fit.optimizer.learning_rate not in tried


def test_weights_go_as_soon_as_a_trial_can_neither_win_nor_go_on(tmp_path: Path) -> None:
    """Once one is trained to the end, at most the best three of nine, those under way and the winner keep theirs."""
    bench = Bench()
    run_search(settings(trials=9, seed=3), bench, tmp_path / "trials")
    whole = next(index for index, (_, epochs) in enumerate(bench.trained) if epochs == 9)
    assert all(len(kept) <= 3 + len(bench.at(3)) + 1 for kept in bench.weights[whole + 1 :])


@pytest.mark.parametrize("seconds", [15.0, 45.0, 200.0])
def test_time_budget_ends_with_one_trained_to_the_end_and_little_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """Ten seconds a trial: when the time is up, no further trial begins, and at most the way to the top is left."""
    now = [0.0]
    monkeypatch.setattr("bcdx.learning.search.time.monotonic", lambda: now[0])

    def slow(fit: Tune, epochs: int) -> float:
        now[0] += 10.0
        return near_1e_3(fit, epochs)

    bench = Bench(slow)
    selected = run_search(settings(trials=30, seconds=seconds), bench, tmp_path / "trials")
    assert 9 == selected.state.epochs
    assert seconds < now[0] <= seconds + 30.0
    assert {3, 9} >= {epochs for _, epochs in bench.trained[int(seconds // 10) + 1 :]}


def test_waits_while_others_run_and_then_goes_on() -> None:
    """Two workers, two trials: the second has nothing to do until the first is done."""
    oracle: Any = make_oracle(settings(trials=2))
    oracle._set_project_dir("/nonexistent", "none")
    oracle.save = oracle._save_trial = lambda *_: None
    first, second = oracle.create_trial("a"), oracle.create_trial("b")
    end(oracle, second, 0.9)
    assert "IDLE" == oracle.create_trial("b").status
    end(oracle, first, 0.8)
    later = oracle.create_trial("b")
    assert ("RUNNING", second.trial_id) == (later.status, later.hyperparameters.values[EARLIER])


def end(oracle: Asha, trial: keras_tuner.engine.trial.Trial, score: float) -> None:
    oracle.update_trial(trial.trial_id, {"val_auc": score})
    trial.status = "COMPLETED"
    oracle.end_trial(trial)


def _best_of(selected: Selected) -> float:
    return -abs(rate(selected.fit) + 3)


def test_finds_no_worse_than_random_search_at_equal_cost(tmp_path: Path) -> None:
    """Where early scores tell of late ones: over 20 seeds the mean of what is found is better, for no more epochs."""
    asha, random = [], []
    for seed in range(20):
        bench = Bench()
        asha.append(_best_of(run_search(settings(trials=18, seed=seed), bench, tmp_path / f"asha{seed}")))
        plain = settings(seed=seed).model_copy(update={"search": Search(oracle="random", trials=-(-bench.spent // 9))})
        random.append(_best_of(run_search(plain, Bench(), tmp_path / f"random{seed}")))
    assert np.mean(asha) > np.mean(random)
