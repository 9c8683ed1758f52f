"""DPM-Solver-3, singlestep: three evaluations a step."""

from __future__ import annotations

from solvers.catalogue import solver
from solvers.coefficients import exponential
from solvers.coefficients.frames import FRAMES
from solvers.signature import Predict, Solution, State, Steps


@solver(
    "dpm_solver_3",
    family="singlestep",
    order=exponential.order_of_third,
    reference="Lu et al. 2022, DPM-Solver, Algorithm 5 (general r1, r2)",
)
def dpm_solver_3(
    steps: Steps,
    x: State,
    predict: Predict,
    r1: float = 1 / 3,
    r2: float = 2 / 3,
    solver_type: str = "midpoint",
    nodes: str = "step",
) -> Solution:
    """Third order with two inner evaluations at λ_1 = λ_t + r1 h and λ_2 = λ_t + r2 h.

    With φ(z) = (e^z − 1)/z − 1: u_1 from a first-order step, D_1 = ε_1 − ε_t,
    u_2 = (α_2/α_t) x − σ_2 [(e^{r2 h} − 1) ε_t + (r2/r1) φ(r2 h) D_1], D_2 = ε_2 − ε_t,
    x_s = (α_s/α_t) x − σ_s [(e^h − 1) ε_t + φ(h) D_2 / r2].

    Args:
        r1, r2: where the inner evaluations are, 0 < r1 < r2 < 1; third order needs r2 = 2/3.
        solver_type: ``midpoint``, as above, or ``heun``: the parabola through all three ε in the last line.
        nodes: where the inner evaluations are: ``step``, as above, or ``grid``: on two points of the grid, so that a
            step spans three intervals; what is left over at the end is a step of second or first order.

    Use:
        Converged solutions at 30 evaluations and more.
    """
    frame = FRAMES.get("edm")
    yield from exponential.third("dpm_solver_3", frame, steps, x, predict, r1, r2, solver_type, nodes=nodes)
