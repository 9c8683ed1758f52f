"""Where the probability-flow ODE takes a model's starts: the converged solution, checked by halving its steps."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

import solvers
from scoresde.tuning.trajectories import Trajectories
from solvers import Plan, PlannedSolver

SOLVER = ("uni_pc", {"order": 3})  # networks are not so smooth that a step of more evaluations were worth them
GRID = "quadratic"
STEPS = 64
MOST = 2048
SHARES = {0.5: 0.005, 0.9: 0.05}  # of these quantiles of the plain error, below which a difference is none
MANY, LAXER = 256, 8.0  # steps from which it is none at so many times these shares: rough networks converge slowly


class NotConvergedError(ArithmeticError):
    """The solution with most steps still depends on their number; the message says by how much."""


@dataclass(frozen=True)
class Converged:
    """Trajectories with their ends, and how well these are known.

    Attributes:
        trajectories: with ends.
        steps: of the solution, each one evaluation.
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


def ended(trajectories: Trajectories, steps: int) -> Trajectories:
    """The trajectories with the ends that the solution with so many steps has."""
    return replace(trajectories, ends=trajectories.planned(plan(trajectories, steps)))


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
        found = ended(trajectories, steps)
        changed, errors = found.errors(before), found.errors(plain)
        median, rms = float(changed.median()), float(changed.square().mean().sqrt())
        # Samples at the border of two basins may go on changing; a few of them do no harm.
        factor = LAXER if steps >= MANY else 1.0
        close = {
            q: float(changed.quantile(q)) <= factor * share * float(errors.quantile(q)) for q, share in SHARES.items()
        }
        if all(close.values()) or (2 * steps > most and close[0.5]):
            return Converged(found, steps, median, rms)
        if 2 * steps > most:
            raise NotConvergedError(
                f"with {steps} steps the median sample still changes by {median:.2g} when they are halved, more "
                f"than {factor * SHARES[0.5]:g} of the {float(errors.median()):.2g} that are to be tuned away"
            )
        before = found.known_ends
