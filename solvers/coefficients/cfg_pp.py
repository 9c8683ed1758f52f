"""CFG++: guidance that moves x0 and leaves the noise that is put back unconditional.

A step of CFG++ is a step of the unconditional ODE and a jump α_s (x0 − x0_∅) beside it, with x0 the guided and x0_∅ the
unconditional prediction, which is the model's output ``unconditional``. With x0 = x0_∅ + λ (x0_c − x0_∅) a step of
h = λ_s − λ_t in half log-SNR is one of classifier-free guidance with the scale λ/(1 − e^{−h}): the jump does not become
shorter with the step, so that the methods here converge to no ODE, and a scale means something for one grid.
"""

from __future__ import annotations

import math

from solvers.coefficients.frames import FRAMES
from solvers.coefficients.histories import integral
from solvers.coefficients.interpolation import midpoint

# The jump of a step with a past, in units of its own, from h/h_prev and 1 − e^{−h}.
VARIANTS = {"split": lambda ratio, change: 1.0, "published": lambda ratio, change: 1 + 0.5 * ratio * change}


def jumping(steps, x, predict, order, variant=VARIANTS["split"]):
    """The multistep method of that order in the x0-form along x0_∅, and the jump."""
    history, h_previous, frame = [], math.inf, FRAMES.get("data")
    for t, s in steps:
        p, h = predict(x, t), s.lam - t.lam
        free = p.extra("unconditional").x0
        history = [(t, free), *history][:order]
        jump = s.alpha * variant(h / h_previous, -math.expm1(-h)) * (p.x0 - free)
        h_previous = h
        x = yield frame.move(x, t, s, integral(frame, midpoint, t, s, history)) + jump
