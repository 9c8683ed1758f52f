"""Rosenbrock-type exponential Adams–Bashforth: exact for normal data."""

from __future__ import annotations

from solvers.catalogue import solver
from solvers.coefficients import frames, histories
from solvers.coefficients.interpolation import interpolation
from solvers.signature import Predict, Solution, State, Steps


@solver(
    "reab",
    family="multistep",
    order=histories.declared,
    reference="Zheng et al. 2023, DPM-Solver-v3, with one scalar; Hochbruck, Ostermann & Schweitzer 2009",
)
def reab(
    steps: Steps, x: State, predict: Predict, order: int = 3, data_std: float = 1.0, starter: str = "cold"
) -> Solution:
    """Rosenbrock-type exponential Adams–Bashforth: the linear part is that of data N(0, c² I), solved exactly.

    y = x/√(α² c² + σ²), slope (α c ε − σ x0/c)/√(α² c² + σ²) interpolated in λ (:func:`solvers.frames.gaussian`).

    Args:
        order: how many slopes are interpolated, 1 to 4.
        data_std: c, the standard deviation of the data's pixels.
        starter: ``cold`` (lower orders first) or ``singlestep`` (Runge–Kutta steps that keep the order).

    Use:
        5 to 30 evaluations; with data_std = 1 it is the v-form of exponential Adams–Bashforth.
    """
    histories.check("reab", order, starter)
    yield from histories.adams(steps, x, predict, frames.gaussian(data_std), order, interpolation(), starter)
