"""Refined exponential solver, multistep."""

from __future__ import annotations

from solvers.catalogue import solver
from solvers.coefficients import histories
from solvers.coefficients.frames import FRAMES
from solvers.coefficients.interpolation import exact
from solvers.signature import Predict, Solution, State, Steps


@solver(
    "res_multistep",
    family="multistep",
    order=histories.declared,
    reference="Zhang et al. 2023, Improved order analysis and design of exponential integrator for diffusion models "
    "sampling (RES, multistep)",
)
def res_multistep(steps: Steps, x: State, predict: Predict, order: int = 2, starter: str = "cold") -> Solution:
    """x_s = e^{−h} (α_s/α_t) x + α_s h [b_1 x0_t + b_2 x0_prev], b_2 = −φ₂(−h)/c with c = h_prev/h, b_1 = φ₁(−h) − b_2.

    Args:
        order: how many x0 are interpolated, 2 or 3.
        starter: ``cold`` (lower orders first) or ``singlestep`` (Runge–Kutta steps that keep the order).

    Use:
        As ``dpmpp_2m``, whose ``solver_type=heun`` gives the same numbers at order 2.
    """
    if order not in (2, 3):
        raise ValueError(f"res_multistep has orders 2 and 3, got {order}")
    histories.check("res_multistep", order, starter)
    yield from histories.adams(steps, x, predict, FRAMES.get("data"), order, exact, starter)
