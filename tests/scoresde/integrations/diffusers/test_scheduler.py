"""Our Scheduler by itself: walked through as pipelines do, it is the plan."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from torch import Tensor

import scoresde
import solvers
from scoresde.integrations.diffusers import Scheduler
from scoresde.integrations.diffusers.conventions import read
from solvers import PlanError, PlannedSolver, grids
from solvers.plan.instructions import Eval

lib: Any = diffusers  # whose names are made when they are asked for, which type checkers do not follow
STABLE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False}
CONFIGS: dict[str, Any] = {
    "chain": lib.DDIMScheduler(**STABLE).config,
    "EDM": lib.EDMEulerScheduler().config,
    "flow": lib.FlowMatchEulerDiscreteScheduler(shift=3.0).config,
}
GUIDED = ("ddim_cfg_pp", "euler_cfg_pp", "dpmpp_2m_cfg_pp")  # need the unconditional output as well
PLANNED = [name for name in solvers.names() if isinstance(solvers.get(name), PlannedSolver) and name not in GUIDED]
Net = Callable[[Tensor, Tensor], Tensor]


def net(x: Tensor, t: Tensor) -> Tensor:
    """A network that looks at its input and its time."""
    return torch.sin(1.3 * x) + 0.2 * torch.cos(t / 100) * x


def start(seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def walked(scheduler: Any, x: Tensor, network: Net = net, **step: Any) -> Tensor:
    """The loop of a pipeline."""
    for t in scheduler.timesteps[getattr(scheduler, "begin_index", None) or 0 :]:
        output = network(scheduler.scale_model_input(x, t), t)
        x = scheduler.step(output, t, x, **step, return_dict=False)[0]
    return x


def model(config: Any) -> scoresde.ScoreModel:
    """The same network in our own loop."""
    trained = read(config)

    def network(x: Tensor, t: Tensor) -> Tensor:
        fed = trained.time_input(t)[0].float()
        scale = 1.0 if trained.input_scale is None else float(trained.input_scale(t)[0])
        output = net(scale * x, fed)
        if trained.output_scales is None:
            return output
        skip, out = (float(value[0]) for value in trained.output_scales(t.double()))
        return skip * x + out * output

    return scoresde.ScoreModel(network, trained.process, trained.prediction)


def ours(config: Any, name: str, x: Tensor, times: Any, **options: Any) -> Tensor:
    return scoresde.sample(model(config), solvers.get(name), x_init=x, grid=times, **options).samples


# The plan


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("name", PLANNED)
def test_every_planned_solver_gives_what_our_loop_gives(name: str, kind: str) -> None:
    config = CONFIGS[kind]
    scheduler = Scheduler.from_config(config, solver=name, grid="uniform", seeds=5)
    scheduler.set_timesteps(5)
    x = scheduler.init_noise_sigma * start()
    times = grids.get("uniform")(read(config).process, 5)
    if kind == "flow":
        times = np.append(3 * times[:-1] / (1 + 2 * times[:-1]), 0.0)
    expected = ours(config, name, x, times, seeds=[5, 6])
    torch.testing.assert_close(walked(scheduler, x), expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))


def test_timesteps_are_evaluations_and_num_inference_steps_are_steps() -> None:
    counts = {"ddim": (6, 1), "uni_pc": (6, 1), "heun": (11, 2), "dpm_solver_3": (16, 3), "dpmpp_3m": (6, 1)}
    for name, (evaluations, order) in counts.items():
        scheduler = Scheduler.from_config(CONFIGS["chain"], solver=name)
        scheduler.set_timesteps(6)
        assert (len(scheduler.timesteps), scheduler.order, scheduler.num_inference_steps) == (evaluations, order, 6)
        assert len(scheduler.sigmas) == evaluations + 1 and scheduler.sigmas[-1] == 0
    assert len(scheduler) == 1000


def test_the_recommended_grid_is_the_solver_s_and_a_flow_model_s_is_even() -> None:
    scheduler = Scheduler.from_config(CONFIGS["chain"], solver="er_sde")
    scheduler.set_timesteps(7)
    expected = solvers.get("er_sde").recommended(read(CONFIGS["chain"]).process, 7)[:-1]
    np.testing.assert_allclose(scheduler.timesteps, expected, rtol=1e-6)
    theirs = lib.FlowMatchEulerDiscreteScheduler(shift=3.0)
    theirs.set_timesteps(sigmas=np.linspace(1, 1 / 7, 7).tolist())
    scheduler = Scheduler.from_config(theirs.config, solver="euler")
    scheduler.set_timesteps(7)
    np.testing.assert_allclose(scheduler.timesteps, theirs.timesteps, rtol=1e-6)
    np.testing.assert_allclose(scheduler.sigmas, theirs.sigmas, rtol=1e-6)


def test_churn_begins_at_the_raised_level_of_the_first_evaluation() -> None:
    scheduler = Scheduler.from_config(CONFIGS["EDM"], solver="heun", s_churn=2.0)
    scheduler.set_timesteps(4)
    assert scheduler.init_noise_sigma == pytest.approx(80 * 2**0.5)
    # Its times are ¼ log σ in float32, so that σ = e^{4t} has 4t ≈ 5 of their roundings.
    assert scheduler.add_noise(torch.zeros(1), torch.ones(1), scheduler.timesteps[:1]) == pytest.approx(
        scheduler.init_noise_sigma, rel=64 * torch.finfo(torch.float32).eps
    )
    walked(scheduler, start(), generator=torch.Generator().manual_seed(0))
    assert scheduler.step_index == len(scheduler.timesteps)


# Beside diffusers' own


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_edm_networks_are_driven_as_their_scheduler_drives_them(prediction: str) -> None:
    theirs = lib.EDMEulerScheduler(prediction_type=prediction)
    theirs.set_timesteps(6)
    scheduler = Scheduler.from_config(theirs.config, solver="euler")
    scheduler.set_timesteps(sigmas=theirs.sigmas.tolist())
    torch.testing.assert_close(scheduler.timesteps, theirs.timesteps)
    x, y = (80 * start(dtype=torch.float32) for _ in range(2))
    for mine, t in zip(scheduler.timesteps, theirs.timesteps, strict=True):
        a, b = scheduler.scale_model_input(x, mine), theirs.scale_model_input(y, t)
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
        x = scheduler.step(net(a, mine), mine, x, return_dict=False)[0]
        y = theirs.step(net(b, t), t, y, return_dict=False)[0]
    torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)


def test_a_chain_that_ends_at_zero_snr_begins_where_there_is_nothing_but_noise() -> None:
    theirs = lib.DDIMScheduler(
        **STABLE, rescale_betas_zero_snr=True, prediction_type="v_prediction", timestep_spacing="trailing"
    )
    theirs.set_timesteps(5)
    scheduler = Scheduler.from_config(theirs.config, solver="ddim")
    scheduler.set_timesteps(timesteps=theirs.timesteps.tolist())
    assert scheduler.init_noise_sigma == 1
    torch.testing.assert_close(
        walked(scheduler, start()),
        walked(theirs, start()),
        rtol=1e-5,
        atol=1e-5,  # pyright: ignore[reportArgumentType]
    )
    epsilon = Scheduler.from_config({**theirs.config, "prediction_type": "epsilon"})
    with pytest.raises(ValueError, match="'epsilon' says nothing about x0 at t = 999"):
        epsilon.set_timesteps(5)


@pytest.mark.parametrize("kind", ["chain", "flow"])
def test_noise_is_added_as_theirs_adds_it(kind: str) -> None:
    theirs = (lib.DDIMScheduler if kind == "chain" else lib.FlowMatchEulerDiscreteScheduler).from_config(CONFIGS[kind])
    theirs.set_timesteps(10)
    scheduler = Scheduler.from_config(theirs.config)
    scheduler.set_timesteps(timesteps=theirs.timesteps.tolist())
    x, noise, times = start(1, torch.float32), start(2, torch.float32), theirs.timesteps[[3, 7]]
    if kind == "chain":
        expected = theirs.add_noise(x, noise, times)
    else:
        expected = theirs.scale_noise(x, times, noise)
        torch.testing.assert_close(scheduler.scale_noise(x, times, noise), expected, rtol=1e-5, atol=1e-6)
    # Theirs takes √ᾱ from up to a thousand float32 factors, each rounded: half of their roundings, where ours is exact.
    rounding = 500 * torch.finfo(torch.float32).eps
    torch.testing.assert_close(scheduler.add_noise(x, noise, times), expected, rtol=rounding, atol=rounding)


def test_a_learned_variance_is_left_aside() -> None:
    config = lib.DDPMScheduler(**STABLE, variance_type="learned_range").config
    scheduler = Scheduler.from_config(config, solver="dpmpp_2m")
    scheduler.set_timesteps(4)
    plain = walked(scheduler, start())
    scheduler.set_timesteps(4)
    with_variance = walked(scheduler, start(), lambda x, t: torch.cat([net(x, t), torch.full_like(x, 9.0)], dim=1))
    assert torch.equal(plain, with_variance)


# Noise


def test_each_generator_of_a_list_is_for_its_own_sample() -> None:
    scheduler = Scheduler.from_config(CONFIGS["chain"], solver="dpmpp_sde", seeds=1)
    results = []
    for seeds in ([3, 4], [4, 3]):
        scheduler.set_timesteps(3)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        results.append(walked(scheduler, start()[:1].expand(2, -1, -1, -1), generator=generators))
    torch.testing.assert_close(results[0], results[1].flip(0))


def test_seeds_are_given_one_by_one_or_by_the_first() -> None:
    runs = {}
    for name, seeds in {"first": 7, "each": [7, 8], "other": [8, 9]}.items():
        scheduler = Scheduler.from_config(CONFIGS["chain"], solver="ddpm", seeds=seeds)
        for _ in range(2):  # the draws of a run do not depend on the run before
            scheduler.set_timesteps(4)
            runs[name] = walked(scheduler, start())
    assert torch.equal(runs["first"], runs["each"]) and not torch.equal(runs["first"], runs["other"])
    scheduler = Scheduler.from_config(CONFIGS["chain"], solver="ddpm", seeds=[1, 2, 3])
    scheduler.set_timesteps(4)
    with pytest.raises(ValueError, match="3 seeds for a batch of 2"):
        walked(scheduler, start())


# Edits


def test_an_edit_between_steps_is_the_edit_of_a_callback() -> None:
    config = CONFIGS["chain"]
    for name in ("dpmpp_3m", "uni_pc", "ddim"):
        scheduler = Scheduler.from_config(config, solver=name)
        scheduler.set_timesteps(5)
        x = start()
        for t in scheduler.timesteps:
            x = scheduler.step(net(x, t), t, x).prev_sample  # pyright: ignore[reportAttributeAccessIssue]
            x *= 0.9  # in place, which the scheduler must notice as well
        times = solvers.get(name).recommended(read(config).process, 5)
        expected = ours(config, name, start(), times, callback=lambda x, t: 0.9 * x)
        torch.testing.assert_close(x, expected, rtol=1e-9, atol=1e-9)


def test_samples_that_come_back_in_low_precision_do_not_round_the_state() -> None:
    scheduler = Scheduler.from_config(CONFIGS["chain"], solver="heun")
    scheduler.set_timesteps(8)
    low = walked(scheduler, start().bfloat16(), lambda x, t: net(x.float(), t).bfloat16())
    assert low.dtype == torch.bfloat16
    times = solvers.get("heun").recommended(read(CONFIGS["chain"]).process, 8)
    found = solvers.get("heun")
    assert isinstance(found, PlannedSolver)
    plan = found.plan(read(CONFIGS["chain"]).process, times)
    expected = plan.run(
        lambda x, t: net(x.bfloat16().float(), torch.tensor(t)).bfloat16().float(), start().bfloat16().float()
    )
    torch.testing.assert_close(low, expected.bfloat16())


# Begin anywhere


def strength(name: str, kind: str, index: int, **options: Any) -> tuple[Scheduler, Tensor]:
    """Image to image: the run begins at an evaluation, from data with noise of that level."""
    scheduler = Scheduler.from_config(CONFIGS[kind], solver=name, seeds=5, **options)
    scheduler.set_timesteps(8)
    scheduler.set_begin_index(index * scheduler.order)
    level = scheduler.timesteps[index * scheduler.order].repeat(2)
    return scheduler, scheduler.add_noise(start(1), start(2), level)


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("name", ["ddim", "dpmpp_3m", "uni_pc", "deis", "dpmpp_2m_sde", "sa_solver", "er_sde"])
def test_a_run_may_begin_at_any_step_and_is_our_loop_on_the_rest_of_the_grid(name: str, kind: str) -> None:
    scheduler, x = strength(name, kind, 3)
    full = scheduler.plan.times
    expected = ours(CONFIGS[kind], name, x, full[3:], seeds=[5, 6])
    torch.testing.assert_close(walked(scheduler, x), expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))


@pytest.mark.parametrize("kind", ["chain", "EDM"])
@pytest.mark.parametrize("name", ["heun", "dpmpp_2s", "dpmpp_3s", "dpmpp_sde", "runge_kutta"])
def test_methods_of_several_evaluations_begin_where_a_step_does(name: str, kind: str) -> None:
    scheduler, x = strength(name, kind, 3)
    expected = ours(CONFIGS[kind], name, x, scheduler.plan.times[3:], seeds=[5, 6])
    torch.testing.assert_close(walked(scheduler, x), expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))
    with pytest.raises(PlanError, match=r"cannot begin at evaluation 1 of .* in step 0"):
        scheduler.set_begin_index(1)


def test_the_first_timestep_tells_where_to_begin_if_nothing_else_does() -> None:
    scheduler, x = strength("heun", "chain", 3)
    expected = walked(scheduler, x)
    scheduler.set_timesteps(8)
    for t in scheduler.timesteps[6:]:  # which is also the stage at the end of the step before
        x = scheduler.step(net(x, t), t, x, return_dict=False)[0]
    assert torch.equal(x, expected)
    scheduler.set_timesteps(8)
    with pytest.raises(ValueError, match="timestep 3.25 is none of the scheduler's timesteps"):
        scheduler.step(x, 3.25, x)


def test_a_start_that_needs_more_evaluations_than_are_left_is_refused() -> None:
    scheduler = Scheduler.from_config(CONFIGS["chain"], solver="dpmpp_3m", starter="singlestep")
    scheduler.set_timesteps(8)
    with pytest.raises(PlanError, match="dpmpp_3m.*cannot begin at evaluation 4.*use starter='cold'"):
        scheduler.set_begin_index(4)
    with pytest.raises(PlanError, match="begin index 99 is not one of the 9 evaluations"):
        scheduler.set_begin_index(99)


# Runs do not know of each other


def test_two_schedulers_may_take_turns() -> None:
    pair = [
        Scheduler.from_config(CONFIGS["chain"], solver=name, grid="uniform", seeds=3)
        for name in ("dpmpp_3m", "sa_solver")
    ]
    alone = []
    for scheduler in pair:
        scheduler.set_timesteps(6)
        alone.append(walked(scheduler, start()))
        scheduler.set_timesteps(6)
    states = [start(), start()]
    for t in pair[0].timesteps:
        for i, scheduler in enumerate(pair):
            states[i] = scheduler.step(net(states[i], t), t, states[i], return_dict=False)[0]
    assert all(torch.equal(found, expected) for found, expected in zip(states, alone, strict=True))


def test_a_run_after_a_failed_one_is_as_if_it_were_the_first() -> None:
    scheduler = Scheduler.from_config(CONFIGS["chain"], solver="dpmpp_3m")
    scheduler.set_timesteps(6)
    expected = walked(scheduler, start())
    scheduler.set_timesteps(6)
    scheduler.set_begin_index(2)
    x = start(3)
    for t in scheduler.timesteps[2:5]:
        x = scheduler.step(net(x, t), t, x, return_dict=False)[0]
    with pytest.raises(ValueError, match=r"model_output has the shape \(2, 1, 4, 4\), sample has \(2, 3, 4, 4\)"):
        scheduler.step(x[:, :1], scheduler.timesteps[5], x)
    scheduler.set_timesteps(6)
    assert scheduler.begin_index is None and scheduler.step_index is None
    assert torch.equal(walked(scheduler, start()), expected)


# Configurations


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_saved_scheduler_comes_back_as_it_was(kind: str, tmp_path) -> None:
    grid = grids.get("karras", rho=5.0)
    scheduler = Scheduler.from_config(CONFIGS[kind], solver="uni_pc", order=3, grid=grid, seeds=4)
    scheduler.save_pretrained(tmp_path)
    again = Scheduler.from_pretrained(tmp_path)
    assert isinstance(again, Scheduler)
    assert json.loads((tmp_path / "scheduler_config.json").read_text())["solver"]["order"] == 3
    for key in ("solver", "grid", "seeds", "trained_with"):
        assert again.config[key] == scheduler.config[key]
    assert again.config["grid"] == {"name": "karras", "rho": 5.0, "end": None}
    results = []
    for one in (scheduler, again):
        one.set_timesteps(5)
        results.append(walked(one, start()))
    assert torch.equal(*results)


def test_another_solver_takes_the_place_of_one_and_theirs_the_place_of_ours() -> None:
    first = Scheduler.from_config(CONFIGS["chain"], solver="ddim", eta=0.5, seeds=3)
    second = Scheduler.from_config(first.config, solver="heun")
    assert second.config["solver"]["name"] == "heun" and "eta" not in second.config["solver"]
    assert second.config["seeds"] == 3 and read(second.config) == read(CONFIGS["chain"])
    theirs = lib.DDIMScheduler.from_config(second.config)
    assert theirs.config["beta_schedule"] == "scaled_linear"
    for config in (CONFIGS["flow"], CONFIGS["EDM"]):  # which say what they are by their class alone
        named = {**config, "_class_name": "FlowMatchEulerDiscreteScheduler"} if config is CONFIGS["flow"] else config
        assert read(Scheduler.from_config(named).config) == read(config)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        *(({"solver": name}, ValueError, "asks for the output 'unconditional' too") for name in GUIDED),
        ({"solver": "rk_adaptive"}, ValueError, "'rk_adaptive' chooses its steps as it goes.*scoresde.sample"),
        ({"solver": "langevin_pc"}, ValueError, "'langevin_pc' chooses its steps as it goes"),
        ({"solver": "dpmp_2m"}, ValueError, "unknown solver 'dpmp_2m'; did you mean 'dpmpp_2m'"),
        ({"solver": "uni_pc", "ordr": 3}, TypeError, "'uni_pc' has no option 'ordr'; did you mean 'order'"),
        ({"grid": "karas"}, ValueError, "unknown grid 'karas'; did you mean 'karras'"),
    ],
)
def test_what_it_cannot_drive_is_refused_by_name(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Scheduler.from_config(CONFIGS["chain"], **options)


@pytest.mark.parametrize(
    ("kind", "arguments", "words"),
    [
        ("chain", {}, "give num_inference_steps, timesteps or sigmas"),
        ("chain", {"num_inference_steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ("chain", {"timesteps": [9, 1], "sigmas": [1, 0]}, "timesteps or sigmas, not both"),
        ("chain", {"timesteps": [900, 100], "num_inference_steps": 3}, "num_inference_steps = 3.*make 2 steps"),
        ("chain", {"timesteps": [100, 900]}, "decrease strictly"),
        ("chain", {"timesteps": [1000, 900]}, "must start at or below t_max"),
        ("chain", {"sigmas": [20, 1, 0]}, "sigma 20 is above the most of this checkpoint"),
    ],
)
def test_illegal_timesteps_are_refused(kind: str, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Scheduler.from_config(CONFIGS[kind]).set_timesteps(**arguments)


def test_a_sigma_max_that_is_rounded_up_is_the_chain_s() -> None:
    scheduler = Scheduler.from_config(CONFIGS["chain"], solver="ddim")
    scheduler.set_timesteps(sigmas=[14.615, 6.475, 0.152, 0.0])
    assert scheduler.timesteps[0] == 999
    np.testing.assert_allclose(scheduler.sigmas[1:], [6.475, 0.152, 0.0], rtol=1e-6)


def test_steps_outside_a_run_are_refused() -> None:
    scheduler, x = Scheduler.from_config(CONFIGS["chain"]), start()
    with pytest.raises(ValueError, match="call set_timesteps first"):
        scheduler.step(x, 5, x)
    scheduler.set_timesteps(2)
    walked(scheduler, x)
    with pytest.raises(ValueError, match="all 2 evaluations are done"):
        scheduler.step(x, scheduler.timesteps[-1], x)


def test_a_flow_model_s_grid_and_a_pipeline_s_sigmas() -> None:
    config = lib.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True).config
    scheduler = Scheduler.from_config(config, solver="dpmpp_2m", grid="log_snr")
    with pytest.raises(ValueError, match="use_dynamic_shifting.*give mu"):
        scheduler.set_timesteps(4)
    even = np.linspace(1, 1 / 4, 4)
    scheduler.set_timesteps(sigmas=even, mu=0.8)
    chosen = scheduler.timesteps.clone()
    scheduler.set_timesteps(4, mu=0.8)
    assert torch.equal(scheduler.timesteps, chosen)
    with pytest.raises(ValueError, match="the scheduler has the grid log_snr.*choose one"):
        scheduler.set_timesteps(sigmas=[1.0, 0.5, 0.1], mu=0.8)
    Scheduler.from_config(config).set_timesteps(sigmas=[1.0, 0.5, 0.1, 0.0], mu=0.8)


@pytest.mark.parametrize(
    ("sigmas", "words"),
    [
        ([14.0, 5.0, 1.0, 0.002, 0.0], "sigma 0.002 is below the least of this checkpoint, 0.02917"),
        ([20.0, 5.0, 1.0, 0.1, 0.0], "sigma 20 is above the most of this checkpoint, 14.6146"),
        ([14.0, 1.0, -0.1], "sigma -0.1 is no noise level"),
    ],
)
def test_sigmas_out_of_range_are_said_in_sigmas(sigmas: list[float], words: str) -> None:
    betas = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    scheduler = Scheduler.from_config(lib.DDIMScheduler(**betas).config, solver="dpmpp_2m")
    with pytest.raises(ValueError, match=words):
        scheduler.set_timesteps(sigmas=sigmas)


# A step believes its timestep


def begun(name: str = "ddim", steps: int = 10, **options: Any) -> Scheduler:
    scheduler = Scheduler.from_config(CONFIGS["chain"], solver=name, grid="uniform", **options)
    scheduler.set_timesteps(steps)
    return scheduler


def taken(scheduler: Scheduler, x: Tensor, times: Any) -> Tensor:
    for t in times:
        x = scheduler.step(net(x, t), t, x, return_dict=False)[0]
    return x


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m", "uni_pc"])
def test_a_timestep_of_before_begins_there_again(name: str) -> None:
    scheduler = begun(name)
    times = scheduler.timesteps
    middle = taken(scheduler, start(), times[:5])
    again = taken(scheduler, middle, times[3:6])
    fresh = begun(name)
    fresh.set_begin_index(3)
    assert torch.equal(taken(fresh, middle, times[3:6]), again)


def test_a_run_that_was_left_early_does_not_go_on_in_the_next() -> None:
    scheduler = begun("dpmpp_3m")
    times = scheduler.timesteps
    first, second = (taken(scheduler, start(), times[:4]) for _ in range(2))
    assert torch.equal(first, second)
    whole = [taken(scheduler, start(), times) for _ in range(2)]
    assert torch.equal(*whole)


def test_a_timestep_that_is_neither_due_nor_a_step_s_beginning_is_refused_by_both_names() -> None:
    scheduler, x = begun("heun", 4), start()
    x = taken(scheduler, x, scheduler.timesteps[:1])
    with pytest.raises(ValueError, match=r"timestep 500 is neither the one that is due, [0-9.]+, nor one at which"):
        scheduler.step(x, 500, x)
    with pytest.raises(ValueError, match=r"timestep must be one time, got \[3.0, 4.0\].*per_token_timesteps"):
        scheduler.step(x, torch.tensor([3.0, 4.0]), x)


@pytest.mark.parametrize("form", [float, lambda t: t.bfloat16(), lambda t: t.expand(2), lambda t: t.half(), int])
def test_a_timestep_comes_in_the_pipeline_s_own_precision(form: Callable[[Tensor], Any]) -> None:
    scheduler, x = begun("dpmpp_2m", 4), start()
    expected = taken(begun("dpmpp_2m", 4), x, scheduler.timesteps)
    for t in scheduler.timesteps:
        x = scheduler.step(net(x, t), form(t), x, return_dict=False)[0]
    assert torch.equal(x, expected)


def test_a_copy_in_the_middle_of_a_run_draws_noise_of_its_own() -> None:
    scheduler = begun("ddpm", seeds=3)
    times = scheduler.timesteps
    x = taken(scheduler, start(), times[:4])
    other = copy.deepcopy(scheduler)
    first = taken(scheduler, x, times[4:])
    assert torch.equal(taken(other, x, times[4:]), first)  # and not what is left after the first


@pytest.mark.parametrize("name", ["heun", "dpm_solver_2"])
def test_a_run_does_not_begin_with_what_another_left_in_the_middle_of_a_step(name: str) -> None:
    first, second = begun(name), begun(name)
    stage = taken(first, start(), first.timesteps[:3])
    second.set_begin_index(2)
    with pytest.raises(ValueError, match="left in the middle of a step.*denoising_end.*'dpmpp_2m'"):
        second.step(stage, second.timesteps[2], stage.clone())
    whole = taken(begun(name), start(), first.timesteps[:4])
    second.set_begin_index(4)
    second.step(whole, second.timesteps[4], whole)


# What scripts read


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_step_gives_the_x0_of_its_evaluation(kind: str) -> None:
    scheduler = Scheduler.from_config(CONFIGS[kind], solver="dpmpp_2m")
    scheduler.set_timesteps(5)
    x = scheduler.init_noise_sigma * start()
    for index, t in enumerate(scheduler.timesteps):
        output = net(scheduler.scale_model_input(x, t), t)
        evaluation = [each for each in scheduler.plan.instructions if isinstance(each, Eval)][index]
        expected = model(CONFIGS[kind]).denoised(x, evaluation.t)
        found = scheduler.step(output, t, x)
        torch.testing.assert_close(found.pred_original_sample, expected, rtol=1e-6, atol=1e-6)
        assert torch.equal(found["pred_original_sample"], found[1])
        x = found.prev_sample


def test_the_chain_is_there_for_scripts_that_weigh_by_it() -> None:
    theirs = lib.DDPMScheduler(**STABLE)
    ours = Scheduler.from_config(theirs.config, solver="ddim")
    for name in ("betas", "alphas", "alphas_cumprod"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=1e-5, atol=1e-7)
    x, noise, times = start(), start(1), torch.tensor([3, 700])
    torch.testing.assert_close(
        ours.get_velocity(x, noise, times), theirs.get_velocity(x, noise, times), rtol=1e-5, atol=1e-5
    )
    assert not hasattr(Scheduler.from_config(CONFIGS["flow"]), "alphas_cumprod")


@pytest.mark.parametrize("steps", [1, 2, 4, 7])
@pytest.mark.parametrize("options", [{}, {"original_inference_steps": 40}, {"strength": 0.5}])
def test_a_consistency_model_is_evaluated_where_it_was_distilled(steps: int, options: dict[str, Any]) -> None:
    theirs = lib.LCMScheduler(**STABLE)
    theirs.set_timesteps(steps, **options)
    ours = Scheduler.from_config(theirs.config, solver="lcm")
    ours.set_timesteps(steps, **options)
    assert ours.timesteps.tolist() == theirs.timesteps.tolist()
    with pytest.raises(ValueError, match="num_inference_steps must be from 1 to .* = 5, got 9"):
        ours.set_timesteps(9, original_inference_steps=10, strength=0.5)
    with pytest.raises(ValueError, match="original_inference_steps choose the timesteps"):
        Scheduler.from_config(theirs.config, solver="lcm", grid="karras").set_timesteps(4, original_inference_steps=50)


def test_timesteps_and_sigmas_together_are_what_the_network_is_fed_and_where() -> None:
    theirs = lib.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, time_shift_type="linear")
    given = {"timesteps": [1000.0, 700.0, 350.0], "sigmas": [1.0, 0.7, 0.35], "mu": 2.0}
    theirs.set_timesteps(**given)
    ours = Scheduler.from_config(theirs.config, solver="euler")
    ours.set_timesteps(**given)
    assert ours.timesteps.tolist() == theirs.timesteps.tolist() == given["timesteps"]
    torch.testing.assert_close(ours.sigmas, theirs.sigmas, rtol=1e-6, atol=1e-6)
    x = start(dtype=torch.float32)
    torch.testing.assert_close(*(taken(each, x, each.timesteps) for each in (ours, theirs)), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="3 timesteps for 2 sigmas"):
        ours.set_timesteps(timesteps=[1000.0, 700.0, 350.0], sigmas=[1.0, 0.7], mu=2.0)


def test_parts_at_times_of_their_own_are_stepped_as_theirs() -> None:
    theirs = lib.FlowMatchEulerDiscreteScheduler()
    ours = Scheduler.from_config(theirs.config, solver="euler")
    x, states = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)), []
    for scheduler in (theirs, ours):
        scheduler.set_timesteps(sigmas=[1.0, 0.75, 0.5, 0.25])
        y = x
        for t in scheduler.timesteps:
            times = torch.minimum(t, torch.tensor([[1000.0, 600.0, 0.0]])).expand(2, 3)
            stepped = scheduler.step(-net(y, t), t, y, per_token_timesteps=times, return_dict=False)[0]
            y = torch.where((t / 1000 - 1e-6 < times.new_tensor([1.0, 0.6, 0.0]))[:, None], stepped, y)
        states.append(y)
    torch.testing.assert_close(*states, rtol=1e-5, atol=1e-5)
    assert torch.equal(states[1][:, 2], x[:, 2])
    ours = Scheduler.from_config(theirs.config, solver="dpmpp_2m")
    ours.set_timesteps(sigmas=[1.0, 0.75, 0.5, 0.25])
    with pytest.raises(ValueError, match="remembers evaluations.*'euler'"):
        ours.step(x, 1000.0, x, per_token_timesteps=torch.tensor([[1000.0, 600.0, 0.0]]).expand(2, 3))


def test_what_pipelines_pass_to_schedulers_of_one_kind() -> None:
    scheduler, x = begun("ddim", 4), start()
    after = scheduler.timesteps[1]
    scheduler.step(x, scheduler.timesteps[0], x, eta=0.0, use_clipped_model_output=None, prev_timestep=after)
    told: list[tuple[dict[str, Any], str]] = [
        ({"eta": 0.5}, "eta = 0.5 of step.*from_config"),
        ({"use_clipped_model_output": True}, "nothing is clipped"),
        ({"prev_timestep": 3}, "prev_timestep = 3"),
    ]
    for options, words in told:
        with pytest.raises(ValueError, match=words):
            scheduler.step(x, after, x, **options)
    with pytest.raises(TypeError, match="step.* has no argument 'mask'"):
        scheduler.step(x, after, x, mask=x)


def test_a_strength_that_leaves_no_step_is_called_that() -> None:
    scheduler = begun("ddim")
    for too_late in (
        lambda: scheduler.set_begin_index(10),
        lambda: scheduler.add_noise(start(), start(1), torch.zeros(0)),
    ):
        with pytest.raises(ValueError, match="strength × num_inference_steps is below 1"):
            too_late()


@pytest.mark.parametrize("name", ["euler_ancestral", "dpmpp_2m_sde", "sa_solver"])
def test_parts_of_one_work_draw_no_noise_twice(name: str) -> None:
    """Base, refiner and a third: with one seed, in pipelines, as with scoresde.sample."""
    drawn: list[Tensor] = []

    class Listening(Scheduler):
        def _own(self, state: Tensor, t: float) -> Any:
            noise: Any = super()._own(state, t)
            return lambda: drawn.append(found := noise()) or found

    x = start()
    for first, last in ((0, 4), (4, 7), (7, 10)):
        scheduler = Listening.from_config(CONFIGS["chain"], solver=name, grid="uniform", seeds=5)
        scheduler.set_timesteps(10)
        scheduler.set_begin_index(first)
        x = taken(scheduler, x, scheduler.timesteps[first:last])
    assert len(drawn) >= 6
    assert len({tuple(values[0].flatten()[:4].tolist()) for values in drawn}) == len(drawn)
