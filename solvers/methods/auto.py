"""One choice of solver, order, grid and end for every number of evaluations."""

from __future__ import annotations

from solvers.catalogue import solver
from solvers.coefficients.frames import FRAMES
from solvers.coefficients.interpolation import bh1, exact
from solvers.coefficients.predict_correct import predict_correct
from solvers.signature import Predict, Solution, State, Steps


@solver(
    "auto",
    family="auto",
    order=3,
    reference="Zhao et al. 2023, UniPC; the choice is this project's, by benchmarks/tuning/auto.py",
    grid="auto",
)
def auto(steps: Steps, x: State, predict: Predict) -> Solution:
    """``uni_pc`` of order 3, one evaluation a step: ``bh1`` up to 10 steps, ``vary_coeff`` beyond.

    On the grid ``auto``. Of the solvers that were tried, each on grids tuned for it, errors were smallest with this one
    on exact problems at 5 to 20 evaluations (benchmarks/results/auto.md). With 1 to 4 the grid follows the quality of
    samples instead (benchmarks/results/auto_few.md). There is nothing to set.

    Use:
        Where nobody wants to choose.
    """
    rule = bh1 if steps.count <= 10 else exact
    yield from predict_correct(steps, x, predict, lambda s: FRAMES.get("data"), rule, 3, 4)
