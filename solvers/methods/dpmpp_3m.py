"""DPM-Solver++(3M): third order at one evaluation a step."""

from __future__ import annotations

from solvers.catalogue import solver
from solvers.coefficients import histories
from solvers.coefficients.frames import FRAMES
from solvers.coefficients.histories import choose
from solvers.signature import Predict, Solution, State, Steps


@solver(
    "dpmpp_3m",
    family="multistep",
    order=histories.order_of_3m,
    reference="Lu et al. 2022, DPM-Solver++ (the authors' code, multistep order 3); the order is ours",
)
def dpmpp_3m(steps: Steps, x: State, predict: Predict, variant: str = "exact", starter: str = "cold") -> Solution:
    """x_s = (σ_s/σ_t) x + σ_s ∫ e^λ P(λ) dλ, P the parabola through the last three x0.

    The published formula has a divided difference where the second derivative belongs, which is twice that; so it has
    order 2, and is often good at few steps. Its second step is that of ``dpmpp_2m`` with ``solver_type=heun``, as in
    k-diffusion; diffusers' and the authors' default there is ``midpoint``.

    Args:
        variant: ``exact`` (third order) or ``published`` (second).
        starter: ``cold`` (lower orders first) or ``singlestep`` (Runge–Kutta steps that keep the order).

    Use:
        50 evaluations and more, ``dpmpp_2m`` below; ``variant=published`` where results of other toolkits must be met.
    """
    histories.check("dpmpp_3m", 3, starter)
    rule = choose("dpmpp_3m", "variant", variant, histories.VARIANTS)
    yield from histories.adams(steps, x, predict, FRAMES.get("data"), 3, rule, starter)
