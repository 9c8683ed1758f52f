"""Exponential Adams–Bashforth in any frame and variable."""

from __future__ import annotations

from solvers.catalogue import solver
from solvers.coefficients import frames, histories
from solvers.coefficients.interpolation import interpolation
from solvers.signature import Predict, Solution, State, Steps


@solver(
    "eab",
    family="multistep",
    order=histories.declared,
    reference="Hochbruck & Ostermann 2010, Exponential integrators; Zhang & Chen 2023, DEIS, eqs. 14 and 15",
)
def eab(
    steps: Steps,
    x: State,
    predict: Predict,
    order: int = 3,
    frame: str = "data",
    variable: str = "lambda",
    starter: str = "cold",
) -> Solution:
    """y_s = y_t + Σ_j w_j slope_j, w_j = ∫_t^s ℓ_j(u) dw, ℓ_j the Lagrange polynomials through the last slopes.

    Args:
        order: how many slopes are interpolated, 1 to 4.
        frame: ``data`` (the x0-form), ``edm`` (the ε-form), ``flow``, ``vp``, or None for the process's own.
        variable: what the polynomial is in: ``lambda``, ``sigma`` (σ/α), ``vp_time``, or ``frame`` (w itself: classical
            Adams–Bashforth).
        starter: ``cold`` (lower orders first) or ``singlestep`` (Runge–Kutta steps that keep the order).

    Use:
        To try which form and variable suit a model; the named methods are members of this family. At 8 to 20
        evaluations ``variable=vp_time``, and ``frame=flow variable=frame``, were among the best of all.
    """
    histories.check("eab", order, starter)
    chosen = frames.get(frame, steps.process)
    yield from histories.adams(steps, x, predict, chosen, order, interpolation(variable), starter)
