"""Denoising diffusion implicit models, and ancestral sampling by Euler steps."""

from __future__ import annotations

import math

from solvers.registry import alias, solver


def ancestral(name, steps, x, predict, noise, eta):
    """Deterministic to a lower noise level, and noise added up to that of s."""
    if not 0 <= eta <= 1:
        raise ValueError(f"{name} needs eta between 0 and 1, got {eta}")
    for t, s in steps:
        p = predict(x, t)
        tau = eta * s.sigma * math.sqrt(-math.expm1(2 * (t.lam - s.lam)))
        x = yield s.alpha * p.x0 + math.sqrt(s.sigma**2 - tau**2) * p.epsilon + noise(tau)


@solver("ddim", order=1, weak_order=1, stochastic="eta", reference="Song et al. 2021, DDIM, eqs. 12 and 16")
def ddim(steps, x, predict, noise, eta=0.0):
    """x_s = α_s x0 + √(σ_s² − τ²) ε + τ ξ with τ = η σ_s √(1 − e^{2(λ_t − λ_s)}).

    η = 0 is the exponential Euler method for the probability-flow ODE, η = 1 ancestral sampling (DDPM).

    Args:
        eta: amplitude of the noise, 0 to 1.

    Use:
        Steady at any number of evaluations, and invertible; ``dpmpp_2m`` comes closer to the converged solution.
    """
    yield from ancestral("ddim", steps, x, predict, noise, eta)


@solver(
    "euler_ancestral",
    order=1,
    weak_order=1,
    stochastic="eta",
    reference="k-diffusion's sample_euler_ancestral, 2022; Song et al. 2021, DDIM, eqs. 12 and 16",
)
def euler_ancestral(steps, x, predict, noise, eta=1.0):
    """Euler's step for x/α over σ/α down to √(σ_s² − τ²)/α_s, then noise τ ξ, τ = η σ_s √(1 − e^{2(λ_t − λ_s)}).

    These are the numbers of ``ddim``, under the name and with the default by which pipelines know them.

    Args:
        eta: amplitude of the noise, 0 to 1; 0 is ``euler`` in the frame ``edm``.

    Use:
        30 evaluations and more; ``dpmpp_2m_sde`` is closer to the data's distribution at the same cost.
    """
    yield from ancestral("euler_ancestral", steps, x, predict, noise, eta)


alias("euler_a", of="euler_ancestral")
