"""How a study shares out its time: equal time or equal steps, and a whole end."""

import pytest
from lab.study.budget import Costs, budget_of

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
