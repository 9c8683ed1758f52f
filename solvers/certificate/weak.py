"""Weak order of stochastic solvers, without sampling.

Two errors are measured: that of expectations on the mixture, by quadrature (:mod:`solvers.certificate.chain`), and the
Fréchet distance on Gaussian data of several widths, exact by :meth:`solvers.Plan.moments`, to which a wrong noise of
inner stages can be invisible.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from solvers.base import PlannedSolver
from solvers.certificate.chain import Quadrature, pieces, remembers, weak_errors
from solvers.certificate.slopes import TOLERANCE, Slopes, settle, smooth_grid
from solvers.plan import Plan
from solvers.steps import Process

VARIANCES = (0.01, 0.25, 1.0, 4.0)  # of the Gaussian data


def frechet_error(plan: Plan, process: Process) -> float:
    """Fréchet distance of the plan's end from the exact marginal on Gaussian data, exact by the plan's moments."""
    found = plan.moments(process, 0.7, torch.tensor(VARIANCES, dtype=torch.float64))
    return math.sqrt(float(found.frechet.sum()))


def weak_order(solver: PlannedSolver, process: Process, shape: str) -> Slopes:
    """The weak order on the mixture: that of the root mean square error over the observables.

    Two slopes of history make a chain in three dimensions, hence few steps: enough to see how the whole error falls.
    """

    def error(steps: int) -> float:
        plan = _plan(solver, process, shape, steps)
        return float(np.sqrt(np.mean(weak_errors(plan, process, Quadrature.enough(plan)) ** 2)))

    draws = max(piece.draws for piece in pieces(_plan(solver, process, shape, 8)))
    # From 16 steps on, the slopes of three stages look settled before they are.
    first, most = 16 if draws < 3 else 32, (2048, 2048, 256, 128)[remembered(solver, process)]
    return settle(error, floor=1e-7, first=first, most=most)


def frechet_order(solver: PlannedSolver, process: Process, shape: str) -> Slopes:
    """The order of the Fréchet distance on Gaussian data."""
    return settle(
        lambda steps: frechet_error(_plan(solver, process, shape, steps), process), floor=1e-10, first=8, most=4096
    )


def remembered(solver: PlannedSolver, process: Process) -> int:
    """How many slopes a step remembers."""
    return remembers(_plan(solver, process, "uniform", 8))


@dataclass(frozen=True)
class WeakCertificate:
    """A stochastic solver's declared weak order and what was measured on one process and one shape of grid.

    Attributes:
        declared: the weak order.
        frechet: the Fréchet distance on Gaussian data.
        mixture: the weak error on the mixture, None where it was left out.
        deep: whether a step remembers more than one slope. The error then is for hundreds of steps that of a higher
            order, with one of second order behind it; so it need only fall at least as fast as declared.
    """

    declared: int
    frechet: Slopes
    mixture: Slopes | None
    deep: bool

    @property
    def measured(self) -> float | None:
        """On the mixture, where the slope settles there; for a deep method on Gaussian data."""
        return self.frechet.order if self.deep or self.mixture is None else self.mixture.order

    @property
    def exceeds(self) -> bool:
        """Whether a deep method is better here than it declares."""
        return self.deep and (self.measured or 0) > self.declared + TOLERANCE

    @property
    def holds(self) -> bool:
        """Whether the error falls as declared on both, and on the mixture no faster, unless the method is deep."""
        if not self._falls(self.frechet) or (self.mixture is not None and not self._falls(self.mixture)):
            return False
        return self.deep or (self.measured is not None and self.measured <= self.declared + TOLERANCE)

    def _falls(self, found: Slopes) -> bool:
        last = max(found.mean, found.slopes[-1]) if found.order is None else found.order
        return last >= self.declared - TOLERANCE


def certify_weak(solver: PlannedSolver, process: Process, shape: str, deep_too: bool = False) -> WeakCertificate:
    """Measure a weak order.

    Args:
        solver: one that declares a weak order.
        process: what it is measured on.
        shape: of the grids.
        deep_too: whether a deep method is measured on the mixture too, which takes longest.
    """
    assert solver.weak_order is not None
    deep = remembered(solver, process) > 1
    mixture = weak_order(solver, process, shape) if not deep or deep_too else None
    return WeakCertificate(solver.weak_order, frechet_order(solver, process, shape), mixture, deep)


def check_quadrature(solver: PlannedSolver, process: Process, shape: str, steps: int) -> Mapping[str, float]:
    """The weak error at that many steps, and how much a coarser quadrature changes it, more than its own error."""
    plan = _plan(solver, process, shape, steps)
    enough = Quadrature.enough(plan)
    fine, coarse = (weak_errors(plan, process, quadrature) for quadrature in (enough, enough.coarser))
    return {
        "weak_error": float(np.sqrt(np.mean(fine**2))),
        "numerical_error": float(np.sqrt(np.mean((fine - coarse) ** 2))),
    }


def _plan(solver: PlannedSolver, process: Process, shape: str, steps: int) -> Plan:
    return solver.plan(process, smooth_grid(process, shape, steps), "sample")
