"""DPM-Solver++: exponential multistep methods in λ for the x0-form of the ODE."""

from __future__ import annotations

from math import expm1

from solvers.solver import solver


@solver("dpmpp_2m", order=2, reference="Lu et al. 2022, DPM-Solver++, Algorithm 2")
def dpmpp_2m(steps, x, predict):
    """x_s = (σ_s/σ_t) x − α_s (e^{−h} − 1) [x0_t + (x0_t − x0_prev) h/(2 h_prev)]; the first step is DDIM's."""
    previous, h_previous = None, 0.0
    for t, s in steps:
        h = s.lam - t.lam
        current = predict(x, t).x0
        data = current if previous is None else current + (h / (2 * h_previous)) * (current - previous)
        previous, h_previous = current, h
        x = yield (s.sigma / t.sigma) * x - s.alpha * expm1(-h) * data
