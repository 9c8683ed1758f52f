"""Exponential Runge–Kutta stages: a slope interpolated in λ, in any frame, with or without noise."""

from __future__ import annotations

from solvers.coefficients.histories import TYPES, choose, integral
from solvers.coefficients.interpolation import exact
from solvers.errors import known

NODES = ("step", "grid")


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


def third(name, frame, steps, x, predict, r1, r2, solver_type, noise=None, nodes="step"):
    """Third order, two stages."""
    if not 0 < r1 < r2 < 1:
        raise ValueError(f"{name} needs 0 < r1 < r2 < 1, got {r1} and {r2}")
    rule = choose(name, "solver_type", solver_type, TYPES)
    if known("nodes", nodes, NODES, of=name) == "grid":
        yield from _on_grid(frame, rule, steps, x, predict)
        return
    for t, s in steps:
        x = yield take(frame, exact, steps, x, t, s, predict, (r1, r2), solver_type == "heun", noise)


def _on_grid(frame, rule, steps, x, predict):
    """Third order over three intervals of the grid, with stages at the points between them.

    Each stage is the state at its point, hence what is left over at the end is of the order of its last stage.
    """
    slopes, gone = [], 0.0
    for index, (t, s) in enumerate(steps):
        if index % 3 == 0:
            slopes, gone = [], 0.0
        slopes.append((t, frame.slope(predict(x, t), t)))
        taken = slopes if rule is exact else [slopes[0], *slopes[1:][-1:]]
        whole = integral(frame, exact if len(slopes) == 3 else rule, slopes[0][0], s, taken)
        # Less what the stage before has gone, so that a state that a callback edited keeps its edit.
        x = yield frame.move(x, t, s, whole - gone)
        gone = whole


def order_of_third(options):
    """Third order needs a second stage at 2/3, where the error of the straight line integrates to zero."""
    at_two_thirds = abs(options["r2"] - 2 / 3) < 1e-6 and options.get("nodes") != "grid"
    return 3 if at_two_thirds else 2
