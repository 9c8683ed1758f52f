"""Preconditioning: what surrounds a network in time, scale and skip connection, as ScoreModel's arguments."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from solvers.registry import Registry

Maps = dict[str, Any]  # maps of process time, by the arguments of ScoreModel that they are for


def edm(sigma_data: float = 0.5) -> Maps:
    """D = c_skip x + c_out F(c_in x, ¼ log σ), the denoiser of EDM on its process, where t = σ.

    c_skip = d²/(σ² + d²), c_out = σ d/√(σ² + d²), c_in = 1/√(σ² + d²) with d = ``sigma_data``.

    Source: Karras et al. 2022, Elucidating the design space of diffusion-based generative models, table 1.
    """
    return {"time_input": quarter_log, **_scales(sigma_data, 0.0)}


def consistency(sigma_data: float = 0.5, sigma_min: float = 0.002) -> Maps:
    """f = c_skip x + c_out F(c_in x, 250 log σ) with f(x, σ_min) = x, a consistency model on EDM's process.

    c_skip = d²/((σ − σ_min)² + d²), c_out = (σ − σ_min) d/√(σ² + d²), c_in = 1/√(σ² + d²) with d = ``sigma_data``.

    Source: Song et al. 2023, Consistency models, app. C; the time that its public networks are given.
    """
    return {"time_input": log_250, **_scales(sigma_data, sigma_min)}


def quarter_log(t: Tensor) -> Tensor:
    """¼ log t."""
    return 0.25 * t.log()


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


def described(description: Mapping[str, Any]) -> Maps:
    """The preconditioning described by ``{"name": …, **options}``.

    Raises:
        ValueError: unknown name (the nearest is given), or an option that is not a positive number.
        TypeError: an option it does not have.
    """
    options = dict(description)
    name = options.pop("name", None)
    for option, value in options.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
            raise ValueError(f"{option} of the preconditioning {name!r} must be a positive number, got {value!r}")
    return PRECONDITIONINGS.get(name, **options)
