"""What the configuration of a diffusers scheduler says about the network it was saved with; needs no diffusers.

A scheduler's configuration mixes what was trained (betas, prediction type, shift) with how to sample (spacing of
timesteps, order, final sigma, clipping of x0). Only the first is read here.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scoresde import preconditioning
from scoresde.process import EDM, Flow, Process, VPDiscrete, variances, zero_terminal_snr
from solvers.arrays import has_float64
from solvers.errors import nearest
from solvers.grids import shifted

Array = NDArray[np.float64]
TimeMap = Callable[[Any], Any]


class SchedulerConfigError(ValueError):
    """A scheduler's configuration that is not understood; the message names the key and its value."""


@dataclass(frozen=True)
class Shift:
    """The shift of a flow model's times: w → m w/(1 + (m − 1) w).

    m is ``value``; where it is ``dynamic`` the pipeline gives mu for each image size, and m = e^mu (``exponential``) or
    mu (``linear``). With ``terminal`` the times are then stretched so that the last of them is that, unless it is 1.

    Source: Esser et al. 2024, Scaling rectified flow transformers for high-resolution image synthesis, eq. 23.
    """

    value: float = 1.0
    dynamic: bool = False
    kind: str = "exponential"
    terminal: float | None = None

    def __call__(self, times: Array, mu: float | None = None) -> Array:
        """The shifted times, shape of ``times``, which fall from 1 at most and stay above 0.

        Raises:
            ValueError: the shift is dynamic and there is no mu.
        """
        factor = self.value
        if self.dynamic:
            if mu is None:
                raise ValueError("the scheduler's shift is dynamic (use_dynamic_shifting): give mu")
            factor = math.exp(mu) if self.kind == "exponential" else float(mu)
        times = shifted(factor, times)
        if self.terminal and times[-1] < 1:  # full noise alone has nothing to stretch
            times = 1 - (1 - times) * (1 - self.terminal) / (1 - times[-1])
        return times


@dataclass(frozen=True)
class Trained:
    """The conventions of a network, as :func:`read` finds them.

    Attributes:
        process: the forward process, in whose frame the pipeline's latents are.
        prediction: what the network predicts, in our words; after ``output_scales``, where there are any.
        time_input: process time, a float or float64 tensor, to what the network is fed (``ScoreModel.time_input``).
        process_time: the inverse of ``time_input``.
        input_scale: process time to the factor of the state before the network; None feeds the state as it is.
        output_scales: process time to (c_skip, c_out): the prediction is c_skip x + c_out output, x the unscaled state
            (Karras et al. 2022, eq. 7). None where the output is the prediction.
        shift: of a flow model's times; None elsewhere.
        learned_variance: whether the network may return a variance in a second half of the channels.
    """

    process: Process
    prediction: str
    time_input: TimeMap = field(compare=False)
    process_time: TimeMap = field(compare=False)
    input_scale: TimeMap | None = field(default=None, compare=False)
    output_scales: Callable[[Any], tuple[Any, Any]] | None = field(default=None, compare=False)
    shift: Shift | None = None
    learned_variance: bool = False

    def c_skip(self, t: Any) -> Any:
        """c_skip of ``output_scales``, as :class:`scoresde.ScoreModel` takes it."""
        return 0.0 if self.output_scales is None else self.output_scales(t)[0]

    def c_out(self, t: Any) -> Any:
        """c_out of ``output_scales``."""
        return 1.0 if self.output_scales is None else self.output_scales(t)[1]

    @property
    def outputs(self) -> dict[str, Any]:
        """How :class:`scoresde.ScoreModel` is told of ``output_scales``."""
        scaled = self.output_scales is not None
        return {"output_scale": self.c_out if scaled else None, "skip": self.c_skip if scaled else None}


def read(config: Mapping[str, Any]) -> Trained:
    """The conventions of the network that a scheduler of this configuration drives.

    Args:
        config: ``scheduler.config``, or the content of ``scheduler_config.json``.

    Raises:
        SchedulerConfigError: a class, prediction type, beta schedule or other choice that is not understood, or a key
            that is missing. Classes whose networks follow no convention of these (IPNDM, SCM,
            VQ-Diffusion, …) are refused by name.
    """
    name = config.get("trained_with" if "trained_with" in config else "_class_name")
    if name is not None:
        if name not in _READERS:
            raise SchedulerConfigError(
                f"the conventions of networks of {name!r} are not known; known are those of {', '.join(_READERS)}"
            )
        return _READERS[name](config)
    found = [reader for key, reader in _BY_KEY.items() if key in config]
    if len(found) != 1:
        raise SchedulerConfigError(
            f"a configuration without '_class_name' needs exactly one of {', '.join(_BY_KEY)}; this one has the keys "
            f"{', '.join(sorted(key for key in config if not key.startswith('_')))}"
        )
    return found[0](config)


def _need(config: Mapping[str, Any], key: str) -> Any:
    if config.get(key) is None:
        raise SchedulerConfigError(f"the scheduler's configuration lacks {key!r}")
    return config[key]


