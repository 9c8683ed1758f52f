"""Mean and variance of a plan's samples on Gaussian data, exactly and without sampling.

On scalar data N(m, v) the model is affine, E[x0 | x] = m + k (x − α m) with k = α v/(α² v + σ²), so every state of a
plan is a combination of 1, the initial state's deviation and the draws. The plan itself is run on the vectors of their
coefficients; mean and variance of the result follow from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from solvers import prediction as predictions
from solvers.plan.execute import execute
from solvers.plan.program import Program
from solvers.steps import Process


@dataclass(frozen=True)
class Moments:
    """What a plan makes of Gaussian data, beside what it should; float64 tensors of the shape of the data's moments.

    Attributes:
        mean, variance: of the samples.
        exact_mean, exact_variance: of the marginal at the last time, α m and α² v + σ².
    """

    mean: Tensor
    variance: Tensor
    exact_mean: Tensor
    exact_variance: Tensor

    @property
    def frechet(self) -> Tensor:
        """Squared Wasserstein-2 (Fréchet) distance of the two Gaussians: (m − m')² + (√v − √v')²."""
        return (self.mean - self.exact_mean) ** 2 + (self.variance.sqrt() - self.exact_variance.sqrt()) ** 2


def moments(plan: Program, process: Process, mean: Any = 0.0, variance: Any = 1.0) -> Moments:
    """Moments of the samples of a plan on data N(mean, variance), started from the exact marginal at its first time.

    Extra outputs that the plan asks for are the model's own output, as for a guided model whose condition says nothing.

    Args:
        plan: a plan for that process.
        process: the forward process.
        mean, variance: of the data, numbers or arrays that broadcast against each other; each element is a case.

    Raises:
        ValueError: a variance is negative, or a number is not finite.
    """
    m, v = torch.broadcast_tensors(*(torch.as_tensor(value, dtype=torch.float64) for value in (mean, variance)))
    if not bool((torch.isfinite(m) & torch.isfinite(v) & (v >= 0)).all()):
        raise ValueError(f"data need a finite mean and a finite variance of at least 0, got {mean} and {variance}")
    # Coefficients of 1, of the initial deviation and of each draw, along the last axis.
    terms = 2 + plan.draws
    one, deviation = torch.eye(terms, dtype=torch.float64)[:2]
    m, v = m[..., None], v[..., None]
    fresh = iter(torch.eye(terms, dtype=torch.float64)[2:])

    def predict(x: Tensor, t: float) -> dict[str, Tensor]:
        alpha, sigma = process.alpha(t), process.sigma(t)
        x0 = m * one + alpha * v / (alpha**2 * v + sigma**2) * (x - alpha * m * one)
        a, b = predictions.convert("sample", plan.prediction, alpha, sigma)
        return {name: a * x + b * x0 for name in plan.outputs}

    def marginal(t: float) -> tuple[Tensor, Tensor]:
        alpha, sigma = process.alpha(t), process.sigma(t)
        return alpha * m, alpha**2 * v + sigma**2

    first_mean, first_variance = marginal(plan.times[0])
    x = first_mean * one + first_variance.sqrt() * deviation
    end = execute(plan, predict, x, lambda: next(fresh).expand_as(x), None)
    exact_mean, exact_variance = marginal(plan.times[-1])
    return Moments(end[..., 0], (end[..., 1:] ** 2).sum(-1), exact_mean[..., 0], exact_variance[..., 0])
