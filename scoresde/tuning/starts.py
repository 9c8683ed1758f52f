"""What fits of a plan begin with: plans of ordinary solvers, rewritten exactly, and grids by dynamic programming."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

import solvers
from scoresde.tuning.scale import POINTS, RANGE
from scoresde.tuning.trajectories import Trajectories
from solvers import Plan, PlannedSolver
from solvers.coefficients.fitted import Numbers, adams, rows
from solvers.steps import Process

EXACT = 1e-8  # to which a plan has the form of numbers, or has it not
STAGED = {"dpmpp_2s": 2, "dpmpp_3s": 3}  # evaluations a step
GRIDS = ("quadratic", "karras", "log_snr")
FEW = 16  # trajectories on which grids are programmed


def rewritten(plan: Plan, process: Process) -> Numbers | None:
    """A plan for prediction type ``sample`` as numbers that give the same samples; None where it has no such form.

    It is run on unit vectors: the noise is one, and the D of each evaluation another, so that every state that the
    network sees says what it is made of. A stage within a step is a state like any other.
    """
    if plan.draws or process.sigma(plan.times[-1]) > 0:
        return None
    unit = torch.eye(1 + plan.nfe, dtype=torch.float64)
    levels, states = list[float](), list[Tensor]()

    def denoised(x: Tensor, t: float) -> Tensor:
        levels.append(math.exp(-process.half_log_snr(t)))
        states.append(x / process.sigma(t))
        return unit[len(states)]

    end = plan.run(denoised, process.sigma(plan.times[0]) * unit[0])
    falling = all(s < t for t, s in itertools.pairwise(levels))
    if not falling or any(abs(float(z[0]) - 1) > EXACT for z in states) or abs(float(end[0])) > EXACT:
        return None
    gone = [1 / s - 1 / t for t, s in itertools.pairwise(levels)]
    means = [(after - before) / by for before, after, by in zip(states, states[1:], gone, strict=False)]
    history = []
    for index, mean in enumerate([*means, end]):
        weights = mean[1 : index + 2].flip(0).numpy()
        if abs(weights.sum() - 1) > EXACT:
            return None
        history.append(tuple(map(float, np.trim_zeros(np.round(rows(weights / weights.sum()), 12), "b"))))
    return Numbers(tuple(levels), tuple(history))


def staged(process: Process, count: int) -> Iterator[Numbers]:
    """The solvers of several evaluations a step with ``count`` evaluations in all, on some grids."""
    for (name, stages), grid in itertools.product(STAGED.items(), GRIDS):
        if count % stages == 1:  # a step is one evaluation less where it is the denoise
            solver, place = solvers.get(name), solvers.grids.get(grid)
            assert isinstance(solver, PlannedSolver)
            plan = solver.plan(process, place(process, 1 + count // stages), "sample")
            if plan.nfe == count and (found := rewritten(plan, process)) is not None:
                yield found


def programmed(trajectories: Trajectories, count: int, back: int) -> Numbers:
    """Exponential Adams coefficients on the levels on which steps of first order err least, by dynamic programming.

    Among :data:`POINTS` levels even in λ, the sum of the steps' errors is least: the root mean square distance from
    where a step begun on a trajectory ends, to where the trajectory is then, as x/α.

    Args:
        trajectories: of which the first few are walked along.
        count: evaluations.
        back: differences of history.

    Source: Chen et al. 2024, On the trajectory regularity of ODE-based diffusion sampling, sec. 4.2 (GITS).
    """
    walked = list(trajectories.part(range(min(FEW, len(trajectories)))).walk(POINTS, RANGE))
    levels = [trajectories.first, *(math.exp(-lam) for lam, _, _ in walked[1:])]
    states, means = [z for _, z, _ in walked], [found for _, _, found in walked]

    def apart(one: Tensor, other: Tensor) -> float:
        return float((one - other).double().square().mean().sqrt())

    size = len(levels)
    cost = np.full((size, size + 1), np.inf)  # the last column is the data
    for start in range(size):
        for stop in range(start + 1, size):
            reached = torch.add(states[start], means[start], alpha=1 / levels[stop] - 1 / levels[start])
            cost[start, stop] = levels[stop] * apart(reached, states[stop])
        cost[start, size] = apart(means[start], means[-1])
    least, before = np.full(size, np.inf), list[np.ndarray]()
    least[0] = 0.0
    for _ in range(count - 1):
        sums = least[:, None] + cost[:, :size]
        before.append(sums.argmin(0))
        least = sums.min(0)
    place = int((least + cost[:, size]).argmin())
    path = [place]
    for came in reversed(before):
        path.append(int(came[path[-1]]))
    chosen = tuple(levels[place] for place in reversed(path))
    rule = adams(chosen, back + 1)
    return Numbers(chosen, tuple(tuple(map(float, row[:index])) for index, row in enumerate(rule)))