def _choice(config: Mapping[str, Any], key: str, default: str, known: Mapping[str, str]) -> str:
    value = config.get(key, default)
    if value not in known:
        raise SchedulerConfigError(f"{key} = {value!r} is not understood{nearest(str(value), known)}")
    return known[value]


# --- chains of betas


def _of_betas(config: Mapping[str, Any]) -> Trained:
    if config.get("use_flow_sigmas"):
        return _of_flow({**config, "shift": config.get("flow_shift", 1.0)})
    known = {name: name for name in ("epsilon", "sample", "v_prediction")}
    prediction = _choice(config, "prediction_type", "epsilon", known)
    chain = VPDiscrete(betas(config))
    timestep_type = config.get("timestep_type", "discrete")
    if timestep_type not in ("discrete", "continuous"):
        raise SchedulerConfigError(f"timestep_type = {timestep_type!r} is not understood; known: discrete, continuous")
    if timestep_type == "continuous" and prediction == "v_prediction":
        # EulerDiscreteScheduler feeds ¼ log σ here, on its own range of σ where it has one.
        low, high = (math.exp(-chain.half_log_snr(t)) for t in (chain.t_min, chain.t_max))
        process = EDM(config.get("sigma_min") or low, config.get("sigma_max") or high)
        return Trained(process, prediction, *_QUARTER_LOG, partial(preconditioning.c_in, 1.0))
    variance = config.get("variance_type") in ("learned", "learned_range")
    return Trained(chain, prediction, _identity, _identity, learned_variance=variance)


def betas(config: Mapping[str, Any]) -> Array:
    """The forward variances that a configuration asks for, shape (num_train_timesteps,), float64.

    With ``rescale_betas_zero_snr`` √ᾱ is what :func:`scoresde.process.zero_terminal_snr` makes of it. With
    ``snr_shift_scale`` s, CogVideoX's, ᾱ/(s + (1 − s) ᾱ) takes the place of ᾱ before that.

    Raises:
        SchedulerConfigError: an unknown ``beta_schedule``, or a key that is missing.
    """
    if config.get("trained_betas") is not None:
        values = np.asarray(config["trained_betas"], dtype=np.float64)
    else:
        schedule = _need(config, "beta_schedule")
        if schedule not in _SCHEDULES:
            raise SchedulerConfigError(f"beta_schedule = {schedule!r} is not understood{nearest(schedule, _SCHEDULES)}")
        values = _SCHEDULES[schedule](config, int(config.get("num_train_timesteps", 1000)))
    scale, rescale = config.get("snr_shift_scale"), config.get("rescale_betas_zero_snr")
    if scale is None and not rescale:
        return values
    root = np.exp(0.5 * np.cumsum(np.log1p(-values)))  # √ᾱ
    if scale is not None:
        root = root / np.sqrt(scale + (1 - scale) * root**2)
    if rescale:
        root = zero_terminal_snr(root)
    return variances(root)


def _linear(config: Mapping[str, Any], count: int) -> Array:
    return np.linspace(_need(config, "beta_start"), _need(config, "beta_end"), count)


def _scaled_linear(config: Mapping[str, Any], count: int) -> Array:
    return np.linspace(_need(config, "beta_start") ** 0.5, _need(config, "beta_end") ** 0.5, count) ** 2


def _sigmoid(config: Mapping[str, Any], count: int) -> Array:
    low, high = _need(config, "beta_start"), _need(config, "beta_end")
    return low + (high - low) / (1 + np.exp(-np.linspace(-6, 6, count)))


def _squared_cosine(config: Mapping[str, Any], count: int) -> Array:
    """Nichol & Dhariwal 2021, Improved DDPM, eq. 17, with β of 0.999 at most."""
    root = np.cos((np.arange(count + 1) / count + 0.008) / 1.008 * np.pi / 2)
    return np.minimum(1 - (root[1:] / root[:-1]) ** 2, 0.999)


_SCHEDULES: dict[str, Callable[[Mapping[str, Any], int], Array]] = {
    "linear": _linear,
    "scaled_linear": _scaled_linear,
    "sigmoid": _sigmoid,
    "squaredcos_cap_v2": _squared_cosine,
}


# --- rectified flow


def _of_flow(config: Mapping[str, Any]) -> Trained:
    if config.get("invert_sigmas"):
        raise SchedulerConfigError(
            "invert_sigmas = True is not understood: the network's time runs the other way; known: False"
        )
    known = {"flow_prediction": "flow", "epsilon": "epsilon", "sample": "sample"}
    prediction = _choice(config, "prediction_type", "flow_prediction", known)
    kinds = {kind: kind for kind in ("exponential", "linear")}
    shift = Shift(
        value=float(_need(config, "shift")),
        dynamic=bool(config.get("use_dynamic_shifting")),
        kind=_choice(config, "time_shift_type", "exponential", kinds),
        terminal=config.get("shift_terminal"),
    )
    scale = float(config.get("num_train_timesteps", 1000))
    return Trained(Flow(), prediction, partial(operator.mul, scale), partial(_divided, scale), shift=shift)


