"""DPM-Solver-2, singlestep: two evaluations a step."""

from __future__ import annotations

from solvers.catalogue import alias, solver
from solvers.coefficients import exponential
from solvers.coefficients.frames import FRAMES
from solvers.signature import Predict, Solution, State, Steps


@solver("dpm_solver_2", family="singlestep", order=2, reference="Lu et al. 2022, DPM-Solver, Algorithm 4 (general r1)")
def dpm_solver_2(steps: Steps, x: State, predict: Predict, r1: float = 0.5, solver_type: str = "midpoint") -> Solution:
    """x_s = (α_s/α_t) x − σ_s (e^h − 1) [ε_t + (ε_m − ε_t)/(2 r1)], ε_m at λ_m = λ_t + r1 h after a first-order step.

    With r1 = ½ it is k-diffusion's ``dpm_2``.

    Args:
        r1: where the inner evaluation is, in (0, 1).
        solver_type: ``midpoint``, as above, or ``heun``: the straight line through both ε integrated exactly (φ₂).

    Use:
        10 evaluations and more where steps must not remember earlier ones, because states are edited between them.
    """
    yield from exponential.second("dpm_solver_2", FRAMES.get("edm"), steps, x, predict, r1, solver_type)


alias("dpm_2", of="dpm_solver_2")
