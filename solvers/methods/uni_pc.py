"""UniPC: multistep predictor and corrector at one evaluation a step."""

from __future__ import annotations

from solvers.catalogue import alias, solver
from solvers.coefficients import frames, histories
from solvers.coefficients.histories import choose
from solvers.coefficients.interpolation import bh1, exact, midpoint
from solvers.coefficients.predict_correct import predict_correct
from solvers.signature import Predict, Solution, State, Steps

VARIANTS = {"bh1": bh1, "bh2": midpoint, "vary_coeff": exact}


def order_of_uni_pc(options):
    """The corrector adds one order, to a cold start's first step too; a last step of order one is not corrected."""
    order, corrector, starter = (options[name] for name in ("order", "corrector", "starter"))
    reached = order + corrector if starter == "singlestep" else min(order, 2) + corrector
    return min(reached, 2) if options["lower_order_final"] else reached


@solver("uni_pc", family="multistep", order=order_of_uni_pc, reference="Zhao et al. 2023, UniPC, Algorithms 1 and 2")
def uni_pc(
    steps: Steps,
    x: State,
    predict: Predict,
    order: int = 2,
    variant: str = "bh2",
    corrector: bool = True,
    frame: str = "data",
    starter: str = "cold",
    lower_order_final: bool = False,
) -> Solution:
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
        lower_order_final: whether the last steps have lower orders, as in the authors' code: step i = 0 … n − 1 of n
            interpolates at most n − i slopes, and its correction one more.

    Use:
        5 to 20 evaluations; the corrector raises the order at no cost. Order 2 is the steadier choice below 20
        evaluations, 3 and 4 pay beyond 30.
    """
    histories.check("uni_pc", order, starter)
    rule, chosen = choose("uni_pc", "variant", variant, VARIANTS), frames.get(frame, steps.process)
    nodes = order + 1 if corrector else 0
    yield from predict_correct(
        steps, x, predict, lambda s: chosen, rule, order, nodes, starter, lower_order_final=lower_order_final
    )


alias("unipc", of="uni_pc")
