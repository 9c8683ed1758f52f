"""Data points, each with a kernel: what a network that has learnt its data by heart returns."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from scoresde.exact.posterior import CHUNK, TINY, Labelled, chunked
from scoresde.process import Process


class DataPoints(Labelled):
    """Data drawn from n points with equal chances, each spread by N(0, h² I): a kernel density estimate.

    E[x0 | x] = (α h² x + σ² Σ_i ρ_i x_i)/c with c = α² h² + σ² and ρ = softmax(−‖x − α x_i‖²/2c). Points are kept in
    their own dtype; distances are taken in float64, where the matrix product they need does not spoil them at small σ.
    Memory is bounded whatever n and batch are.
    Called with x of shape (batch, *state) and optionally ``label``, one class per state (−1: all).

    Args:
        process: the forward process.
        points: x_i, floating-point, of shape (n, *state).
        labels: classes of the points, of shape (n,), integers ≥ 0, or None.
        bandwidth: h ≥ 0, the standard deviation of the kernel.
        prediction: what the model returns, see :class:`ScoreModel`.

    Raises:
        ValueError: points that are no floating-point batch of states or not finite, labels that do not number them,
            a negative h.
    """

    def __init__(
        self,
        process: Process,
        points: Any,
        labels: Any = None,
        bandwidth: float = 0.0,
        *,
        prediction: str = "sample",
    ):
        self.points = torch.as_tensor(points).detach()
        if not self.points.is_floating_point() or self.points.ndim < 2 or not len(self.points):
            raise ValueError(
                f"points must be floating-point of shape (n, *state), got {self.points.dtype} of shape "
                f"{tuple(self.points.shape)}; scoresde.data.to_state makes states of pixels"
            )
        if not self.points.isfinite().all():
            raise ValueError("points must be finite")
        if not 0 <= bandwidth < math.inf:
            raise ValueError(f"bandwidth must be ≥ 0 and finite, got {bandwidth}")
        super().__init__(process, self.points.shape[1:], prediction, labels, self.points)
        self.bandwidth = float(bandwidth)

    def _mean(self, x: Tensor, alpha: Tensor, sigma: Tensor, label: int | Tensor | None = None) -> Tensor:
        return chunked(self._average, len(self.points), x, alpha, sigma, self._asked(label, x))

    def _average(self, x: Tensor, alpha: Tensor, sigma: Tensor, asked: Tensor) -> Tensor:
        blocks = self.points.flatten(1).to(x.device).split(max(1, CHUNK // x.shape[1]))
        variance = (alpha**2 * self.bandwidth**2 + sigma**2).clamp(min=TINY)
        closeness = []  # α x·x_i − ½ α² ‖x_i‖², which is −½ ‖x − α x_i‖² but for a constant
        for block in blocks:
            wide = block.double()
            closeness.append(alpha * (x.double() @ wide.T) - 0.5 * alpha**2 * wide.square().sum(1))
        logits = (torch.cat(closeness, 1) / variance).where(self._admitted(asked), -math.inf)
        rho = logits.softmax(1).to(x.dtype).split(len(blocks[0]), 1)
        mean = torch.stack([part @ block.to(x.dtype) for part, block in zip(rho, blocks, strict=True)]).sum(0)
        kept = (alpha * self.bandwidth**2 / variance).to(x.dtype)
        return kept * x + (sigma**2 / variance).to(x.dtype) * mean if self.bandwidth else mean
