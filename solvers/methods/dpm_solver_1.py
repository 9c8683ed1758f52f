"""DPM-Solver-1: the numbers of DDIM."""

from __future__ import annotations

from solvers.catalogue import solver
from solvers.coefficients import exponential
from solvers.coefficients.frames import FRAMES
from solvers.coefficients.interpolation import exact
from solvers.signature import Predict, Solution, State, Steps


@solver("dpm_solver_1", family="singlestep", order=1, reference="Lu et al. 2022, DPM-Solver, eq. 3.7")
def dpm_solver_1(steps: Steps, x: State, predict: Predict) -> Solution:
    """x_s = (α_s/α_t) x − σ_s (e^h − 1) ε with h = λ_s − λ_t; the same numbers as DDIM.

    Use:
        Under this name for those who know it; see ``ddim``.
    """
    for t, s in steps:
        x = yield exponential.take(FRAMES.get("edm"), exact, steps, x, t, s, predict, ())
