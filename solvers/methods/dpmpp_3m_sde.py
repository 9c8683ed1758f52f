"""DPM-Solver++(3M) on the reverse SDE: weak order 2 at one evaluation a step, third order without noise."""

from __future__ import annotations

from solvers.catalogue import solver
from solvers.coefficients import frames, histories
from solvers.coefficients.histories import choose
from solvers.signature import Draw, Predict, Solution, State, Steps


@solver(
    "dpmpp_3m_sde",
    family="sde",
    order=histories.order_of_3m,
    weak_order=2,
    stochastic="eta",
    reference="Lu et al. 2022, DPM-Solver++, app. B, on the reverse SDE; k-diffusion's sample_dpmpp_3m_sde, 2023",
    grid="log_snr",
)
def dpmpp_3m_sde(
    steps: Steps,
    x: State,
    predict: Predict,
    noise: Draw,
    eta: float = 1.0,
    variant: str = "exact",
    starter: str = "cold",
) -> Solution:
    """x_s = (σ_s/σ_t) e^{−η²h} x + σ_s e^{−η²λ_s} ∫ P(λ) dw + σ_s √(1 − e^{−2η²h}) ξ, w = e^{(1+η²)λ}.

    P is the parabola through the last three x0. With one draw a step the weak order is 2, with a smaller constant than
    that of ``dpmpp_2m_sde``; third order at η = 0, where it is ``dpmpp_3m``. k-diffusion's ``eta`` is η², and its
    formula the ``published`` one, with half the second derivative.

    Args:
        eta: amplitude of the noise, at least 0; 1 is the reverse SDE, 0 is ``dpmpp_3m``; its square is k-diffusion's
            eta.
        variant: ``exact``, or ``published``, which halves the second derivative.
        starter: ``cold`` (lower orders first) or ``singlestep`` (a second-order first step).

    Use:
        50 evaluations and more; ``dpmpp_2m_sde`` below.
    """
    histories.check("dpmpp_3m_sde", 3, starter)
    rule = choose("dpmpp_3m_sde", "variant", variant, histories.VARIANTS)
    yield from histories.adams(steps, x, predict, frames.reverse(eta), 3, rule, starter, noise)
