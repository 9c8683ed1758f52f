"""Weak order of stochastic solvers, without sampling.

The weak error is that of E[φ(x)] at the end, for several φ, of a chain that starts from the exact marginal. u_k(x) =
E_ξ[u_{k+1}(step_k(x, ξ))] is propagated backwards from u_N = φ, with Gauss–Hermite quadrature over the draws of a
step and a quintic spline in x. Each step is a piece of the whole plan.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.interpolate import make_interp_spline

from benchmarks.convergence import MIXTURE, Array, Functions, Slopes, gauss_hermite, predictor, settle, smooth_grid
from scoresde.process import Process
from solvers import Plan, PlannedSolver
from solvers.instructions import Draw, Instruction, Lin, Step


def observables(x: Array) -> Array:
    """The functions φ whose expectations are compared, (n,) -> (n, 5)."""
    return np.stack([x, x**2, np.cos(2 * x), np.sin(3 * x), np.exp(-2 * (x - 0.5) ** 2)], axis=-1)


@dataclass(frozen=True)
class Quadrature:
    """Points in x for the spline over ±7 standard deviations, and Gauss–Hermite points for each draw."""

    points: int = 300
    draws: int = 10


def pieces(plan: Plan) -> list[Plan]:
    """The steps of a plan as plans of one step each.

    Raises:
        PlanError: a step reads more than the state that it starts from.
    """
    parts: list[Plan] = []
    state, current = 0, []
    for instruction in plan.instructions:
        current.append(_from_zero(instruction, state))
        if isinstance(instruction, Step):
            times = plan.times[len(parts) : len(parts) + 2]
            parts.append(replace(plan, times=times, instructions=tuple(current)))
            state, current = instruction.out, []
    return parts


def _from_zero(instruction: Instruction, state: int) -> Instruction:
    """The instruction with the register ``state`` called 0, the initial state of a plan."""
    if isinstance(instruction, Lin):
        return replace(instruction, terms=tuple((0 if r == state else r, c) for r, c in instruction.terms))
    if isinstance(instruction, Draw):
        return instruction
    return replace(instruction, x=0 if instruction.x == state else instruction.x)


def weak_errors(plan: Plan, process: Process, quadrature: Quadrature) -> Array:
    """E[φ] of the plan's end minus that of the exact marginal, for each φ, from the exact marginal at its start."""
    predict = predictor(process)
    ends = [(process.alpha(t), process.sigma(t)) for t in plan.times]
    later: Functions = observables
    for piece, (alpha, sigma) in zip(reversed(pieces(plan)), reversed(ends[:-1]), strict=True):
        mean, variance = MIXTURE.spread
        width = 7 * math.sqrt(alpha**2 * variance + sigma**2)
        nodes = np.linspace(alpha * mean - width, alpha * mean + width, quadrature.points)
        later = _spline(nodes, _expected(piece, predict, nodes, later, quadrature.draws))
    return MIXTURE.expectation(later, *ends[0]) - MIXTURE.expectation(observables, *ends[-1])


def _expected(piece: Plan, predict: Any, nodes: Array, later: Functions, points: int) -> Array:
    """E_ξ[later(step(x, ξ))] at the nodes, (nodes, functions)."""
    xi, weights = gauss_hermite(points)
    draws = np.array(list(itertools.product(xi, repeat=piece.draws))).reshape(-1, piece.draws)
    weight = np.array([math.prod(w) for w in itertools.product(weights, repeat=piece.draws)])
    tiled = iter(torch.from_numpy(np.tile(draws, (len(nodes), 1)).T.copy()))
    x = torch.from_numpy(np.repeat(nodes, len(draws)))
    values = later(piece.run(predict, x, lambda: next(tiled)).numpy())
    return np.einsum("q,nqf->nf", weight, values.reshape(len(nodes), len(draws), -1))


def _spline(nodes: Array, values: Array) -> Functions:
    spline = make_interp_spline(nodes, values, k=5)
    return lambda x: spline(np.clip(x, nodes[0], nodes[-1]))


def weak_order(
    solver: PlannedSolver, process: Process, shape: str, quadrature: Quadrature = Quadrature(), first: int = 8
) -> Slopes:
    """The weak order of a one-step solver, from the root mean square error over the observables."""

    def error(steps: int) -> float:
        plan = solver.plan(process, smooth_grid(process, shape, steps), "sample")
        return float(np.sqrt(np.mean(weak_errors(plan, process, quadrature) ** 2)))

    return settle(error, floor=1e-7, first=first, most=512)


def check_quadrature(solver: PlannedSolver, process: Process, shape: str, steps: int) -> tuple[float, float]:
    """The weak error at that many steps, and how much finer interpolation and quadrature change it."""
    plan = solver.plan(process, smooth_grid(process, shape, steps), "sample")
    coarse, fine = (weak_errors(plan, process, quadrature) for quadrature in (Quadrature(), Quadrature(900, 20)))
    return float(np.sqrt(np.mean(fine**2))), float(np.sqrt(np.mean((fine - coarse) ** 2)))
