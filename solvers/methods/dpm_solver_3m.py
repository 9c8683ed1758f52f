"""The multistep DPM-Solver in ε, third order."""

from __future__ import annotations

from solvers.catalogue import solver
from solvers.coefficients import histories
from solvers.coefficients.frames import FRAMES
from solvers.coefficients.histories import choose
from solvers.signature import Predict, Solution, State, Steps


@solver(
    "dpm_solver_3m",
    family="multistep",
    order=histories.order_of_3m,
    reference="Lu et al. 2022, DPM-Solver++ (the authors' code, multistep order 3, dpmsolver); the order is ours",
)
def dpm_solver_3m(
    steps: Steps,
    x: State,
    predict: Predict,
    variant: str = "exact",
    starter: str = "cold",
    solver_type: str = "heun",
    lower_order_final: bool = False,
) -> Solution:
    """x_s = (α_s/α_t) x − α_s ∫ e^{−λ} P(λ) dλ, P the parabola through the last three ε.

    Args:
        variant: ``exact``, or ``published`` (order 2, as for ``dpmpp_3m``).
        starter: ``cold`` (lower orders first) or ``singlestep`` (Runge–Kutta steps that keep the order).
        solver_type: between two ε, ``heun`` (the straight line integrated exactly) or ``midpoint``.
        lower_order_final: whether the last steps have lower orders: step i = 0 … n − 1 of n interpolates at most n − i
            ε.

    Use:
        15 evaluations and more.
    """
    histories.check("dpm_solver_3m", 3, starter)
    variants = choose("dpm_solver_3m", "solver_type", solver_type, histories.VARIANTS_BY_TYPE)
    rule = choose("dpm_solver_3m", "variant", variant, variants)
    frame = FRAMES.get("edm")
    yield from histories.adams(steps, x, predict, frame, 3, rule, starter, lower_order_final=lower_order_final)
