"""SRA1: a stochastic Runge–Kutta method of strong order 1.5, two evaluations a step."""

from __future__ import annotations

import math

import numpy as np

from solvers.catalogue import solver
from solvers.coefficients import frames
from solvers.coefficients.histories import integral
from solvers.coefficients.interpolation import exact, quadrature
from solvers.signature import Draw, Predict, Solution, State, Steps


def joint(frame, t, s):
    """Standard deviation of B_s − B_t, and J = ∫_t^s (B − B_t) dw on it and beside it: J = a ξ_1 + b ξ_2."""
    lam, weights = quadrature(t.lam, s.lam)
    start, measure = frame.log_clock(t.lam), weights * frame.rate(lam)
    variance, path = (math.exp(start) * np.expm1(frame.log_clock(u) - start) for u in (s.lam, lam))
    if variance == 0:
        return 0.0, 0.0, 0.0
    covariance = float(measure @ path)
    square = float(2 * measure @ (path * (frame.variable(s) - frame.position(lam))))
    deviation = math.sqrt(variance)
    return deviation, covariance / deviation, math.sqrt(square - covariance**2 / variance)


@solver(
    "sra1",
    family="sde",
    order=2,
    weak_order=2,
    stochastic="eta",
    reference="Rößler 2010, Runge–Kutta methods for the strong approximation of solutions of SDEs, sec. 6 (SRA1)",
)
def sra1(steps: Steps, x: State, predict: Predict, noise: Draw, eta: float = 1.0) -> Solution:
    """Rößler's method for additive noise, of strong order 1.5, with the linear part integrated exactly.

    In y = x e^{η²λ}/σ over w = e^{(1+η²)λ}, dy = x0 dw + dB. One stage at λ_t + ¾ h: y_m = y + x0_t Δw + J/w_2 with J =
    ∫ (B − B_t) dw, and y_s = y + w_1 x0_t + w_2 x0_m + B_s − B_t, where w_1 and w_2 integrate the straight line through
    both x0. B_s − B_t and J are jointly Gaussian: two draws.

    Args:
        eta: amplitude of the noise, at least 0; 1 is the reverse SDE, 0 is deterministic.

    Use:
        Where single paths count, not only their distribution; otherwise ``dpmpp_sde`` at the same cost.
    """
    frame = frames.reverse(eta)
    for t, s in steps:
        m = steps.at(t.lam + 0.75 * (s.lam - t.lam))
        first, second = exact(frame, t, s, (t, m))
        deviation, along, beside = joint(frame, t, s)
        common, own = (noise(1.0), noise(1.0)) if deviation else (0.0, 0.0)
        start = (t, frame.slope(predict(x, t), t))
        inner = frame.move(x, t, m, integral(frame, exact, t, m, [start]) + (along * common + beside * own) / second)
        slope = frame.slope(predict(inner, m), m)
        x = yield frame.move(x, t, s, first * start[1] + second * slope + deviation * common)
