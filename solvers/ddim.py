"""Denoising diffusion implicit models."""

from __future__ import annotations

import math

from solvers.registry import solver


@solver("ddim", order=1, weak_order=1, stochastic="eta", reference="Song et al. 2021, DDIM, eqs. 12 and 16")
def ddim(steps, x, predict, noise, eta=0.0):
    """x_s = α_s x0 + √(σ_s² − τ²) ε + τ ξ with τ = η σ_s √(1 − e^{2(λ_t − λ_s)}).

    η = 0 is the exponential Euler method for the probability-flow ODE, η = 1 ancestral sampling (DDPM).

    Args:
        eta: amplitude of the noise, 0 to 1.

    Use:
        Steady at any number of evaluations, and invertible; ``dpmpp_2m`` comes closer to the converged solution.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"ddim needs eta between 0 and 1, got {eta}")
    for t, s in steps:
        p = predict(x, t)
        tau = eta * s.sigma * math.sqrt(-math.expm1(2 * (t.lam - s.lam)))
        x = yield s.alpha * p.x0 + math.sqrt(s.sigma**2 - tau**2) * p.epsilon + noise(tau)
