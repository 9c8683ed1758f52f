"""Singlestep DPM-Solvers: exponential Runge–Kutta methods in λ, ε-form (DPM-Solver) and x0-form (DPM-Solver++)."""

from __future__ import annotations

from solvers.dpmpp import TYPES
from solvers.frames import FRAMES
from solvers.interpolation import exact, midpoint
from solvers.multistep import choose, integral
from solvers.registry import alias, solver

LAST = {0: (2, 1), 1: (1,), 2: (2,)}  # orders of dpm_fast's last steps
MIXED = {1: (exact, ()), 2: (midpoint, (1 / 2,)), 3: (exact, (1 / 3, 2 / 3))}


def take(frame, rule, steps, x, t, s, predict, ratios, all_nodes=False, noise=None):
    """The state at s: a stage at each λ_t + r h, its slope and the one at t interpolated for the next stage and for s.

    With ``all_nodes`` the last integral is over all slopes, not only the first and the last. With ``noise``, that of
    each stage goes on from the noise of the one before, so that stages and step lie on one Brownian path.
    """
    known, walk = [(t, frame.slope(predict(x, t), t))], 0.0
    for r in ratios:
        m = steps.at(t.lam + r * (s.lam - t.lam))
        walk = walk + frame.diffused(known[-1][0], m, noise)
        inner = frame.move(x, t, m, integral(frame, rule, t, m, [known[0], *known[1:][-1:]]) + walk)
        known.append((m, frame.slope(predict(inner, m), m)))
    walk = walk + frame.diffused(known[-1][0], s, noise)
    return frame.move(x, t, s, integral(frame, rule, t, s, known if all_nodes else [known[0], *known[1:][-1:]]) + walk)


def second(name, frame, steps, x, predict, r1, solver_type, noise=None, option="r1"):
    """Second order, one stage; ``option`` is what the solver calls r1."""
    if not 0 < r1 < 1:
        raise ValueError(f"{name} needs {option} between 0 and 1, got {r1}")
    rule = choose(name, "solver_type", solver_type, TYPES)
    for t, s in steps:
        x = yield take(frame, rule, steps, x, t, s, predict, (r1,), noise=noise)


def third(name, frame, steps, x, predict, r1, r2, solver_type, noise=None):
    """Third order, two stages."""
    if not 0 < r1 < r2 < 1:
        raise ValueError(f"{name} needs 0 < r1 < r2 < 1, got {r1} and {r2}")
    choose(name, "solver_type", solver_type, TYPES)
    for t, s in steps:
        x = yield take(frame, exact, steps, x, t, s, predict, (r1, r2), solver_type == "heun", noise)


def order_of_third(r1, r2, solver_type):
    """Third order needs a second stage at 2/3, where the error of the straight line integrates to zero."""
    return 3 if abs(r2 - 2 / 3) < 1e-6 else 2


@solver("dpm_solver_1", order=1, reference="Lu et al. 2022, DPM-Solver, eq. 3.7")
def dpm_solver_1(steps, x, predict):
    """x_s = (α_s/α_t) x − σ_s (e^h − 1) ε with h = λ_s − λ_t; the same numbers as DDIM.

    Use:
        Under this name for those who know it; see ``ddim``.
    """
    for t, s in steps:
        x = yield take(FRAMES["edm"], exact, steps, x, t, s, predict, ())


@solver("dpm_solver_2", order=2, reference="Lu et al. 2022, DPM-Solver, Algorithm 4 (general r1)")
def dpm_solver_2(steps, x, predict, r1=0.5, solver_type="midpoint"):
    """x_s = (α_s/α_t) x − σ_s (e^h − 1) [ε_t + (ε_m − ε_t)/(2 r1)], ε_m at λ_m = λ_t + r1 h after a first-order step.

    With r1 = ½ it is k-diffusion's ``dpm_2``.

    Args:
        r1: where the inner evaluation is, in (0, 1).
        solver_type: ``midpoint``, as above, or ``heun``: the straight line through both ε integrated exactly (φ₂).

    Use:
        10 evaluations and more where steps must not remember earlier ones, because states are edited between them.
    """
    yield from second("dpm_solver_2", FRAMES["edm"], steps, x, predict, r1, solver_type)


