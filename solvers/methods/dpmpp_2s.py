"""DPM-Solver++(2S), singlestep in x0: two evaluations a step."""

from __future__ import annotations

from solvers.catalogue import solver
from solvers.coefficients import exponential
from solvers.coefficients.frames import FRAMES
from solvers.signature import Predict, Solution, State, Steps


@solver("dpmpp_2s", family="singlestep", order=2, reference="Lu et al. 2022, DPM-Solver++, Algorithm 1 (general r1)")
def dpmpp_2s(steps: Steps, x: State, predict: Predict, r1: float = 0.5, solver_type: str = "midpoint") -> Solution:
    """x_s = (σ_s/σ_t) x − α_s (e^{−h} − 1) [x0_t + (x0_m − x0_t)/(2 r1)], with x0_m at λ_t + r1 h.

    Args:
        r1: where the inner evaluation is, in (0, 1).
        solver_type: ``midpoint``, as above, or ``heun``: the straight line through both x0 integrated exactly (φ₂).

    Use:
        5 to 10 evaluations where steps must not remember earlier ones, because states are edited between them.
    """
    yield from exponential.second("dpmpp_2s", FRAMES.get("data"), steps, x, predict, r1, solver_type)
