"""SEEDS-3: DPM-Solver++(3S) on the reverse SDE, three evaluations a step."""

from __future__ import annotations

from solvers.catalogue import solver
from solvers.coefficients import frames
from solvers.coefficients.exponential import order_of_third, third
from solvers.signature import Draw, Predict, Solution, State, Steps


@solver(
    "seeds_3",
    family="sde",
    order=order_of_third,
    weak_order=2,
    stochastic="eta",
    reference="Gonzalez et al. 2023, SEEDS: exponential SDE solvers for fast high-quality sampling, SEEDS-3",
    grid="log_snr",
)
def seeds_3(
    steps: Steps, x: State, predict: Predict, noise: Draw, eta: float = 1.0, r1: float = 1 / 3, r2: float = 2 / 3
) -> Solution:
    """``dpmpp_3s`` on the reverse SDE, its stages and its end on one Brownian path: three draws a step.

    With w = e^{(1+η²)λ} and y = x e^{η²λ}/σ: y_1 = y + x0_t Δw + B_1 at λ_t + r1 h, y_2 with the straight line through
    x0_t and x0_1 and B_2 at λ_t + r2 h, y_s with that through x0_t and x0_2 and B_s; Var B = e^{2η²λ}. ComfyUI's
    ``eta`` is η², and its noise is that of one path only where the stages divide the step evenly.

    Args:
        eta: amplitude of the noise, at least 0; 1 is the reverse SDE, 0 is ``dpmpp_3s``; its square is ComfyUI's eta.
        r1, r2: where the inner evaluations are, 0 < r1 < r2 < 1; third order without noise needs r2 = 2/3.

    Use:
        30 evaluations and more; ``dpmpp_2m_sde`` below, at a third of the cost a step.
    """
    yield from third("seeds_3", frames.reverse(eta), steps, x, predict, r1, r2, "midpoint", noise)
