"""A scheduler's configuration tells what was trained: checked against the numbers that diffusers makes of it."""

from __future__ import annotations

from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from scoresde.integrations.diffusers import Scheduler
from scoresde.integrations.diffusers.conventions import SchedulerConfigError, Shift, read
from scoresde.process import EDM, Flow, VPDiscrete

STABLE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def scheduler(name: str, **options: Any) -> Any:
    return getattr(diffusers, f"{name}Scheduler")(**options)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("DDPM", {}),
        ("DDIM", STABLE),
        ("DDPM", {"beta_schedule": "sigmoid"}),
        ("DDIM", {"beta_schedule": "squaredcos_cap_v2"}),
        ("DDIM", {"trained_betas": [0.1, 0.2, 0.3]}),
        ("DDIM", {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", **STABLE}),
        ("CogVideoXDDIM", {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}),
        ("CogVideoXDDIM", {"snr_shift_scale": 1.0}),
    ],
    ids=str,
)
def test_the_chain_is_the_scheduler_s_alphas_cumprod(name: str, options: dict[str, Any]) -> None:
    theirs = scheduler(name, **options)
    trained = read(theirs.config)
    assert isinstance(trained.process, VPDiscrete) and trained.prediction == theirs.config["prediction_type"]
    index = torch.arange(len(theirs.alphas_cumprod), dtype=torch.float64)
    # Theirs is a product of float32 factors, each of which is rounded, and so is each product.
    rounding = (len(index) + 8) * torch.finfo(torch.float32).eps
    np.testing.assert_allclose(trained.process.alpha(index) ** 2, theirs.alphas_cumprod, rtol=0, atol=rounding)
    np.testing.assert_array_equal(trained.time_input(index), index)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", ["EDMEuler", "EDMDPMSolverMultistep"])
def test_edm_networks_are_fed_and_read_as_their_scheduler_does(name: str, prediction: str) -> None:
    theirs = scheduler(name, prediction_type=prediction, sigma_data=0.7, sigma_min=0.01, sigma_max=50.0)
    trained = read(theirs.config)
    assert trained.process == EDM(0.01, 50.0) and trained.prediction == "sample"
    assert trained.input_scale is not None and trained.output_scales is not None
    x, output = torch.randn(2, 5, dtype=torch.float64)
    for sigma in (0.01, 1.0, 50.0):
        level = torch.tensor(sigma, dtype=torch.float64)
        torch.testing.assert_close(trained.input_scale(level) * x, theirs.precondition_inputs(x, level))
        torch.testing.assert_close(trained.time_input(sigma), theirs.precondition_noise(level))
        torch.testing.assert_close(trained.process_time(trained.time_input(sigma)), level)
        skip, out = trained.output_scales(level)
        torch.testing.assert_close(skip * x + out * output, theirs.precondition_outputs(x, output, level))


def test_continuous_v_prediction_is_on_sigma_with_its_own_range() -> None:
    config = scheduler(
        "EulerDiscrete", prediction_type="v_prediction", timestep_type="continuous", sigma_min=0.002, sigma_max=700.0
    ).config
    trained = read(config)
    assert trained.process == EDM(0.002, 700.0) and trained.prediction == "v_prediction"
    assert trained.input_scale is not None
    assert trained.input_scale(3.0) == pytest.approx(10**-0.5)
    assert float(trained.time_input(3.0)) == pytest.approx(0.25 * np.log(3.0))
    bare = read({**config, "sigma_min": None, "sigma_max": None})
    chain = read(scheduler("DDPM").config).process
    assert bare.process.t_max == pytest.approx(chain.sigma(999.0) / chain.alpha(999.0))


def shifted(theirs: Any, steps: int, **options: Any) -> np.ndarray:
    theirs.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps), **options)
    return theirs.sigmas[:-1].double().numpy()


