"""Measured orders of convergence: python benchmarks/convergence.py writes the certificate of every solver.

Everything is measured in float64 against a one-dimensional Gaussian mixture, whose score is known exactly: states that
are spread over the noisy end lie each on an exact trajectory of the probability-flow ODE, and the error is the root
mean square distance to its end, in units of √(α² + σ²). The exact end comes from DOP853 at a relative tolerance of
1e-13. Steps are doubled until the slope settles (:func:`settle`), on smooth grids t = φ(i/N) between λ = −1.5 and
λ = 2, where constants are moderate. (:mod:`benchmarks.weak` measures weak orders, :mod:`benchmarks.certificate`
reports.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from torch import Tensor

import solvers
from benchmarks.cases import DETERMINISTIC as DETERMINISTIC
from benchmarks.cases import STARTED
from benchmarks.cases import STOCHASTIC as STOCHASTIC
from scoresde.process import EDM, VP, Flow, Process
from solvers import PlannedSolver, Solver

Array = NDArray[np.float64]
Functions = Callable[[Array], Array]  # (n,) -> (n, functions)

FIRST, LAST = -1.5, 2.0  # λ between which orders are measured
PROCESSES: dict[str, Process] = {"VP": VP(), "EDM": EDM(), "Flow": Flow()}
SHAPES = ("uniform", "quadratic", "karras")
TOLERANCE = 0.2  # by which a measured order may miss the declared one

# EDM's uniform grid has even steps in σ/α, for which the weights of equal steps are the right ones.
FAVOURABLE = {("ipndm", "EDM", "uniform"), ("pndm", "EDM", "uniform")}


class Mixture:
    """Data Σ_k w_k N(m_k, v_k) on the line: x_t is Σ_k w_k N(α m_k, α² v_k + σ²)."""

    def __init__(self, weights: list[float], means: list[float], variances: list[float]):
        self.weights, self.means, self.variances = (
            torch.tensor(values, dtype=torch.float64) for values in (weights, means, variances)
        )

    def denoised(self, x: Tensor, alpha: float, sigma: float) -> Tensor:
        """E[x0 | x_t = x], shape of x (n,)."""
        variance = alpha**2 * self.variances + sigma**2
        outside = x[:, None] - alpha * self.means
        logits = self.weights.log() - 0.5 * variance.log() - 0.5 * outside**2 / variance
        return (logits.softmax(1) * (self.means + alpha * self.variances / variance * outside)).sum(1)

    def expectation(self, functions: Functions, alpha: float, sigma: float, nodes: int = 100) -> Array:
        """E[φ(x_t)] for each φ, by Gauss–Hermite quadrature for each component."""
        xi, weights = gauss_hermite(nodes)
        total = 0.0
        for w, m, v in zip(self.weights.numpy(), self.means.numpy(), self.variances.numpy(), strict=True):
            total = total + w * (weights @ functions(alpha * m + math.sqrt(alpha**2 * v + sigma**2) * xi))
        return np.asarray(total)

    @cached_property
    def spread(self) -> tuple[float, float]:
        """Mean and variance of the data."""
        mean = float(self.weights @ self.means)
        return mean, float(self.weights @ (self.variances + self.means**2)) - mean**2


MIXTURE = Mixture([0.5, 0.3, 0.2], [-1.0, 0.3, 1.2], [0.1, 0.2, 0.06])


def predictor(process: Process) -> Callable[[Tensor, float], Tensor]:
    """The exact x0-model on that process, as plans call it."""
    return lambda x, t: MIXTURE.denoised(x, process.alpha(t), process.sigma(t))


def smooth_grid(process: Process, shape: str, steps: int) -> Array:
    """Times t = φ(i/steps) from λ = −1.5 to λ = 2 with one smooth φ for all step counts."""
    u = np.linspace(0, 1, steps + 1)
    ends = process.time(FIRST), process.time(LAST)
    if shape == "uniform":
        times = ends[0] + (ends[1] - ends[0]) * u
    elif shape == "quadratic":
        times = (ends[0] ** 0.5 + (ends[1] ** 0.5 - ends[0] ** 0.5) * u) ** 2
    elif shape == "karras":
        low, high = math.exp(-FIRST / 7), math.exp(-LAST / 7)
        times = np.asarray(process.time(-7 * np.log(low + (high - low) * u)))
    else:
        raise ValueError(f"unknown shape {shape!r}; known: {', '.join(SHAPES)}")
    times[0], times[-1] = ends
    return times


@cache
def gauss_hermite(nodes: int) -> tuple[Array, Array]:
    """Nodes and weights for the expectation over a standard normal."""
    xi, weights = np.polynomial.hermite_e.hermegauss(nodes)
    return xi, weights / weights.sum()


@cache
def trajectories(first: float, last: float) -> tuple[Array, Array]:
    """States x/√(α² + σ²) at λ = first, and where the ODE takes them until λ = last: the same on every process."""

    def slope(angle: float, y: Array) -> Array:  # v, in the frame of α = cos, σ = sin
        alpha, sigma = math.cos(angle), math.sin(angle)
        x0 = MIXTURE.denoised(torch.from_numpy(y), alpha, sigma).numpy()
        return (alpha * y - x0) / sigma

    ends = [math.atan2(1.0, math.exp(value)) for value in (first, last)]
    start = np.linspace(-2.0, 2.0, 41)
    found = solve_ivp(slope, ends, start, method="DOP853", rtol=1e-13, atol=1e-14)
    return start, found.y[:, -1]


@dataclass(frozen=True)
class Slopes:
    """Errors at doubled step counts, and the order they show: the last slope, None if it did not settle."""

    steps: list[int]
    errors: list[float]

    @property
    def slopes(self) -> list[float]:
        return [math.log2(a / b) for a, b in zip(self.errors, self.errors[1:], strict=False)]

    @property
    def mean(self) -> float:
        """The slope from the first to the last steps."""
        return math.log(self.errors[0] / self.errors[-1]) / math.log(self.steps[-1] / self.steps[0])

    @property
    def settled(self) -> bool:
        """Whether the last three slopes lie within 0.15 of each other and the last two within 0.05."""
        last = self.slopes[-3:]
        return len(last) == 3 and max(last) - min(last) < 0.15 and abs(last[2] - last[1]) < 0.05

    @property
    def order(self) -> float | None:
        return self.slopes[-1] if self.settled else None

    def constant(self, order: int) -> float | None:
        """C in error ≈ C N^−order, from the finest steps N; None if the slope did not settle."""
        return self.errors[-1] * self.steps[-1] ** order if self.settled else None


def settle(error: Callable[[int], float], floor: float, first: int = 16, most: int = 4096) -> Slopes:
    """Double the steps from ``first`` until the slope settles, the error reaches the floor of rounding, or ``most``."""
    found = Slopes([first], [error(first)])
    while not found.settled and found.errors[-1] > floor and found.steps[-1] < most:
        steps = 2 * found.steps[-1]
        found = Slopes([*found.steps, steps], [*found.errors, error(steps)])
    return found


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
        return solvers.get(name, **options)
    if solver.options.get("starter") != "cold":
        return None
    kept = solvers.get(solver.name, **{**solver.options, "starter": "singlestep"})
    return kept if kept.order != solver.order else None


@dataclass(frozen=True)
class Certificate:
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


def certify(solver: Solver, process: str, shape: str) -> Certificate:
    """Measure a deterministic solver's order on one of :data:`PROCESSES` and one of :data:`SHAPES`."""
    assert solver.order is not None
    forward, kept = PROCESSES[process], kept_start(solver)
    if kept is None:
        favourable = (solver.name, process, shape) in FAVOURABLE
        return Certificate(solver.order, ode_order(solver, forward, shape), favourable=favourable)
    start = order_of_start(solver, kept, forward, shape)
    return Certificate(solver.order, ode_order(solver, forward, shape, most=512), start)


if __name__ == "__main__":
    from benchmarks.certificate import main

    main()
