"""Linear multistep in σ/α, with the weights of variable steps."""

from __future__ import annotations

from solvers.catalogue import solver
from solvers.coefficients import frames, histories
from solvers.coefficients.interpolation import interpolation
from solvers.signature import Predict, Solution, State, Steps


@solver(
    "lms",
    family="adams",
    order=histories.declared,
    reference="Zhang & Chen 2023, DEIS, eq. 15 in ρ = σ/α (ρAB); k-diffusion's sample_lms, 2022",
)
def lms(steps: Steps, x: State, predict: Predict, order: int = 4, starter: str = "cold") -> Solution:
    """y_s = y_t + Σ_j ε_j ∫_t^s ℓ_j(u) du with y = x/α and u = σ/α.

    Args:
        order: how many ε are interpolated, 1 to 4.
        starter: ``cold`` (lower orders first) or ``singlestep`` (Runge–Kutta steps that keep the order).

    Use:
        20 evaluations and more; ``deis`` is closer below.
    """
    histories.check("lms", order, starter)
    yield from histories.adams(steps, x, predict, frames.FRAMES.get("edm"), order, interpolation("sigma"), starter)
