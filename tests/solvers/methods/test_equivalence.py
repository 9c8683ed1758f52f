"""What must be equal is equal: identities between methods, prediction types, plans, and public implementations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import solvers
from scoresde.exact import Gaussian, GaussianMixture
from scoresde.process import EDM, VE, VP, Cosine, Flow, Process, SubVP, VPDiscrete
from solvers import PlannedSolver
from solvers.prediction import TYPES

PROCESSES = [VP(), VPDiscrete(), Cosine(), SubVP(), VE(), EDM(), Flow()]
PLANNED: list[tuple[str, dict[str, Any]]] = [
    ("ddim", {}),
    ("ddim", {"eta": 0.7}),
    ("ddpm", {}),
    ("dpm_solver_1", {}),
    ("dpm_solver_2", {"r1": 0.4}),
    ("dpm_solver_3", {}),
    ("dpm_solver_3", {"solver_type": "heun"}),
    ("dpmpp_2s", {"r1": 0.7}),
    ("dpmpp_3s", {}),
    ("dpmpp_3s", {"nodes": "grid"}),
    ("dpm_solver_3", {"solver_type": "heun", "nodes": "grid"}),
    ("dpm_fast", {"remainder": 0}),
    ("exp_heun", {}),
    ("dpmpp_2m", {}),
    ("dpmpp_3m", {}),
    ("dpmpp_3m", {"variant": "published"}),
    ("dpmpp_3m", {"variant": "published", "solver_type": "midpoint", "lower_order_final": True}),
    ("dpm_solver_2m", {}),
    ("dpm_solver_3m", {"starter": "singlestep"}),
    ("res_multistep", {}),
    ("eab", {"order": 4, "frame": "flow", "variable": "sigma"}),
    ("eab", {"order": 3, "frame": "data", "variable": "vp_time"}),
    ("eab", {"order": 2, "frame": "vp", "variable": "frame"}),
    ("deis", {}),
    ("lms", {"starter": "singlestep"}),
    ("ipndm", {}),
    ("pndm", {}),
    ("gradient_estimation", {}),
    ("reab", {"data_std": 0.5}),
    ("uni_pc", {}),
    ("uni_pc", {"order": 4, "starter": "singlestep", "frame": "edm"}),
    ("uni_pc", {"order": 3, "lower_order_final": True}),
    ("sa_solver", {"eta": 0.0, "corrector_order": 1}),
    ("runge_kutta", {}),
    ("runge_kutta", {"tableau": "nystrom5", "frame": "vp"}),
    ("euler", {}),
    ("euler", {"frame": "vp"}),
    ("heun", {"frame": "data"}),
    ("euler_maruyama", {}),
    ("heun", {}),
    ("heun", {"frame": "flow", "s_churn": 3.0, "s_noise": 1.01}),
]

every_process = pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
every_case = pytest.mark.parametrize("case", PLANNED, ids=lambda case: f"{case[0]}-{case[1]}")


def predictor(process: Process, prediction: str = "sample") -> Callable[[Tensor, float], Tensor]:
    """An exact model in two dimensions, of the given prediction type."""
    means = [[-1.0, 0.5], [0.8, 1.0], [0.3, -1.2]]
    model = GaussianMixture(process, [0.5, 0.3, 0.2], means, [0.05, 0.1, 0.02], prediction=prediction)
    return model.output


def planned(name: str, **options: Any) -> PlannedSolver:
    solver = solvers.get(name, **options)
    assert isinstance(solver, PlannedSolver)
    return solver


def times_between(process: Process, first: float, last: float, steps: int) -> list[float]:
    """Times evenly in λ and then zero noise: every prediction type is defined on all of them."""
    return [*(process.time(float(value)) for value in np.linspace(first, last, steps)), process.t_clean]


def states(process: Process, t: float) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    norm = math.hypot(process.alpha(t), process.sigma(t))
    return norm * torch.randn(6, 2, generator=generator, dtype=torch.float64)


def draws(seed: int = 2) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(6, 2, generator=generator, dtype=torch.float64)


def run(name: str, process: Process, times: Any, prediction: str = "sample", **options: Any) -> Tensor:
    plan = planned(name, **options).plan(process, times, prediction)
    return plan.run(predictor(process, prediction), states(process, plan.times[0]), draws())


def close(a: Tensor, b: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance * max(1.0, float(b.abs().max())))


# Prediction types and plans


@every_case
@every_process
def test_all_prediction_types_of_one_function_give_the_same_samples(
    process: Process, case: tuple[str, dict[str, Any]]
) -> None:
    times = times_between(process, -2.5, 4, 5)
    expected = run(case[0], process, times, "sample", **case[1])
    for prediction in TYPES:
        close(run(case[0], process, times, prediction, **case[1]), expected, 1e-10)


@every_case
def test_prediction_types_agree_from_zero_signal_on(case: tuple[str, dict[str, Any]]) -> None:
    times = solvers.grids.get("log_snr")(Flow(), 5)
    assert Flow().alpha(float(times[0])) == 0
    expected = run(case[0], Flow(), times, "sample", **case[1])
    for prediction in ("v_prediction", "flow"):
        close(run(case[0], Flow(), times, prediction, **case[1]), expected, 1e-10)
    for prediction in ("epsilon", "score"):
        with pytest.raises(ValueError, match=f"'{prediction}' says nothing about x0 at t = 1.0, where α = 0"):
            run(case[0], Flow(), times, prediction, **case[1])


@every_case
@every_process
def test_a_function_on_tensors_equals_its_plan(process: Process, case: tuple[str, dict[str, Any]]) -> None:
    solver, times = planned(case[0], **case[1]), times_between(process, -2.5, 4, 5)
    for prediction in ("sample", "v_prediction"):
        x, predict = states(process, times[0]), predictor(process, prediction)
        on_tensors = solver.run(process, times, predict, x, draws(), prediction=prediction)
        close(solver.plan(process, times, prediction).run(predict, x, draws()), on_tensors, 1e-12)


def test_a_function_on_tensors_refuses_what_its_plan_refuses() -> None:
    times = solvers.grids.get("log_snr")(Flow(), 5)
    with pytest.raises(ValueError, match="says nothing about x0"):
        planned("ddim").run(Flow(), times, predictor(Flow(), "epsilon"), states(Flow(), 1.0), prediction="epsilon")
    with pytest.raises(ValueError, match="draws noise"):
        planned("ddpm").run(VP(), [1.0, 0.5], predictor(VP()), states(VP(), 1.0), prediction="sample")


# Identities


@every_process
def test_ddim_is_exponential_euler_in_half_log_snr(process: Process) -> None:
    """d(x/σ)/dλ = e^λ x0, integrated exactly with x0 held over each step."""
    times = times_between(process, -2.5, 4, 7)[:-1]
    x, predict = states(process, times[0]), predictor(process)
    found = planned("ddim").plan(process, times, "sample").run(predict, x)
    for t, s in zip(times, times[1:], strict=False):
        integral = math.exp(process.half_log_snr(s)) - math.exp(process.half_log_snr(t))
        x = process.sigma(s) * (x / process.sigma(t) + integral * predict(x, t))
    close(found, x, 1e-12)


@every_process
def test_first_order_methods_are_one_method(process: Process) -> None:
    times = times_between(process, -2.5, 4, 7)
    expected = run("ddim", process, times)
    close(run("dpm_solver_1", process, times), expected, 1e-12)
    close(run("euler", process, times, frame="edm"), expected, 1e-12)


@every_process
def test_ddim_with_full_noise_is_ddpm(process: Process) -> None:
    times = times_between(process, -2.5, 4, 7)
    close(run("ddim", process, times, eta=1.0), run("ddpm", process, times), 1e-12)


@every_process
def test_dpmpp_2m_is_the_two_step_recurrence_of_its_paper(process: Process) -> None:
    """DPM-Solver++, Algorithm 2, with D_i = (1 + 1/2r) x0_{i−1} − (1/2r) x0_{i−2}, r = h_{i−1}/h_i."""
    times = times_between(process, -2.5, 4, 7)[:-1]
    lam = [process.half_log_snr(t) for t in times]
    x, predict = states(process, times[0]), predictor(process)
    found = planned("dpmpp_2m").plan(process, times, "sample").run(predict, x)
    outputs: list[Tensor] = []
    for i in range(1, len(times)):
        outputs.append(predict(x, times[i - 1]))
        h = lam[i] - lam[i - 1]
        data = outputs[-1]
        if i > 1:
            r = (lam[i - 1] - lam[i - 2]) / h
            data = (1 + 0.5 / r) * outputs[-1] - 0.5 / r * outputs[-2]
        ratio = process.sigma(times[i]) / process.sigma(times[i - 1])
        x = ratio * x - process.alpha(times[i]) * (math.exp(-h) - 1) * data
    close(found, x, 1e-11)


@pytest.mark.parametrize(
    "options", [{}, {"s_churn": 30.0, "s_tmin": 0.05, "s_tmax": 50.0, "s_noise": 1.003}, {"s_churn": 5.0}]
)
def test_heun_is_the_sampler_of_edm(options: dict[str, float]) -> None:
    """Karras et al. 2022, Algorithm 2, as printed."""
    process, steps = EDM(), 9
    sigmas = [*((80 ** (1 / 7) + i / (steps - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(steps)), 0.0]
    churn, noise_scale = options.get("s_churn", 0.0), options.get("s_noise", 1.0)
    denoiser, noise = predictor(process), draws()
    x = states(process, 80.0)
    for i in range(steps):
        t = sigmas[i]
        active = options.get("s_tmin", 0.0) <= t <= options.get("s_tmax", math.inf)
        gamma = min(churn / steps, math.sqrt(2) - 1) if active else 0.0
        t_hat = t + gamma * t
        if gamma > 0:
            x = x + math.sqrt(t_hat**2 - t**2) * noise_scale * noise()
        d = (x - denoiser(x, t_hat)) / t_hat
        x_next = x + (sigmas[i + 1] - t_hat) * d
        if sigmas[i + 1] != 0:
            d_next = (x_next - denoiser(x_next, sigmas[i + 1])) / sigmas[i + 1]
            x_next = x + (sigmas[i + 1] - t_hat) * (d + d_next) / 2
        x = x_next
    close(run("heun", process, solvers.grids.get("karras")(process, steps), "epsilon", **options), x, 1e-10)


@pytest.mark.parametrize("method", ["euler", "midpoint", "heun2", "heun3", "rk4"])
@pytest.mark.parametrize("frame", ["vp", "flow"])
@every_process
def test_fixed_step_methods_of_torchdiffeq_are_ours(process: Process, frame: str, method: str) -> None:
    times = times_between(process, -2.5, 4, 5)[:-1]
    x, predict = states(process, times[0]), predictor(process)
    theirs = solvers.get("pf_ode", method=method, frame=frame).run(process, times, predict, x, prediction="sample")
    tableau = "rk4_38" if method == "rk4" else method
    close(run("runge_kutta", process, times, frame=frame, tableau=tableau), theirs, 1e-9)


IDENTITIES: list[tuple[tuple[str, dict[str, Any]], tuple[str, dict[str, Any]]]] = [
    (("heun", {"frame": "vp"}), ("runge_kutta", {"frame": "vp", "tableau": "heun2"})),
    (("euler", {"frame": "flow"}), ("runge_kutta", {"frame": "flow", "tableau": "euler"})),
    (("ipndm_v", {"order": 3}), ("lms", {"order": 3})),
    (("lms", {}), ("eab", {"order": 4, "frame": "edm", "variable": "frame"})),
    (("res_multistep", {}), ("dpmpp_2m", {"solver_type": "heun"})),
    (("res_multistep", {"order": 3}), ("dpmpp_3m", {})),
    (("dpmpp_3m", {"starter": "singlestep"}), ("eab", {"starter": "singlestep"})),
    (("dpm_solver_3m", {}), ("eab", {"frame": "edm"})),
    (("reab", {"order": 2}), ("eab", {"order": 2, "frame": "vp"})),
    (("uni_pc", {"order": 3, "corrector": False, "variant": "vary_coeff"}), ("eab", {})),
    (("uni_pc", {"order": 2, "corrector": False}), ("dpmpp_2m", {})),
    (("uni_pc", {"order": 1, "corrector": False, "frame": "edm"}), ("ddim", {})),
    (("gradient_estimation", {"gamma": 1.0}), ("ddim", {})),
    (("ipndm", {"order": 1}), ("ddim", {})),
    (("deis", {"order": 1}), ("ddim", {})),
]


@pytest.mark.parametrize(("one", "other"), IDENTITIES, ids=lambda case: f"{case[0]}-{case[1]}")
@every_process
def test_members_of_a_family_under_two_names_are_one_method(process: Process, one: Any, other: Any) -> None:
    times = times_between(process, -2.5, 4, 7)
    close(run(one[0], process, times, **one[1]), run(other[0], process, times, **other[1]), 1e-10)


# Orders at the end


def passed(name: str, steps: int, ends: tuple[float, float] = (-2.5, 4.0), **options: Any) -> list[Tensor]:
    """The states at the ends of that many steps on VP, even in λ."""
    times = times_between(VP(), *ends, steps + 1)[:-1]
    seen: list[Tensor] = []
    plan = planned(name, **options).plan(VP(), times, "sample")
    plan.run(predictor(VP()), states(VP(), times[0]), step=lambda x, t: seen.append(x))
    return seen


LOWERED = [("dpmpp_3m", {}), ("dpmpp_3m", {"variant": "published"}), ("dpm_solver_3m", {"solver_type": "midpoint"})]


@given(st.sampled_from(LOWERED), st.integers(1, 9))
@settings(deadline=None, max_examples=30)
def test_the_last_steps_of_a_multistep_method_fall_to_the_first_order(case: Any, steps: int) -> None:
    """The last step is DDIM's, the one before has two nodes, those before are what they were."""
    lowered, plain = passed(case[0], steps, **case[1], lower_order_final=True), passed(case[0], steps, **case[1])
    for ours, theirs in zip(lowered[:-2], plain[:-2], strict=True):
        close(ours, theirs, 1e-12)
    times, before = times_between(VP(), -2.5, 4, steps + 1)[:-1], [states(VP(), VP().time(-2.5)), *lowered]
    last = planned("ddim").plan(VP(), times[-2:], "sample").run(predictor(VP()), before[-2])
    close(lowered[-1], last, 1e-12)
    if steps > 2:
        two = passed(case[0].replace("3m", "2m"), steps, solver_type=case[1].get("solver_type", "heun"))
        assert steps > 3 or torch.allclose(lowered[-2], two[-2], rtol=0, atol=1e-12)


