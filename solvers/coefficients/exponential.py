"""Exponential Runge–Kutta stages: a slope interpolated in λ, in any frame, with or without noise."""

from __future__ import annotations

from solvers.coefficients.histories import TYPES, choose, integral
from solvers.coefficients.interpolation import exact


def single(frame, x, t, s, predict, noise):
    """A first-order exponential step in a frame, with its noise."""
    slope = frame.slope(predict(x, t), t)
    return frame.move(x, t, s, integral(frame, exact, t, s, [(t, slope)]) + frame.diffused(t, s, noise))


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


def order_of_third(options):
    """Third order needs a second stage at 2/3, where the error of the straight line integrates to zero."""
    return 3 if abs(options["r2"] - 2 / 3) < 1e-6 else 2