# --- σ as time


def _of_edm(config: Mapping[str, Any], maps: tuple[TimeMap, TimeMap] | None = None) -> Trained:
    """EDM's preconditioning: x0 = c_skip x + c_out F(c_in x, c_noise), Karras et al. 2022, table 1."""
    sign = {"epsilon": 1.0, "v_prediction": -1.0}
    kind = _choice(config, "prediction_type", "epsilon", {name: name for name in sign})
    data = float(config.get("sigma_data", 0.5))
    scales = partial(_edm_scales, data, sign[kind])
    process = EDM(_need(config, "sigma_min"), _need(config, "sigma_max"))
    return Trained(process, "sample", *(maps or _QUARTER_LOG), partial(preconditioning.c_in, data), scales)


def _of_cosine_edm(config: Mapping[str, Any]) -> Trained:
    return _of_edm(config, _ARCTANGENT)


def _of_unnamed_edm(config: Mapping[str, Any]) -> Trained:
    cosine = "solver_order" in config and "algorithm_type" not in config  # the keys of that one of the three
    return _of_cosine_edm(config) if cosine else _of_edm(config)


def _of_consistency(config: Mapping[str, Any]) -> Trained:
    """Consistency models: x0 = c_skip x + c_out F(c_in x, 250 log σ), which is x at ``sigma_min``."""
    low, high, data = (float(_need(config, key)) for key in ("sigma_min", "sigma_max", "sigma_data"))
    maps = preconditioning.consistency(data, low)

    scales, fed = partial(_both, maps["skip"], maps["output_scale"]), partial(_as_float64, maps["time_input"])
    return Trained(EDM(low, high), "sample", fed, _of_250_log, partial(preconditioning.c_in, data), scales)


def _of_score_sde(config: Mapping[str, Any]) -> Trained:
    """NCSN++ of Song et al. 2021: the network is fed σ and returns the score."""
    process = EDM(_need(config, "sigma_min"), _need(config, "sigma_max"))
    return Trained(process, "score", _identity, _identity)


def _identity(t: Any) -> Any:
    return t


def _float64(values: Any) -> torch.Tensor:
    fine = not isinstance(values, torch.Tensor) or has_float64(values.device)
    return torch.as_tensor(values, dtype=torch.float64 if fine else torch.float32)


def _quarter_log(sigma: Any) -> torch.Tensor:
    return 0.25 * _float64(sigma).log()


def _of_quarter_log(time: Any) -> torch.Tensor:
    return (4 * _float64(time)).exp()


def _arctangent(sigma: Any) -> torch.Tensor:
    return 2 / math.pi * _float64(sigma).atan()


def _of_arctangent(time: Any) -> torch.Tensor:
    return (0.5 * math.pi * _float64(time)).tan()


def _of_250_log(time: Any) -> torch.Tensor:
    return _float64(time / 250).exp()


def _as_float64(function: TimeMap, values: Any) -> Any:
    return function(_float64(values))


def _divided(by: float, t: Any) -> Any:
    return t / by


def _edm_scales(data: float, sign: float, sigma: Any) -> tuple[Any, Any]:
    return preconditioning.c_skip(data, 0.0, sigma), sign * preconditioning.c_out(data, 0.0, sigma)


def _both(first: TimeMap, second: TimeMap, sigma: Any) -> tuple[Any, Any]:
    return first(sigma), second(sigma)


# Functions and partial functions of the module, because models go through pickle.
_QUARTER_LOG = (_quarter_log, _of_quarter_log)
_ARCTANGENT = (_arctangent, _of_arctangent)

_Reader = Callable[[Mapping[str, Any]], Trained]

_BETAS = """
    CogVideoXDDIM CogVideoXDPM DDIM DDIMInverse DDIMParallel DDPM DDPMParallel DEISMultistep DPMSolverMultistep
    DPMSolverMultistepInverse DPMSolverSDE DPMSolverSinglestep EulerAncestralDiscrete EulerDiscrete HeunDiscrete
    KDPM2AncestralDiscrete KDPM2Discrete LCM LMSDiscrete PNDM RePaint SASolver TCD UnCLIP UniPCMultistep
"""
_FLOW = "FlowMatchEulerDiscrete FlowMatchHeunDiscrete FlowMatchLCM"
_EDM = "EDMDPMSolverMultistep EDMEuler"

_READERS: dict[str, _Reader] = {
    f"{name}Scheduler": reader
    for names, reader in (
        (_BETAS, _of_betas),
        (_FLOW, _of_flow),
        (_EDM, _of_edm),
        ("CosineDPMSolverMultistep", _of_cosine_edm),
        ("CMStochasticIterative", _of_consistency),
        ("ScoreSdeVe", _of_score_sde),
    )
    for name in names.split()
}

_BY_KEY: dict[str, _Reader] = {
    "sigma_schedule": _of_unnamed_edm,
    "shift": _of_flow,
    "beta_schedule": _of_betas,
    "clip_denoised": _of_consistency,
    "sampling_eps": _of_score_sde,
}
