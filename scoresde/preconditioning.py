"""Preconditioning: what surrounds a network in time, scale and skip connection, as ScoreModel's arguments."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from scoresde.score import TimeMap
from solvers.errors import check_options, nearest

Maps = dict[str, TimeMap]


def edm(sigma_data: float = 0.5) -> Maps:
    """D = c_skip x + c_out F(c_in x, ¼ log σ), the denoiser of EDM on its process, where t = σ.

    c_skip = d²/(σ² + d²), c_out = σ d/√(σ² + d²), c_in = 1/√(σ² + d²) with d = ``sigma_data``.

    Source: Karras et al. 2022, Elucidating the design space of diffusion-based generative models, table 1.
    """
    return {
        "time_input": lambda t: 0.25 * t.log(),
        "input_scale": lambda t: 1 / (t**2 + sigma_data**2).sqrt(),
        "output_scale": lambda t: t * sigma_data / (t**2 + sigma_data**2).sqrt(),
        "skip": lambda t: sigma_data**2 / (t**2 + sigma_data**2),
    }


def consistency(sigma_data: float = 0.5, sigma_min: float = 0.002) -> Maps:
    """f = c_skip x + c_out F(c_in x, 250 log σ) with f(x, σ_min) = x, a consistency model on EDM's process.

    c_skip = d²/((σ − σ_min)² + d²), c_out = (σ − σ_min) d/√(σ² + d²), c_in = 1/√(σ² + d²) with d = ``sigma_data``.

    Source: Song et al. 2023, Consistency models, app. C; the time that its public networks are given.
    """
    tiny = torch.finfo(torch.float64).tiny
    return {
        "time_input": lambda t: 250 * t.clamp_min(tiny).log(),
        "input_scale": lambda t: 1 / (t**2 + sigma_data**2).sqrt(),
        "output_scale": lambda t: (t - sigma_min) * sigma_data / (t**2 + sigma_data**2).sqrt(),
        "skip": lambda t: sigma_data**2 / ((t - sigma_min) ** 2 + sigma_data**2),
    }


PRECONDITIONINGS: dict[str, Callable[..., Maps]] = {"edm": edm, "consistency": consistency}


def get(described: Mapping[str, Any]) -> Maps:
    """The preconditioning described by ``{"name": …, **options}``.

    Raises:
        ValueError: unknown name (the nearest is given), or an option that is not a positive number.
        TypeError: an option it does not have.
    """
    options = dict(described)
    name = str(options.pop("name", None))
    if name not in PRECONDITIONINGS:
        raise ValueError(f"unknown preconditioning {name!r}{nearest(name, PRECONDITIONINGS)}")
    check_options(f"preconditioning {name!r}", options, inspect.signature(PRECONDITIONINGS[name]).parameters)
    for option, value in options.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
            raise ValueError(f"{option} of the preconditioning {name!r} must be a positive number, got {value!r}")
    return PRECONDITIONINGS[name](**options)
