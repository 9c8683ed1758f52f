"""Every stochastic solver converges with the weak order that it declares, on an exact score and without sampling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import solvers
from benchmarks.convergence import MIXTURE, PROCESSES, SHAPES, STOCHASTIC, predictor, smooth_grid
from benchmarks.weak import Quadrature, by_quadrature, check_quadrature, observables, weak_errors, weak_order
from solvers import PlannedSolver

# `make certify` measures each case on all nine pairs: here each on one, in turn.
PAIRS = [(process, shape) for process in PROCESSES for shape in SHAPES]
TRIED = [(case, *PAIRS[i % len(PAIRS)]) for i, case in enumerate(STOCHASTIC)]


def named(case: Any) -> str:
    return case if isinstance(case, str) else "-".join([case[0], *(f"{key}={value}" for key, value in case[1].items())])


def planned(name: str, **options: Any) -> PlannedSolver:
    solver = solvers.get(name, **options)
    assert isinstance(solver, PlannedSolver)
    return solver


@pytest.mark.parametrize(("case", "process", "shape"), TRIED, ids=named)
def test_a_solver_converges_with_its_declared_weak_order(
    case: tuple[str, dict[str, Any]], process: str, shape: str
) -> None:
    solver = planned(case[0], **case[1])
    found = weak_order(solver, PROCESSES[process], shape)
    assert found.order is not None, f"the slope did not settle: {found.slopes}"
    assert solver.weak_order == pytest.approx(found.order, abs=0.2)


@pytest.mark.parametrize(
    "case", [("ddim", {"eta": 1.0}), ("heun", {"s_churn": 2.0}), ("dpmpp_2m_sde", {}), ("seeds_3", {})], ids=named
)
def test_interpolation_and_quadrature_are_far_below_the_weak_error(case: tuple[str, dict[str, Any]]) -> None:
    found = check_quadrature(planned(case[0], **case[1]), PROCESSES["EDM"], "uniform", 16)
    assert found["numerical_error"] < 1e-3 * found["weak_error"]


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


@pytest.mark.parametrize("process", PROCESSES)
def test_the_chain_of_a_method_with_a_slope_of_history_has_the_moments_of_a_simulation(process: str) -> None:
    forward = PROCESSES[process]
    plan = planned("dpmpp_2m_sde").plan(forward, smooth_grid(forward, "karras", 4), "sample")
    generator, n = torch.Generator().manual_seed(0), 400_000
    ends = [(forward.alpha(t), forward.sigma(t)) for t in (plan.times[0], plan.times[-1])]

    def noise() -> torch.Tensor:
        return torch.randn(n, generator=generator, dtype=torch.float64)

    chosen = torch.multinomial(MIXTURE.weights, n, replacement=True, generator=generator)
    x0 = MIXTURE.means[chosen] + MIXTURE.variances[chosen].sqrt() * noise()
    x = plan.run(predictor(forward), ends[0][0] * x0 + ends[0][1] * noise(), noise)
    exact = MIXTURE.expectation(observables, *ends[1])
    values = observables(x.numpy())
    found = weak_errors(plan, forward, Quadrature.enough(plan)) + exact
    assert (np.abs(values.mean(0) - found) < 5 * values.std(0) / math.sqrt(n)).all()


def test_a_method_that_remembers_more_than_a_slope_is_measured_on_gaussian_data() -> None:
    process = PROCESSES["VP"]
    assert by_quadrature(planned("dpmpp_2m_sde"), process)
    assert not by_quadrature(planned("dpmpp_3m_sde"), process)
    plan = planned("dpmpp_3m_sde").plan(process, smooth_grid(process, "uniform", 4), "sample")
    with pytest.raises(ValueError, match="for methods that remember one slope, and dpmpp_3m_sde has 2"):
        weak_errors(plan, process, Quadrature(100, 10, 5))
