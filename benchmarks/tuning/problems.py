"""Problems with a known converged solution: exact mixtures on any process, and the bundled model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import solvers
from scoresde import TunedSolver, models
from scoresde.exact import DataPoints, GaussianMixture
from scoresde.process import Process
from scoresde.tuning.trajectories import Trajectories
from solvers import Plan, PlannedSolver

REFERENCE = {"tableau": "rk4", "frame": "vp"}  # of the converged solution, a frame that is finite at both ends


@dataclass(frozen=True)
class Problem:
    """A model, start states at t_max, and where the probability-flow ODE takes them."""

    name: str
    process: Process
    predict: Callable[[Tensor, float], Tensor]
    start: Tensor
    end: Tensor

    def error(self, plan: Plan) -> float:
        """Root mean square distance of a plan's samples to the converged ones, for an x0-model."""
        return float((plan.run(self.predict, self.start) - self.end).double().square().mean().sqrt())


def planned(name: str, **options: object) -> PlannedSolver:
    solver = solvers.get(name, **options)
    assert isinstance(solver, PlannedSolver)
    return solver


def converged(process: Process, predict: Callable[[Tensor, float], Tensor], start: Tensor, steps: int) -> Tensor:
    """The state at zero noise after that many steps of a fourth-order method."""
    plan = planned("runge_kutta", **REFERENCE).plan(process, solvers.grids.get("quadratic")(process, steps), "sample")
    return plan.run(predict, start)


def _ring(process: Process) -> GaussianMixture:
    """Eight narrow normals on a circle, in two dimensions."""
    angles = torch.arange(8, dtype=torch.float64) * (math.pi / 4)
    means = torch.stack([angles.cos(), angles.sin()], dim=1)
    return GaussianMixture(process, torch.arange(1.0, 9.0), means, torch.full((8,), 0.05**2, dtype=torch.float64))


def _low_rank(process: Process) -> GaussianMixture:
    """Ten normals of rank 8 in 64 dimensions, spectra falling as those of images do."""
    generator = torch.Generator().manual_seed(0)
    means = 0.5 * torch.randn(10, 64, generator=generator, dtype=torch.float64)
    spectrum = 0.8 / torch.arange(1, 9, dtype=torch.float64)
    factors = torch.linalg.qr(torch.randn(10, 64, 8, generator=generator, dtype=torch.float64)).Q * spectrum * 2
    return GaussianMixture(process, torch.ones(10), means, torch.full((10,), 0.02**2, dtype=torch.float64), factors)


def _points(process: Process) -> DataPoints:
    """A kernel density of 100 points in 16 dimensions."""
    generator = torch.Generator().manual_seed(1)
    points = torch.randn(100, 16, generator=generator, dtype=torch.float64).clamp(-1, 1)
    return DataPoints(process, points, bandwidth=0.1)


EXACT: dict[str, Callable[[Process], GaussianMixture | DataPoints]] = {
    "ring": _ring,
    "low rank": _low_rank,
    "points": _points,
}


def exact(name: str, process: Process, samples: int = 32, steps: int = 400) -> Problem:
    """An exact problem on a process, from standard normal draws times σ(t_max)."""
    model = EXACT[name](process)
    shape = (samples, *model.shape)
    generator = torch.Generator().manual_seed(2)
    start = process.sigma(process.t_max) * torch.randn(shape, generator=generator, dtype=torch.float64)
    return Problem(name, process, model.denoised, start, converged(process, model.denoised, start, steps))


def bundled(samples: int = 10, steps: int = 50) -> Problem:
    """The bundled model on its own process, one image of each class."""
    checkpoint = models.load("mnist")
    model, process = checkpoint.model, checkpoint.model.process
    labels = torch.arange(samples) % checkpoint.classes
    start = process.sigma(process.t_max) * torch.randn(
        samples, *checkpoint.shape, generator=torch.Generator().manual_seed(2)
    )

    def predict(x: Tensor, t: float) -> Tensor:
        with torch.no_grad():
            return model.denoised(x, t, label=labels)

    return Problem("mnist", process, predict, start, converged(process, predict, start, steps))


def fixed_and_tuned(own: Trajectories, tuned: TunedSolver, nfe: int) -> tuple[Tensor, Tensor]:
    """Samples of the fixed solver that a tuned one stands beside, and its own."""
    process, prediction = own.model.process, own.model.prediction
    plain = tuned.members[nfe].fixed.plan(process, nfe, prediction)
    return own.planned(plain), own.planned(tuned.plan(process, tuned.recommended(process, nfe), prediction))
