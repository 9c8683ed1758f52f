"""Exponential Heun: exponential Euler, then the straight line through both slopes."""

from __future__ import annotations

from solvers.catalogue import solver
from solvers.coefficients import exponential
from solvers.coefficients.frames import FRAMES
from solvers.coefficients.interpolation import exact
from solvers.errors import known
from solvers.signature import Predict, Solution, State, Steps


@solver(
    "exp_heun",
    family="singlestep",
    order=2,
    reference="Hochbruck & Ostermann 2010, Exponential integrators (second-order Runge–Kutta, c₂ = 1)",
)
def exp_heun(steps: Steps, x: State, predict: Predict, frame: str = "data") -> Solution:
    """Exponential Euler to s, then the straight line through both slopes integrated exactly: weights φ₁ − φ₂ and φ₂.

    Args:
        frame: ``data`` (the x0-form), ``edm`` (the ε-form), ``flow``, ``vp``.

    Use:
        In place of ``heun`` below 15 evaluations, where it is steadier.
    """
    for t, s in steps:
        x = yield exponential.take(
            FRAMES.get(known("frame", frame, FRAMES, of="exp_heun")), exact, steps, x, t, s, predict, (1.0,)
        )
