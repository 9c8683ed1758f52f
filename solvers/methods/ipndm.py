"""Improved PNDM: Adams–Bashforth with the weights of equal steps."""

from __future__ import annotations

from solvers.catalogue import solver
from solvers.coefficients import frames, histories
from solvers.coefficients.interpolation import equal_steps
from solvers.signature import Predict, Solution, State, Steps


@solver(
    "ipndm",
    family="adams",
    order=lambda options: min(options["order"], 2),
    reference="Zhang & Chen 2023, DEIS (improved PNDM); Liu et al. 2022, PNDM",
)
def ipndm(steps: Steps, x: State, predict: Predict, order: int = 4) -> Solution:
    """y_s = y_t + (w_s − w_t)(55 ε_t − 59 ε_1 + 37 ε_2 − 9 ε_3)/24: the weights of equal steps, whatever the steps are.

    Hence of second order on any grid but an even one in σ/α. The first steps take the weights of orders 1, 2, ….

    Args:
        order: how many ε are combined, 1 to 4.

    Use:
        ``order=3`` from 8 evaluations on, among the best although its order is only 2; ``order=4`` from 30 on.
    """
    histories.check("ipndm", order, "cold")
    yield from histories.adams(steps, x, predict, frames.FRAMES.get("edm"), order, equal_steps)
