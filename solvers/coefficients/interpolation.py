"""Polynomial interpolation of a slope and its exact integral: the one formula behind all multistep coefficients.

In a frame, y_s = y_t + ∫ (dy/dw) dw. A slope known at nodes u_j of some variable u is replaced by the polynomial
through them, so that y_s = y_t + Σ_j w_j slope_j where the weights integrate every power up to the number of nodes
exactly:

    Σ_j w_j (u_j − u_t)^k = m_k,    m_k = ∫_t^s (u − u_t)^k (dw/dλ) dλ,    k = 0, 1, …

Exponential Adams methods have u = λ, classical ones u = w. The moments m_k are integrated by Gauss–Legendre
quadrature in float64, which cancels nowhere: the φ-functions of exponential integrators are such integrals. Published
methods that simplify do so in their moments (:data:`midpoint`, :data:`bh1`, :data:`halved`) or in their nodes
(:data:`equal_steps`).

Sources: Hochbruck & Ostermann 2010, Exponential integrators; Zhang & Chen 2023, DEIS, eqs. 14 and 15.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers.coefficients.frames import Frame
from solvers.errors import known
from solvers.grids import vp_time
from solvers.steps import Point

Array = NDArray[np.float64]
Rule = Callable[[Frame, Point, Point, Sequence[Point]], Array]
"""Weights of the slopes at the nodes for the step from t to s; the first node is where powers are counted from."""

VARIABLES: dict[str, Callable[[Frame], Callable[[Any], Any]]] = {
    "lambda": lambda frame: lambda lam: lam,
    "sigma": lambda frame: lambda lam: np.exp(-lam),
    "vp_time": lambda frame: vp_time,
    "frame": lambda frame: frame.position,
}


def check_variable(name: str) -> None:
    """Refuse a variable that there is not.

    Raises:
        ValueError: the name is none of ``lambda``, ``sigma`` (σ/α), ``vp_time`` and ``frame`` (the frame's own w).
    """
    known("variable", name, VARIABLES)


def moments(frame: Frame, variable: str, t: Point, s: Point, origin: Point, count: int) -> Array:
    """∫_t^s (u − u_origin)^k dw for k < count, shape (count,)."""
    u = VARIABLES[variable](frame)
    lam, weights = quadrature(t.lam, s.lam)
    powers = (u(lam) - u(origin.lam)) ** np.arange(count)[:, None]
    return powers @ (weights * frame.rate(lam))


def quadrature(first: float, last: float) -> tuple[Array, Array]:
    """Nodes and weights for integrals over λ."""
    # Panels of at most 1 in λ, since dw/dλ of the frames that are finite at both ends has poles at λ ± iπ/2.
    panels = max(1, math.ceil(abs(last - first)))
    nodes, weights = _legendre(16)
    width = (last - first) / panels
    starts = first + width * np.arange(panels)
    return (starts[:, None] + width * nodes).ravel(), np.tile(width * weights, panels)


@cache
def _legendre(count: int) -> tuple[Array, Array]:
    """Nodes and weights on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return 0.5 * (nodes + 1), 0.5 * weights


def weights(offsets: Sequence[float] | Array, moments: Array) -> Array:
    """w with Σ_j w_j offset_j^k = moment_k for every k below the number of offsets."""
    offsets = np.asarray(offsets, dtype=np.float64)
    if len(offsets) == 1:
        return moments[:1]
    size = np.abs(offsets).max()  # powers of numbers of order one
    k = np.arange(len(offsets))
    return np.linalg.solve((offsets / size) ** k[:, None], moments / size**k)


def interpolation(
    variable: str = "lambda", change: Callable[[Array, Frame, Point, Point], Array] | None = None
) -> Rule:
    """The rule that integrates the interpolating polynomial in that variable, with its moments changed if need be."""
    check_variable(variable)

    def rule(frame: Frame, t: Point, s: Point, nodes: Sequence[Point]) -> Array:
        u = VARIABLES[variable](frame)
        found = moments(frame, variable, t, s, nodes[0], len(nodes))
        if change is not None:
            found = change(found, frame, t, s)
        return weights([float(u(node.lam)) - float(u(nodes[0].lam)) for node in nodes], found)

    return rule


def _at_midpoint(found: Array, frame: Frame, t: Point, s: Point) -> Array:
    if len(found) == 2:
        found[1] = found[0] * 0.5 * (s.lam - t.lam)
    return found


def _at_end(found: Array, frame: Frame, t: Point, s: Point) -> Array:
    if len(found) == 2:
        h = s.lam - t.lam
        found[1] = float(frame.rate(np.array(s.lam))) * 0.5 * h**2
    return found


def _second_halved(found: Array, frame: Frame, t: Point, s: Point) -> Array:
    found[2:] *= 0.5
    return found


exact = interpolation("lambda")
"""Exponential interpolation in λ: φ-functions."""

midpoint = interpolation("lambda", _at_midpoint)
"""As ``exact``, but between two nodes the straight line is taken at the step's middle λ (DPM-Solver, UniPC's bh2)."""

bh1 = interpolation("lambda", _at_end)
"""As ``exact``, but between two nodes dw/dλ in front of the difference is taken at s (UniPC's bh1)."""

halved = interpolation("lambda", _second_halved)
"""As ``exact``, but half the integral of (λ − λ_t)²: DPM-Solver++(3M) as published."""

halved_after_midpoint = interpolation(
    "lambda", lambda found, frame, t, s: _second_halved(_at_midpoint(found, frame, t, s), frame, t, s)
)
"""As ``halved``, but between two nodes as ``midpoint``."""


def equal_steps(frame: Frame, t: Point, s: Point, nodes: Sequence[Point]) -> Array:
    """The Adams–Bashforth weights of equal steps in w, whatever the steps are (1; 3/2, −1/2; 23/12, …)."""
    back = np.arange(len(nodes), dtype=np.float64)
    return frame.change(t, s) * weights(-back, 1 / (back + 1))


def combine(coefficients: Sequence[float] | Array, slopes: Sequence[Any]) -> Any:
    """Σ_j coefficient_j slope_j."""
    return sum(float(coefficient) * slope for coefficient, slope in zip(coefficients, slopes, strict=True))
