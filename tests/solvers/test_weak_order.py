"""Every stochastic solver converges with the weak order that it declares, on an exact score and without sampling."""

from __future__ import annotations

import math
from typing import Any

import pytest

import solvers
from benchmarks.convergence import PROCESSES, SHAPES, STOCHASTIC, smooth_grid
from benchmarks.weak import check_quadrature, pieces, weak_order
from solvers import PlanError, PlannedSolver


def named(case: tuple[str, dict[str, Any]]) -> str:
    return "-".join([case[0], *(f"{key}={value}" for key, value in case[1].items())])


def planned(name: str, **options: Any) -> PlannedSolver:
    solver = solvers.get(name, **options)
    assert isinstance(solver, PlannedSolver)
    return solver


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("case", STOCHASTIC, ids=named)
def test_a_solver_converges_with_its_declared_weak_order(
    case: tuple[str, dict[str, Any]], process: str, shape: str
) -> None:
    solver = planned(case[0], **case[1])
    found = weak_order(solver, PROCESSES[process], shape)
    assert found.order is not None, f"the slope did not settle: {found.slopes}"
    assert solver.weak_order == pytest.approx(found.order, abs=0.2)


@pytest.mark.parametrize("case", [("ddim", {"eta": 1.0}), ("heun", {"s_churn": 2.0})], ids=named)
def test_interpolation_and_quadrature_are_far_below_the_weak_error(case: tuple[str, dict[str, Any]]) -> None:
    total, numerical = check_quadrature(planned(case[0], **case[1]), PROCESSES["EDM"], "uniform", 64)
    assert numerical < 1e-4 * total


def ancestral(steps: Any, x: Any, predict: Any, noise: Any, factor: float) -> Any:
    """DDIM with η = 1 whose noise is too strong or too weak by a factor."""
    for t, s in steps:
        p = predict(x, t)
        tau = s.sigma * math.sqrt(-math.expm1(2 * (t.lam - s.lam)))
        x = yield s.alpha * p.x0 + math.sqrt(s.sigma**2 - tau**2) * p.epsilon + noise(factor * tau)


@pytest.mark.parametrize("factor", [0.95, 1.05])
@pytest.mark.parametrize("process", PROCESSES)
def test_a_wrong_amplitude_of_the_noise_is_caught(process: str, factor: float) -> None:
    wrong = PlannedSolver(
        ancestral,
        {"factor": factor},
        name="ancestral",
        reference="",
        order=None,
        weak_order=1,
        grid="uniform",
        to_clean=False,
    )
    found = weak_order(wrong, PROCESSES[process], "karras")
    assert found.order is None or found.order < 0.8


def test_churn_with_inflated_noise_loses_its_weak_order() -> None:
    found = weak_order(planned("heun", s_churn=2.0, s_noise=1.01), PROCESSES["EDM"], "karras")
    assert found.order is None or found.order < 1.8


def test_a_method_with_history_is_not_taken_for_a_one_step_method() -> None:
    process = PROCESSES["VP"]
    plan = planned("dpmpp_2m").plan(process, smooth_grid(process, "uniform", 4), "sample")
    with pytest.raises(PlanError, match="before it is written"):
        pieces(plan)
