"""Ancestral sampling as in DDPM: the Gaussian posterior of the forward process at each step."""

from __future__ import annotations

import math

from solvers.catalogue import solver
from solvers.signature import Draw, Predict, Solution, State, Steps


@solver(
    "ddpm",
    family="ddim",
    order=1,
    weak_order=1,
    stochastic=True,
    reference="Ho et al. 2020, DDPM, eqs. 6, 7 and Algorithm 2",
)
def ddpm(steps: Steps, x: State, predict: Predict, noise: Draw) -> Solution:
    """x_s ~ q(x_s | x_t, x0), the Gaussian posterior of the forward process with the model's x0 put in.

    With a = α_t/α_s and β = σ_t² − a² σ_s²: mean (a σ_s² x + α_s β x0)/σ_t², variance β σ_s²/σ_t².

    Use:
        Where ancestral sampling in hundreds of steps must be met; ``ddim`` with ``eta=1`` gives the same numbers.
    """
    for t, s in steps:
        p = predict(x, t)
        a = t.alpha / s.alpha
        beta = -(t.sigma**2) * math.expm1(2 * (t.lam - s.lam))
        mean = (a * s.sigma**2 * x + s.alpha * beta * p.x0) / t.sigma**2
        x = yield mean + noise(math.sqrt(beta) * s.sigma / t.sigma)
