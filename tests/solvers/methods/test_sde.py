"""The stochastic solvers: what they become without noise, on whose path their noise is, and whose numbers they give."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import solvers
from benchmarks.agreement import sde as agreement_sde
from benchmarks.agreement.ode import TOLERANCE
from benchmarks.orders.cases import PROCESSES
from benchmarks.peers import adapters
from scoresde.process import VP
from solvers import PlannedSolver
from solvers.certificate.mixture import predictor
from solvers.certificate.slopes import smooth_grid
from solvers.certificate.weak import frechet_order, weak_order
from solvers.coefficients import frames
from solvers.coefficients.histories import integral
from solvers.coefficients.interpolation import midpoint, moments
from solvers.methods.er_sde import FRAME as ER
from solvers.methods.sra1 import joint
from solvers.steps import Point

every_process = pytest.mark.parametrize("process", PROCESSES)

WITHOUT_NOISE = [
    (("euler_ancestral", {}), ("ddim", {})),
    (("euler_ancestral", {}), ("euler", {"frame": "edm"})),
    (("dpmpp_2m_sde", {}), ("dpmpp_2m", {})),
    (("dpmpp_2m_sde", {"solver_type": "heun"}), ("dpmpp_2m", {"solver_type": "heun"})),
    (("dpmpp_sde", {}), ("dpmpp_2s", {})),
    (("dpmpp_sde", {"r": 0.3}), ("dpmpp_2s", {"r1": 0.3})),
    (("dpmpp_3m_sde", {}), ("dpmpp_3m", {})),
    (("dpmpp_3m_sde", {"variant": "published"}), ("dpmpp_3m", {"variant": "published"})),
    (("dpmpp_3m_sde", {"starter": "singlestep"}), ("dpmpp_3m", {"starter": "singlestep"})),
    (("seeds_2", {}), ("dpmpp_2s", {})),
    (("seeds_3", {}), ("dpmpp_3s", {})),
    (("sa_solver", {}), ("uni_pc", {"order": 3, "variant": "vary_coeff"})),
    (("sa_solver", {"order": 2, "corrector_order": 0}), ("dpmpp_2m", {"solver_type": "heun"})),
    (("sra1", {}), ("dpmpp_2s", {"r1": 0.75, "solver_type": "heun"})),
]


def planned(name: str, **options: Any) -> PlannedSolver:
    solver = solvers.get(name, **options)
    assert isinstance(solver, PlannedSolver)
    return solver


def named(value: Any) -> str:
    return "-".join([value[0], *(f"{key}={option}" for key, option in value[1].items())])


@every_process
@pytest.mark.parametrize(("ours", "same"), WITHOUT_NOISE, ids=named)
def test_without_noise_it_is_the_deterministic_solver_of_its_family(ours: Any, same: Any, process: str) -> None:
    forward = PROCESSES[process]
    times, x = smooth_grid(forward, "karras", 7), torch.linspace(-2, 2, 9, dtype=torch.float64)
    plan = planned(ours[0], **{**ours[1], "eta": 0.0}).plan(forward, times, "sample")
    assert plan.draws == 0
    expected = planned(same[0], **same[1]).plan(forward, times, "sample").run(predictor(forward), x)
    torch.testing.assert_close(plan.run(predictor(forward), x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["dpmpp_2m_sde", "dpmpp_sde", "dpmpp_3m_sde", "seeds_3", "sa_solver", "sra1"])
def test_a_solver_that_declares_no_noise_has_the_order_of_its_family_and_otherwise_a_weak_one(name: str) -> None:
    still, noisy = planned(name, eta=0.0), planned(name)
    assert (still.stochastic, still.weak_order) == (False, None) and still.order in (2, 3)
    assert (noisy.stochastic, noisy.order, noisy.weak_order) == (True, None, 2)


def test_third_order_without_noise_needs_the_starter() -> None:
    assert planned("dpmpp_3m_sde", eta=0.0, starter="singlestep").order == 3
    assert planned("dpmpp_3m_sde", eta=0.0).order == 2


@every_process
@pytest.mark.parametrize("eta", [0.3, 1.0, 1.7])
def test_the_noise_of_a_step_is_what_the_reverse_sde_leaves_of_white_noise(eta: float, process: str) -> None:
    """With x0 fixed, x − α x0 decays by e^{−η²h} σ_s/σ_t, and the noise brings its variance back to σ_s²."""
    forward = PROCESSES[process]
    t, s = (Point.at(forward, forward.time(lam)) for lam in (-1.0, 0.4))
    frame, scales = frames.reverse(eta), []
    frame.diffused(t, s, scales.append)
    assert frame.scale(s) / frame.scale(t) == pytest.approx(s.sigma / t.sigma * math.exp(-(eta**2) * 1.4), rel=1e-12)
    expected = s.sigma * math.sqrt(-math.expm1(-2 * eta**2 * 1.4))
    assert frame.scale(s) * scales[0] == pytest.approx(expected, rel=1e-12)


def test_the_frame_of_er_sde_is_its_noise_function() -> None:
    def phi(u: float) -> float:
        return u * (math.exp(u**0.3) + 10)

    process = VP()
    t, s = (Point.at(process, process.time(lam)) for lam in (-2.0, 1.0))
    for point in (t, s):
        u = point.sigma / point.alpha
        assert ER.scale(point) == pytest.approx(point.alpha * phi(u), rel=1e-12)
        assert ER.variable(point) == pytest.approx(1 / phi(u), rel=1e-12)
    assert moments(ER, "sigma", t, s, t, 1)[0] == pytest.approx(ER.change(t, s), rel=1e-10)
    scales: list[float] = []
    ER.diffused(t, s, scales.append)
    u, v = t.sigma / t.alpha, s.sigma / s.alpha
    expected = s.alpha * math.sqrt(v**2 - (u * phi(v) / phi(u)) ** 2)
    assert ER.scale(s) * scales[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "options", "inner"), [("dpmpp_sde", {"r": 0.3}, (0.3,)), ("seeds_3", {"r1": 0.2, "r2": 0.7}, (0.2, 0.7))]
)
def test_stages_and_steps_take_their_noise_from_one_path(name: str, options: Any, inner: Any) -> None:
    """A model of x0 = 0 leaves the noise alone: states at levels a < b are B_a and B_b with covariance Var B_a."""
    process, eta = VP(), 0.8
    times = [process.time(lam) for lam in (-1.0, 0.5)]
    plan = planned(name, eta=eta, **options).plan(process, times, "sample")
    rows, states = iter(torch.eye(plan.draws, dtype=torch.float64)), []

    def predict(x: torch.Tensor, t: float) -> torch.Tensor:
        states.append((t, x))
        return torch.zeros_like(x)

    end = plan.run(predict, torch.zeros(plan.draws, dtype=torch.float64), lambda: next(rows))
    states = [*states[1:], (times[-1], end)]
    frame = frames.reverse(eta)
    levels = [process.half_log_snr(t) for t, _ in states]
    assert levels == pytest.approx([-1.0 + 1.5 * r for r in (*inner, 1.0)])
    for i, (t, x) in enumerate(states):
        for s, z in states[i:]:
            scale = frame.scale(Point.at(process, t)) * frame.scale(Point.at(process, s))
            variance = math.exp(2 * eta**2 * levels[i]) - math.exp(-2 * eta**2)
            assert float(x @ z) / scale == pytest.approx(variance, rel=1e-10)


def test_the_path_s_integral_in_sra1_has_the_moments_of_a_brownian_motion() -> None:
    """With η → ∞ in a short step, w and the clock of B agree up to a factor: Var J = h³/3, Cov = h²/2."""
    process = VP()
    t, s = (Point.at(process, process.time(lam)) for lam in (0.0, 1e-3))
    frame = frames.reverse(1.0)
    deviation, along, beside = joint(frame, t, s)
    variance, h = deviation**2, frame.change(t, s)
    assert along * deviation == pytest.approx(variance * h / 2, rel=1e-3)
    assert along**2 + beside**2 == pytest.approx(variance * h**2 / 3, rel=1e-3)


def stage_with_extra_noise(steps: Any, x: Any, predict: Any, noise: Any, extra: float) -> Any:
    """dpmpp_sde whose stage has too much noise, in the right covariance with the noise of the step."""
    frame = frames.reverse(1.0)
    for t, s in steps:
        m = steps.at(0.5 * (t.lam + s.lam))
        first = (t, frame.slope(predict(x, t), t))
        path = frame.diffused(t, m, noise)
        wrong = path + frame.diffused(t, m, lambda scale: noise(extra * scale))
        inner = frame.move(x, t, m, integral(frame, midpoint, t, m, [first]) + wrong)
        known = [first, (m, frame.slope(predict(inner, m), m))]
        x = yield frame.move(x, t, s, integral(frame, midpoint, t, s, known) + path + frame.diffused(m, s, noise))


@every_process
def test_a_wrong_variance_of_a_stage_s_noise_is_seen_on_a_mixture_and_not_on_gaussian_data(process: str) -> None:
    forward = PROCESSES[process]

    def orders(extra: float) -> tuple[float | None, ...]:
        solver = PlannedSolver(
            stage_with_extra_noise,
            {"extra": extra},
            name="wrong",
            reference="",
            order=None,
            weak_order=2,
            grid="uniform",
            to_clean=False,
        )

        return tuple(measure(solver, forward, "karras").order for measure in (frechet_order, weak_order))

    gaussian, mixture = orders(0.5)
    assert gaussian == pytest.approx(2, abs=0.1)
    assert mixture == pytest.approx(1, abs=0.1)
    assert orders(0.0) == pytest.approx((2, 2), abs=0.1)


ROWS = [row for row in agreement_sde.ROWS if row.peer == "diffusers"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.function}-{row.name}-{row.ours}")
def test_agrees_with_diffusers_given_the_same_noise(row: agreement_sde.Row) -> None:
    assert agreement_sde.difference(adapters.load("diffusers"), row) <= TOLERANCE


def test_orders_two_and_three_of_er_sde_are_those_of_riemann_sums_made_exact() -> None:
    """The public implementation has sums over 200 points for ∫ (u − u_t)^k d(1/φ), which tend to ours."""
    process = VP()
    t, s = (Point.at(process, process.time(lam)) for lam in (-0.5, 0.5))
    ends = [math.exp(-point.lam) for point in (t, s)]

    def sums(points: int) -> list[float]:
        width = (ends[0] - ends[1]) / points
        u = ends[1] + width * np.arange(points)
        phi, last = u * (np.exp(u**0.3) + 10), ends[1] * (math.exp(ends[1] ** 0.3) + 10)
        change = ends[1] - ends[0]
        return [
            float(change / last + (1 / phi).sum() * width),
            float((change**2 / 2) / last + ((u - ends[0]) / phi).sum() * width),
        ]

    exact = moments(ER, "sigma", t, s, t, 3)[1:] / np.array([1, 2])
    np.testing.assert_allclose(sums(100_000), exact, rtol=1e-3)
    assert abs(sums(200)[0] / exact[0] - 1) > 1e-3


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("euler_ancestral", {"eta": 1.5}, "euler_ancestral needs eta between 0 and 1, got 1.5"),
        ("dpmpp_2m_sde", {"eta": -1.0}, "at least 0 and finite, got eta = -1"),
        ("dpmpp_2m_sde", {"solver_type": "huen"}, "unknown solver_type 'huen' of dpmpp_2m_sde; did you mean 'heun'"),
        ("dpmpp_sde", {"r": 1.0}, "dpmpp_sde needs r between 0 and 1, got 1.0"),
        ("dpmpp_3m_sde", {"eta": math.inf}, "at least 0 and finite, got eta = inf"),
        ("seeds_3", {"r1": 0.7}, "seeds_3 needs 0 < r1 < r2 < 1"),
        ("er_sde", {"order": 4}, "er_sde has orders 1 to 3, got 4"),
        ("er_sde", {"variant": "exct"}, "unknown variant 'exct' of er_sde; did you mean 'exact'"),
        ("sa_solver", {"order": 5}, "sa_solver has orders 1 to 4, got 5"),
        ("sa_solver", {"corrector_order": 6}, "sa_solver has corrector orders 1 to 5, and 0 for none, got 6"),
        ("predictor_corrector", {"strength": 0.0}, "predictor_corrector needs a positive strength, got 0.0"),
        ("predictor_corrector", {"corrections": 0}, "predictor_corrector needs 1 to 1000 corrections, got 0"),
    ],
)
def test_options_out_of_range_are_refused(name: str, options: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        planned(name, **options).plan(VP(), [1.0, 0.5, 0.1])


@pytest.mark.parametrize("corrections", [1, 3])
def test_langevin_steps_add_their_strength_to_the_square_of_eta(corrections: int) -> None:
    """With x0 = 0 and no draws, x/σ decays by e^{−(η² + strength) h}."""
    process, distances = VP(), []
    solver = planned("predictor_corrector", eta=0.5, strength=0.75, corrections=corrections)
    for steps in (400, 800):
        times = [process.time(lam) for lam in np.linspace(-1.0, 0.5, steps + 1)]
        plan = solver.plan(process, times, "sample")
        zero = torch.zeros(1, dtype=torch.float64)
        end = plan.run(lambda x, t: 0 * x, zero + process.sigma(times[0]), lambda zero=zero: zero)
        distances.append(float(end) / process.sigma(times[-1]) - math.exp(-(0.25 + 0.75) * 1.5))
    assert abs(distances[1]) < 2e-3
    assert distances[0] / distances[1] == pytest.approx(2, abs=0.05)
