"""Heun's method, EDM's sampler: two evaluations a step, one in the last."""

from __future__ import annotations

import math

from solvers.catalogue import solver
from solvers.coefficients import frames
from solvers.signature import Draw, Predict, Solution, State, Steps


@solver(
    "heun",
    family="euler",
    order=2,
    weak_order=2,
    stochastic="s_churn",
    reference="Karras et al. 2022, EDM, Algorithms 1 and 2",
    to_clean=True,
)
def heun(
    steps: Steps,
    x: State,
    predict: Predict,
    noise: Draw,
    frame: str | None = None,
    s_churn: float = 0.0,
    s_tmin: float = 0.0,
    s_tmax: float = math.inf,
    s_noise: float = 1.0,
) -> Solution:
    """Euler step, then the trapezoidal rule with the slope at its end: y_s = y + ½(w_s − w_t)(d_t + d_s).

    The step to zero noise is a denoise, without correction. With churn, each step first raises the noise level u = σ/α
    to û = u(1 + γ), γ = min(s_churn/steps, √2 − 1), by adding noise: x̂ = α̂ (x/α + √(û² − u²) s_noise ξ).

    Args:
        frame: ``edm``, ``data``, ``flow``, ``vp``, or None for the process's own.
        s_churn: noise put in, over all steps together, in EDM's units, at least 0; 0 is deterministic.
        s_tmin: churn only where σ/α is at least this.
        s_tmax: churn only where σ/α is at most this.
        s_noise: factor of the noise put in.

    Use:
        EDM checkpoints from 30 evaluations on, and wherever a method must be what EDM's tables were made with.
    """
    if not s_churn >= 0:
        raise ValueError(f"heun needs s_churn of at least 0, got {s_churn}")
    chosen = frames.get(frame, steps.process)
    gamma = min(s_churn / steps.count, math.sqrt(2) - 1)
    for t, s in steps:
        level = t.sigma / t.alpha
        if gamma > 0 and s_tmin <= level <= s_tmax:
            raised = steps.at(t.lam - math.log1p(gamma))
            amount = s_noise * level * math.sqrt(gamma * (2 + gamma))
            x, t = raised.alpha * (x / t.alpha + noise(amount)), raised
        p = predict(x, t)
        if s.sigma == 0:
            x = yield p.x0
            continue
        slope, change = chosen.slope(p, t), chosen.change(t, s)
        end = chosen.move(x, t, s, change * slope)
        x = yield chosen.move(x, t, s, 0.5 * change * (slope + chosen.slope(predict(end, s), s)))
