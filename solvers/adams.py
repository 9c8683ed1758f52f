"""Adams–Bashforth methods, exponential and classical: DEIS, LMS, IPNDM and their general form."""

from __future__ import annotations

from solvers import frames, multistep
from solvers.interpolation import equal_steps, interpolation, moments, weights
from solvers.multistep import choose
from solvers.registry import solver


@solver(
    "eab",
    order=lambda order, frame, variable, starter: multistep.reached(order, starter),
    reference="Hochbruck & Ostermann 2010, Exponential integrators; Zhang & Chen 2023, DEIS, eqs. 14 and 15",
)
def eab(steps, x, predict, order=3, frame="data", variable="lambda", starter="cold"):
    """y_s = y_t + Σ_j w_j slope_j, w_j = ∫_t^s ℓ_j(u) dw, ℓ_j the Lagrange polynomials through the last slopes.

    Args:
        order: how many slopes are interpolated, 1 to 4.
        frame: ``data`` (the x0-form), ``edm`` (the ε-form), ``flow``, ``vp``, or None for the process's own.
        variable: what the polynomial is in: ``lambda``, ``sigma`` (σ/α), ``vp_time``, or ``frame`` (w itself: classical
            Adams–Bashforth).
        starter: ``cold`` (lower orders first) or ``singlestep`` (Runge–Kutta steps that keep the order).

    Use:
        To try which form and variable suit a model; the named methods are members of this family. At 8 to 20
        evaluations ``variable=vp_time``, and ``frame=flow variable=frame``, were among the best of all.
    """
    multistep.check("eab", order, starter)
    chosen = frames.get(frame, steps.process)
    yield from multistep.adams(steps, x, predict, chosen, order, interpolation(variable), starter)


@solver(
    "deis",
    order=lambda order, starter: multistep.reached(order, starter),
    reference="Zhang & Chen 2023, DEIS, eqs. 14 and 15 (tAB-DEIS)",
)
def deis(steps, x, predict, order=4, starter="cold"):
    """y_s = y_t + Σ_j ε_j ∫_t^s ℓ_j(τ) d(σ/α): polynomials in VP time τ, integrated by quadrature in float64.

    τ is the time at which the linear-β VP process (0.1, 20) has the same signal-to-noise ratio, on every process.

    Args:
        order: how many ε are interpolated, 1 to 4.
        starter: ``cold`` (lower orders first) or ``singlestep`` (Runge–Kutta steps that keep the order).

    Use:
        The first to try: from 5 evaluations to 50 among the best at every budget that was measured.
    """
    multistep.check("deis", order, starter)
    yield from multistep.adams(steps, x, predict, frames.FRAMES["edm"], order, interpolation("vp_time"), starter)


@solver(
    "lms",
    order=lambda order, starter: multistep.reached(order, starter),
    reference="Zhang & Chen 2023, DEIS, eq. 15 in ρ = σ/α (ρAB); k-diffusion's sample_lms, 2022",
)
def lms(steps, x, predict, order=4, starter="cold"):
    """y_s = y_t + Σ_j ε_j ∫_t^s ℓ_j(u) du with y = x/α and u = σ/α.

    Args:
        order: how many ε are interpolated, 1 to 4.
        starter: ``cold`` (lower orders first) or ``singlestep`` (Runge–Kutta steps that keep the order).

    Use:
        20 evaluations and more; ``deis`` is closer below.
    """
    multistep.check("lms", order, starter)
    yield from multistep.adams(steps, x, predict, frames.FRAMES["edm"], order, interpolation("sigma"), starter)


@solver(
    "ipndm",
    order=lambda order: min(order, 2),
    reference="Zhang & Chen 2023, DEIS (improved PNDM); Liu et al. 2022, PNDM",
)
def ipndm(steps, x, predict, order=4):
    """y_s = y_t + (w_s − w_t)(55 ε_t − 59 ε_1 + 37 ε_2 − 9 ε_3)/24: the weights of equal steps, whatever the steps are.

    Hence of second order on any grid but an even one in σ/α. The first steps take the weights of orders 1, 2, ….

    Args:
        order: how many ε are combined, 1 to 4.

    Use:
        ``order=3`` from 8 evaluations on, among the best although its order is only 2; ``order=4`` from 30 on.
    """
    multistep.check("ipndm", order, "cold")
    yield from multistep.adams(steps, x, predict, frames.FRAMES["edm"], order, equal_steps)


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
    order=lambda order, variant, starter: multistep.reached(order, starter),
    reference="Zhang & Chen 2023, DEIS (improved PNDM); diff-sampler's ipndm_v, 2024",
)
def ipndm_v(steps, x, predict, order=4, variant="exact", starter="cold"):
    """ipndm with the Adams–Bashforth weights of the steps as they are: the numbers of ``lms``.

    The published weights of three ε differ from those where steps differ; their order is 3 nonetheless, and they are
    often the better ones at 8 to 20 evaluations. The published weights of four ε do not sum to one, and are left out.

    Args:
        order: how many ε are interpolated, 1 to 4; 1 to 3 as published.
        variant: ``exact`` or ``published``.
        starter: ``cold`` (lower orders first) or ``singlestep`` (Runge–Kutta steps that keep the order).

    Use:
        ``order=3 variant=published`` at 8 to 20 evaluations; otherwise see ``lms``.
    """
    multistep.check("ipndm_v", order, starter, most=4 if variant == "exact" else 3)
    rule = choose("ipndm_v", "variant", variant, {"exact": interpolation("sigma"), "published": published})
    yield from multistep.adams(steps, x, predict, frames.FRAMES["edm"], order, rule, starter)


@solver(
    "reab",
    order=lambda order, data_std, starter: multistep.reached(order, starter),
    reference="Zheng et al. 2023, DPM-Solver-v3, with one scalar; Hochbruck, Ostermann & Schweitzer 2009",
)
def reab(steps, x, predict, order=3, data_std=1.0, starter="cold"):
    """Rosenbrock-type exponential Adams–Bashforth: the linear part is that of data N(0, c² I), solved exactly.

    y = x/√(α² c² + σ²), slope (α c ε − σ x0/c)/√(α² c² + σ²) interpolated in λ (:func:`solvers.frames.gaussian`).

    Args:
        order: how many slopes are interpolated, 1 to 4.
        data_std: c, the standard deviation of the data's pixels.
        starter: ``cold`` (lower orders first) or ``singlestep`` (Runge–Kutta steps that keep the order).

    Use:
        5 to 30 evaluations; with data_std = 1 it is the v-form of exponential Adams–Bashforth.
    """
    multistep.check("reab", order, starter)
    yield from multistep.adams(steps, x, predict, frames.gaussian(data_std), order, interpolation(), starter)
