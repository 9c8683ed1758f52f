"""Where the probability-flow ODE takes a model's starts: the converged solution, checked by halving its steps."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

import solvers
from scoresde.tuning.trajectories import Trajectories
from solvers import Plan, PlannedSolver

SOLVER = ("runge_kutta", {"tableau": "rk4", "frame": "vp"})  # a frame that is finite at both ends
GRID = "quadratic"
STEPS = 16
EVALUATIONS = 4  # of a step
MOST = 512
SHARES = (0.02, 0.1)  # of the plain error's median and root mean square, below which a difference is none


class NotConvergedError(ArithmeticError):
    """The solution with most steps still depends on their number; the message says by how much."""


@dataclass(frozen=True)
class Converged:
    """Trajectories with their ends, and how well these are known.

    Attributes:
        trajectories: with ends.
        steps: of the solution, each four evaluations.
        median, rms: median over samples, and root mean square, of what half the steps change, per element.
    """

    trajectories: Trajectories
    steps: int
    median: float
    rms: float


def plan(trajectories: Trajectories, steps: int) -> Plan:
    """The plan of the solution with so many steps."""
    name, options = SOLVER
    made = solvers.get(name, **options)
    assert isinstance(made, PlannedSolver)
    model = trajectories.model
    return made.plan(model.process, solvers.grids.get(GRID)(model.process, steps), model.prediction)


def converged(trajectories: Trajectories, plain: Tensor, steps: int = STEPS, most: int = MOST) -> Converged:
    """Double the steps until that changes little beside what a plain solver errs by.

    Args:
        trajectories: the starts.
        plain: samples of a usual solver at the largest budget that is to be tuned.
        steps: of the first solution.
        most: steps that are not exceeded.

    Raises:
        NotConvergedError: even the most steps were too few, for the median sample.
    """
    before = trajectories.planned(plan(trajectories, steps))
    while True:
        steps *= 2
        after = trajectories.planned(plan(trajectories, steps))
        found = replace(trajectories, ends=after)
        changed, plain_errors = found.errors(before), found.errors(plain)
        median, rms = float(changed.median()), float(changed.square().mean().sqrt())
        close = median <= SHARES[0] * float(plain_errors.median())
        if close and rms <= SHARES[1] * float(plain_errors.square().mean().sqrt()):
            return Converged(found, steps, median, rms)
        if 2 * steps > most:
            if close:  # a few samples at the border of basins remain in doubt
                return Converged(found, steps, median, rms)
            raise NotConvergedError(
                f"with {steps} steps of rk4 the median sample still changes by {median:.2g} when they are halved, more "
                f"than {SHARES[0]:g} of the {float(plain_errors.median()):.2g} that are to be tuned away"
            )
        before = after
