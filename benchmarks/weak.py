"""Weak order of stochastic solvers, without sampling.

The weak error is that of E[φ(x)] at the end, for several φ, of a chain that starts from the exact marginal. u_k(z) =
E_ξ[u_{k+1}(step_k(z, ξ))] is propagated backwards from u_N = φ, with Gauss–Hermite quadrature over the draws of a
step and quintic splines in z: the state x and, where a method remembers one slope, that slope too, which the step
before leaves as a function of its own x alone. Where a method remembers more, the error is that of the variance on
Gaussian data of several widths, exact by :meth:`solvers.Plan.moments`; the noise of inner stages is not seen that way,
but these methods have none.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.interpolate import BSpline, make_interp_spline
from torch import Tensor

from benchmarks.convergence import MIXTURE, Array, Slopes, gauss_hermite, predictor, settle, smooth_grid
from scoresde.process import Process
from solvers import Plan, PlannedSolver
from solvers.instructions import Draw, Eval, Instruction, Lin, Step, reads, writes

VARIANCES = (0.01, 0.25, 1.0, 4.0)  # of the Gaussian data


def observables(x: Array) -> Array:
    """The functions φ whose expectations are compared, (n,) -> (n, 5)."""
    return np.stack([x, x**2, np.cos(2 * x), np.sin(3 * x), np.exp(-2 * (x - 0.5) ** 2)], axis=-1)


@dataclass(frozen=True)
class Quadrature:
    """Points for the spline in x over ±7 standard deviations and in a slope, and Gauss–Hermite points for a draw."""

    points: int
    slopes: int
    draws: int

    @classmethod
    def enough(cls, plan: Plan) -> Quadrature:
        """Little enough for hundreds of steps: the fewer, the more a step has of slopes and draws."""
        most = max(piece.draws for piece in pieces(plan))
        return cls(180, 20, 8) if remembers(plan) else cls(300, 1, 10) if most < 3 else cls(180, 1, 5)

    @property
    def finer(self) -> Quadrature:
        return Quadrature(2 * self.points, 2 * self.slopes, self.draws + 4)


@dataclass(frozen=True)
class Piece:
    """One step of a plan: from the register of the state and those remembered to the same at its end."""

    instructions: tuple[Instruction, ...]
    state: int
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def draws(self) -> int:
        return sum(isinstance(instruction, Draw) for instruction in self.instructions)

    def run(self, predict: Any, x: Tensor, remembered: Sequence[Tensor], xi: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The state at the end, and what is remembered there."""
        registers: dict[int, Any] = {self.state: x, **dict(zip(self.before, remembered, strict=True))}
        fresh, end = iter(xi), -1
        for instruction in self.instructions:
            if isinstance(instruction, Lin):
                registers[instruction.out] = sum(c * registers[r] for r, c in instruction.terms)
            elif isinstance(instruction, Eval):
                registers[instruction.outputs["model"]] = predict(registers[instruction.x], instruction.t)
            elif isinstance(instruction, Draw):
                registers[instruction.out] = next(fresh)
            else:
                registers[instruction.out] = registers[instruction.x]
                end = instruction.out
        return registers[end], *(registers[register] for register in self.after)


def pieces(plan: Plan) -> list[Piece]:
    """The steps of a plan."""
    parts: list[Piece] = []
    start, state, before = 0, 0, ()
    written = {0}
    for index, instruction in enumerate(plan.instructions, start=1):
        written.update(writes(instruction))
        if isinstance(instruction, Step):
            needed = {register for later in plan.instructions[index:] for register in reads(later)}
            after = tuple(sorted(needed & written - {instruction.out}))
            parts.append(Piece(plan.instructions[start:index], state, before, after))
            start, state, before = index, instruction.out, after
    return parts


def remembers(plan: Plan) -> int:
    """The most that a step of the plan remembers of those before it, beside the state."""
    return max(len(piece.after) for piece in pieces(plan))


def weak_errors(plan: Plan, process: Process, quadrature: Quadrature) -> Array:
    """E[φ] of the plan's end minus that of the exact marginal, for each φ, from the exact marginal at its start.

    Raises:
        ValueError: the plan remembers more than one slope.
    """
    if remembers(plan) > 1:
        raise ValueError(f"quadrature is for methods that remember one slope, and {plan.solver} has {remembers(plan)}")
    predict = predictor(process)
    ends = [(process.alpha(t), process.sigma(t)) for t in plan.times]
    states = [_states(alpha, sigma, quadrature.points) for alpha, sigma in ends]
    steps = pieces(plan)
    slopes = [np.zeros(1)] + [
        _slopes(piece, predict, x, quadrature.slopes) for piece, x in zip(steps, states, strict=False)
    ]
    later = _Later.of(observables(states[-1])[:, None], states[-1], slopes[-1])
    later.exact = True
    for k in reversed(range(len(steps))):
        values = _expected(steps[k], predict, states[k], slopes[k], later, quadrature.draws)
        later = _Later.of(values, states[k], slopes[k])
    return MIXTURE.expectation(lambda x: later(x, np.zeros(1))[0], *ends[0]) - MIXTURE.expectation(
        observables, *ends[-1]
    )


