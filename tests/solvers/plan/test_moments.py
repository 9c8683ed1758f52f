"""Mean and variance of a plan's samples on Gaussian data, exact and without sampling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import solvers
from benchmarks.orders.cases import PROCESSES, STOCHASTIC
from scoresde.exact import Gaussian
from scoresde.process import EDM, VE, VP, Cosine, Flow, Process, SubVP, VPDiscrete
from solvers import Plan, PlannedSolver
from solvers.certificate.slopes import settle, smooth_grid

ALL = [VP(), VPDiscrete(), Cosine(), SubVP(), VE(), EDM(), Flow()]
EXPONENTIAL = ["ddim", "ddpm", "dpm_solver_1", "dpm_solver_2", "dpm_solver_3", "dpmpp_2m", "euler", "heun"]
VARIANCES = torch.tensor([0.0, 0.01, 0.25, 1.0, 4.0], dtype=torch.float64)

every_process = pytest.mark.parametrize("process", ALL, ids=lambda process: process.name)


def plan(name: str, process: Process, times: Any, prediction: str = "sample", **options: Any) -> Plan:
    solver = solvers.get(name, **options)
    assert isinstance(solver, PlannedSolver)
    return solver.plan(process, times, prediction)


def grid(process: Process, steps: int) -> np.ndarray:
    return solvers.grids.get("karras")(process, steps)


def predictor(process: Process, mean: float, variance: float) -> Any:
    model = Gaussian(process, [mean], [[variance]])
    return lambda x, t: model.output(x, t)


@every_process
@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m", "dpm_solver_2", "heun", "euler"])
def test_moments_of_a_deterministic_plan_are_those_of_the_line_it_maps_by(name: str, process: Process) -> None:
    mean, variance = 0.7, 0.3
    tried = plan(name, process, grid(process, 6))
    alpha, sigma = process.alpha(tried.times[0]), process.sigma(tried.times[0])
    spread = math.sqrt(alpha**2 * variance + sigma**2)
    ends = torch.tensor([[alpha * mean - spread], [alpha * mean + spread]], dtype=torch.float64)
    low, high = tried.run(predictor(process, mean, variance), ends)[:, 0]
    found = tried.moments(process, mean, variance)
    torch.testing.assert_close(found.mean, (low + high) / 2, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(found.variance, ((high - low) / 2) ** 2, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "case", [("ddim", {"eta": 0.5}), ("euler_maruyama", {}), ("heun", {"s_churn": 20.0, "s_noise": 1.003})]
)
@pytest.mark.parametrize("process", [VP(), Flow()], ids=lambda process: process.name)
def test_moments_of_a_stochastic_plan_agree_with_a_simulation(
    case: tuple[str, dict[str, Any]], process: Process
) -> None:
    n, mean, variance = 100_000, 0.7, 0.3
    tried = plan(case[0], process, grid(process, 6), **case[1])
    generator = torch.Generator().manual_seed(0)

    def noise() -> Tensor:
        return torch.randn(n, 1, generator=generator, dtype=torch.float64)

    alpha, sigma = process.alpha(tried.times[0]), process.sigma(tried.times[0])
    x = alpha * mean + math.sqrt(alpha**2 * variance + sigma**2) * noise()
    samples = tried.run(predictor(process, mean, variance), x, noise)
    found = tried.moments(process, mean, variance)
    assert abs(float(samples.mean() - found.mean)) < 5 * math.sqrt(float(found.variance) / n)
    assert float(samples.var() / found.variance) == pytest.approx(1, abs=5 * math.sqrt(2 / n))


@every_process
def test_variance_of_ddpm_follows_the_recurrence_of_its_posteriors(process: Process) -> None:
    """One coefficient and one variance a step: V_s = c² V_t + σ_s² (1 − e^{2(λ_t − λ_s)})."""
    times = [process.time(value) for value in np.linspace(-2.5, 4, 9)]
    v = 0.3
    expected = process.alpha(times[0]) ** 2 * v + process.sigma(times[0]) ** 2
    for t, s in zip(times, times[1:], strict=False):
        alpha, sigma, alpha_s, sigma_s = process.alpha(t), process.sigma(t), process.alpha(s), process.sigma(s)
        forward = 1 - (alpha * sigma_s / (alpha_s * sigma)) ** 2
        gain = alpha * v / (alpha**2 * v + sigma**2)
        slope = alpha / alpha_s * (sigma_s / sigma) ** 2 + alpha_s * forward * gain
        expected = slope**2 * expected + sigma_s**2 * forward
    assert float(plan("ddpm", process, times).moments(process, 0.7, v).variance) == pytest.approx(expected, rel=1e-11)


@every_process
@pytest.mark.parametrize("name", EXPONENTIAL)
def test_exponential_methods_keep_the_mean_of_gaussian_data(name: str, process: Process) -> None:
    found = plan(name, process, grid(process, 5)).moments(process, 0.7, VARIANCES)
    torch.testing.assert_close(found.mean, torch.full_like(VARIANCES, 0.7), rtol=0, atol=1e-10)


@every_process
@pytest.mark.parametrize("name", sorted({*solvers.names()} - {"lcm"}))  # which returns x itself at t_min
def test_a_single_data_point_is_reached_exactly(name: str, process: Process) -> None:
    solver = solvers.get(name)
    if isinstance(solver, PlannedSolver):
        found = solver.plan(process, grid(process, 5), "sample").moments(process, 0.7, 0.0)
        assert float(found.frechet) < 1e-20


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("case", STOCHASTIC, ids=lambda case: f"{case[0]}-{case[1]}")
def test_stochastic_solvers_approach_the_moments_of_the_data_at_their_weak_order(
    case: tuple[str, dict[str, Any]], process: str
) -> None:
    forward, order = PROCESSES[process], solvers.get(case[0], **case[1]).weak_order

    def error(steps: int) -> float:
        tried = plan(case[0], forward, smooth_grid(forward, "karras", steps), **case[1])
        found = tried.moments(forward, 0.7, VARIANCES[1:])
        return float((found.variance - found.exact_variance).square().mean().sqrt())

    assert settle(error, floor=1e-10).order == pytest.approx(order, abs=0.2)


def test_moments_do_not_depend_on_the_prediction_type() -> None:
    process = VP()
    times = grid(process, 6)
    expected = plan("heun", process, times, "sample", s_churn=3.0).moments(process, 0.7, VARIANCES[1:])
    for prediction in ("epsilon", "v_prediction", "score", "flow"):
        found = plan("heun", process, times, prediction, s_churn=3.0).moments(process, 0.7, VARIANCES[1:])
        torch.testing.assert_close(found.variance, expected.variance, rtol=1e-9, atol=1e-12)


def test_many_cases_at_once_are_the_cases_one_by_one() -> None:
    process = EDM()
    tried = plan("euler_maruyama", process, grid(process, 6))
    means = torch.tensor([[-1.0], [0.5]], dtype=torch.float64)
    found = tried.moments(process, means, VARIANCES)
    assert found.variance.shape == (2, 5)
    for i, mean in enumerate(means[:, 0].tolist()):
        for j, variance in enumerate(VARIANCES.tolist()):
            single = tried.moments(process, mean, variance)
            for name in ("mean", "variance", "exact_mean", "exact_variance", "frechet"):
                torch.testing.assert_close(getattr(found, name)[i, j], getattr(single, name), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("bad", [(0.0, -1.0), (math.nan, 1.0), (0.0, math.inf)])
def test_data_without_moments_are_refused(bad: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="finite mean and a finite variance"):
        plan("ddim", VP(), grid(VP(), 3)).moments(VP(), *bad)
