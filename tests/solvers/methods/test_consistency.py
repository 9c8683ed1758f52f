"""Consistency and distilled models: their samplers are those of their papers, and of diffusers' schedulers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor

import solvers
from scoresde.process import EDM, VP, Flow, VPDiscrete
from solvers import PlannedSolver

schedulers: Any = import_module("diffusers.schedulers")

SHAPE = (3, 2, 4, 4)
BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2


def model(x: Tensor, t: float) -> Tensor:
    """Any smooth function: what is compared is what samplers make of it."""
    return torch.tanh(1.3 * x + 0.002 * t) + 0.3 * x.flip(-1)


def draws(seed: int = 0) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randn(SHAPE, generator=generator, dtype=torch.float64)


def ours(
    name: str,
    process: Any,
    times: list[float],
    net: Callable[..., Tensor],
    prediction: str = "sample",
    start: float | None = None,
    **options: Any,
) -> Tensor:
    """Samples by the plan, which must be those of the same text on tensors, from ``start`` times draw 0."""
    solver = solvers.get(name, **options)
    assert isinstance(solver, PlannedSolver)
    scale = process.sigma(times[0]) if start is None else start
    noise = draws()
    planned = solver.plan(process, times, prediction).run(net, scale * next(noise), lambda: next(noise))
    noise = draws()
    run = solver.run(process, times, net, scale * next(noise), lambda: next(noise), prediction=prediction)
    torch.testing.assert_close(planned, run, rtol=1e-10, atol=1e-10)
    return planned


def theirs(scheduler: Any, net: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch, **options: Any) -> Tensor:
    """diffusers' scheduler on the same draws; times as the scheduler has set them."""
    noise = draws()
    module = import_module(type(scheduler).__module__)
    monkeypatch.setattr(module, "randn_tensor", lambda *args, **kwargs: next(noise))
    x = scheduler.init_noise_sigma * next(noise)
    for t in scheduler.timesteps:
        fed = scheduler.scale_model_input(x, t)
        x = scheduler.step(net(fed, t), t, x, **options).prev_sample
    return x


