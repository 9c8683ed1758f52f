"""Methods of ODE libraries: the same equation, the same ends, evaluations counted as they happen."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import solvers
from benchmarks.orders.cases import PROCESSES
from scoresde.process import VP, Flow
from solvers.certificate.mixture import predictor
from solvers.certificate.orders import ode_error
from solvers.certificate.slopes import smooth_grid

every_method = pytest.mark.parametrize(
    ("method", "tolerance"),
    [
        ("adaptive_heun", 1e-5),
        ("fehlberg2", 1e-5),
        ("bosh3", 1e-7),
        ("dopri5", 1e-9),
        ("dopri8", 1e-9),
        ("RK23", 1e-6),
        ("RK45", 1e-9),
        ("DOP853", 1e-9),
        ("Radau", 1e-6),
        ("BDF", 1e-6),
        ("LSODA", 1e-9),
    ],
)


@every_method
def test_an_adaptive_method_is_as_exact_as_its_tolerance_lets_expect(method: str, tolerance: float) -> None:
    solver = solvers.get("pf_ode", method=method, rtol=tolerance, atol=tolerance)
    for process in PROCESSES.values():
        assert ode_error(solver, process, smooth_grid(process, "uniform", 1)) < 100 * tolerance


@pytest.mark.parametrize("method", ["bosh3", "dopri5", "dopri8"])
def test_no_step_goes_beyond_the_end(method: str) -> None:
    """A step that did would be evaluated at the end many times, with a time that is not its own."""
    process, calls = VP(), []

    def predict(x: Tensor, t: float) -> Tensor:
        calls.append(t)
        return predictor(process)(x, t)

    ends = smooth_grid(process, "uniform", 1)
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    solvers.get("pf_ode", method=method).run(process, ends, predict, x, prediction="sample")
    assert min(calls) >= ends[-1] and max(calls) <= ends[0]
    assert sum(t == ends[-1] for t in calls) <= 2


def test_a_grid_to_zero_noise_ends_in_a_denoise_that_the_hook_sees() -> None:
    process = VP()
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    solver, seen = solvers.get("pf_ode", rtol=1e-8, atol=1e-8), []
    solver_to_t_min = solver.run(process, [1.0, process.t_min], predictor(process), x, prediction="sample")
    found = solver.run(
        process, [1.0, 0.0], predictor(process), x, prediction="sample", step=lambda state, t: seen.append((t, state))
    )
    torch.testing.assert_close(found, predictor(process)(solver_to_t_min, process.t_min), rtol=0, atol=1e-12)
    assert [t for t, _ in seen] == [0.0]
    assert torch.equal(seen[0][1], found)


@pytest.mark.parametrize(("method", "nfe"), [("euler", 5), ("midpoint", 9), ("heun3", 13), ("rk4", 17)])
def test_evaluations_on_a_given_grid_are_counted(method: str, nfe: int) -> None:
    solver, calls = solvers.get("pf_ode", method=method), []

    def predict(x: Tensor, t: float) -> Tensor:
        calls.append(t)
        return predictor(Flow())(x, t)

    times = solvers.grids.get("uniform")(Flow(), 5)
    solver.run(Flow(), times, predict, torch.ones(3, dtype=torch.float64), prediction="sample")
    assert solver.nfe(Flow(), times) == len(calls) == nfe


def test_a_hook_may_edit_the_state_between_steps_of_a_given_grid() -> None:
    process, times = VP(), [1.0, 0.6, 0.3]
    solver, x = solvers.get("pf_ode", method="rk4"), torch.linspace(-2, 2, 9, dtype=torch.float64)
    predict = predictor(process)
    found = solver.run(process, times, predict, x, prediction="sample", step=lambda state, t: 0.5 * state)
    half = 0.5 * solver.run(process, times[:2], predict, x, prediction="sample")
    expected = 0.5 * solver.run(process, times[1:], predict, half, prediction="sample")
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("method", ["dopri5", "rk4", "RK45"])
def test_prediction_types_agree(method: str) -> None:
    process = VP()
    solver, x = solvers.get("pf_ode", method=method), torch.linspace(-2, 2, 9, dtype=torch.float64)
    sample = predictor(process)

    def epsilon(x: Tensor, t: float) -> Tensor:
        return (x - process.alpha(t) * sample(x, t)) / process.sigma(t)

    expected = solver.run(process, [1.0, 0.1], sample, x, prediction="sample")
    found = solver.run(process, [1.0, 0.1], epsilon, x, prediction="epsilon")
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    with pytest.raises(ValueError, match="says nothing about x0 at t = 1.0"):
        solver.run(Flow(), [1.0, 0.1], epsilon, x, prediction="epsilon")


def test_a_frame_that_is_infinite_at_the_start_is_refused() -> None:
    x = torch.ones(3, dtype=torch.float64)
    with pytest.raises(ValueError, match="the frame 'edm' is infinite at t = 1.0, where α = 0; take flow or vp"):
        solvers.get("pf_ode", frame="edm").run(Flow(), [1.0, 0.1], predictor(Flow()), x, prediction="sample")
