"""Trajectory consistency distillation: below the next level, and with fresh noise back to it."""

from __future__ import annotations

import math

from solvers.catalogue import solver
from solvers.signature import Draw, Predict, Solution, State, Steps
from solvers.steps import Point


@solver(
    "tcd",
    family="distilled",
    order=1,
    weak_order=lambda options: None,
    stochastic="eta",
    reference="Zheng et al. 2024, Trajectory consistency distillation, Algorithm 4",
    grid="trailing",
)
def tcd(steps: Steps, x: State, predict: Predict, noise: Draw, eta: float = 0.3) -> Solution:
    """x_s = (α_s/α_r) (α_r x0 + σ_r ε) + √(σ_s² − α_s² σ_r²/α_r²) ξ with r = t_min + (1 − η)(s − t_min).

    Along the trajectory to r, which is cleaner than s, and with noise back up to s. η = 0 is ``ddim``, η = 1 samples as
    ``consistency`` does, with the end of the trajectory at t_min.

    Args:
        eta: γ of the paper, 0 to 1: how far below s each step goes, as a part of the way to t_min.

    Use:
        Trajectory-consistency models and TCD-LoRA, in 4 to 20 evaluations.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"tcd needs eta between 0 and 1, got {eta}")
    process = steps.process
    for t, s in steps:
        p, r = predict(x, t), Point.at(process, min(s.t, process.t_min + (1 - eta) * (s.t - process.t_min)))
        added = s.sigma * math.sqrt(max(0.0, -math.expm1(2 * (s.lam - r.lam))))
        x = yield s.alpha * (p.x0 + r.sigma / r.alpha * p.epsilon) + noise(added)
