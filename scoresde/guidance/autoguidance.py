"""Autoguidance: a weaker version of a model as its guide."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from scoresde.guidance.guided import known
from scoresde.guidance.interval import OnInterval, Scale
from scoresde.score import ScoreModel


class Autoguidance(OnInterval):
    """F = F_weak + scale (F − F_weak): away from the errors that a smaller or less trained model makes more of.

    Both are given the same condition, if any, so that samples are pushed towards the data and not towards a class.

    Source: Karras et al. 2024, Guiding a diffusion model with a bad version of itself, eq. 3 with another D_0.

    Args:
        model: the model to guide.
        weak: a weaker model of the same data, of any process and prediction type.
        scale: 0 is the weak model, 1 the model itself, and more is guidance; a pair is a range, and each sample's own
            the condition ``guidance_scale``.
        low, high: guided where low < σ/α ≤ high.

    Raises:
        ValueError: an option out of range.
        TypeError: the weak model is not a ScoreModel.
    """

    name = "autoguidance"

    def __init__(
        self, model: ScoreModel, weak: ScoreModel, *, scale: Scale = 2.0, low: float = 0.0, high: float = math.inf
    ):
        super().__init__(model, scale, low, high)
        if not isinstance(weak, ScoreModel):
            raise TypeError(f"autoguidance needs a weaker scoresde.ScoreModel, got {type(weak).__name__}")
        self.weak = weak.on(self.process)

    def _guided(self, x: Tensor, t: float | Tensor, cond: dict[str, Any], scale: float | Tensor) -> dict[str, Tensor]:
        own = known(self.model.outputs(x, t, **cond))
        weak = self.weak._view(self.prediction, x, t, cond)
        return {**own, "model": torch.lerp(weak, own["model"], scale)}

    def _more_calls(self, t: float | Tensor) -> int | Tensor:
        return self.weak.network_calls(t)
