"""A mixture of Gaussians of low rank plus isotropic covariance."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from scoresde.exact.posterior import TINY, Labelled, chunked, finite
from scoresde.process import Process


class GaussianMixture(Labelled):
    """Data Σ_k w_k N(m_k, s_k² I + F_k F_kᵀ) with low-rank factors F_k, which serves image dimensions.

    With F_k = U S Vᵀ, a component of p_t has variance c_k = α² s_k² + σ² across the columns of U and c_k + α² S² along
    them, so no (dim, dim) matrix is ever formed. E[x0 | x] = Σ_k ρ_k E_k[x0 | x] with responsibilities
    ρ_k ∝ w_k N(x; α m_k, …). Called with x of shape (batch, *state) and optionally ``label``, one class per state
    (−1: all), which gives the model of the components of that class.

    Args:
        process: the forward process.
        weights: w, positive, of shape (K,); they need not sum to one.
        means: m, of shape (K, *state).
        variances: s², of shape (K,), zero allowed.
        factors: F, of shape (K, dim, rank), or None.
        labels: classes of the components, of shape (K,), integers ≥ 0, or None.
        prediction: what the model returns, see :class:`ScoreModel`.

    Raises:
        ValueError: shapes that disagree, weights that are not positive, negative variances, parameters that are not
            finite.
    """

    def __init__(
        self,
        process: Process,
        weights: Any,
        means: Any,
        variances: Any,
        factors: Any = None,
        *,
        labels: Any = None,
        prediction: str = "sample",
    ):
        self.weights, self.means = finite("weights", weights), finite("means", means)
        self.variances = finite("variances", variances)
        if self.means.ndim < 2 or not len(self.means):
            raise ValueError(f"means must have shape (components, *state), got {tuple(self.means.shape)}")
        super().__init__(process, self.means.shape[1:], prediction, labels, self.means)
        count, dim = len(self.means), self.shape.numel()
        for name, values in (("weights", self.weights), ("variances", self.variances)):
            if values.shape != (count,):
                raise ValueError(f"{name} must have shape ({count},), one per mean, got {tuple(values.shape)}")
        if not (self.weights > 0).all():
            raise ValueError(f"weights must be positive, got {float(self.weights.min()):g}")
        if not (self.variances >= 0).all():
            raise ValueError(f"variances must not be negative, got {float(self.variances.min()):g}")
        self.weights = self.weights / self.weights.sum()
        lifts = self.means.new_zeros(count, dim, 0) if factors is None else finite("factors", factors)
        if lifts.ndim != 3 or lifts.shape[:2] != (count, dim):
            raise ValueError(f"factors must have shape ({count}, {dim}, rank), got {tuple(lifts.shape)}")
        self._axes, spreads, _ = torch.linalg.svd(lifts, full_matrices=False)  # (K, dim, r), (K, r)
        self._spreads = spreads**2
        self._width = max(self.means.numel(), self._axes.numel())  # of the largest intermediate, for each state

    def log_prob(self, x: Tensor, t: float | Tensor, label: int | Tensor | None = None) -> Tensor:
        """log p_t(x), of shape (batch,); with ``label``, log p_t(x | label)."""
        asked = self._asked(label, x)
        prior = self.weights.log().to(x).where(self._admitted(asked), -math.inf).logsumexp(1)
        flat, alpha, sigma = self._flat(x, t)

        def log_density(x: Tensor, alpha: Tensor, sigma: Tensor, asked: Tensor) -> Tensor:
            return self._components(x, alpha, sigma, asked)[0].logsumexp(1)

        return chunked(log_density, self._width, flat, alpha, sigma, asked) - prior

    def sample(self, n: int, generator: torch.Generator, t: float | None = None) -> Tensor:
        """n exact draws from p_t, of the data if t is None: float64 (n, *state) on the generator's device."""
        time = self.process.t_clean if t is None else t
        alpha, sigma, device = self.process.alpha(time), self.process.sigma(time), generator.device
        weights, means, variances, axes, spreads = (
            value.to(device) for value in (self.weights, self.means, self.variances, self._axes, self._spreads)
        )
        chosen = torch.multinomial(weights, n, replacement=True, generator=generator)
        white = torch.randn(n, self.shape.numel(), generator=generator, device=device, dtype=torch.float64)
        inner = torch.randn(n, axes.shape[2], generator=generator, device=device, dtype=torch.float64)
        scale = (alpha**2 * variances + sigma**2).sqrt()
        x = alpha * means.flatten(1)[chosen] + scale[chosen, None] * white
        for k in chosen.unique().tolist():
            rows = chosen == k
            x[rows] += alpha * (inner[rows] * spreads[k].sqrt()) @ axes[k].T
        return x.reshape(n, *self.shape)

    def _mean(self, x: Tensor, alpha: Tensor, sigma: Tensor, label: int | Tensor | None = None) -> Tensor:
        return chunked(self._mix, self._width, x, alpha, sigma, self._asked(label, x))

    def _mix(self, x: Tensor, alpha: Tensor, sigma: Tensor, asked: Tensor) -> Tensor:
        logits, outside, inside, across, along = self._components(x, alpha, sigma, asked)
        variances, spreads = self.variances.to(x.device), self._spreads.to(x.device)
        gain_across = (alpha * variances / across).to(x.dtype)
        gain_along = (alpha[..., None] * (variances[:, None] + spreads) / along).to(x.dtype)
        rho = logits.softmax(1)
        lifted = torch.einsum("bkr,kdr->bd", rho[..., None] * gain_along * inside, self._axes.to(x))
        return rho @ self.means.flatten(1).to(x) + torch.einsum("bk,bkd->bd", rho * gain_across, outside) + lifted

    def _components(
        self, x: Tensor, alpha: Tensor, sigma: Tensor, asked: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """log w_k N_k(x), (batch, K), with what it is made of.

        The residual x − α m_k outside (batch, K, dim) and inside (batch, K, r) the columns of U, and the variances
        across (batch, K) and along (batch, K, r) them. |outside|² is summed as it is: |x − α m|² − |inside|² cancels.
        """
        axes, dim = self._axes.to(x), x.shape[1]
        across = (alpha**2 * self.variances.to(x.device) + sigma**2).clamp(min=TINY)
        along = across[..., None] + alpha[..., None] ** 2 * self._spreads.to(x.device)
        outside = x[:, None] - alpha[..., None].to(x.dtype) * self.means.flatten(1).to(x)
        # Not a matrix product: into r ≪ dim columns those round a row by its place in the batch.
        inside = (outside[:, :, None] * axes.mT).sum(3)
        outside = outside - torch.einsum("bkr,kdr->bkd", inside, axes)
        distance = outside.square().sum(2) / across.to(x.dtype) + (inside**2 / along.to(x.dtype)).sum(2)
        log_det = (dim - axes.shape[2]) * across.log() + along.log().sum(2) + dim * math.log(2 * math.pi)
        logits = (self.weights.to(x.device).log() - 0.5 * log_det).to(x.dtype) - 0.5 * distance
        return logits.where(self._admitted(asked), -math.inf), outside, inside, across, along
