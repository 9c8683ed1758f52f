"""DPM-Solver++(2M) on the reverse SDE: weak order 2 at one evaluation a step."""

from __future__ import annotations

from solvers.catalogue import solver
from solvers.coefficients import frames, histories
from solvers.coefficients.histories import choose
from solvers.signature import Draw, Predict, Solution, State, Steps


@solver(
    "dpmpp_2m_sde",
    family="sde",
    order=2,
    weak_order=2,
    stochastic="eta",
    reference="Lu et al. 2022, DPM-Solver++, sec. 3.4 and app. B (SDE-DPM-Solver++(2M)); k-diffusion, 2022",
)
def dpmpp_2m_sde(
    steps: Steps, x: State, predict: Predict, noise: Draw, eta: float = 1.0, solver_type: str = "midpoint"
) -> Solution:
    """x_s = (σ_s/σ_t) e^{−η²h} x + α_s (1 − e^{−z}) [x0_t + (x0_t − x0_prev) h/(2 h_prev)] + σ_s √(1 − e^{−2η²h}) ξ.

    Here z = (1 + η²) h with h = λ_s − λ_t; the first step is of first order. k-diffusion's ``eta`` is η². With η = 0 it
    is ``dpmpp_2m``.

    Args:
        eta: amplitude of the noise, at least 0; 1 is the reverse SDE, 0 is ``dpmpp_2m``; its square is k-diffusion's
            eta.
        solver_type: ``midpoint``, as above, or ``heun``: the straight line through both x0 integrated exactly (φ₂).

    Use:
        The first to try with noise, from 15 evaluations on.
    """
    rule = choose("dpmpp_2m_sde", "solver_type", solver_type, histories.TYPES)
    yield from histories.adams(steps, x, predict, frames.reverse(eta), 2, rule, noise=noise)
