"""Grids that are spaced in a function of the noise level, so that they mean the same on every process."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import betaincinv

from solvers.grids.grid import Array, first_half_log_snr, rule, spaced_in, times
from solvers.steps import Process

VP_BETA_MIN, VP_BETA_MAX = 0.1, 20.0


@spaced_in("half_log_snr", "exponential")
def log_snr(u: Array, first: float, last: float) -> Array:
    """Evenly in λ: λ = (1 − u) λ_first + u λ_last; σ/α falls by the same factor at each step.

    Source: Lu et al. 2022, DPM-Solver, sec. 3.4; ``exponential`` is its name in k-diffusion.
    """
    return first + u * (last - first)


@spaced_in("half_log_snr")
def polyexponential(u: Array, first: float, last: float, rho: float = 1.0) -> Array:
    """By a power of the way in λ: λ = λ_last − (1 − u)^rho (λ_last − λ_first).

    rho = 1 is ``log_snr``; a larger rho puts more steps at the clean end.

    Args:
        rho: 1 is log_snr; larger puts more steps at the clean end.

    Source: Crowson, k-diffusion, ``get_sigmas_polyexponential``.
    """
    return last - (1 - u) ** rho * (last - first)


@spaced_in("half_log_snr")
def karras(u: Array, first: float, last: float, rho: float = 7.0) -> Array:
    """Evenly in (σ/α)^(1/rho): σ/α = ((1 − u) s_first^(1/rho) + u s_last^(1/rho))^rho, s = σ/α.

    rho = 1 is even in σ/α; a larger rho puts more steps at the clean end.

    Args:
        rho: larger puts more steps at the clean end.

    Source: Karras et al. 2022, Elucidating the design space of diffusion-based generative models, eq. 5.
    """
    return first - rho * np.log1p(u * np.expm1((first - last) / rho))


@rule()
def karras_trailing(process: Process, steps: int, rho: float = 7.0) -> Array:
    """``karras`` with t_min left out: u_i = i/steps, i = 0 … steps − 1.

    For few-step models, whose last evaluation is to find the data and not to remove a rest of noise.

    Args:
        rho: larger puts more steps at the clean end.

    Source: Song et al. 2023, Consistency models, app. C (whose levels are a subset of those it was trained on).
    """
    first, last = first_half_log_snr(process), process.half_log_snr(process.t_min)
    u = np.arange(1, steps) / steps
    return np.concatenate([[process.t_max], times(process, karras(u, first, last, rho))])


@spaced_in("half_log_snr")
def quadratic(u: Array, first: float, last: float) -> Array:
    """Evenly in √τ, τ the time at which the linear-β VP process (0.1, 20) has the same signal-to-noise ratio.

    √τ = (1 − u) √τ_first + u √τ_last.

    Source: Song, Meng & Ermon 2021, DDIM, app. D.2 (quadratic in time).
    """
    start, stop = vp_time(first) ** 0.5, vp_time(last) ** 0.5
    return vp_half_log_snr((start + u * (stop - start)) ** 2)


@spaced_in("half_log_snr")
def linear_beta(u: Array, first: float, last: float) -> Array:
    """Evenly in the time of a VP process whose β rises linearly from 0 at the last noisy time.

    log(1 + s²) = L_last + (1 − u)² (L_first − L_last) with s = σ/α and L = log(1 + s²) = −log α² at the two ends.

    Source: Rozet, azula, ``VPSchedule``; the schedule of Ho et al. 2020, Denoising diffusion probabilistic models, with
    β from 0.
    """
    start, stop = np.logaddexp(0.0, [-2 * first, -2 * last])
    return -0.5 * np.log(np.expm1(stop + (1 - u) ** 2 * (start - stop)))


@spaced_in("half_log_snr", "cosine")
def kl_optimal(u: Array, first: float, last: float) -> Array:
    """Evenly in the angle arctan(σ/α): λ = −log tan((1 − u) θ_first + u θ_last), tan θ = σ/α.

    For data of unit variance and Euler steps in σ/α this minimises the Kullback–Leibler divergence. It is also the
    cosine schedule, α = cos θ and σ = sin θ with θ even, cut to the process's range of λ.

    Source: Sabour et al. 2024, Align your steps, theorem 3.1 with c = 1; as ``cosine``: Nichol & Dhariwal 2021,
    Improved DDPM, eq. 17 with s = 0, and Hoogeboom et al. 2023, Simple diffusion, in λ.
    """
    start, stop = np.arctan(np.exp([-first, -last]))
    return -np.log(np.tan(start + u * (stop - start)))


@spaced_in("half_log_snr")
def chebyshev(u: Array, first: float, last: float) -> Array:
    """By half a cosine in λ, at its Chebyshev points: λ = λ_first + (λ_last − λ_first)(1 − cos πu)/2.

    It crowds the steps at both ends of λ, as polynomial interpolation in λ likes it.

    Source: Trefethen 2013, Approximation theory and approximation practice, ch. 2.
    """
    return first + (last - first) * np.sin(0.5 * np.pi * u) ** 2


@spaced_in("half_log_snr")
def flow_shift(u: Array, first: float, last: float, shift: float = 1.0) -> Array:
    """Evenly in the time w = σ/(α + σ) of rectified flow, then shifted: w → shift w/(1 + (shift − 1) w).

    shift = 1 is even in w, which is ``uniform`` on the Flow process; a larger one puts more steps at the noisy end, as
    high resolutions ask for.

    Args:
        shift: larger puts more steps at the noisy end.

    Source: Esser et al. 2024, Scaling rectified flow transformers for high-resolution image synthesis, eq. 23.
    """
    start, stop = (w / (shift - (shift - 1) * w) for w in 1 / (1 + np.exp([first, last])))
    even = start + u * (stop - start)
    w = shifted(shift, even)
    return np.log1p(-w) - np.log(w)


@spaced_in("half_log_snr")
def decay(u: Array, first: float, last: float, gamma: float = 0.1) -> Array:
    """By exponential decay along a straight line from (α, σ) = (1, s_last) to (1/s_first, 1), s = σ/α.

    σ/α = (τ + (1 − τ) s_last)/(τ/s_first + 1 − τ) with τ = (1 − gamma^(1 − u))/(1 − gamma). gamma = 1 is even
    along the line, a smaller one puts more steps at the noisy end.

    Args:
        gamma: smaller puts more steps at the noisy end.

    Source: Rozet, azula, ``DecaySchedule``, and ``RectifiedSchedule`` for gamma = 1.
    """
    rate = np.log(gamma)
    tau = np.expm1((1 - u) * rate) / np.expm1(rate) if rate else 1 - u
    return np.log(tau * np.exp(first) + 1 - tau) - np.log(tau + (1 - tau) * np.exp(-last))


def shifted(shift: float, w: Array) -> Array:
    """w → shift w/(1 + (shift − 1) w), times of rectified flow; see :func:`flow_shift`."""
    return shift * w / (1 + (shift - 1) * w)


@spaced_in("half_log_snr")
def beta_log_snr(u: Array, first: float, last: float, alpha: float = 1.3, beta: float = 1.2) -> Array:
    """At quantiles of a Beta distribution in λ: λ = λ_first + (λ_last − λ_first) F⁻¹(u; alpha, beta).

    alpha = beta = 1 is ``log_snr``; an alpha above 1 makes the first steps longer, a beta above 1 the last ones.

    Args:
        alpha: above 1: longer first steps.
        beta: above 1: longer last steps.

    Source: the rule of ``beta`` (Lee et al. 2024, Beta sampling is all you need), in λ in the place of t.
    """
    return first + (last - first) * betaincinv(alpha, beta, u)


def vp_time(half_log_snr: Any) -> Any:
    """The time of the linear-β VP process with β from 0.1 to 20 at which its half log-SNR is the given one."""
    integral = np.logaddexp(0.0, -2 * half_log_snr)  # ∫β = −2 log α
    return 2 * integral / (VP_BETA_MIN + np.sqrt(VP_BETA_MIN**2 + 2 * (VP_BETA_MAX - VP_BETA_MIN) * integral))


def vp_half_log_snr(time: Array) -> Array:
    """Inverse of :func:`vp_time`, on arrays."""
    return -0.5 * np.log(np.expm1(VP_BETA_MIN * time + 0.5 * (VP_BETA_MAX - VP_BETA_MIN) * time**2))