def _states(alpha: float, sigma: float, points: int) -> Array:
    mean, variance = MIXTURE.spread
    width = 7 * math.sqrt(alpha**2 * variance + sigma**2)
    return np.linspace(alpha * mean - width, alpha * mean + width, points)


def _slopes(piece: Piece, predict: Any, x: Array, points: int) -> Array:
    """Values of the remembered slope at the piece's end that cover what it can be, or a zero where there is none."""
    if not piece.after:
        return np.zeros(1)
    nothing = [torch.zeros(len(x), dtype=torch.float64)] * max(piece.draws, len(piece.before))
    found = piece.run(predict, torch.from_numpy(x), nothing[: len(piece.before)], nothing[: piece.draws])[1]
    return np.linspace(float(found.min()), float(found.max()), points)


@dataclass
class _Later:
    """u at the next step: exact observables at the end, before it a spline in x for each remembered slope."""

    in_slope: BSpline | None
    knots: Array
    coefficients: Array
    ends: tuple[float, float]
    exact: bool = False

    @classmethod
    def of(cls, values: Array, x: Array, slopes: Array) -> _Later:
        """From the values at (x, slope), shape (x, slopes, functions)."""
        spline = make_interp_spline(x, values, k=5)
        coefficients = np.moveaxis(spline.c, 1, 0)
        in_slope = make_interp_spline(slopes, coefficients, k=5) if len(slopes) > 1 else None
        return cls(in_slope, spline.t, coefficients, (x[0], x[-1]))

    def __call__(self, x: Array, slope: Array) -> Array:
        """Shapes (slopes,) and (slopes, points) or (points,) -> (slopes, points, functions)."""
        x = np.broadcast_to(x, (len(slope), x.shape[-1]))
        if self.exact:
            return observables(x)
        fixed = self.coefficients.repeat(len(slope), 0) if self.in_slope is None else self.in_slope(slope)
        x = np.clip(x, *self.ends)
        if self.in_slope is None:
            return BSpline(self.knots, self.coefficients[0], 5)(x)
        return np.stack([BSpline(self.knots, c, 5)(points) for c, points in zip(fixed, x, strict=True)])


def _expected(piece: Piece, predict: Any, x: Array, slopes: Array, later: _Later, points: int) -> Array:
    """E_ξ[later(step(x, slope, ξ))] at the nodes, (x, slopes, functions)."""
    nodes, weights = gauss_hermite(points)
    draws = np.array(list(itertools.product(nodes, repeat=piece.draws))).reshape(-1, piece.draws)
    weight = np.array([math.prod(w) for w in itertools.product(weights, repeat=piece.draws)])
    shape = (len(x), len(slopes), len(weight))
    state, remembered = (
        torch.from_numpy(np.broadcast_to(value, shape).ravel().copy()) for value in (x[:, None, None], slopes[:, None])
    )
    xi = [torch.from_numpy(np.broadcast_to(column, shape).ravel().copy()) for column in draws.T]
    end, *kept = piece.run(predict, state, [remembered] * len(piece.before), xi)
    end = end.numpy().reshape(len(x), -1)
    next_slope = np.zeros(len(x))
    if kept:
        found = kept[0].numpy().reshape(len(x), -1)
        next_slope = found[:, 0]
        assert np.ptp(found, axis=1).max() < 1e-12, "what a step remembers must be a function of its first state"
    values = later(end, next_slope).reshape(*shape, -1)
    return np.einsum("q,nsqf->nsf", weight, values)


def gaussian_error(plan: Plan, process: Process) -> float:
    """Root mean square error of the variance on Gaussian data."""
    found = plan.moments(process, 0.7, torch.tensor(VARIANCES, dtype=torch.float64))
    return float((found.variance - found.exact_variance).square().mean().sqrt())


def by_quadrature(solver: PlannedSolver, process: Process) -> bool:
    """Whether the weak error is measured on the mixture; otherwise on Gaussian data."""
    return remembers(solver.plan(process, smooth_grid(process, "uniform", 8), "sample")) < 2


def weak_order(solver: PlannedSolver, process: Process, shape: str, first: int = 8) -> Slopes:
    """The weak order, from the root mean square error over the observables, or from that of Gaussian variances."""
    mixture = by_quadrature(solver, process)

    def error(steps: int) -> float:
        plan = solver.plan(process, smooth_grid(process, shape, steps), "sample")
        if not mixture:
            return gaussian_error(plan, process)
        return float(np.sqrt(np.mean(weak_errors(plan, process, Quadrature.enough(plan)) ** 2)))

    return settle(error, floor=1e-7, first=first, most=1024 if mixture else 4096)


def check_quadrature(solver: PlannedSolver, process: Process, shape: str, steps: int) -> Mapping[str, float]:
    """The weak error at that many steps, and how much finer interpolation and quadrature change it."""
    plan = solver.plan(process, smooth_grid(process, shape, steps), "sample")
    if not by_quadrature(solver, process):
        return {"weak_error": gaussian_error(plan, process), "numerical_error": 0.0}
    enough = Quadrature.enough(plan)
    coarse, fine = (weak_errors(plan, process, quadrature) for quadrature in (enough, enough.finer))
    return {
        "weak_error": float(np.sqrt(np.mean(fine**2))),
        "numerical_error": float(np.sqrt(np.mean((fine - coarse) ** 2))),
    }
