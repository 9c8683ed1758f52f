"""Grids that are spaced in the process's own time: the index on VPDiscrete, σ on EDM, log σ on VE, t elsewhere."""

from __future__ import annotations

import numpy as np
from scipy.special import betaincinv

from solvers.grids.grid import Array, End, last_time, rule, spaced_in
from solvers.steps import Process


@spaced_in("time", "linspace")
def uniform(u: Array, first: float, last: float) -> Array:
    """Evenly in t: t = (1 − u) t_first + u t_last.

    ``linspace`` is its name in Lin et al. 2024, Common diffusion noise schedules and sample steps are flawed, table 2
    (after Nichol & Dhariwal 2021), where times are rounded besides.
    """
    return first + u * (last - first)


@spaced_in("time")
def beta(u: Array, first: float, last: float, alpha: float = 0.6, beta: float = 0.6) -> Array:
    """At quantiles of a Beta distribution: t = t_last + (t_first − t_last) F⁻¹(1 − u; alpha, beta).

    Parameters below 1 crowd the steps at both ends, alpha = beta = 1 is ``uniform``. On EDM and Flow t is
    diffusers' σ; on VPDiscrete it is the index, as in ComfyUI, which also rounds it and leaves t_min out.

    Args:
        alpha: smaller puts more steps at the clean end.
        beta: smaller puts more steps at the noisy end.

    Source: Lee et al. 2024, Beta sampling is all you need; alpha = beta = 0.6 as in ComfyUI and diffusers.
    """
    return last + (first - last) * betaincinv(alpha, beta, 1 - u)


@rule()
def sgm_uniform(process: Process, steps: int) -> Array:
    """Evenly in t with t_min left out: t_i = t_max − (i/steps)(t_max − t_min), i = 0 … steps − 1.

    Source: Stability AI's generative-models (the discretizations of its samplers); the name is ComfyUI's.
    """
    return np.linspace(process.t_max, process.t_min, steps + 1)[:-1]


@rule()
def trailing(process: Process, steps: int) -> Array:
    """Evenly in t down to zero noise: t_i = t_max − (i/steps) T, i = 0 … steps − 1, T = t_max − t_clean.

    On a chain of T timesteps from 0 that is T − 1, T − 1 − T/steps, … . Where this would fall below t_min (more steps
    than T/(t_min − t_clean); on VE, whose t_clean is a convention, from two steps) the last time is t_min, as in
    ``uniform``.

    Source: Lin et al. 2024, Common diffusion noise schedules and sample steps are flawed, table 2, without rounding.
    """
    last = process.t_max - (steps - 1) / steps * (process.t_max - process.t_clean)
    return np.linspace(process.t_max, max(last, process.t_min), steps)


@rule()
def leading(process: Process, steps: int, end: End = None) -> Array:
    """Evenly in t, starting below t_max: t_i = t_last + ((steps − 1 − i)/steps) T, i = 0 … steps − 1.

    T = t_max − t_clean. On a chain of T timesteps from 0 that is …, 2T/steps, T/steps, 0; ``end`` shifts all times, as
    ``steps_offset`` does in diffusers. A single step starts at t_last. Where this would start above t_max (more steps
    than T/(t_last − t_clean); on VE, whose t_clean is a convention, from two steps) the first time is t_max, as in
    ``uniform``.

    Source: Song, Meng & Ermon 2021, DDIM, app. D.2 (linear); Lin et al. 2024, Common diffusion noise schedules and
    sample steps are flawed, table 2, without rounding T/steps.
    """
    last = last_time(process, end, steps)
    first = last + (steps - 1) / steps * (process.t_max - process.t_clean)
    return np.linspace(min(first, process.t_max), last, steps)
