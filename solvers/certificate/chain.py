"""Weak errors of stochastic plans on the mixture, without sampling.

The weak error is that of E[φ(x)] at the end, for several φ, of a chain that starts from the exact marginal. u_k(z) =
E_ξ[u_{k+1}(step_k(z, ξ))] is propagated backwards from u_N = φ, with Gauss–Hermite quadrature over the draws of a
step and interpolation in z: the state x and what a method remembers, slopes that earlier steps left as functions of
their own x alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline
from torch import Tensor

from solvers.certificate.mixture import MIXTURE, Array, gauss_hermite, predictor
from solvers.plan import Plan
from solvers.plan.instructions import Draw, Eval, Instruction, Lin, Step, reads, writes
from solvers.steps import Process

LOCAL = 8  # nodes of the polynomials that interpolate in x


def observables(x: Array) -> Array:
    """The functions φ whose expectations are compared, (…) -> (…, 5)."""
    return np.stack([x, x**2, np.cos(2 * x), np.sin(3 * x), np.exp(-2 * (x - 0.5) ** 2)], axis=-1)


@dataclass(frozen=True)
class Quadrature:
    """Even nodes in x over ±7 standard deviations, Chebyshev nodes for each earlier state, Gauss–Hermite nodes for
    each draw."""

    points: int
    earlier: int
    draws: int

    @classmethod
    def enough(cls, plan: Plan) -> Quadrature:
        """Little enough for hundreds of steps: the more steps there are, the less noise has each."""
        steps, depth = len(plan.times) - 1, remembers(plan)
        stage = 0 if steps < 32 else 1 if steps < 64 else 2
        earlier = ((1, 1, 1), (15, 9, 7), (9, 7, 5), (7, 6, 5))[depth]
        return cls(150 if depth < 3 else 100, earlier[stage], (6, 5, 4)[stage])

    @property
    def coarser(self) -> Quadrature:
        """To see by the difference how much there is to gain."""
        return Quadrature(2 * self.points // 3, max(1, self.earlier - 2), self.draws - 1)


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

    def fresh(self, predict: Any, x: Array, register: int) -> Array:
        """A slope that the step leaves, at its first states x (n,).

        Raises:
            ValueError: the slope depends on more than the first state.
        """
        place = 1 + self.after.index(register)
        state = torch.from_numpy(x)

        def run(value: float) -> Array:
            given = [torch.full_like(state, value)] * max(len(self.before), self.draws)
            return self.run(predict, state, given[: len(self.before)], given[: self.draws])[place].numpy()

        if not np.allclose(run(0.0), run(1.0), rtol=0, atol=1e-12):
            raise ValueError("a remembered value must be a function of the state that its step starts from")
        return run(0.0)


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
    """E[φ] of the plan's end minus that of the exact marginal, for each φ, from the exact marginal at its start."""
    ends = [(process.alpha(t), process.sigma(t)) for t in plan.times]
    states = [_states(alpha, sigma, quadrature.points) for alpha, sigma in ends]
    chain = Chain(pieces(plan), predictor(process), states, quadrature)
    values = None
    for k in reversed(range(len(chain.pieces))):
        values = chain.expected(k, values)
    assert values is not None

    def start(x: Array) -> Array:
        index, weights = local_weights(states[0], x)
        return np.einsum("nm,nmf->nf", weights, values[index])

    return MIXTURE.expectation(start, *ends[0]) - MIXTURE.expectation(observables, *ends[-1])


def _states(alpha: float, sigma: float, points: int) -> Array:
    mean, variance = MIXTURE.spread
    width = 7 * math.sqrt(alpha**2 * variance + sigma**2)
    return np.linspace(alpha * mean - width, alpha * mean + width, points)


