"""Explicit Euler on the probability-flow ODE in a chosen frame."""

from __future__ import annotations

from solvers.catalogue import solver
from solvers.coefficients import frames
from solvers.signature import Predict, Solution, State, Steps


@solver(
    "euler",
    family="euler",
    order=1,
    reference="Karras et al. 2022, EDM, eq. 4 and Algorithm 1 without the correction",
)
def euler(steps: Steps, x: State, predict: Predict, frame: str | None = None) -> Solution:
    """y_s = y + (w_s − w_t) dy/dw, the explicit Euler step for y = x/scale over w (:mod:`solvers.frames`).

    In the frames ``edm`` and ``data`` this is DDIM.

    Args:
        frame: ``edm``, ``data``, ``flow``, ``vp``, or None for the process's own.

    Use:
        The plainest method in the model's own frame, and what flow-matching pipelines run by default.
    """
    chosen = frames.get(frame, steps.process)
    for t, s in steps:
        x = yield chosen.move(x, t, s, chosen.change(t, s) * chosen.slope(predict(x, t), t))
