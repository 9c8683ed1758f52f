"""Every stochastic solver converges with the weak order that it declares, on an exact score and without sampling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import solvers
from benchmarks.orders.cases import PROCESSES, STOCHASTIC
from solvers import PlannedSolver
from solvers.certificate.chain import Quadrature, observables, weak_errors
from solvers.certificate.mixture import MIXTURE, predictor
from solvers.certificate.slopes import SHAPES, Slopes, smooth_grid
from solvers.certificate.weak import WeakCertificate, certify_weak, check_quadrature, weak_order

# As many slopes as each has to remember.
HISTORIES = [("dpmpp_2m_sde", {}), ("dpmpp_3m_sde", {"eta": 0.5}), ("sa_solver", {"order": 3, "corrector_order": 4})]
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
    found = certify_weak(planned(case[0], **case[1]), PROCESSES[process], shape)
    assert found.holds, f"{found.mixture and found.mixture.slopes}, Gaussian {found.frechet.slopes}"


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
@pytest.mark.parametrize(("name", "options"), HISTORIES)
def test_the_chain_of_a_method_with_a_history_has_the_moments_of_a_simulation(
    process: str, name: str, options: dict[str, Any]
) -> None:
    forward = PROCESSES[process]
    plan = planned(name, **options).plan(forward, smooth_grid(forward, "karras", 10), "sample")
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


def ended(slopes: list[float]) -> Slopes:
    """Errors that fall with these slopes from 16 steps on."""
    errors = [1.0]
    for slope in slopes:
        errors.append(errors[-1] * 2.0**-slope)
    return Slopes([16 * 2**k for k in range(len(errors))], errors)


def test_a_weak_order_holds_if_both_errors_fall_as_declared() -> None:
    second, third, first = ended([2.0, 2.0, 2.0]), ended([3.0, 3.0, 3.0]), ended([1.0, 1.0, 1.0])
    assert WeakCertificate(2, second, second, deep=False).holds
    assert WeakCertificate(2, third, second, deep=False).holds
    assert not WeakCertificate(2, first, second, deep=False).holds
    assert not WeakCertificate(2, second, first, deep=False).holds
    assert not WeakCertificate(2, second, third, deep=False).holds
    assert WeakCertificate(2, second, third, deep=True).holds
    assert not WeakCertificate(2, second, first, deep=True).holds
    assert WeakCertificate(2, third, third, deep=True).exceeds and not WeakCertificate(2, second, third, True).exceeds
