"""Measured orders of convergence on the probability-flow ODE.

Everything is measured in float64 against a one-dimensional Gaussian mixture, whose score is known exactly: states that
are spread over the noisy end lie each on an exact trajectory of the probability-flow ODE, and the error is the root
mean square distance to its end, in units of √(α² + σ²). The exact end comes from DOP853 at a relative tolerance of
1e-13. Steps are doubled until the slope settles (:func:`solvers.certificate.slopes.settle`), on smooth grids t = φ(i/N)
between λ = −1.5 and λ = 2, where constants are moderate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from solvers.base import PlannedSolver, Solver
from solvers.catalogue import get
from solvers.certificate.mixture import Array, predictor, trajectories
from solvers.certificate.slopes import TOLERANCE, Slopes, settle, smooth_grid
from solvers.steps import Process

# What keeps its order where a solver without that option loses some at its start.
STARTED: dict[str, tuple[str, dict[str, Any]]] = {
    "auto": ("uni_pc", {"order": 3, "variant": "vary_coeff", "starter": "singlestep"})
}
EQUAL_STEPS = ("ipndm", "pndm")  # which may be better than they declare where steps are equal


def solve(solver: Solver, process: Process, times: Array) -> tuple[Array, Array]:
    """Where the solver takes the states of :func:`trajectories`, and where they belong, in units of √(α² + σ²)."""
    start, end = trajectories(*(process.half_log_snr(float(t)) for t in times[[0, -1]]))
    norms = [math.hypot(process.alpha(float(t)), process.sigma(float(t))) for t in times[[0, -1]]]
    x, predict = torch.from_numpy(start * norms[0]), predictor(process)
    if isinstance(solver, PlannedSolver):
        result = solver.plan(process, times, "sample").run(predict, x)
    else:
        result = solver.run(process, times, predict, x, prediction="sample")
    return result.numpy() / norms[1], end


def ode_error(solver: Solver, process: Process, times: Array) -> float:
    """Root mean square distance to the exact solution at the last time, in units of √(α² + σ²)."""
    found, exact = solve(solver, process, times)
    return float(np.sqrt(np.mean((found - exact) ** 2)))


def ode_order(solver: Solver, process: Process, shape: str, most: int = 4096) -> Slopes:
    """The order of a solver on the probability-flow ODE, on smooth grids of one shape."""
    return settle(lambda steps: ode_error(solver, process, smooth_grid(process, shape, steps)), floor=1e-11, most=most)


def order_of_start(solver: Solver, kept: Solver, process: Process, shape: str) -> Slopes:
    """The order at which the error of a start vanishes: that of the distance to the run which differs in it alone."""

    def distance(steps: int) -> float:
        times = smooth_grid(process, shape, steps)
        return float(np.sqrt(np.mean((solve(solver, process, times)[0] - solve(kept, process, times)[0]) ** 2)))

    return settle(distance, floor=1e-12)


def kept_start(solver: Solver) -> Solver | None:
    """The same solver started without loss of order; None if that is how it starts anyway."""
    if solver.name in STARTED:
        name, options = STARTED[solver.name]
        return get(name, **options)
    if solver.options.get("starter") != "cold":
        return None
    kept = get(solver.name, **{**solver.options, "starter": "singlestep"})
    return kept if kept.order != solver.order else None


@dataclass(frozen=True)
class OrderCertificate:
    """A solver's declared order and what was measured on one process and one shape of grid.

    Where a cold start lowers the order, the method's own error hides that of its start until there are thousands of
    steps. So the start is measured by itself, by :func:`order_of_start`, and the whole error must fall at least as fast
    as declared on the way.

    Attributes:
        declared: the solver's order.
        total: the whole error.
        start: the part of the error that is a cold start's, where that lowers the order.
        favourable: whether the grid is one of few on which the method may be better than it declares.
    """

    declared: int
    total: Slopes
    start: Slopes | None = None
    favourable: bool = False

    @property
    def measured(self) -> float | None:
        return (self.total if self.start is None else self.start).order

    @property
    def exceeds(self) -> bool:
        """Whether the method is better here than it declares, as it may be."""
        return self.favourable and not self._close

    @property
    def holds(self) -> bool:
        """Whether the measured order is the declared one; where something else hides it, so must the whole slope be."""
        falls = self.total.mean >= self.declared - TOLERANCE
        if self.favourable:
            return self._close or falls
        return self._close and (self.start is None or falls)

    @property
    def _close(self) -> bool:
        return self.measured is not None and abs(self.measured - self.declared) <= TOLERANCE


def certify_order(solver: Solver, process: Process, shape: str) -> OrderCertificate:
    """Measure a deterministic solver's order on a process and one of the shapes of grids."""
    assert solver.order is not None
    kept = kept_start(solver)
    if kept is None:
        return OrderCertificate(
            solver.order, ode_order(solver, process, shape), favourable=_favourable(solver, process, shape)
        )
    start = order_of_start(solver, kept, process, shape)
    return OrderCertificate(solver.order, ode_order(solver, process, shape, most=512), start)


def _favourable(solver: Solver, process: Process, shape: str) -> bool:
    """Whether the weights of equal steps are the right ones, since steps are even in σ/α."""
    if solver.name not in EQUAL_STEPS:
        return False
    times = smooth_grid(process, shape, 8)
    levels = [process.sigma(float(t)) / process.alpha(float(t)) for t in times]
    return bool(np.allclose(np.diff(levels), (levels[-1] - levels[0]) / 8, rtol=1e-6))
