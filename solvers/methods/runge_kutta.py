"""An explicit Runge–Kutta method in a frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from solvers.catalogue import solver
from solvers.coefficients import frames, tableaus
from solvers.coefficients.runge_kutta import take
from solvers.signature import Predict, Solution, State, Steps


@solver(
    "runge_kutta",
    family="euler",
    order=lambda options: tableaus.described(options["tableau"]).order,
    reference="Hairer, Nørsett & Wanner 1993, Solving ordinary differential equations I, eq. II.1.8",
)
def runge_kutta(
    steps: Steps,
    x: State,
    predict: Predict,
    tableau: str | Mapping[str, Sequence[Any]] = "rk4",
    frame: str | None = None,
) -> Solution:
    """k_i = f(w + c_i h, y + h Σ_j a_ij k_j), y_s = y + h Σ_i b_i k_i, with f the slope dy/dw and h = w_s − w_t.

    Args:
        tableau: ``euler``, ``midpoint``, ``heun2``, ``ralston2``, ``heun3``, ``kutta3``, ``ralston3``, ``ssprk3``,
            ``rk4``, ``rk4_38``, ``nystrom5``, or a mapping of your own ``a`` (rows of the second stage on) and ``b``,
            whose order is then found by Butcher's order conditions.
        frame: ``edm``, ``data``, ``flow``, ``vp``, or None for the process's own.

    Use:
        High accuracy from 30 evaluations on: converged references, likelihoods, inversion.
    """
    chosen, method = frames.get(frame, steps.process), tableaus.described(tableau)
    for t, s in steps:
        x = yield take(method, chosen, steps, x, t, s, chosen.slope(predict(x, t), t), predict)
