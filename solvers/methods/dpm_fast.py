"""DPM-Solver-fast: third-order steps, the last ones of lower order."""

from __future__ import annotations

from solvers.catalogue import solver
from solvers.coefficients import exponential
from solvers.coefficients.frames import FRAMES
from solvers.coefficients.interpolation import exact, midpoint
from solvers.signature import Predict, Solution, State, Steps

LAST = {0: (2, 1), 1: (1,), 2: (2,)}  # orders of dpm_fast's last steps


MIXED = {1: (exact, ()), 2: (midpoint, (1 / 2,)), 3: (exact, (1 / 3, 2 / 3))}


@solver(
    "dpm_fast",
    family="singlestep",
    order=lambda options: min(LAST[options["remainder"]]) + 1,
    reference="Lu et al. 2022, DPM-Solver, sec. 3.4 (DPM-Solver-fast); k-diffusion's sample_dpm_fast, 2022",
)
def dpm_fast(steps: Steps, x: State, predict: Predict, remainder: int = 0) -> Solution:
    """DPM-Solver-3 on all steps but the last, which are of lower order so that any number of evaluations is met.

    Args:
        remainder: evaluations beyond a multiple of three: 0 (the last two steps are of orders 2 and 1), 1 (the last
            is of order 1) or 2 (the last is of order 2).

    Use:
        Where results of the original DPM-Solver's fast mode must be met.
    """
    if remainder not in LAST:
        raise ValueError(f"dpm_fast needs a remainder of 0, 1 or 2, got {remainder}")
    last = LAST[remainder]
    for index, (t, s) in enumerate(steps):
        left = len(steps) - index
        order = 3 if left > len(last) else last[-left]
        rule, ratios = MIXED[order]
        x = yield exponential.take(FRAMES.get("edm"), rule, steps, x, t, s, predict, ratios)
