"""UniPC: exponential Adams–Bashforth–Moulton that evaluates once a step."""

from __future__ import annotations

from solvers import frames, multistep, runge_kutta, tableaus
from solvers.interpolation import bh1, exact, midpoint
from solvers.multistep import choose, integral
from solvers.registry import alias, solver

VARIANTS = {"bh1": bh1, "bh2": midpoint, "vary_coeff": exact}


def predict_correct(steps, x, predict, frame_to, rule, predictor, corrector, starter="cold", noise=None):
    """Predict with the last ``predictor`` slopes; when the next is known, correct with it and the last of the others.

    Args:
        frame_to: the frame of a step, from its end.
        corrector: how many slopes the corrector interpolates, the new one included; 0 for none.
        noise: added to predictions, which the correction leaves as it is.
    """
    history, last = [], None
    for index, (t, s) in enumerate(steps):
        frame = frame_to(s)
        current = (t, frame.slope(predict(x, t), t))
        if corrector and last is not None:
            # What the step should have been less what it was; a state that a callback edited keeps its edit.
            before, used, predicted = last
            corrected = integral(used, rule, before, t, [*history[: corrector - 1], current])
            x = x + used.scale(t) * (corrected - predicted)
        history = [current, *history][: max(predictor, corrector - 1)]
        if starter == "singlestep" and index < predictor - 2:
            method = tableaus.get(multistep.BY_ORDER[predictor if corrector else predictor - 1])
            x = yield runge_kutta.take(method, frame, steps, x, t, s, current[1], predict, noise)
        else:
            last = t, frame, integral(frame, rule, t, s, history[:predictor])
            x = yield frame.move(x, t, s, last[2] + frame.diffused(t, s, noise))


def order_of_uni_pc(order, variant, corrector, frame, starter):
    """The corrector adds one order, to a cold start's first step too."""
    return order + corrector if starter == "singlestep" else min(order, 2) + corrector


@solver("uni_pc", order=order_of_uni_pc, reference="Zhao et al. 2023, UniPC, Algorithms 1 and 2")
def uni_pc(steps, x, predict, order=2, variant="bh2", corrector=True, frame="data", starter="cold"):
    """Predict from the last ``order`` slopes; once the slope at the prediction is known, correct the step with it.

    y_s = y_t + Σ_j w_j slope_j, with weights that integrate the interpolating polynomial in λ; the corrector has the
    slope at s among its nodes, costs no evaluation, and is applied when the next step evaluates there. The variants
    differ only between two nodes: UniPC's B(h) cancels wherever its linear system is solved in full.

    Args:
        order: how many slopes the predictor interpolates, 1 to 4.
        variant: ``bh1``, ``bh2`` or ``vary_coeff`` (exact φ-functions throughout).
        corrector: whether to correct.
        frame: ``data`` (the x0-form), ``edm`` (the ε-form), ``flow``, ``vp``, or None for the process's own.
        starter: ``cold`` (lower orders first) or ``singlestep`` (Runge–Kutta steps that keep the order).

    Use:
        5 to 20 evaluations; the corrector raises the order at no cost. Order 2 is the steadier choice below 20
        evaluations, 3 and 4 pay beyond 30.
    """
    multistep.check("uni_pc", order, starter)
    rule, chosen = choose("uni_pc", "variant", variant, VARIANTS), frames.get(frame, steps.process)
    nodes = order + 1 if corrector else 0
    yield from predict_correct(steps, x, predict, lambda s: chosen, rule, order, nodes, starter)


alias("unipc", of="uni_pc")
