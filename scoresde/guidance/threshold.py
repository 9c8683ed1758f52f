"""Dynamic thresholding."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from scoresde.guidance.guided import Guided, known, per_sample
from scoresde.score import ScoreModel


class DynamicThreshold(Guided):
    """x0 clipped to [−s, s] and divided by s, with s the percentile of |x0| over each sample, at least 1.

    For data in [−1, 1], which large guidance scales leave. A sample with less than 1 − percentile outside is only
    clipped.

    Source: Saharia et al. 2022, Photorealistic text-to-image diffusion models with deep language understanding, section
    2.3.

    Args:
        model: any model, guided or not.
        percentile: from 0, which clips to [−1, 1], to 1, which divides by the largest element.

    Raises:
        ValueError: the percentile is out of [0, 1].
    """

    name = "dynamic_threshold"

    def __init__(self, model: ScoreModel, *, percentile: float = 0.995):
        if not 0 <= percentile <= 1:
            raise ValueError(f"dynamic_threshold needs a percentile from 0 to 1, got {percentile}")
        super().__init__(model, percentile=float(percentile))
        self.percentile = float(percentile)

    def outputs(self, x: Tensor, t: float | Tensor, **cond: Any) -> dict[str, Tensor]:
        """Those of the model inside, with ``"model"`` thresholded."""
        own = known(self.model.outputs(x, t, **cond))
        return {**own, "model": self._edited("sample", own["model"], x, t, self._clipped)}

    def _clipped(self, x0: Tensor) -> Tensor:
        bound = per_sample(x0, quantile(x0.abs().flatten(1), self.percentile).clamp(min=1))
        return x0.clamp(-bound, bound) / bound


def quantile(values: Tensor, share: float) -> Tensor:
    """The quantile of each row, (rows,), linear between elements; torch.quantile's own, which stops at 2²⁴ elements."""
    position = share * (values.shape[1] - 1)
    below = math.floor(position)
    largest = values.topk(values.shape[1] - below, dim=1).values
    return largest[:, -1].lerp(largest[:, max(-2, -largest.shape[1])], position - below)
