"""The data that orders are measured on: a mixture of normals on the line, whose score is known exactly."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from torch import Tensor

from solvers.steps import Process

Array = NDArray[np.float64]
Functions = Callable[[Array], Array]  # (n,) -> (n, functions)


@cache
def gauss_hermite(nodes: int) -> tuple[Array, Array]:
    """Nodes and weights for the expectation over a standard normal."""
    xi, weights = np.polynomial.hermite_e.hermegauss(nodes)
    return xi, weights / weights.sum()


class Mixture:
    """Data Σ_k w_k N(m_k, v_k) on the line: x_t is Σ_k w_k N(α m_k, α² v_k + σ²)."""

    def __init__(self, weights: list[float], means: list[float], variances: list[float]):
        self.weights, self.means, self.variances = (
            torch.tensor(values, dtype=torch.float64) for values in (weights, means, variances)
        )

    def denoised(self, x: Tensor, alpha: float, sigma: float) -> Tensor:
        """E[x0 | x_t = x], shape of x (n,)."""
        variance = alpha**2 * self.variances + sigma**2
        outside = x[:, None] - alpha * self.means
        logits = self.weights.log() - 0.5 * variance.log() - 0.5 * outside**2 / variance
        return (logits.softmax(1) * (self.means + alpha * self.variances / variance * outside)).sum(1)

    def expectation(self, functions: Functions, alpha: float, sigma: float, nodes: int = 100) -> Array:
        """E[φ(x_t)] for each φ, by Gauss–Hermite quadrature for each component."""
        xi, weights = gauss_hermite(nodes)
        total = 0.0
        for w, m, v in zip(self.weights.numpy(), self.means.numpy(), self.variances.numpy(), strict=True):
            total = total + w * (weights @ functions(alpha * m + math.sqrt(alpha**2 * v + sigma**2) * xi))
        return np.asarray(total)

    @cached_property
    def spread(self) -> tuple[float, float]:
        """Mean and variance of the data."""
        mean = float(self.weights @ self.means)
        return mean, float(self.weights @ (self.variances + self.means**2)) - mean**2


MIXTURE = Mixture([0.5, 0.3, 0.2], [-1.0, 0.3, 1.2], [0.1, 0.2, 0.06])


def predictor(process: Process) -> Callable[[Tensor, float], Tensor]:
    """The exact x0-model on that process, as plans call it."""
    return lambda x, t: MIXTURE.denoised(x, process.alpha(t), process.sigma(t))


@cache
def trajectories(first: float, last: float) -> tuple[Array, Array]:
    """States x/√(α² + σ²) at λ = first, and where the ODE takes them until λ = last: the same on every process."""

    def slope(angle: float, y: Array) -> Array:  # v, in the frame of α = cos, σ = sin
        alpha, sigma = math.cos(angle), math.sin(angle)
        x0 = MIXTURE.denoised(torch.from_numpy(y), alpha, sigma).numpy()
        return (alpha * y - x0) / sigma

    ends = [math.atan2(1.0, math.exp(value)) for value in (first, last)]
    start = np.linspace(-2.0, 2.0, 41)
    found = solve_ivp(slope, ends, start, method="DOP853", rtol=1e-13, atol=1e-14)
    return start, found.y[:, -1]
