"""Starts of a fit: ordinary solvers are plans of numbers, exactly, and grids are programmed."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import solvers
from scoresde.exact import GaussianMixture
from scoresde.process import EDM, VE, VP, Flow, Process, VPDiscrete
from scoresde.tuning import fixed, starts
from scoresde.tuning.fit import inserted
from scoresde.tuning.trajectories import Trajectories
from solvers import PlannedSolver
from solvers.coefficients.fitted import Numbers

PROCESSES: list[Process] = [VP(), EDM(), VE(), Flow(), VPDiscrete()]


def trajectories(process: Process, count: int = 24) -> Trajectories:
    mixture = GaussianMixture(process, [1.0, 2.0, 1.0], [[-1.0, 0.2], [0.9, 0.5], [0.1, -0.8]], [0.02, 0.05, 0.01])
    return Trajectories.of(mixture, range(count), (2,), dtype=torch.float64)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
@pytest.mark.parametrize("count", [1, 5])
def test_every_fixed_solver_is_a_plan_of_numbers_with_the_same_samples(process: Process, count: int) -> None:
    runs = trajectories(process, 8)
    found = fixed.candidates(process, count, "sample")
    assert found
    for solver, plan in found[::7]:  # solvers and grids, though not all pairs
        numbers = starts.rewritten(plan, process)
        assert numbers is not None and len(numbers) == count, str(solver)
        apart = (runs.follow(numbers) - runs.planned(plan)).abs().max()
        assert apart < 1e-7, (str(solver), float(apart))


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 14), st.sampled_from(PROCESSES))
def test_solvers_of_several_evaluations_a_step_are_numbers_too(count: int, process: Process) -> None:
    for numbers in starts.staged(process, count):
        assert len(numbers) == count
    for name, stages in starts.STAGED.items():
        if count % stages == 1:
            solver = solvers.get(name)
            assert isinstance(solver, PlannedSolver)
            plan = solver.plan(process, solvers.grids.get("karras")(process, 1 + count // stages), "sample")
            numbers = starts.rewritten(plan, process)
            if plan.nfe == count:  # on Flow and other processes that begin with nothing but noise one is saved
                assert numbers is not None
                runs = trajectories(process, 4)
                torch.testing.assert_close(runs.follow(numbers), runs.planned(plan), rtol=1e-6, atol=1e-7)


def planned(name: str, count: int, **options: Any) -> solvers.Plan:
    solver = solvers.get(name, **options)
    assert isinstance(solver, PlannedSolver)
    return solver.plan(VP(), solvers.grids.get("quadratic")(VP(), count), "sample")


@pytest.mark.parametrize(
    ("name", "options", "why"),
    [
        ("ddpm", {}, "it draws"),
        ("heun", {}, "it evaluates twice at a level"),
        ("runge_kutta", {}, "it evaluates twice at a level"),
    ],
)
def test_what_has_no_such_form_is_none(name: str, options: dict[str, str], why: str) -> None:
    assert starts.rewritten(planned(name, 4, **options), VP()) is None, why


def test_a_plan_that_leaves_noise_is_none() -> None:
    solver = solvers.get("ddim")
    assert isinstance(solver, PlannedSolver)
    times = solvers.grids.get("quadratic")(VP(), 4)[:-1]
    assert starts.rewritten(solver.plan(VP(), times, "sample"), VP()) is None


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_programmed_levels_fall_from_the_first_to_where_the_network_knows(process: Process, count: int) -> None:
    runs = trajectories(process)
    numbers = starts.programmed(runs, count, 2)
    assert len(numbers) == count and numbers.levels[0] == runs.first
    assert all(s < t for t, s in itertools.pairwise(numbers.levels)) and numbers.levels[-1] >= runs.last * (1 - 1e-9)
    assert torch.isfinite(runs.follow(numbers)).all()


def test_programmed_levels_serve_first_order_steps_better_than_even_ones() -> None:
    runs = trajectories(VP(), 64)
    end = runs.follow(starts.programmed(runs, 40, 2))
    levels = starts.programmed(runs, 6, 0).levels
    top, low = math.log(levels[1]) + 2, math.log(runs.last)
    even = (runs.first, *(math.exp(top + (low - top) * k / 4) for k in range(5)))
    bare = [Numbers(each, ((),) * 6) for each in (levels, even)]
    programmed, plain = ((runs.follow(each) - end).square().mean().sqrt() for each in bare)
    assert programmed < 0.7 * plain


def test_no_level_is_put_between_two_that_all_but_meet() -> None:
    runs = trajectories(EDM(), 16)
    runs = replace(runs, ends=runs.follow(starts.programmed(runs, 40, 2)))
    first = runs.first
    numbers = Numbers((first, first * (1 - 1e-6), 2.0, 2.0 * (1 - 1e-6), 0.3), ((), (0.5,), (0.3, 0.1), (0.0,), (0.1,)))
    found = inserted([runs], numbers, 2).numbers
    assert len(found) == 6 and all(math.isfinite(c) for row in found.history for c in row)
