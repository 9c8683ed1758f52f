"""Every deterministic solver converges with the order that it declares, on an exact score."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import solvers
from benchmarks.convergence import (
    DETERMINISTIC,
    MIXTURE,
    PROCESSES,
    SHAPES,
    STOCHASTIC,
    Slopes,
    ode_error,
    ode_order,
    predictor,
    settle,
    smooth_grid,
    trajectories,
)
from scoresde.exact import GaussianMixture
from solvers import PlannedSolver

every_process = pytest.mark.parametrize("process", PROCESSES)


def named(case: tuple[str, dict[str, Any]]) -> str:
    return "-".join([case[0], *(f"{key}={value}" for key, value in case[1].items())])


@pytest.mark.parametrize("shape", SHAPES)
@every_process
@pytest.mark.parametrize("case", DETERMINISTIC, ids=named)
def test_a_solver_converges_with_its_declared_order(case: tuple[str, dict[str, Any]], process: str, shape: str) -> None:
    solver = solvers.get(case[0], **case[1])
    found = ode_order(solver, PROCESSES[process], shape)
    assert found.order is not None, f"the slope did not settle: {found.slopes}"
    assert solver.order == pytest.approx(found.order, abs=0.2)


def test_every_solver_is_measured() -> None:
    for name in solvers.names():
        solver = solvers.get(name)
        module = getattr(solver, "function", type(solver)).__module__
        if module.startswith("solvers."):  # and not one that another test registered
            assert name in [case for case, _ in (STOCHASTIC if solver.stochastic else DETERMINISTIC)], name


def test_a_wrong_coefficient_is_caught() -> None:
    def lopsided(steps: Any, x: Any, predict: Any) -> Any:
        """Heun's method with weights 0.52 and 0.48."""
        for t, s in steps:
            first = predict(x, t).epsilon
            change = s.sigma / s.alpha - t.sigma / t.alpha
            second = predict(s.alpha * (x / t.alpha + change * first), s).epsilon
            x = yield s.alpha * (x / t.alpha + change * (0.52 * first + 0.48 * second))

    wrong = PlannedSolver(
        lopsided, {}, name="lopsided", reference="", order=2, weak_order=None, grid="uniform", to_clean=False
    )
    found = ode_order(wrong, PROCESSES["EDM"], "karras")
    assert found.order is None or found.order < 1.8


def test_the_order_is_that_of_the_last_settled_slopes() -> None:
    assert settle(lambda n: 1 / n**2 + 10 / n**4, floor=1e-12).order == pytest.approx(2, abs=0.05)
    assert settle(lambda n: 1e-3, floor=1e-12).order == 0
    assert settle(lambda n: 1e-13, floor=1e-12).order is None
    assert Slopes([8, 16, 32, 64], [1.0, 0.5, 0.1, 0.05]).order is None


@every_process
def test_orders_are_measured_against_the_exact_score(process: str) -> None:
    x = torch.linspace(-3, 3, 13, dtype=torch.float64)
    forward = PROCESSES[process]
    model = GaussianMixture(forward, MIXTURE.weights, MIXTURE.means[:, None], MIXTURE.variances)
    for half_log_snr in (-1.5, 0.3, 2.0):
        t = forward.time(half_log_snr)
        expected = model.denoised(x[:, None], t)[:, 0]
        torch.testing.assert_close(predictor(forward)(x, t), expected, rtol=1e-12, atol=1e-12)


def test_the_reference_solution_is_better_than_rounding_needs() -> None:
    """Trajectories of the probability-flow ODE carry quantiles to quantiles, which bisection finds."""
    start, end = trajectories(-1.5, 2.0)

    def quantile(y: np.ndarray, half_log_snr: float) -> np.ndarray:
        alpha = (1 + np.exp(-2 * half_log_snr)) ** -0.5
        sigma = (1 + np.exp(2 * half_log_snr)) ** -0.5
        spread = (alpha**2 * MIXTURE.variances + sigma**2).sqrt()
        z = (torch.from_numpy(y)[:, None] - alpha * MIXTURE.means) / spread
        return (MIXTURE.weights * torch.special.ndtr(z)).sum(1).numpy()

    np.testing.assert_allclose(quantile(start, -1.5), quantile(end, 2.0), rtol=0, atol=1e-12)


@every_process
def test_the_error_of_an_adaptive_solver_follows_its_tolerance(process: str) -> None:
    forward = PROCESSES[process]
    errors = []
    for tolerance in (1e-4, 1e-6, 1e-8):
        solver = solvers.get("pf_ode", rtol=tolerance, atol=tolerance)
        errors.append(ode_error(solver, forward, smooth_grid(forward, "uniform", 1)))
        assert errors[-1] < 10 * tolerance
    assert errors == sorted(errors, reverse=True)
