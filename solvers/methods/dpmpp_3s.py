"""DPM-Solver++(3S), singlestep in x0: three evaluations a step."""

from __future__ import annotations

from solvers.catalogue import solver
from solvers.coefficients import exponential
from solvers.coefficients.frames import FRAMES
from solvers.signature import Predict, Solution, State, Steps


@solver(
    "dpmpp_3s",
    family="singlestep",
    order=exponential.order_of_third,
    reference="Lu et al. 2022, DPM-Solver++ (the authors' code, singlestep order 3)",
)
def dpmpp_3s(
    steps: Steps,
    x: State,
    predict: Predict,
    r1: float = 1 / 3,
    r2: float = 2 / 3,
    solver_type: str = "midpoint",
    nodes: str = "step",
) -> Solution:
    """``dpm_solver_3`` with x0 in place of ε: u_2 and x_s integrate e^λ times straight lines through x0.

    Args:
        r1, r2: where the inner evaluations are, 0 < r1 < r2 < 1; third order needs r2 = 2/3.
        solver_type: ``midpoint``, as above, or ``heun``: the parabola through all three x0 for the last integral.
        nodes: where the inner evaluations are: ``step``, as above, or ``grid``: on two points of the grid, so that a
            step spans three intervals; what is left over at the end is a step of second or first order.

    Use:
        10 evaluations and more where ``dpm_solver_3`` is unsteady in its first steps.
    """
    frame = FRAMES.get("data")
    yield from exponential.third("dpmpp_3s", frame, steps, x, predict, r1, r2, solver_type, nodes=nodes)
