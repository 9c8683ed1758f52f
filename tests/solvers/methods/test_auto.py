"""solver=auto: one documented choice for every number of evaluations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import scoresde
import solvers
from benchmarks.tuning.problems import EXACT, bundled, exact, planned
from scoresde.process import EDM, VP, Flow
from solvers.grids.auto import TUNED

PROCESSES = {"VP": VP(), "EDM": EDM(), "Flow": Flow()}
every_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)


@every_process
def test_auto_is_the_solver_that_it_says_it_is(process: scoresde.Process) -> None:
    problem = exact("low rank", process, samples=4, steps=10)
    times = solvers.grids.get("auto")(process, 9)
    named = planned("uni_pc", order=3, variant="bh1")
    ends = [
        solver.plan(process, times, "sample").run(problem.predict, problem.start) for solver in (planned("auto"), named)
    ]
    assert torch.equal(*ends)


@every_process
@pytest.mark.parametrize("steps", TUNED)
def test_the_grid_has_the_numbers_that_were_tuned_for_that_many_steps(process: scoresde.Process, steps: int) -> None:
    alpha, beta, end = TUNED[steps]
    end = max(end, math.exp(-process.half_log_snr(process.t_min)))
    same = solvers.grids.get("beta_log_snr", alpha=alpha, beta=beta, end=end)
    np.testing.assert_allclose(solvers.grids.get("auto")(process, steps), same(process, steps), rtol=1e-9)


@every_process
def test_between_tuned_numbers_of_steps_the_grid_changes_little_by_little(process: scoresde.Process) -> None:
    ends = [process.half_log_snr(float(solvers.grids.get("auto")(process, steps)[-2])) for steps in range(4, 60)]
    known = [-math.log(end) for _, _, end in TUNED.values()]
    assert min(known) - 1e-6 <= min(ends) and max(ends) <= max(known) + 1e-6
    assert np.abs(np.diff(ends)).max() < 0.5


@every_process
@pytest.mark.parametrize("nfe", [1, 2, 5, 7, 13, 20, 33, 100])
def test_every_budget_is_used_in_full(process: scoresde.Process, nfe: int) -> None:
    model = EXACT["ring"](process)
    assert scoresde.sample(model, "auto", nfe=nfe, shape=(2, 2), seeds=0).nfe == nfe


def test_auto_errs_less_than_the_defaults_of_others_on_the_bundled_model_that_it_was_not_tuned_to() -> None:
    problem = bundled(samples=6, steps=30)

    def error(name: str) -> float:
        """Geometric mean over budgets."""
        solver, logs = planned(name), []
        for nfe in (5, 8, 10, 15):
            times = solver.recommended(problem.process, nfe)
            logs.append(math.log(problem.error(solver.plan(problem.process, times, "sample"))))
        return math.exp(sum(logs) / len(logs))

    found = error("auto")
    for rival in ("ddim", "dpmpp_2m", "uni_pc"):
        assert found < error(rival), rival
