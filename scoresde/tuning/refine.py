"""Gradient descent on the numbers of a plan, through networks that have gradients.

What is lowered is the loss of :mod:`scoresde.tuning.fit`. Levenberg–Marquardt knows the slope of a sum of squares whose
weights stand still; the loss has caps that move with the errors, so that fits end where its own slope is not zero yet.
Its gradient with respect to all numbers at once is that of automatic differentiation through the whole plan. Each
evaluation is a checkpoint, of which only the states before and after are kept: memory is that of one evaluation, at the
price of computing it again.

A network is told times as numbers, and many round them, embed them in tables or are fed them in 16 bits. So its slope
in the level that it is told is a difference of two forward passes; that in the state is automatic. With θ the moves of
the numbers, all zero, since only the slope there is wanted,

    D(z, s, a) ≈ D((1 + θ_s) z, s, a) + (θ_s + θ_o) ∂D/∂log a,    log a = log s + o,

is D where the network is fed z at level s, told a.

Sources: checkpoints, Chen et al. 2016 (arXiv 1604.06174); BFGS, Nocedal and Wright 2006, chapter 6; gradients through
plans to their times and coefficients, LD3 (Tong et al. 2024) and BNS (Shaul et al. 2024).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from scoresde.tuning.fit import (
    QUANTILES,
    Array,
    Fitted,
    Mask,
    Number,
    State,
    as_far_as,
    capped,
    column,
    jacobian,
    normal_matrix,
    spacing,
    with_room,
)
from scoresde.tuning.trajectories import Trajectories
from solvers.coefficients.fitted import Numbers

FEW = 4  # trajectories that show whether there are gradients
STEPS = (0.1, 0.01, 0.001)  # of differences, to one of which these must come
CLOSE = 0.1  # share of it by which they may miss it
STEP = 0.02  # in log σ/α, of differences by which a network is told of more noise or less
DAMPING = 1e-3  # of the first metric, so that directions the samples hardly feel are not run along
FARTHEST = 1.0  # that a number would go by itself at first
PATIENCE = 10  # steps that are to gain something together, since a single one may be short at a cap's corner
TURNS = 8  # lengths that are tried for a step
SHORTER = 0.4
ENOUGH = 1e-4  # of the fall that the slope promises


def refined(
    trajectories: Trajectories,
    start: Numbers,
    which: Sequence[Number],
    *,
    steps: int,
    quantiles: Sequence[float] = QUANTILES,
    enough: float = 1e-3,
) -> Fitted | None:
    """Lower the loss L = mean over q of log √(mean_i min(e_i², q-quantile of e²)) by its gradient in all the numbers.

    BFGS: θ ← θ − t H ∇L, with H at first the inverse of JᵀWJ at the start, whose units differ by orders of magnitude
    from number to number, then with each step's turn of the slope in it; t is 1, or shorter where that does not lower
    the loss or brings levels together. The network, its parameters' ``grad`` and ``requires_grad`` are left alone.

    Args:
        trajectories: with their ends; of a network that is asked at whole times alone, only coefficients may move.
        start: numbers to begin with.
        which: those that may move.
        steps: at most so many.
        quantiles: of errors, above each of which they count no more in a part of what is lowered.
        enough: the descent ends where ten steps lower the loss by less.

    Returns:
        The best numbers and the loss there, never above that of the start; None where the network has no gradient: its
        outputs carry none, cannot be differentiated, or what comes of that is not what forward passes say.

    Raises:
        AssertionError: the trajectories' ends are not known.

    Source: see :mod:`scoresde.tuning.refine`.
    """
    best = State.at([trajectories], start, quantiles)
    if not which or len(start) < 2 or not math.isfinite(best.value):
        return Fitted(start, best.value)
    try:
        if not _has_gradients(trajectories, start, quantiles):
            return None
        step = spacing(trajectories, start, best.prefixes[0])
        columns = jacobian(trajectories, start, which, best.prefixes[0], step)
        squared, _ = normal_matrix(columns, best.samples(0) - trajectories.known_ends, best.weights[0])
        slope, own = gradient(trajectories, best, which, quantiles), np.diag(squared)
        # Where a network is told of the least noise, its slope is to one side, and differences may see none of it.
        floor = np.maximum(DAMPING * own, np.abs(slope) / FARTHEST - own) + 1e-9
        first: Array = np.linalg.inv(squared + np.diag(floor)).astype(np.float64)
        inverse, fresh, values = first, True, [best.value]
        for _ in range(steps):
            change = with_room(best.numbers, which, trajectories.last, partial(_downhill, inverse, slope))
            lower = _lower(trajectories, best, which, change, slope, quantiles)
            if lower is None:
                if fresh:
                    break
                inverse, fresh = first, True  # corners of the caps may have spoilt it
                continue
            best, taken = lower
            before, slope = slope, gradient(trajectories, best, which, quantiles)
            turn = slope - before
            if taken @ turn > 1e-12 * np.linalg.norm(taken) * np.linalg.norm(turn):
                inverse, fresh = _turned(inverse, taken, turn), False
            values.append(best.value)
            if len(values) > PATIENCE and values[-1 - PATIENCE] - best.value < enough:
                break
    except RuntimeError:  # of what has no derivative, or needs more memory for one than there is
        return None
    return Fitted(best.numbers, best.value)


def _downhill(inverse: Array, slope: Array, room: Mask) -> Array:
    return -inverse[np.ix_(room, room)] @ slope[room]


def _lower(
    each: Trajectories, state: State, which: Sequence[Number], change: Array, slope: Array, quantiles: Sequence[float]
) -> tuple[State, Array] | None:
    """After as much of a change as lowers the loss, and that part of it; None where none does."""
    if not np.isfinite(change).all():
        return None
    for turn in range(TURNS):
        if (found := as_far_as(state.numbers, which, SHORTER**turn * change, each.last)) is None:
            return None
        tried = State.at([each], found[0], quantiles)
        if tried.value < state.value + ENOUGH * min(float(slope @ found[1]), 0.0):
            return tried, found[1]
    return None


def _turned(inverse: Array, taken: Array, turn: Array) -> Array:
    """The inverse Hessian of BFGS, after a step and what it changed the slope by."""
    rate = 1 / (taken @ turn)
    left = np.eye(len(taken)) - rate * np.outer(taken, turn)
    return left @ inverse @ left.T + rate * np.outer(taken, taken)


def gradient(
    each: Trajectories, state: State, which: Sequence[Number], quantiles: Sequence[float], step: float = STEP
) -> Array:
    """∂L/∂θ of the numbers, levels by their logarithms.

    Args:
        each: the trajectories; a batch at a time is differentiated.
        state: the numbers, with the samples that they make.
        which: the numbers to differentiate by.
        quantiles: see :func:`refined`.
        step: in log σ/α, of the differences by which the network is told of more noise or less.
    """
    weights, size = _pulls(each, state.prefixes[0][-1][0], quantiles), each.batch_size or len(each)
    found = np.zeros(len(which))
    for low in range(0, len(each), size):
        rows = range(low, min(low + size, len(each)))
        with torch.enable_grad():
            run = _Differentiable.of(each.part(rows), state.numbers, which, step)
            apart = (run.samples() - run.each.known_ends).flatten(1).double().square().mean(1)
            found += run.back((weights[rows.start : rows.stop].to(apart.device) * apart).sum())
    return found


def _pulls(each: Trajectories, samples: Tensor, quantiles: Sequence[float]) -> Tensor:
    """∂L/∂e_i²; a sample at a quantile has all of the pull of those above it."""
    squares = each.errors(samples).square().requires_grad_()
    with torch.enable_grad():
        logs = [0.5 * capped(squares, quantile)[1].log() for quantile in quantiles]
        (found,) = torch.autograd.grad(torch.stack(logs).mean(), squares)
    return found


def _has_gradients(trajectories: Trajectories, numbers: Numbers, quantiles: Sequence[float]) -> bool:
    """Whether the derivative of a few samples by one number is what runs of forward passes say.

    The number moves states alone, so that all of the derivative comes through the network. Whether outputs carry a
    gradient would not do: those of a network without are added to multiples of the state, which carry that of it.
    """
    few = trajectories.part(range(min(FEW, len(trajectories), trajectories.batch_size or FEW)))
    number = Number("history", 1) if len(numbers) > 2 else Number("level", 1)
    prefix = State.at([few], numbers, quantiles).prefixes[0]
    for step in STEPS:  # a long one for coarse rounding, a short one for samples at the border of two basins
        moves = column(few, numbers, number, prefix, step)
        expected = float(moves.square().sum())
        with torch.enable_grad():
            run = _Differentiable.of(few, numbers, [number], STEP)
            along = float(run.back((run.samples().flatten(1).double() * moves).sum())[0])
        if expected > 0 and abs(along - expected) <= CLOSE * expected:
            return True
    return False


@dataclass(frozen=True)
class _Differentiable:
    """A plan on trajectories as a function of how far its numbers are moved, which is 0.

    Attributes:
        each: the trajectories.
        numbers: of the plan.
        by: the moves, float64, which require a gradient.
        moves: each of them by its number, as states are.
        step: see :func:`gradient`.
    """

    each: Trajectories
    numbers: Numbers
    by: Tensor
    moves: dict[Number, Tensor]
    step: float

    @classmethod
    def of(cls, each: Trajectories, numbers: Numbers, which: Sequence[Number], step: float) -> _Differentiable:
        by, like = torch.zeros(len(which), dtype=torch.float64, requires_grad=True), each.noise
        moves = (move.to(like.dtype).to(like.device) for move in by.unbind())
        return cls(each, numbers, by, dict(zip(which, moves, strict=True)), step)

    def back(self, value: Tensor) -> Array:
        """The derivative of a value by the moves, and by nothing else: parameters' ``grad`` stay as they are."""
        if not value.requires_grad:
            return np.zeros(len(self.by))
        (found,) = torch.autograd.grad(value, self.by)
        return found.numpy()

    def samples(self) -> Tensor:
        """What :meth:`Trajectories.follow` returns."""
        numbers, unit, first = self.numbers, self.each.unit, self.each.first
        levels = (first, *(unit * level for level in numbers.levels[1:]))
        z, told, free = self.each.noise, first, None
        if numbers.told is not None and unit * numbers.told < first < math.inf:
            told, free = unit * numbers.told, self.moves.get(Number("told", 0))
        known = [self._denoised(z, told, 0.0, free, free)]
        for index in range(len(levels) - 1):
            z = z + (self._inverse(levels, index + 1) - self._inverse(levels, index)) * self._mean(known)
            level, offset = (self.moves.get(Number(kind, index + 1)) for kind in ("level", "offset"))
            asked = level if offset is None else offset if level is None else level + offset
            known.append(self._denoised(z, levels[index + 1], numbers.offset(index + 1), level, asked))
        return self._mean(known)

    def _inverse(self, levels: Sequence[float], index: int) -> Tensor | float:
        move = self.moves.get(Number("level", index))
        return 1 / levels[index] if move is None else (1 - move) / levels[index]

    def _mean(self, known: Sequence[Tensor]) -> Tensor:
        """B of the last of the steps that are known."""
        index, mean = len(known) - 1, known[-1]
        row = (*self.numbers.history[index], *[0.0] * index)
        for back in range(index):
            move = self.moves.get(Number("history", index, back))
            if move is not None or row[back]:
                weight = row[back] if move is None else row[back] + move
                mean = mean + weight * (known[-1 - back] - known[-2 - back])
        return mean

    def _denoised(self, z: Tensor, level: float, offset: float, moved: Tensor | None, asked: Tensor | None) -> Tensor:
        """:meth:`Trajectories.denoised`, with the moves of the level's logarithm and of that of the one told."""
        fed = z if moved is None else (1 + moved) * z
        if fed.requires_grad:
            found = checkpoint(lambda state: self.each.denoised(state, level, offset), fed, use_reentrant=False)
            assert isinstance(found, Tensor)
        else:
            with torch.no_grad():
                found = self.each.denoised(fed, level, offset)
        return found if asked is None else found + asked * self._slope(z.detach(), level, offset)

    @torch.no_grad()
    def _slope(self, z: Tensor, level: float, offset: float) -> Tensor:
        """∂D/∂log a, of the level that the network is told alone."""
        more, less = (self.each.denoised(z, level, offset + by) for by in (self.step, -self.step))
        return (more - less) / (2 * self.step)