def local_weights(nodes: Array, x: Array) -> tuple[NDArray[np.intp], Array]:
    """Which of the even nodes are near each x, and their weights in the polynomial through them: (…) -> (…, LOCAL).

    Beyond the ends x is taken to be there.
    """
    place = np.clip((x - nodes[0]) / (nodes[1] - nodes[0]), 0, len(nodes) - 1)
    first = np.clip(np.floor(place).astype(int) - LOCAL // 2 + 1, 0, len(nodes) - LOCAL)
    gap = (place - first)[..., None] - np.arange(LOCAL)
    scale = [math.factorial(j) * math.factorial(LOCAL - 1 - j) * (-1) ** (LOCAL - 1 - j) for j in range(LOCAL)]
    return first[..., None] + np.arange(LOCAL), _others(gap) / scale


def weights_of(nodes: Array, x: Array) -> Array:
    """Weights of the nodes in the polynomial through all of them at x: (…) -> (…, nodes). x is kept within them."""
    gap = np.clip(x, nodes[0], nodes[-1])[..., None] - nodes
    return _others(gap) / [math.prod(a - b for b in nodes if b != a) for a in nodes]


def _others(gap: Array) -> Array:
    """For each of the last axis, the product of all the others."""
    one = np.ones_like(gap[..., :1])
    before = np.cumprod(np.concatenate([one, gap[..., :-1]], -1), -1)
    after = np.cumprod(np.concatenate([one, gap[..., :0:-1]], -1), -1)[..., ::-1]
    return before * after


class Link:
    """Where a state came from: x_k = g(x_{k+1}) + r(x_{k+1}) η, with η about standard normal.

    g inverts the step without noise, with every slope at its value for x_k itself, and r is what a unit of noise is
    worth there. This is but a choice of coordinates: in η, what earlier slopes do is smooth and nearly linear.
    """

    def __init__(self, x: Array, mean: Array, noise: float):
        if not (np.diff(mean) > 0).all():
            mean = np.asarray(np.polyval(np.polyfit(x, mean, 1), x), dtype=np.float64)
        self.ends, self.back = mean[[0, -1]], make_interp_spline(mean, x, k=3)
        self.slope, self.noise = self.back.derivative(), noise

    def before(self, x: Array, eta: Array) -> Array:
        inside = np.clip(x, *self.ends)
        return self.back(inside) + self.noise * self.slope(inside) * eta

    def eta(self, x: Array, before: Array) -> Array:
        inside = np.clip(x, *self.ends)
        return (before - self.back(inside)) / (self.noise * self.slope(inside))


class Chain:
    """The steps of a plan as a Markov chain in the state and the few before it that its remembered slopes come from."""

    def __init__(self, steps: list[Piece], predict: Any, states: list[Array], quadrature: Quadrature):
        self.pieces, self.predict, self.states = steps, predict, states
        xi, weights = gauss_hermite(quadrature.draws)
        self.xi, self.weights = xi, weights
        self.eta = 1.5 * xi[-1] * np.sin(np.linspace(-math.pi / 2, math.pi / 2, quadrature.earlier))
        self.made = {r: k for k, piece in enumerate(steps) for r in piece.after if r not in piece.before}
        # How many states before the one at the start of a step its slopes come from.
        self.depth = [max((k - self.made[r] for r in piece.before), default=0) for k, piece in enumerate(steps)] + [0]
        self.links = [self._link(k) if self.depth[k + 1] else None for k in range(len(steps))]

    def _slope(self, register: int, x: Array) -> Array:
        return self.pieces[self.made[register]].fresh(self.predict, x, register)

    def _link(self, k: int) -> Link:
        x, piece = self.states[k], self.pieces[k]
        slopes = [torch.from_numpy(self._slope(r, x)) for r in piece.before]
        still, noisy = (
            piece.run(self.predict, torch.from_numpy(x), slopes, [torch.full((len(x),), v).double()] * piece.draws)[0]
            for v in (0.0, 1.0)
        )
        return Link(x, still.numpy(), float((noisy - still).median()))

    def _earlier(self, k: int) -> list[Array]:
        """States at the start of step k and before it on the product of their nodes, newest first, shape (n,)."""
        mesh = np.meshgrid(self.states[k], *[self.eta] * self.depth[k], indexing="ij")
        found = [mesh[0].ravel()]
        for back, eta in enumerate(mesh[1:], start=1):
            link = self.links[k - back]
            assert link is not None
            found.append(link.before(found[-1], eta.ravel()))
        return found

    def expected(self, k: int, later: Array | None) -> Array:
        """E_ξ[later(step(z, ξ))] at the nodes of step k, shape (x, η, η of the state before, …, functions).

        ``later`` has the shape of the result, of the next step; None stands for the observables at the end.
        """
        piece, earlier = self.pieces[k], self._earlier(k)
        draws = np.array(list(itertools.product(self.xi, repeat=piece.draws))).reshape(-1, piece.draws)
        weight = np.array([math.prod(w) for w in itertools.product(self.weights, repeat=piece.draws)])
        shape = (len(earlier[0]), len(weight))

        def spread(values: Array) -> Tensor:
            return torch.from_numpy(np.broadcast_to(values, shape).ravel().copy())

        slopes = [self._slope(register, earlier[k - self.made[register]]) for register in piece.before]
        x, *_ = piece.run(
            self.predict,
            spread(earlier[0][:, None]),
            [spread(s[:, None]) for s in slopes],
            [spread(d) for d in draws.T],
        )
        reached = x.numpy().reshape(shape)
        nodes = (len(self.states[k]), *[len(self.eta)] * self.depth[k])
        if later is None:
            return np.einsum("q,nqf->nf", weight, observables(reached)).reshape(*nodes, -1)
        index, local = local_weights(self.states[k + 1], reached)
        if not self.depth[k + 1]:
            return np.einsum("q,nqm,nqmf->nf", weight, local, later[index], optimize=True).reshape(*nodes, -1)
        # η of the state at the start of the step is interpolated; those before it keep their nodes.
        link = self.links[k]
        assert link is not None
        eta = weights_of(self.eta, link.eta(reached, earlier[0][:, None]))
        kept = len(self.eta) ** (self.depth[k + 1] - 1)
        lost = len(self.eta) ** (self.depth[k] - self.depth[k + 1] + 1)
        column = np.tile(np.repeat(np.arange(kept), lost), nodes[0])[:, None, None]
        table = later.reshape(len(self.states[k + 1]), len(self.eta), kept, -1)
        result = np.zeros((*shape, table.shape[-1]))
        for m in range(LOCAL):
            for e in range(len(self.eta)):
                part = (local[..., m] * eta[..., e])[..., None]
                result += part * table[index[..., m], e, column[..., 0]]
        return np.einsum("q,nqf->nf", weight, result).reshape(*nodes, -1)
