"""Schedulers of diffusers (https://github.com/huggingface/diffusers).

Noise levels are set by hand after ``set_timesteps``, in float64, so that neither integer timesteps nor float32 tables
stand between the methods. Several schedulers still carry the state in float32 within a step.

With ``steps=n`` the grid is their own: ``times`` is then the table of training times, from the noisy end on, and x has
the scale α² + σ² = 1; where ``set_timesteps(n)`` starts below the first of them, x is taken for a state at that lower
level, as their users do, or the level is replaced by the first time's with ``first=True``.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.peers.adapters import AbsentError, Denoised, Levels, Sample, version
from scoresde.process import VP

EVEN = {"HeunDiscreteScheduler": 2, "FlowMatchHeunDiscreteScheduler": 2, "KDPM2DiscreteScheduler": 2}
WHOLE = {"lower_order_final": False, "final_sigmas_type": "sigma_min", "clip_sample": False}
TABULATED = ("DDIMScheduler", "PNDMScheduler")
SIGMA_DATA = 0.5  # of the EDM schedulers' preconditioning, which is undone here


def load(folder: Path | None) -> tuple[str, Sample]:
    try:
        package = importlib.import_module("diffusers")
    except ImportError:
        raise AbsentError("diffusers is not installed") from None
    package.utils.logging.set_verbosity_error()

    def run(denoised: Denoised, process: Any, times: Levels, x: Tensor, function: str, **options: Any) -> Tensor:
        step = {key: options.pop(key) for key in ("order",) if key in options}
        inner = options.pop("inner", ())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            make = getattr(package, function)
            for key, value in WHOLE.items():
                if key in parameters(make):
                    options.setdefault(key, value)
            if "steps" in options:
                return by_their_grid(make, function, denoised, process, times, x, step, **options)
            if function in TABULATED:
                return tabulated(make, denoised, process, times, x, **options)
            levels = noise_levels(process, times, inner, flow=function.startswith("FlowMatch"))
            scheduler = make(**options)
            return by_sigmas(scheduler, function, levels, denoised, process, x, **step)

    return version("diffusers", None), run


@functools.cache
def parameters(make: Any) -> frozenset[str]:
    """What its constructor takes."""
    return frozenset(inspect.signature(make).parameters)


def noise_levels(process: Any, times: Levels, inner: tuple[float, ...], flow: bool) -> Levels:
    """σ/α (σ on the flow process) at the times, with levels at fractions ``inner`` of each step in λ put in between."""
    lam = np.array([process.half_log_snr(float(t)) for t in times])
    between = [[a, *(a + r * (b - a) for r in inner)] for a, b in zip(lam, lam[1:], strict=False)]
    lam = np.array([*np.ravel(between), lam[-1]])
    return 1 / (1 + np.exp(lam)) if flow else np.exp(-lam)


def by_sigmas(
    scheduler: Any, name: str, sigmas: Levels, denoised: Denoised, process: Any, x: Tensor, **step: Any
) -> Tensor:
    """A scheduler that reads a table of noise levels, σ/α of a process of its own scale."""
    count = len(sigmas) - 1
    levels = torch.from_numpy(sigmas)
    if name == "IPNDMScheduler":
        scheduler.set_timesteps(count)
        scheduler.betas = torch.sin(torch.atan(levels))
        scheduler.alphas, calls = torch.cos(torch.atan(levels)), levels[:-1]
    else:
        scheduler.set_timesteps(count)
        scheduler.sigmas, calls = levels, levels[:-1]
    if name in EVEN:  # two calls a step, the second at the end of the step or, for KDPM2, within it
        scheduler.sigmas = torch.cat([levels[:1], levels[1:-1].repeat_interleave(2), levels[-1:], levels[-1:]])
        calls = scheduler.sigmas[:-1]
    if name == "KDPM2DiscreteScheduler":
        middle = (levels[:-1] * levels[1:]).sqrt()
        scheduler.sigmas_interpol = torch.cat([middle[:1], middle.repeat_interleave(2)])
        calls = torch.stack([levels[:-1], middle], 1).ravel()
    scheduler.timesteps = torch.arange(len(calls), 0, -1, dtype=torch.float64)
    if hasattr(scheduler, "order_list"):
        scheduler.order_list = scheduler.get_order_list(count)
    if hasattr(scheduler, "is_scale_input_called"):
        scheduler.is_scale_input_called = True
    return walk(scheduler, name, calls.tolist(), denoised, process, x, flow=name.startswith("FlowMatch"), **step)


def walk(
    scheduler: Any,
    name: str,
    calls: Sequence[float],
    denoised: Denoised,
    process: Any,
    x: Tensor,
    flow: bool,
    **step: Any,
) -> Tensor:
    """All its steps, the model evaluated at the noise levels ``calls``: σ/α, or with ``flow`` σ for α = 1 − σ."""
    for timestep, level in zip(scheduler.timesteps, calls, strict=True):
        lam = math.log(1 / level - 1) if flow else -math.log(level)
        t = process.time(lam)
        x0, alpha, sigma = denoised(x, t), process.alpha(t), process.sigma(t)
        if name.startswith("FlowMatch"):
            output = (x - x0) / sigma
        elif name.startswith("EDM"):
            skip, out = SIGMA_DATA**2 / (sigma**2 + SIGMA_DATA**2), sigma * SIGMA_DATA / math.hypot(sigma, SIGMA_DATA)
            output = (x0 - skip * x) / out
            output = output if scheduler.config.prediction_type == "epsilon" else -output
        elif name == "IPNDMScheduler":
            output = (alpha * (x - alpha * x0) / sigma - sigma * x0) / math.hypot(alpha, sigma)
        else:
            output = (x - alpha * x0) / sigma
        x = scheduler.step(output, timestep, x, **step).prev_sample
    return x


def by_their_grid(
    make: Any,
    name: str,
    denoised: Denoised,
    process: Any,
    times: Levels,
    x: Tensor,
    step: dict[str, Any],
    steps: int,
    first: bool = False,
    **options: Any,
) -> Tensor:
    """The levels of ``set_timesteps`` on a table of training times; the state at the last one, divided by its α."""
    lam = VP().half_log_snr(times[::-1])
    if "num_train_timesteps" in parameters(make):
        options["num_train_timesteps"] = len(times)
    scheduler = make(**options)
    scheduler.alphas_cumprod = torch.from_numpy(np.exp(-np.logaddexp(0, -2 * lam)))
    if name in TABULATED:
        if not scheduler.config.set_alpha_to_one:
            scheduler.final_alpha_cumprod = scheduler.alphas_cumprod[0]
        scheduler.set_timesteps(steps)
        for timestep in scheduler.timesteps.tolist():
            t = float(times[::-1][timestep])
            output = (x - process.alpha(t) * denoised(x, t)) / process.sigma(t)
            x = scheduler.step(output, timestep, x).prev_sample
        return x / float(scheduler.final_alpha_cumprod) ** 0.5
    scheduler.set_timesteps(steps)
    flow = name.startswith("FlowMatch") or options.get("use_flow_sigmas", False)
    start = 1 / (1 + math.exp(lam[-1])) if flow else math.exp(-lam[-1])
    if name == "IPNDMScheduler":
        levels = (scheduler.betas / scheduler.alphas).numpy().astype(np.float64)
        return by_sigmas(scheduler, name, np.array([start, *levels[1:]]), denoised, process, x, **step)
    wasted = bool(scheduler.sigmas[-1] == scheduler.sigmas[-2] > 0)  # the last step, of length zero
    if wasted:
        scheduler.set_timesteps(steps + 1)
    levels = scheduler.sigmas.to(torch.float64)
    if first or abs(levels[0] / start - 1) < 1e-3:
        levels[0] = start
    if wasted and levels[-1] == levels[-2]:
        levels = levels[:-1]
    scheduler.sigmas, calls = levels, levels.clone()
    if name == "KDPM2DiscreteScheduler":
        scheduler.sigmas_interpol = scheduler.sigmas_interpol.to(torch.float64)
        calls[1::2] = scheduler.sigmas_interpol[1::2]
    if hasattr(scheduler, "is_scale_input_called"):
        scheduler.is_scale_input_called = True
    count = min(len(scheduler.timesteps), len(levels) - 1)
    scheduler.timesteps = torch.arange(count, 0, -1, dtype=torch.float64)
    t = process.time(math.log(1 / calls[0] - 1) if flow else -math.log(calls[0]))
    x = x * math.hypot(process.alpha(t), process.sigma(t))
    x = walk(scheduler, name, calls[:count].tolist(), denoised, process, x, flow, **step)
    last = float(levels[-1])
    return x / process.alpha(process.time(math.log(1 / last - 1) if flow else -math.log(last))) if last > 0 else x


def tabulated(make: Any, denoised: Denoised, process: Any, times: Levels, x: Tensor, **options: Any) -> Tensor:
    """A scheduler that reads a table of α² by integer timestep: ours has the grid's levels with their middles."""
    halves = np.interp(np.arange(2 * len(times) - 1) / 2, np.arange(len(times)), times)
    alphas = torch.tensor([process.alpha(float(t)) ** 2 for t in halves])
    count = len(times) - 1
    scheduler = make(num_train_timesteps=2 * count, timestep_spacing="leading", steps_offset=0, **options)
    scheduler.set_timesteps(count)
    scheduler.alphas_cumprod, scheduler.final_alpha_cumprod = alphas[:-2].flip(0), alphas[-1]
    for timestep in scheduler.timesteps.tolist():
        t = float(halves[2 * (count - 1) - timestep])
        output = (x - process.alpha(t) * denoised(x, t)) / process.sigma(t)
        x = scheduler.step(output, timestep, x).prev_sample
    return x
