"""Multistep plans as tables of numbers, which can be fitted to a model.

In the frame ``data``, z = x/σ over w = α/σ with the slope D = E[x0 | x], a step of the probability-flow ODE is

    z_{i+1} = z_i + (w_{i+1} − w_i) B_i,    B_i = D_i + Σ_k c_ik (D_{i−k+1} − D_{i−k}),    k = 1 … i,

where s_i = 1/w_i is the noise level σ/α of the state and D_i is asked for at a level a_i of its own: at a_i ≠ s_i the
network is told of more or less noise than there is, which is a gain on what it removes. The first state is nothing but
noise; where a_0 < s_0 is told, z is kept and not x/α, as if the noise ended at a_0: what a network errs by in D grows
with the level. The last step goes to zero noise, where x = B. What the D count sums to the whole step whatever the
numbers are, so that data without spread are met exactly. Every deterministic multistep method of one evaluation a step
has this form on its grid; that of exponential Adams methods is :func:`adams`.

Sources: the form with two differences is that of DPM-Solver++ (Lu et al. 2022); levels that the network is told beside
those of the states are in LD3 (Tong et al. 2024) and GAS (arXiv 2510.17699).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from solvers.coefficients.frames import FRAMES
from solvers.coefficients.interpolation import exact
from solvers.grids import universal
from solvers.signature import Predict, Solution, State, Steps
from solvers.standin import StandIn
from solvers.steps import Point, Process

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Numbers:
    """The numbers of a plan of n evaluations.

    Attributes:
        levels: s_0 > s_1 > … > s_{n−1} > 0, noise levels σ/α of the states; s_0 may be infinite (α = 0).
        history: c_i1, c_i2, … for each step, at most i of them; what is left out is 0.
        offsets: log(a_i/s_i) for each step; empty is 0 everywhere. The first must be 0.
        told: a_0, which has no effect above s_0, nor where s_0 is infinite; None is s_0.

    Raises:
        ValueError: levels that do not fall, rows that are too long, numbers that are not finite.
    """

    levels: tuple[float, ...]
    history: tuple[tuple[float, ...], ...]
    offsets: tuple[float, ...] = field(default=())
    told: float | None = None

    def __post_init__(self) -> None:
        count = len(self.levels)
        if count == 0 or len(self.history) != count or len(self.offsets) not in (0, count):
            raise ValueError(
                f"a plan of n evaluations has n levels, n rows of history and n offsets, got {count}, "
                f"{len(self.history)} and {len(self.offsets)}"
            )
        if not all(s < t for t, s in zip(self.levels, self.levels[1:], strict=False)) or not self.levels[-1] > 0:
            raise ValueError(f"noise levels must fall strictly and stay above 0, got {self.levels}")
        if not all(map(math.isfinite, (*self.levels[1:], *self.offsets))) or (self.offsets and self.offsets[0] != 0):
            raise ValueError(
                f"levels and offsets must be finite, the first offset 0, got {self.levels}, {self.offsets}"
            )
        if self.told is not None and not 0 < self.told < math.inf:
            raise ValueError(f"the level that is told at first must be finite and above 0, got {self.told}")
        for index, row in enumerate(self.history):
            if len(row) > index or not all(map(math.isfinite, row)):
                raise ValueError(f"step {index} has at most {index} finite numbers of history, got {row}")

    def __len__(self) -> int:
        return len(self.levels)

    def weights(self, index: int) -> list[float]:
        """What D_i, D_{i−1}, … count in B_i; they sum to 1."""
        return bracket(self.history[index])

    def offset(self, index: int) -> float:
        """log(a_i/s_i)."""
        return self.offsets[index] if self.offsets else 0.0


def for_all(process: Process, count: int, scale: float) -> Numbers:
    """The plan of least error for all models, with σ* = ``scale``; see :mod:`solvers.grids.universal`."""
    table = universal.tables()[count] if count > 1 else universal.Table((), ((),))
    levels = tuple(universal.levels(process, table, scale))
    return Numbers(levels, table.history, told=universal.told(levels, scale))


def bracket(row: Sequence[float]) -> list[float]:
    """What D_i, D_{i−1}, … count in D_i + Σ_k c_k (D_{i−k+1} − D_{i−k})."""
    above, below = [1.0, *(-c for c in row)], [*row, 0.0]
    return [a + b for a, b in zip(above, below, strict=True)]


def rows(weights: Sequence[float]) -> list[float]:
    """Inverse of :func:`bracket`, of weights that sum to 1."""
    return list(np.cumsum(np.asarray(weights, dtype=np.float64))[:-1] - 1.0)


def follow(
    steps: Steps,
    x: State,
    predict: Predict,
    history: Sequence[Sequence[float]] = (),
    offsets: Sequence[float] = (),
    told: float | None = None,
    skipped: int = 0,
) -> Solution:
    """A plan by its numbers, from its step ``skipped`` on; of what came before there is no history then.

    Levels beyond the ends of the process, which the network does not know, are asked for at the ends.
    """
    ends = [steps.process.half_log_snr(t) for t in (steps.process.t_max, steps.process.t_min)]
    known: list[State] = []
    longest = max(map(len, history), default=0)
    for index, (t, s) in enumerate(steps):
        row = history[skipped + index][:index]
        offset = offsets[skipped + index] if offsets else 0.0
        asked, share = t, 1.0
        if offset:
            asked = steps.at(min(max(t.lam - offset, ends[0]), ends[1]))
            share = asked.alpha / t.alpha
        elif told is not None and skipped + index == 0 and 0 < told * t.alpha < t.sigma:
            asked = steps.at(min(-math.log(told), ends[1]))
            share = asked.sigma / t.sigma
        fed = x if share == 1 else share * x
        known = [predict(fed, asked).x0, *known][: longest + 1]
        mean = sum(weight * D for weight, D in zip(bracket(row), known, strict=False) if weight)
        gone = s.sigma / t.sigma  # from what was fed, so that a run may begin with that
        x = yield (gone / share) * fed + (s.alpha - gone * t.alpha) * mean


def adams(levels: Sequence[float], order: int = 3) -> Array:
    """c_ik of the exponential Adams–Bashforth method in λ, shape (n, order − 1); of the last step, a denoise, 0.

    Exact integrals of the polynomial through the last D (:data:`solvers.coefficients.interpolation.exact`), lower
    orders first.
    """
    frame, process = FRAMES.get("data"), StandIn()
    points = [Point(level, 1.0, level, -math.log(level), process) for level in levels]
    found = np.zeros((len(points), order - 1))
    for index in range(len(points) - 1):
        t, s = points[index], points[index + 1]
        nodes = [points[index - k] for k in range(min(index, order - 1) + 1) if math.isfinite(points[index - k].lam)]
        if len(nodes) > 1:
            weights = exact(frame, t, s, nodes)
            found[index, : len(nodes) - 1] = rows(weights / weights.sum())
    return found
