"""DPM-Solver++(2M): second order at one evaluation a step."""

from __future__ import annotations

from solvers.catalogue import solver
from solvers.coefficients import histories
from solvers.coefficients.frames import FRAMES
from solvers.coefficients.histories import choose
from solvers.signature import Predict, Solution, State, Steps


@solver("dpmpp_2m", family="multistep", order=2, reference="Lu et al. 2022, DPM-Solver++, Algorithm 2")
def dpmpp_2m(steps: Steps, x: State, predict: Predict, solver_type: str = "midpoint") -> Solution:
    """x_s = (σ_s/σ_t) x − α_s (e^{−h} − 1) [x0_t + (x0_t − x0_prev) h/(2 h_prev)]; the first step is DDIM's.

    Args:
        solver_type: ``midpoint``, as above, or ``heun``: the straight line through both x0 integrated exactly (φ₂).

    Use:
        The plain choice from 5 to 20 evaluations.
    """
    rule = choose("dpmpp_2m", "solver_type", solver_type, histories.TYPES)
    yield from histories.adams(steps, x, predict, FRAMES.get("data"), 2, rule)
