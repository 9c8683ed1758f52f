"""A Gaussian with full covariance."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from scoresde.exact.posterior import TINY, PosteriorMean, finite
from scoresde.process import Process


class Gaussian(PosteriorMean):
    """Data N(m, C): x_t is N(α m, α² C + σ² I), and E[x0 | x] = m + α C (α² C + σ² I)⁻¹ (x − α m).

    Called with x of shape (batch, *mean.shape). C acts on flattened states, is diagonalised once and may be singular.

    Args:
        process: the forward process.
        mean: m, in the shape of a state.
        covariance: C, of shape (dim, dim), with dim the number of elements of the mean.
        prediction: what the model returns, see :class:`ScoreModel`.

    Raises:
        ValueError: C has another shape, is not symmetric or has a negative eigenvalue; a parameter is not finite.
    """

    def __init__(self, process: Process, mean: Any, covariance: Any, *, prediction: str = "sample"):
        self.mean, self.covariance = finite("mean", mean), finite("covariance", covariance)
        dim = self.mean.numel()
        super().__init__(process, self.mean.shape, prediction)
        if self.covariance.shape != (dim, dim):
            raise ValueError(
                f"covariance must have shape {(dim, dim)} for a mean of shape {tuple(self.shape)}, "
                f"got {tuple(self.covariance.shape)}"
            )
        asymmetry = float((self.covariance - self.covariance.T).abs().max())
        if asymmetry > 1e-10 * float(self.covariance.abs().max()):
            raise ValueError(f"covariance is not symmetric (differs from its transpose by {asymmetry:g})")
        variances, self._axes = torch.linalg.eigh(self.covariance)
        if variances[0] < -1e-10 * variances[-1].abs():
            raise ValueError(f"covariance is not positive semi-definite (smallest eigenvalue {float(variances[0]):g})")
        self._variances = variances.clamp(min=0)

    def marginal(self, t: float) -> tuple[Tensor, Tensor]:
        """Mean, in the shape of a state, and covariance (dim, dim) of p_t, in float64: α m and α² C + σ² I."""
        alpha, sigma = self.process.alpha(t), self.process.sigma(t)
        unit = torch.eye(len(self.covariance), dtype=torch.float64, device=self.covariance.device)
        return alpha * self.mean, alpha**2 * self.covariance + sigma**2 * unit

    def solution(self, x: Tensor, t: float | Tensor, s: float | Tensor) -> Tensor:
        """Where the probability-flow ODE takes the states x from time t to time s; shape and dtype of x.

        Along an eigenvector of C with eigenvalue c the distance to the mean grows like the standard deviation:
        z_s = z_t √((α_s² c + σ_s²)/(α_t² c + σ_t²)). Times are floats or of shape (batch,), s before or after t.
        """
        flat, alpha_t, sigma_t = self._flat(x, t)
        _, alpha_s, sigma_s = self._flat(x, s)
        variances = self._variances.to(x.device)
        before, after = (a**2 * variances + b**2 for a, b in ((alpha_t, sigma_t), (alpha_s, sigma_s)))
        ratio = (after / before.clamp(min=TINY)).sqrt()
        return self._stretch(flat, alpha_t, ratio, alpha_s).reshape(x.shape)

    def _mean(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        variances = self._variances.to(x.device)
        gain = alpha * variances / (alpha**2 * variances + sigma**2).clamp(min=TINY)
        return self._stretch(x, alpha, gain, torch.ones_like(alpha))

    def _stretch(self, x: Tensor, before: Tensor, gain: Tensor, after: Tensor) -> Tensor:
        """after·m + Q diag(gain) Qᵀ (x − before·m), with Q the eigenvectors of C."""
        mean, axes = self.mean.flatten().to(x), self._axes.to(x)
        return after.to(x.dtype) * mean + (gain.to(x.dtype) * ((x - before.to(x.dtype) * mean) @ axes)) @ axes.T
