"""DPM-Solver++ on the reverse SDE: exponential methods in λ, x0-form, with the noise of each step added exactly."""

from __future__ import annotations

from solvers import frames, multistep
from solvers.dpm_solver import second
from solvers.dpmpp import TYPES, VARIANTS, order_of_3m
from solvers.multistep import choose
from solvers.registry import alias, solver


@solver(
    "dpmpp_2m_sde",
    order=2,
    weak_order=2,
    stochastic="eta",
    reference="Lu et al. 2022, DPM-Solver++, sec. 3.4 and app. B (SDE-DPM-Solver++(2M)); k-diffusion, 2022",
)
def dpmpp_2m_sde(steps, x, predict, noise, eta=1.0, solver_type="midpoint"):
    """x_s = (σ_s/σ_t) e^{−η²h} x + α_s (1 − e^{−z}) [x0_t + (x0_t − x0_prev) h/(2 h_prev)] + σ_s √(1 − e^{−2η²h}) ξ.

    Here z = (1 + η²) h with h = λ_s − λ_t; the first step is of first order. k-diffusion's ``eta`` is η². With η = 0 it
    is ``dpmpp_2m``.

    Args:
        eta: amplitude of the noise, at least 0; 1 is the reverse SDE.
        solver_type: ``midpoint``, as above, or ``heun``: the straight line through both x0 integrated exactly (φ₂).

    Use:
        The first to try with noise, from 15 evaluations on.
    """
    rule = choose("dpmpp_2m_sde", "solver_type", solver_type, TYPES)
    yield from multistep.adams(steps, x, predict, frames.reverse(eta), 2, rule, noise=noise)


@solver(
    "dpmpp_sde",
    order=2,
    weak_order=2,
    stochastic="eta",
    reference="Lu et al. 2022, DPM-Solver++, Algorithm 1, on the reverse SDE; Gonzalez et al. 2023, SEEDS-2",
)
def dpmpp_sde(steps, x, predict, noise, eta=1.0, r=0.5):
    """A first-order step with noise to m at λ_t + r h, then one to s with the mean x0_t + (x0_m − x0_t)/(2r).

    x_s = (σ_s/σ_t) e^{−η²h} x + α_s (1 − e^{−z}) [x0_t + (x0_m − x0_t)/(2r)] + noise of variance σ_s² (1 − e^{−2η²h}),
    z = (1 + η²) h. The noise of the step goes on from that of m: two draws. It is SEEDS-2 too. With η = 0 it is
    ``dpmpp_2s``. In ComfyUI's ``seeds_2`` ``eta`` is η²; in k-diffusion's ``dpmpp_sde`` it is that of ancestral
    sampling, the same as η at 0 and 1 only.

    Args:
        eta: amplitude of the noise, at least 0; 1 is the reverse SDE.
        r: where the inner evaluation is, in (0, 1).

    Use:
        Where steps must not remember earlier ones, because states are edited between them.
    """
    yield from second("dpmpp_sde", frames.reverse(eta), steps, x, predict, r, "midpoint", noise, option="r")


@solver(
    "dpmpp_3m_sde",
    order=lambda eta, variant, starter: order_of_3m(variant, starter),
    weak_order=2,
    stochastic="eta",
    reference="Lu et al. 2022, DPM-Solver++, app. B, on the reverse SDE; k-diffusion's sample_dpmpp_3m_sde, 2023",
    grid="log_snr",
)
def dpmpp_3m_sde(steps, x, predict, noise, eta=1.0, variant="exact", starter="cold"):
    """x_s = (σ_s/σ_t) e^{−η²h} x + σ_s e^{−η²λ_s} ∫ P(λ) dw + σ_s √(1 − e^{−2η²h}) ξ, w = e^{(1+η²)λ}.

    P is the parabola through the last three x0. With one draw a step the weak order is 2, with a smaller constant than
    that of ``dpmpp_2m_sde``; third order at η = 0, where it is ``dpmpp_3m``. k-diffusion's ``eta`` is η², and its
    formula the ``published`` one, with half the second derivative.

    Args:
        eta: amplitude of the noise, at least 0; 1 is the reverse SDE.
        variant: ``exact`` or ``published``.
        starter: ``cold`` (lower orders first) or ``singlestep`` (a second-order first step).

    Use:
        50 evaluations and more; ``dpmpp_2m_sde`` below.
    """
    multistep.check("dpmpp_3m_sde", 3, starter)
    rule = choose("dpmpp_3m_sde", "variant", variant, VARIANTS)
    yield from multistep.adams(steps, x, predict, frames.reverse(eta), 3, rule, starter, noise)


alias("seeds_2", of="dpmpp_sde")
