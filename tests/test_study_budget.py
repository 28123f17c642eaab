"""How a study shares out its time: equal time or equal steps, and a whole end."""

import time

import pytest
from lab.study.budget import Costs, budget_of
from lab.study.settings import Run, Settings
from lab.study.study import _Study

COSTS = Costs(steps={"plain": 0.01, "dear": 0.04}, picture=0.001, build=2.0, throughput=1.2)


def lasts(budget, runs, processes):
    """Seconds that all runs take, as one process after the other becomes free."""
    free = [0.0] * min(processes, len(runs))
    for arm in runs:
        free = sorted(free)
        alone = budget.steps[arm] * COSTS.steps[arm]
        free[0] += COSTS.build + len(free) * alone / COSTS.throughput
    return max(free) + len(runs) * 100 * COSTS.picture / COSTS.throughput


SHARES = [(["plain", "dear"] * 2, 4), (["plain", "dear"] * 2, 2), (["dear"] * 5, 2), (["plain"], 1)]


@pytest.mark.parametrize(("runs", "processes"), SHARES)
def test_all_runs_cost_the_same_and_fit(runs, processes):
    budget = budget_of(COSTS, runs=runs, processes=processes, pictures=100, left=120.0)
    assert budget.steps["plain"] == pytest.approx(4 * budget.steps["dear"], abs=4)
    assert budget.seconds == pytest.approx(0.01 * budget.steps["plain"], abs=0.01)
    assert 0.85 * 120 < lasts(budget, runs, processes) + 8 < 120


@pytest.mark.parametrize(("runs", "processes"), SHARES)
def test_all_runs_take_the_same_steps_and_fit(runs, processes):
    shares = {"processes": processes, "pictures": 100, "left": 120.0}
    budget = budget_of(COSTS, runs=runs, equal="steps", **shares)
    assert budget.steps["plain"] == budget.steps["dear"]
    assert budget.seconds == pytest.approx(0.04 * budget.steps["dear"], abs=0.04)
    assert 0.85 * 120 < lasts(budget, runs, processes) + 8 < 120


@pytest.mark.parametrize("equal", ["time", "steps"])
def test_too_few_minutes_are_told(equal):
    runs, shares = ["plain", "dear"] * 2, {"processes": 4, "pictures": 100, "left": 10.0}
    told = r"4 runs, but got 0.2 minutes after the timing, and a single step of each takes 0\.2\."
    with pytest.raises(ValueError, match="must leave time for " + told):
        budget_of(COSTS, runs=runs, equal=equal, **shares)


class OneProcess:
    """Stands in for a pool: its first timing is five times too long, and "broken" fails."""

    captured = False

    def __init__(self):
        self.workers, self.arm, self.timed = [self], "", []

    def ask(self, messages, stop_at):
        ((_, (name, (argument,))),) = messages.items()
        if name == "prepare":
            self.arm = argument.arm
        if self.arm == "broken":
            self.timed.append("broken")
            return {}, {self: "it is broken"}
        if name == "prepare":
            return {self: {}}, {}
        cold = 1 if self.timed else 5
        self.timed.append(self.arm)
        return {self: {"step": cold * COSTS.steps[self.arm], "picture": 0.001}}, {}

    def replace(self, worker, *, captured):
        return self


def test_a_long_study_times_its_arms_several_times_and_takes_the_middle(tmp_path):
    settings = Settings(tmp_path, tmp_path, ("plain", "dear", "broken"))
    runs = [Run(arm, 0) for arm in ("broken", "dear", "plain")]
    study, pool = _Study(settings, time.time() + 3600, tmp_path), OneProcess()
    steps, picture = study._time_alone(pool, {pool: Run("", 0)}, runs)
    assert steps == {"plain": 0.01, "dear": 0.04}
    assert picture == 0.001
    assert pool.timed.count("plain") == pool.timed.count("dear") >= 3
    assert pool.timed.count("broken") == 1  # and the time goes to the others


def test_a_short_study_times_each_arm_once(tmp_path):
    settings = Settings(tmp_path, tmp_path, ("plain", "dear"))
    study, pool = _Study(settings, time.time() + 60, tmp_path), OneProcess()
    study._time_alone(pool, {pool: Run("", 0)}, [Run("dear", 0), Run("plain", 0)])
    assert pool.timed == ["plain", "dear"]