@pytest.mark.parametrize("indices", [[0], [22, 0], [39, 20, 5, 0]])
def test_consistency_agrees_with_diffusers(indices: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = schedulers.CMStochasticIterativeScheduler(num_train_timesteps=40, clip_denoised=False)
    scheduler.set_timesteps(timesteps=indices)
    times = [float(t) for t in scheduler.sigmas[:-1].double()]
    low = scheduler.config.sigma_min

    def consistent(x: Tensor, t: float) -> Tensor:
        """The boundary condition around a network that is given x/√(σ² + ¼) and 250 log σ."""
        skip = 0.25 / ((t - low) ** 2 + 0.25)
        out = 0.5 * (t - low) / (t**2 + 0.25) ** 0.5
        return skip * x + out * model(x / (t**2 + 0.25) ** 0.5, 250 * torch.tensor(t).log().item())

    found = ours("consistency", EDM(), [*times, 0.0], consistent)
    expected = theirs(scheduler, lambda x, t: model(x, float(t)), monkeypatch)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_consistency_is_the_paper_s_algorithm() -> None:
    times, low = [80.0, 24.4, 5.84, 0.9], 0.002
    noise = draws()
    x = model(times[0] * next(noise), times[0])
    for t in times[1:]:
        x = model(x + (t**2 - low**2) ** 0.5 * next(noise), t)
    torch.testing.assert_close(ours("consistency", EDM(), [*times, 0.0], model), x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("steps", [1, 4, 8])
def test_lcm_agrees_with_diffusers(prediction: str, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = schedulers.LCMScheduler(trained_betas=BETAS.tolist(), prediction_type=prediction)
    scheduler.alphas_cumprod = torch.cumprod(1 - BETAS, 0)  # theirs are rounded to float32
    scheduler.set_timesteps(steps)
    times = [float(t) for t in scheduler.timesteps]
    found = ours("lcm", VPDiscrete(BETAS), [*times, -1.0], model, prediction, start=1.0)
    expected = theirs(scheduler, lambda x, t: model(x, float(t)), monkeypatch)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_tcd_agrees_with_diffusers(prediction: str, eta: float, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = schedulers.TCDScheduler(trained_betas=BETAS.tolist(), prediction_type=prediction)
    scheduler.alphas_cumprod = torch.cumprod(1 - BETAS, 0)
    times = [999, 750, 500, 250]  # of which half is a timestep too, since theirs rounds it down to one
    scheduler.set_timesteps(timesteps=times)
    found = ours("tcd", VPDiscrete(BETAS), [*times, 0.0], model, prediction, 1.0, eta=eta)  # theirs end at timestep 0
    expected = theirs(scheduler, lambda x, t: model(x, float(t)), monkeypatch, eta=eta)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("process", [VP(), EDM(), VPDiscrete()], ids=lambda process: process.name)
def test_tcd_without_noise_is_ddim(process: Any) -> None:
    times = solvers.grids.get("karras")(process, 6).tolist()
    found = ours("tcd", process, times, model, eta=0.0)
    torch.testing.assert_close(found, ours("ddim", process, times, model), rtol=1e-10, atol=1e-10)
    assert solvers.get("tcd", eta=0.0).order == 1


@pytest.mark.parametrize("name", ["consistency", "lcm"])
def test_few_step_solvers_take_fresh_noise_from_alpha_zero_on_too(name: str) -> None:
    noise = draws()
    first = next(noise)
    x = 0.4 * model(first, 1.0) + 0.6 * next(noise)
    options: dict[str, Any] = {"sigma_min": 0.0} if name == "consistency" else {"timestep_scaling": 1e4}
    found = ours(name, Flow(), [1.0, 0.6, 0.0], model, **options)
    torch.testing.assert_close(found, model(x, 0.6), rtol=0, atol=1e-6)


def test_lcm_on_flow_agrees_with_diffusers(monkeypatch: pytest.MonkeyPatch) -> None:
    """FlowMatchLCMScheduler has no boundary condition; its states and σ are float32."""
    scheduler = schedulers.FlowMatchLCMScheduler(shift=3.0)
    scheduler.set_timesteps(4)
    times = scheduler.sigmas.double().tolist()
    noise = draws()
    monkeypatch.setattr(import_module(type(scheduler).__module__), "randn_tensor", lambda *args, **kwargs: next(noise))
    expected = next(noise)
    for t, sigma in zip(scheduler.timesteps, times, strict=False):
        expected = scheduler.step(model(expected, sigma), t, expected).prev_sample
    for name, options in (("consistency", {"sigma_min": 0.0}), ("lcm", {"timestep_scaling": 1e4})):
        found = ours(name, Flow(), times, model, "flow", **options)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["euler", "heun", "ddim", "dpmpp_2m"])
def test_a_rectified_flow_takes_one_step_or_many_to_the_same_place(name: str) -> None:
    """On a straight flow, x_t = (1 − t) x0 + t x1 with x0 = 3 + x1/2, the velocity at x_t is that of its own line."""

    def velocity(x: Tensor, t: float) -> Tensor:
        end = (x - 3 * (1 - t)) / (t + (1 - t) / 2)
        return end - (3 + end / 2)

    noise = next(draws())
    for times in ([1.0, 0.0], [1.0, 0.8, 0.0], [1.0, 0.9, 0.7, 0.45, 0.0]):
        found = ours(name, Flow(), times, velocity, "flow")
        torch.testing.assert_close(found, 3 + noise / 2, rtol=1e-9, atol=1e-9)


def test_lcm_keeps_the_boundary_condition() -> None:
    """At t_min the model is the identity, whatever the network returns."""
    process = VPDiscrete()
    noise = draws()
    expected = process.sigma(0.0) * next(noise)
    torch.testing.assert_close(ours("lcm", process, [0.0, -1.0], model), expected, rtol=0, atol=1e-12)


def test_a_model_that_knows_the_trajectories_is_sampled_in_one_step_and_in_many_alike() -> None:
    """On Gaussian data the trajectory through x ends at x √(v/(v + σ²)): one step and ten have the data's variance."""
    variance, count = 0.64, 200_000
    noise = torch.Generator().manual_seed(3)

    def end(x: Tensor, t: float) -> Tensor:
        return x * (variance / (variance + t**2)) ** 0.5

    def draw() -> Tensor:
        return torch.randn(count, generator=noise, dtype=torch.float64)

    for name, options in (("consistency", {"sigma_min": 0.0}), ("lcm", {"timestep_scaling": 1e6})):
        solver = solvers.get(name, **options)
        for steps in (1, 10):
            times = solver.recommended(EDM(), steps)
            found = solver.run(EDM(), times, end, 80.0 * draw(), draw, prediction="sample")
            assert float(found.var()) == pytest.approx(variance, rel=0.02), (name, steps)


def test_a_plain_denoiser_does_not_make_them_converge() -> None:
    """Why they declare no order: with E[x0 | x] the variance stays below the data's, however many the steps."""
    for name in ("consistency", "lcm", "tcd"):
        solver = solvers.get(name)
        assert isinstance(solver, PlannedSolver)
        assert (solver.order, solver.weak_order, solver.stochastic) == (None, None, True)
        ends = [solver.plan(VP(), solvers.grids.get("quadratic")(VP(), n)).moments(VP(), 0.0, 1.0) for n in (50, 400)]
        assert all(float(end.variance) < 0.9 for end in ends)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("consistency", {"sigma_min": -0.1}, "sigma_min of at least 0, got -0.1"),
        ("lcm", {"timestep_scaling": 0.0}, "positive timestep_scaling, got 0.0"),
        ("tcd", {"eta": 1.2}, "eta between 0 and 1, got 1.2"),
    ],
)
def test_options_out_of_range_are_refused(name: str, options: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        solvers.get(name, **options)