@pytest.mark.parametrize(
    ("options", "mu"),
    [
        ({"shift": 3.0}, None),
        ({"use_dynamic_shifting": True}, 0.8),
        ({"use_dynamic_shifting": True, "time_shift_type": "linear"}, 1.7),
        ({"use_dynamic_shifting": True, "shift_terminal": 0.1}, 0.8),
    ],
    ids=str,
)
def test_flow_times_are_shifted_as_theirs(options: dict[str, Any], mu: float | None) -> None:
    theirs = scheduler("FlowMatchEulerDiscrete", **options)
    trained = read(theirs.config)
    assert trained.process == Flow() and trained.prediction == "flow" and trained.shift is not None
    np.testing.assert_allclose(trained.shift(np.linspace(1, 1 / 7, 7), mu), shifted(theirs, 7, mu=mu), rtol=2e-6)
    assert trained.time_input(0.25) == 250 and trained.process_time(250) == 0.25


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
@pytest.mark.parametrize("solver", ["auto", "uni_pc", "dpmpp_2m_sde"])
def test_a_terminal_shift_leaves_full_noise_alone(solver: str, steps: int) -> None:
    config = scheduler("FlowMatchEulerDiscrete", use_dynamic_shifting=True, shift_terminal=0.1).config
    ours = Scheduler.from_config(config, solver=solver)
    ours.set_timesteps(steps, mu=0.8)
    assert ours.sigmas[0] == 1 and len(ours.timesteps) == steps
    if steps > 1:
        torch.testing.assert_close(ours.sigmas[-2].item(), 0.1)
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    for t in ours.timesteps:
        x = ours.step(0.5 * x, t, x, generator=torch.Generator().manual_seed(1)).prev_sample
    assert torch.isfinite(x).all()


def test_a_dynamic_shift_needs_mu() -> None:
    with pytest.raises(ValueError, match="use_dynamic_shifting.*give mu"):
        Shift(dynamic=True)(np.array([1.0, 0.5]))


def test_solvers_on_flow_sigmas_are_flow() -> None:
    config = scheduler("UniPCMultistep", use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=5.0).config
    trained = read(config)
    assert trained.process == Flow() and trained.prediction == "flow" and trained.shift == Shift(5.0)


def test_a_saved_configuration_reads_as_the_one_in_memory(tmp_path) -> None:
    for name in ("DDIM", "EDMEuler", "FlowMatchEulerDiscrete", "UniPCMultistep"):
        theirs = scheduler(name)
        theirs.save_pretrained(tmp_path)
        saved, _ = type(theirs).load_config(tmp_path, return_unused_kwargs=True)
        assert saved["_class_name"] == f"{name}Scheduler"
        assert read(saved) == read(scheduler(name).config)


def test_a_learned_variance_is_noticed() -> None:
    assert read(scheduler("DDPM", variance_type="learned_range").config).learned_variance
    assert not read(scheduler("DDPM").config).learned_variance


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"_class_name": "SCMScheduler"}, "networks of 'SCMScheduler' are not known"),
        ({"_class_name": "DDPMScheduler", "beta_schedule": "laplace"}, "beta_schedule = 'laplace' is not understood"),
        ({"_class_name": "DDPMScheduler"}, "lacks 'beta_schedule'"),
        ({"_class_name": "DDPMScheduler", "beta_schedule": "linear"}, "lacks 'beta_start'"),
        ({**STABLE, "prediction_type": "v_pred"}, "prediction_type = 'v_pred' is not understood.*'v_prediction'"),
        ({**STABLE, "prediction_type": "flow_prediction"}, "prediction_type = 'flow_prediction' is not understood"),
        ({**STABLE, "timestep_type": "odd"}, "timestep_type = 'odd' is not understood"),
        ({"shift": 1.0, "invert_sigmas": True}, "invert_sigmas = True is not understood"),
        ({"shift": 1.0, "time_shift_type": "cubic"}, "time_shift_type = 'cubic' is not understood"),
        ({"shift": 1.0, **STABLE}, "exactly one of sigma_schedule, shift, beta_schedule"),
        ({"odd": 1}, "exactly one of sigma_schedule, shift, beta_schedule.*odd"),
    ],
    ids=str,
)
def test_what_is_not_understood_is_refused_by_name(config: dict[str, Any], words: str) -> None:
    with pytest.raises(SchedulerConfigError, match=words):
        read(config)
