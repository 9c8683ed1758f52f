"""tAB-DEIS: ε interpolated in VP time."""

from __future__ import annotations

from solvers.catalogue import solver
from solvers.coefficients import frames, histories
from solvers.coefficients.interpolation import interpolation
from solvers.signature import Predict, Solution, State, Steps


@solver(
    "deis",
    family="multistep",
    order=histories.declared,
    reference="Zhang & Chen 2023, DEIS, eqs. 14 and 15 (tAB-DEIS)",
)
def deis(steps: Steps, x: State, predict: Predict, order: int = 4, starter: str = "cold") -> Solution:
    """y_s = y_t + Σ_j ε_j ∫_t^s ℓ_j(τ) d(σ/α): polynomials in VP time τ, integrated by quadrature in float64.

    τ is the time at which the linear-β VP process (0.1, 20) has the same signal-to-noise ratio, on every process.

    Args:
        order: how many ε are interpolated, 1 to 4.
        starter: ``cold`` (lower orders first) or ``singlestep`` (Runge–Kutta steps that keep the order).

    Use:
        The first to try: from 5 evaluations to 50 among the best at every budget that was measured.
    """
    histories.check("deis", order, starter)
    yield from histories.adams(steps, x, predict, frames.FRAMES.get("edm"), order, interpolation("vp_time"), starter)
