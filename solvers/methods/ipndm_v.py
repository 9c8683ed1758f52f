"""Improved PNDM with the weights of variable steps: the numbers of lms."""

from __future__ import annotations

from solvers.catalogue import solver
from solvers.coefficients import frames, histories
from solvers.coefficients.histories import choose
from solvers.coefficients.interpolation import interpolation, moments, weights
from solvers.signature import Predict, Solution, State, Steps


def published(frame, t, s, nodes):
    """The weights of diff-sampler's ipndm_v: those of variable steps, but for the integral of (w − w_t)(w − w_1).

    With h = w_s − w_t and the last steps a and b it is h a (a + b)/2 − h³/6 there, and truly h³/3 + a h²/2: equal where
    steps are equal.
    """
    found = moments(frame, "frame", t, s, t, len(nodes))
    offsets = [frame.change(t, node) for node in nodes]
    if len(nodes) == 3:
        h, a, reach = frame.change(t, s), -offsets[1], -offsets[2]
        found[2] = h * a * reach / 2 - h**3 / 6 - a * found[1]
    return weights(offsets, found)


@solver(
    "ipndm_v",
    family="adams",
    order=histories.declared,
    reference="Zhang & Chen 2023, DEIS (improved PNDM); diff-sampler's ipndm_v, 2024",
)
def ipndm_v(
    steps: Steps, x: State, predict: Predict, order: int = 4, variant: str = "exact", starter: str = "cold"
) -> Solution:
    """ipndm with the Adams–Bashforth weights of the steps as they are: the numbers of ``lms``.

    The published weights of three ε differ from those where steps differ; their order is 3 nonetheless, and they are
    often the better ones at 8 to 20 evaluations. The published weights of four ε do not sum to one, and are left out.

    Args:
        order: how many ε are interpolated, 1 to 4; 1 to 3 as published.
        variant: ``exact``, or ``published`` for orders 1 to 3.
        starter: ``cold`` (lower orders first) or ``singlestep`` (Runge–Kutta steps that keep the order).

    Use:
        ``order=3 variant=published`` at 8 to 20 evaluations; otherwise see ``lms``.
    """
    rule = choose("ipndm_v", "variant", variant, {"exact": interpolation("sigma"), "published": published})
    histories.check("ipndm_v", order, starter, most=4 if variant == "exact" else 3)
    yield from histories.adams(steps, x, predict, frames.FRAMES.get("edm"), order, rule, starter)
