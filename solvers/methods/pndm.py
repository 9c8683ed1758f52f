"""F-PNDM: pseudo Runge–Kutta for three steps, then four-step Adams with the weights of equal steps."""

from __future__ import annotations

from solvers.catalogue import solver
from solvers.coefficients import histories
from solvers.coefficients.frames import FRAMES
from solvers.coefficients.interpolation import equal_steps
from solvers.signature import Predict, Solution, State, Steps


@solver("pndm", family="adams", order=2, reference="Liu et al. 2022, PNDM, Algorithm 2 (F-PNDM)")
def pndm(steps: Steps, x: State, predict: Predict) -> Solution:
    """Three pseudo Runge–Kutta steps, then the four-step method with the weights of equal steps.

    With Δ = σ_s/α_s − σ_t/α_t and DDIM as the transfer, x_s = α_s [x/α_t + Δ ε'], where ε' = (ε_1 + 2 ε_2 + 2 ε_3 +
    ε_4)/6 in the first three steps, inner evaluations halfway in time, and (55 ε_t − 59 ε_1 + 37 ε_2 − 9 ε_3)/24
    afterwards. Of second order: its weights are those of steps that are even in σ/α.

    Use:
        Where results of PNDM pipelines must be met; ``ipndm`` does without the twelve evaluations of the start.
    """
    frame, history = FRAMES.get("edm"), []
    for index, (t, s) in enumerate(steps):
        first = predict(x, t).epsilon
        history = [(t, first), *history][:4]
        if index >= 3:
            x = yield frame.move(x, t, s, histories.integral(frame, equal_steps, t, s, history))
            continue
        m = steps.at(steps.process.half_log_snr(0.5 * (t.t + s.t)))
        half, whole = frame.change(t, m), frame.change(t, s)
        second = predict(frame.move(x, t, m, half * first), m).epsilon
        third = predict(frame.move(x, t, m, half * second), m).epsilon
        fourth = predict(frame.move(x, t, s, whole * third), s).epsilon
        x = yield frame.move(x, t, s, whole * (first + 2 * second + 2 * third + fourth) / 6)