@solver(
    "dpm_solver_3",
    order=order_of_third,
    reference="Lu et al. 2022, DPM-Solver, Algorithm 5 (general r1, r2)",
)
def dpm_solver_3(steps, x, predict, r1=1 / 3, r2=2 / 3, solver_type="midpoint"):
    """Third order with two inner evaluations at λ_1 = λ_t + r1 h and λ_2 = λ_t + r2 h.

    With φ(z) = (e^z − 1)/z − 1: u_1 from a first-order step, D_1 = ε_1 − ε_t,
    u_2 = (α_2/α_t) x − σ_2 [(e^{r2 h} − 1) ε_t + (r2/r1) φ(r2 h) D_1], D_2 = ε_2 − ε_t,
    x_s = (α_s/α_t) x − σ_s [(e^h − 1) ε_t + φ(h) D_2 / r2].

    Args:
        r1, r2: where the inner evaluations are, 0 < r1 < r2 < 1; third order needs r2 = 2/3.
        solver_type: ``midpoint``, as above, or ``heun``: the parabola through all three ε in the last line.

    Use:
        Converged solutions at 30 evaluations and more.
    """
    yield from third("dpm_solver_3", FRAMES["edm"], steps, x, predict, r1, r2, solver_type)


@solver("dpmpp_2s", order=2, reference="Lu et al. 2022, DPM-Solver++, Algorithm 1 (general r1)")
def dpmpp_2s(steps, x, predict, r1=0.5, solver_type="midpoint"):
    """x_s = (σ_s/σ_t) x − α_s (e^{−h} − 1) [x0_t + (x0_m − x0_t)/(2 r1)], with x0_m at λ_t + r1 h.

    Args:
        r1: where the inner evaluation is, in (0, 1).
        solver_type: ``midpoint``, as above, or ``heun``: the straight line through both x0 integrated exactly (φ₂).

    Use:
        5 to 10 evaluations where steps must not remember earlier ones, because states are edited between them.
    """
    yield from second("dpmpp_2s", FRAMES["data"], steps, x, predict, r1, solver_type)


@solver(
    "dpmpp_3s", order=order_of_third, reference="Lu et al. 2022, DPM-Solver++ (the authors' code, singlestep order 3)"
)
def dpmpp_3s(steps, x, predict, r1=1 / 3, r2=2 / 3, solver_type="midpoint"):
    """``dpm_solver_3`` with x0 in place of ε: u_2 and x_s integrate e^λ times straight lines through x0.

    Args:
        r1, r2: where the inner evaluations are, 0 < r1 < r2 < 1; third order needs r2 = 2/3.
        solver_type: ``midpoint``, as above, or ``heun``: the parabola through all three x0 for the last integral.

    Use:
        10 evaluations and more where ``dpm_solver_3`` is unsteady in its first steps.
    """
    yield from third("dpmpp_3s", FRAMES["data"], steps, x, predict, r1, r2, solver_type)


@solver(
    "exp_heun",
    order=2,
    reference="Hochbruck & Ostermann 2010, Exponential integrators (second-order Runge–Kutta, c₂ = 1)",
)
def exp_heun(steps, x, predict, frame="data"):
    """Exponential Euler to s, then the straight line through both slopes integrated exactly: weights φ₁ − φ₂ and φ₂.

    Args:
        frame: ``data`` (the x0-form), ``edm`` (the ε-form), ``flow``, ``vp``.

    Use:
        In place of ``heun`` below 15 evaluations, where it is steadier.
    """
    for t, s in steps:
        x = yield take(choose("exp_heun", "frame", frame, FRAMES), exact, steps, x, t, s, predict, (1.0,))


@solver(
    "dpm_fast",
    order=lambda remainder: min(LAST.get(remainder, (1,))) + 1,
    reference="Lu et al. 2022, DPM-Solver, sec. 3.4 (DPM-Solver-fast); k-diffusion's sample_dpm_fast, 2022",
)
def dpm_fast(steps, x, predict, remainder=0):
    """DPM-Solver-3 on all steps but the last, which are of lower order so that any number of evaluations is met.

    Args:
        remainder: evaluations beyond a multiple of three: 0 (the last two steps are of orders 2 and 1), 1 (the last
            is of order 1) or 2 (the last is of order 2).

    Use:
        Where results of the original DPM-Solver's fast mode must be met.
    """
    if remainder not in LAST:
        raise ValueError(f"dpm_fast needs a remainder of 0, 1 or 2, got {remainder}")
    last = LAST[remainder]
    for index, (t, s) in enumerate(steps):
        left = len(steps) - index
        order = 3 if left > len(last) else last[-left]
        rule, ratios = MIXED[order]
        x = yield take(FRAMES["edm"], rule, steps, x, t, s, predict, ratios)


alias("dpm_2", of="dpm_solver_2")
