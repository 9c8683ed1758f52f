"""The multistep DPM-Solver in ε, second order."""

from __future__ import annotations

from solvers.catalogue import solver
from solvers.coefficients import histories
from solvers.coefficients.frames import FRAMES
from solvers.coefficients.histories import choose
from solvers.signature import Predict, Solution, State, Steps


@solver(
    "dpm_solver_2m",
    family="multistep",
    order=2,
    reference="Lu et al. 2022, DPM-Solver++ (the authors' code, multistep order 2, dpmsolver)",
)
def dpm_solver_2m(steps: Steps, x: State, predict: Predict, solver_type: str = "midpoint") -> Solution:
    """x_s = (α_s/α_t) x − σ_s (e^h − 1) [ε_t + (ε_t − ε_prev) h/(2 h_prev)]; the first step is DDIM's.

    Args:
        solver_type: ``midpoint``, as above, or ``heun``: the straight line through both ε integrated exactly (φ₂).

    Use:
        5 to 15 evaluations, much as ``dpmpp_2m``.
    """
    rule = choose("dpm_solver_2m", "solver_type", solver_type, histories.TYPES)
    yield from histories.adams(steps, x, predict, FRAMES.get("edm"), 2, rule)
