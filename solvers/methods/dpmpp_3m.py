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
def dpmpp_3m(
    steps: Steps,
    x: State,
    predict: Predict,
    variant: str = "exact",
    starter: str = "cold",
    solver_type: str = "heun",
    lower_order_final: bool = False,
) -> Solution:
    """x_s = (σ_s/σ_t) x + σ_s ∫ e^λ P(λ) dλ, P the parabola through the last three x0.

    The published formula has a divided difference where the second derivative belongs, which is twice that; so it has
    order 2, and is often good at few steps. Its second step is that of ``dpmpp_2m`` with the same ``solver_type``:
    ``heun`` in k-diffusion, ``midpoint`` by default in diffusers and in the authors' code.

    Args:
        variant: ``exact`` (third order) or ``published`` (second).
        starter: ``cold`` (lower orders first) or ``singlestep`` (Runge–Kutta steps that keep the order).
        solver_type: between two x0, ``heun`` (the straight line integrated exactly) or ``midpoint``.
        lower_order_final: whether the last steps have lower orders: step i = 0 … n − 1 of n interpolates at most n − i
            x0.

    Use:
        50 evaluations and more, ``dpmpp_2m`` below; ``variant=published`` where results of other toolkits must be met.
    """
    histories.check("dpmpp_3m", 3, starter)
    variants = choose("dpmpp_3m", "solver_type", solver_type, histories.VARIANTS_BY_TYPE)
    rule = choose("dpmpp_3m", "variant", variant, variants)
    frame = FRAMES.get("data")
    yield from histories.adams(steps, x, predict, frame, 3, rule, starter, lower_order_final=lower_order_final)
