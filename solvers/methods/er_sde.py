"""ER-SDE: multistep in σ/α with noise that fades toward the clean end."""

from __future__ import annotations

import numpy as np

from solvers.catalogue import solver
from solvers.coefficients import frames, histories
from solvers.coefficients.histories import choose
from solvers.coefficients.interpolation import interpolation, moments, weights
from solvers.signature import Draw, Predict, Solution, State, Steps


def _power(lam):
    return np.exp(-0.3 * lam)


def _log_ratio(lam):
    """log(φ/u) of φ(u) = u (e^{u^0.3} + 10) at u = e^{−λ}."""
    return np.logaddexp(_power(lam), np.log(10.0))


def _slope(lam):
    return -0.3 * _power(lam) * np.exp(_power(lam) - _log_ratio(lam))


def _half_log_snr(w):
    raise NotImplementedError("λ at w is asked for by Runge–Kutta stages in w, which er_sde has not")


FRAME = frames.extended("er_sde", _log_ratio, _slope, _half_log_snr)


def published(frame, t, s, nodes):
    """The weights that take the last divided difference for the slope at t even where a second difference is known.

    That leaves (u − u_t)² in the place of (u − u_t)(u − u_1) with the second difference.
    """
    u = [float(np.exp(-node.lam)) - float(np.exp(-t.lam)) for node in nodes]
    found = moments(frame, "sigma", t, s, t, len(nodes))
    if len(nodes) == 3:
        found[2] += u[1] * found[1]
    return weights(u, found)


@solver(
    "er_sde",
    family="sde",
    order=2,
    weak_order=lambda options: min(options["order"], 2),
    stochastic=True,
    reference="Cui et al. 2023, Elucidating the solution space of extended reverse-time SDE, Algorithms 1 to 3",
    grid="karras",
)
def er_sde(steps: Steps, x: State, predict: Predict, noise: Draw, order: int = 3, variant: str = "exact") -> Solution:
    """x_s/α_s = (φ_s/φ_t) x/α_t + φ_s ∫ P(u) d(1/φ) + √(u_s² − u_t² φ_s²/φ_t²) ξ, u = σ/α, φ(u) = u (e^{u^0.3} + 10).

    P is the polynomial in u through the last ``order`` x0; the first steps have fewer. The amplitude of the noise is
    η² = d log φ/d log u − 1: little at u ≪ 1, more the larger u is. The published formula of order 3 has a lower-order
    slope at t, and Riemann sums of 200 points for the integrals that are exact here.

    Args:
        order: how many x0 are interpolated, 1 to 3.
        variant: ``exact``, or ``published``, which takes a slope of lower order.

    Use:
        10 to 20 evaluations, where less noise at the end leaves less error.
    """
    histories.check("er_sde", order, "cold", most=3)
    rules = {"exact": interpolation("sigma"), "published": published}
    rule = choose("er_sde", "variant", variant, rules)
    yield from histories.adams(steps, x, predict, FRAME, order, rule, noise=noise)