@given(st.integers(2, 4), st.integers(1, 9), st.booleans(), st.sampled_from(["bh1", "bh2", "vary_coeff"]))
@settings(deadline=None, max_examples=40)
def test_unipc_that_lowers_its_order_never_has_more_than_half_of_the_steps(
    order: int, steps: int, corrector: bool, variant: str
) -> None:
    """Step i = 0 … n − 1 has at most i + 1 nodes at the start and n − i at the end, and its correction one more."""
    options: dict[str, Any] = {"corrector": corrector, "variant": variant, "lower_order_final": True, "frame": "edm"}
    lowered = passed("uni_pc", steps, order=order, **options)
    close(lowered[-1], passed("uni_pc", steps, order=min(order, (steps + 1) // 2), **options)[-1], 1e-12)
    plain = passed("uni_pc", steps, order=order, **{**options, "lower_order_final": False})
    for ours, theirs in zip(lowered[: max(steps - order + 1, 0)], plain, strict=False):
        close(ours, theirs, 1e-12)
    assert steps < 3 or (lowered[-1] - plain[-1]).abs().max() > 1e-6


def test_a_corrector_of_one_node_is_the_implicit_step() -> None:
    """x_s = (σ_s/σ_t) x_t − α_s (e^−h − 1) x0_s with x0_s at the prediction, DDIM's at the first step."""
    times, predict = times_between(VP(), -2.5, 4, 3)[:-1], predictor(VP())
    found = run("sa_solver", VP(), times, eta=0.0, order=1, corrector_order=1)
    x, s, last = states(VP(), times[0]), times[1], times[2]

    def step(x: Tensor, data: Tensor, t: float, s: float) -> Tensor:
        h = VP().half_log_snr(s) - VP().half_log_snr(t)
        return VP().sigma(s) / VP().sigma(t) * x - VP().alpha(s) * math.expm1(-h) * data

    data = predict(step(x, predict(x, times[0]), times[0], s), s)
    close(found, step(step(x, data, times[0], s), data, s, last), 1e-12)


# Singlestep methods on the points of the grid

ON_GRID = [("dpmpp_3s", "dpmpp_2s"), ("dpm_solver_3", "dpm_solver_2")]


@pytest.mark.parametrize(("third", "second"), ON_GRID)
@pytest.mark.parametrize("solver_type", ["midpoint", "heun"])
def test_nodes_on_the_grid_are_those_of_a_step_that_spans_them(third: str, second: str, solver_type: str) -> None:
    """On three even intervals the step of nodes 1/3 and 2/3, on what is left over those of lower order."""
    seen = passed(third, 8, solver_type=solver_type, nodes="grid")
    lam = np.linspace(-2.5, 4, 9)
    times = [VP().time(float(value)) for value in lam]

    def single(name: str, x: Tensor, first: int, last: int, **options: Any) -> Tensor:
        plan = planned(name, **options).plan(VP(), [times[first], times[last]], "sample")
        return plan.run(predictor(VP()), x)

    x = states(VP(), times[0])
    if solver_type == "heun":  # with midpoint, the stage at 2/3 is the midpoint rule's too
        close(seen[2], single(third, x, 0, 3, solver_type=solver_type), 1e-12)
    for start, before in ((0, x), (3, seen[2]), (6, seen[5])):
        close(seen[start], single("ddim", before, start, start + 1), 1e-12)
        close(seen[start + 1], single(second, before, start, start + 2, solver_type=solver_type), 1e-12)


@pytest.mark.parametrize(("left", "order"), [(0, 3), (1, 2), (2, 3)])
@pytest.mark.parametrize("solver_type", ["midpoint", "heun"])
@pytest.mark.parametrize("name", ["dpmpp_3s", "dpm_solver_3"])
def test_nodes_on_the_grid_keep_the_order_that_the_last_step_has(
    name: str, solver_type: str, left: int, order: int
) -> None:
    """A last step of order p has a local error of order p + 1; but for it the order is 3 on a grid even in λ."""
    ends, options = (-1.5, 2.0), {"solver_type": solver_type, "nodes": "grid"}
    exact = passed("runge_kutta", 300, ends, frame="vp")[-1]
    errors = [float((passed(name, steps + left, ends, **options)[-1] - exact).abs().max()) for steps in (192, 384)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.3)
    assert solvers.get(name, **options).order == 2


def test_a_state_that_is_edited_within_a_step_of_three_intervals_keeps_its_edit() -> None:
    times = times_between(VP(), -2.5, 4, 4)[:-1]
    plan = planned("dpmpp_3s", nodes="grid").plan(VP(), times, "sample")

    def end(shift: float) -> Tensor:
        def constant(x: Tensor, t: float) -> Tensor:
            return torch.zeros_like(x)

        return plan.run(constant, states(VP(), times[0]), step=lambda x, t: x + shift if t == times[1] else None)

    close(
        end(1.0) - end(0.0),
        torch.full((6, 2), VP().sigma(times[-1]) / VP().sigma(times[1]), dtype=torch.float64),
        1e-10,
    )


@every_process
def test_exponential_heun_has_the_weights_of_phi_functions(process: Process) -> None:
    """Hochbruck & Ostermann 2010, order 2, c₂ = 1: weights φ₁(−h) − φ₂(−h) and φ₂(−h) for y' = −y + x0 in λ."""
    times = times_between(process, -2.5, 4, 7)[:-1]
    x, predict = states(process, times[0]), predictor(process)
    found = planned("exp_heun").plan(process, times, "sample").run(predict, x)
    for t, s in zip(times, times[1:], strict=False):
        h = process.half_log_snr(s) - process.half_log_snr(t)
        phi_1, phi_2 = -math.expm1(-h) / h, (math.expm1(-h) + h) / h**2
        decayed, scale = process.sigma(s) / process.sigma(t) * x, process.alpha(s) * h
        first = predict(x, t)
        second = predict(decayed + scale * phi_1 * first, s)
        x = decayed + scale * ((phi_1 - phi_2) * first + phi_2 * second)
    close(found, x, 1e-11)


@every_process
def test_gaussian_data_cost_the_rosenbrock_method_nothing(process: Process) -> None:
    """Its linear part is exact for N(0, c² I): any number of steps, of any length, gives the exact solution."""
    model = Gaussian(process, torch.zeros(2).double(), 0.3**2 * torch.eye(2).double())
    times = times_between(process, -2.5, 4, 3)[:-1]
    x = states(process, times[0])
    found = planned("reab", data_std=0.3).plan(process, times, "sample").run(model.output, x)
    close(found, model.solution(x, times[0], times[-1]), 1e-12)
    assert (found - run("reab", process, times, data_std=1.0)).abs().max() > 1e-3


def test_equal_step_weights_are_right_where_steps_are_equal() -> None:
    """On EDM, whose time is σ/α, ipndm on the uniform grid is lms; on another grid it is not."""
    times = [float(t) for t in np.linspace(10, 1, 12)]
    close(run("ipndm", EDM(), times), run("lms", EDM(), times), 1e-11)
    times = solvers.grids.get("karras")(EDM(), 12)
    assert (run("ipndm", EDM(), times) - run("lms", EDM(), times)).abs().max() > 1e-3


def test_an_edited_state_keeps_its_edit_through_unipc_s_corrector() -> None:
    """What a callback adds to the state at the end of a step is still there after that step is corrected."""
    times = times_between(VP(), -2.5, 4, 4)[:-1]
    plan = planned("uni_pc").plan(VP(), times, "sample")
    seen: list[Tensor] = []

    def constant(x: Tensor, t: float) -> Tensor:
        return torch.zeros_like(x)

    def end(shift: float) -> Tensor:
        return plan.run(constant, states(VP(), times[0]), step=lambda x, t: x + shift if t == times[1] else None)

    seen = [end(0.0), end(1.0)]
    close(seen[1] - seen[0], torch.full_like(seen[0], VP().sigma(times[-1]) / VP().sigma(times[1])), 1e-10)


# Public implementations; diffusers keeps its tables in float32, hence 1e-5


def discrete(**options: Any) -> dict[str, Any]:
    return {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear", **options}


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("eta", [0.0, 0.6])
def test_ddim_agrees_with_diffusers(eta: float, prediction: str) -> None:
    """Where the step count divides 1000: elsewhere theirs steps to t − 1000 // steps, which is not its next time."""
    theirs = DDIMScheduler(**discrete(clip_sample=False, prediction_type=prediction, timestep_spacing="trailing"))
    theirs.set_timesteps(10)
    process = VPDiscrete()
    cumulative = theirs.alphas_cumprod[theirs.timesteps].double().numpy()
    times = [*(process.time(float(value)) for value in 0.5 * np.log(cumulative / (1 - cumulative))), process.t_clean]
    predict, x = predictor(process, prediction), states(process, times[0])
    generator = torch.Generator().manual_seed(2)
    expected = x
    for step, t in zip(theirs.timesteps, times, strict=False):
        output = predict(expected, t)
        expected = theirs.step(output, int(step), expected, eta=eta, generator=generator).prev_sample  # type: ignore[union-attr]
    close(planned("ddim", eta=eta).plan(process, times, prediction).run(predict, x, draws()), expected, 1e-5)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("steps", [6, 20])
@pytest.mark.parametrize("karras", [False, True])
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_dpmpp_2m_agrees_with_diffusers(karras: bool, steps: int, prediction: str) -> None:
    theirs = DPMSolverMultistepScheduler(
        **discrete(
            algorithm_type="dpmsolver++",
            solver_order=2,
            solver_type="midpoint",
            use_karras_sigmas=karras,
            final_sigmas_type="zero",
            prediction_type=prediction,
        )
    )
    theirs.set_timesteps(steps)
    process = VPDiscrete()
    times = [process.time(-math.log(float(sigma))) for sigma in theirs.sigmas[:-1]] + [process.t_clean]
    predict, x = predictor(process, prediction), states(process, times[0])
    expected = x
    for step, t in zip(theirs.timesteps, times, strict=False):
        expected = theirs.step(predict(expected, t), step, expected).prev_sample  # type: ignore[union-attr]
    close(planned("dpmpp_2m").plan(process, times, prediction).run(predict, x), expected, 1e-5)


def test_ddpm_agrees_with_diffusers_at_every_step() -> None:
    theirs = DDPMScheduler(**discrete(variance_type="fixed_small", clip_sample=False))
    theirs.set_timesteps(20)
    process = VPDiscrete()
    cumulative = theirs.alphas_cumprod[theirs.timesteps].double().numpy()
    times = [*(process.time(float(value)) for value in 0.5 * np.log(cumulative / (1 - cumulative))), process.t_clean]
    predict, x = predictor(process, "epsilon"), states(process, times[0])
    ours: list[Tensor] = []
    planned("ddpm").plan(process, times, "epsilon").run(predict, x, draws(), step=lambda state, t: ours.append(state))
    generator = torch.Generator().manual_seed(2)
    for step, t, found in zip(theirs.timesteps, times, ours, strict=False):
        x = theirs.step(predict(x, t), int(step), x, generator=generator).prev_sample  # type: ignore[union-attr]
        close(found, x, 1e-5)
