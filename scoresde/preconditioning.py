"""Preconditioning: what surrounds a network in time, scale and skip connection, as ScoreModel's arguments.

Each is written in the noise level σ of a process with α = 1, where t = σ; :func:`on` has it on any other, at σ/α.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from scoresde.process import EDM, Process
from solvers.registry import Registry

Maps = dict[str, Any]  # maps of process time, by the arguments of ScoreModel that they are for
NOISIEST = 1e4  # σ/α, above which a state is told to be at that: where α = 0 everything stays finite


def edm(sigma_data: float = 0.5, time_scale: float = 1.0) -> Maps:
    """D = c_skip x + c_out F(c_in x, s ¼ log σ), the denoiser of EDM on its process, where t = σ.

    c_skip = d²/(σ² + d²), c_out = σ d/√(σ² + d²), c_in = 1/√(σ² + d²) with d = ``sigma_data`` and s = ``time_scale``,
    which is 1 for EDM's networks.

    Source: Karras et al. 2022, Elucidating the design space of diffusion-based generative models, table 1.
    """
    fed = quarter_log if time_scale == 1 else partial(quarter_log, scale=time_scale)
    return {"time_input": fed, **_scales(sigma_data, 0.0)}


def consistency(sigma_data: float = 0.5, sigma_min: float = 0.002) -> Maps:
    """f = c_skip x + c_out F(c_in x, 250 log σ) with f(x, σ_min) = x, a consistency model on EDM's process.

    c_skip = d²/((σ − σ_min)² + d²), c_out = (σ − σ_min) d/√(σ² + d²), c_in = 1/√(σ² + d²) with d = ``sigma_data``.

    Source: Song et al. 2023, Consistency models, app. C; the time that its public networks are given.
    """
    return {"time_input": log_250, **_scales(sigma_data, sigma_min)}


def quarter_log(t: Tensor, scale: float = 1.0) -> Tensor:
    """scale · ¼ log t."""
    return scale * 0.25 * t.log()


def log_250(t: Tensor) -> Tensor:
    """250 log t, finite at 0."""
    return 250 * t.clamp_min(torch.finfo(torch.float64).tiny).log()


def _scales(data: float, least: float) -> Maps:
    # Partial functions, because models go through pickle.
    return {
        "input_scale": partial(c_in, data),
        "output_scale": partial(c_out, data, least),
        "skip": partial(c_skip, data, least),
    }


def c_in(data: float, t: Any) -> Any:
    """1/√(σ² + d²) with σ = t, a number or tensor."""
    return 1 / (t**2 + data**2) ** 0.5


def c_out(data: float, least: float, t: Any) -> Any:
    """(σ − σ_min) d/√(σ² + d²)."""
    return (t - least) * data / (t**2 + data**2) ** 0.5


def c_skip(data: float, least: float, t: Any) -> Any:
    """d²/((σ − σ_min)² + d²)."""
    return data**2 / ((t - least) ** 2 + data**2)


PRECONDITIONINGS: Registry[Maps] = Registry("preconditioning")
PRECONDITIONINGS.add("edm", edm)
PRECONDITIONINGS.add("consistency", consistency)


def described(description: Mapping[str, Any], process: Process | None = None) -> Maps:
    """The preconditioning described by ``{"name": …, **options}``, on a process; None is EDM's.

    Raises:
        ValueError: unknown name (the nearest is given), or an option that is not a positive number.
        TypeError: an option it does not have.
    """
    options = dict(description)
    name = options.pop("name", None)
    for option, value in options.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
            raise ValueError(f"{option} of the preconditioning {name!r} must be a positive number, got {value!r}")
    maps = PRECONDITIONINGS.get(name, **options)
    return maps if process is None or isinstance(process, EDM) else on(maps, process)


def on(maps: Maps, process: Process) -> Maps:
    """A preconditioning on another process: at the level σ/α, of the state x/α."""
    return {
        "time_input": partial(_at_level, maps["time_input"], process),
        "input_scale": partial(_of_state, maps["input_scale"], process),
        "output_scale": partial(_at_level, maps["output_scale"], process),
        "skip": partial(_of_state, maps["skip"], process),
    }


def _at_level(function: Callable[[Tensor], Tensor], process: Process, t: Tensor) -> Tensor:
    return function(_level(process, t))


def _of_state(function: Callable[[Tensor], Tensor], process: Process, t: Tensor) -> Tensor:
    level = _level(process, t)
    return function(level) * level / process.sigma(t)  # level/σ is 1/α, and finite where that is not


def _level(process: Process, t: Tensor) -> Tensor:
    return (process.sigma(t) / process.alpha(t)).clamp_max(NOISIEST)
