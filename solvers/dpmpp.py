"""Multistep DPM-Solvers: exponential multistep methods in λ, x0-form (DPM-Solver++) and ε-form."""

from __future__ import annotations

from solvers import multistep
from solvers.frames import FRAMES
from solvers.interpolation import exact, halved, midpoint
from solvers.multistep import choose
from solvers.registry import solver

TYPES = {"midpoint": midpoint, "heun": exact}
VARIANTS = {"exact": exact, "published": halved}


@solver("dpmpp_2m", order=2, reference="Lu et al. 2022, DPM-Solver++, Algorithm 2")
def dpmpp_2m(steps, x, predict, solver_type="midpoint"):
    """x_s = (σ_s/σ_t) x − α_s (e^{−h} − 1) [x0_t + (x0_t − x0_prev) h/(2 h_prev)]; the first step is DDIM's.

    Args:
        solver_type: ``midpoint``, as above, or ``heun``: the straight line through both x0 integrated exactly (φ₂).

    Use:
        The plain choice from 5 to 20 evaluations.
    """
    rule = choose("dpmpp_2m", "solver_type", solver_type, TYPES)
    yield from multistep.adams(steps, x, predict, FRAMES["data"], 2, rule)


@solver(
    "dpm_solver_2m", order=2, reference="Lu et al. 2022, DPM-Solver++ (the authors' code, multistep order 2, dpmsolver)"
)
def dpm_solver_2m(steps, x, predict, solver_type="midpoint"):
    """x_s = (α_s/α_t) x − σ_s (e^h − 1) [ε_t + (ε_t − ε_prev) h/(2 h_prev)]; the first step is DDIM's.

    Args:
        solver_type: ``midpoint``, as above, or ``heun``: the straight line through both ε integrated exactly (φ₂).

    Use:
        5 to 15 evaluations, much as ``dpmpp_2m``.
    """
    rule = choose("dpm_solver_2m", "solver_type", solver_type, TYPES)
    yield from multistep.adams(steps, x, predict, FRAMES["edm"], 2, rule)


def order_of_3m(variant, starter):
    """2 for the published formula, whose second derivative is half of what it should be."""
    return multistep.reached(3, starter) if variant == "exact" else 2


@solver(
    "dpmpp_3m",
    order=order_of_3m,
    reference="Lu et al. 2022, DPM-Solver++ (the authors' code, multistep order 3); the order is ours",
)
def dpmpp_3m(steps, x, predict, variant="exact", starter="cold"):
    """x_s = (σ_s/σ_t) x + σ_s ∫ e^λ P(λ) dλ, P the parabola through the last three x0.

    The published formula has a divided difference where the second derivative belongs, which is twice that; so it has
    order 2, and is often good at few steps. Its second step is that of ``dpmpp_2m`` with ``solver_type=heun``, as in
    k-diffusion; diffusers' and the authors' default there is ``midpoint``.

    Args:
        variant: ``exact`` or ``published``.
        starter: ``cold`` (lower orders first) or ``singlestep`` (Runge–Kutta steps that keep the order).

    Use:
        50 evaluations and more, ``dpmpp_2m`` below; ``variant=published`` where results of other toolkits must be met.
    """
    multistep.check("dpmpp_3m", 3, starter)
    rule = choose("dpmpp_3m", "variant", variant, VARIANTS)
    yield from multistep.adams(steps, x, predict, FRAMES["data"], 3, rule, starter)


@solver(
    "dpm_solver_3m",
    order=order_of_3m,
    reference="Lu et al. 2022, DPM-Solver++ (the authors' code, multistep order 3, dpmsolver); the order is ours",
)
def dpm_solver_3m(steps, x, predict, variant="exact", starter="cold"):
    """x_s = (α_s/α_t) x − α_s ∫ e^{−λ} P(λ) dλ, P the parabola through the last three ε.

    Args:
        variant: ``exact``, or ``published`` (order 2, as for ``dpmpp_3m``).
        starter: ``cold`` (lower orders first) or ``singlestep`` (Runge–Kutta steps that keep the order).

    Use:
        15 evaluations and more.
    """
    multistep.check("dpm_solver_3m", 3, starter)
    rule = choose("dpm_solver_3m", "variant", variant, VARIANTS)
    yield from multistep.adams(steps, x, predict, FRAMES["edm"], 3, rule, starter)


@solver(
    "res_multistep",
    order=lambda order, starter: multistep.reached(order, starter),
    reference="Zhang et al. 2023, Improved order analysis and design of exponential integrator for diffusion models "
    "sampling (RES, multistep)",
)
def res_multistep(steps, x, predict, order=2, starter="cold"):
    """x_s = e^{−h} (α_s/α_t) x + α_s h [b_1 x0_t + b_2 x0_prev], b_2 = −φ₂(−h)/c with c = h_prev/h, b_1 = φ₁(−h) − b_2.

    Args:
        order: how many x0 are interpolated, 2 or 3.
        starter: ``cold`` (lower orders first) or ``singlestep`` (Runge–Kutta steps that keep the order).

    Use:
        As ``dpmpp_2m``, whose ``solver_type=heun`` gives the same numbers at order 2.
    """
    if order not in (2, 3):
        raise ValueError(f"res_multistep has orders 2 and 3, got {order}")
    multistep.check("res_multistep", order, starter)
    yield from multistep.adams(steps, x, predict, FRAMES["data"], order, exact, starter)
