"""Prediction with the last slopes, and correction once the next is known: one evaluation a step."""

from __future__ import annotations

from solvers.coefficients import histories, runge_kutta, tableaus
from solvers.coefficients.histories import integral


def predict_correct(
    steps, x, predict, frame_to, rule, predictor, corrector, starter="cold", noise=None, lower_order_final=False
):
    """Predict with the last ``predictor`` slopes; when the next is known, correct with it and the last of the others.

    Args:
        frame_to: the frame of a step, from its end.
        corrector: how many slopes the corrector interpolates, the new one included; 0 for none.
        noise: added to predictions, which the correction leaves as it is.
        lower_order_final: step i = 0 … n − 1 of n interpolates at most n − i slopes, and its correction
            the new one besides.
    """
    history, last = [], None
    for index, (t, s) in enumerate(steps):
        frame = frame_to(s)
        current = (t, frame.slope(predict(x, t), t))
        if corrector and last is not None:
            # What the step should have been less what it was; a state that a callback edited keeps its edit.
            before, used, predicted, others = last
            corrected = integral(used, rule, before, t, [*history[:others], current])
            x = x + used.scale(t) * (corrected - predicted)
        history = [current, *history][: max(predictor, corrector - 1)]
        left = len(steps) - index if lower_order_final else len(history)
        if starter == "singlestep" and index < predictor - 2:
            method = tableaus.described(histories.BY_ORDER[predictor if corrector else predictor - 1])
            x = yield runge_kutta.take(method, frame, steps, x, t, s, current[1], predict, noise)
        else:
            last = t, frame, integral(frame, rule, t, s, history[: min(predictor, left)]), min(corrector - 1, left)
            x = yield frame.move(x, t, s, last[2] + frame.diffused(t, s, noise))
