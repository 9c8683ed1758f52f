"""Classifier-free guidance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from scoresde.conditions import joined, replaced
from scoresde.guidance.guided import known
from scoresde.guidance.interval import OnInterval, Scale
from scoresde.score import ScoreModel


class ClassifierFree(OnInterval):
    """F = F_∅ + scale (F_c − F_∅), with the condition and without, in one network call of twice the batch.

    All prediction types are a x + b ε with equal a and b for both, so that F may be any of them. Its outputs have
    ``"unconditional"``, F_∅, which CFG++ needs; outside the interval, where nothing guides, that is F_c too.

    Source: Ho & Salimans 2022, Classifier-free diffusion guidance, eq. 6 with w = scale − 1.

    Args:
        model: a model of both, with the condition and without.
        unconditional: what takes the place of the condition: ``{"label": 10}``, or a tensor of one sample, (1, …).
        scale: 0 is without the condition, 1 with it, and more is guidance; a pair is a range, and each sample's own the
            condition ``guidance_scale``.
        low, high: guided where low < σ/α ≤ high.
        batched: False makes two calls of the batch as it is, with the memory of one.

    Raises:
        ValueError: an option out of range; in a call, a condition that is not there to be replaced.
    """

    name = "classifier_free"

    def __init__(
        self,
        model: ScoreModel,
        unconditional: Mapping[str, Any],
        *,
        scale: Scale = 2.0,
        low: float = 0.0,
        high: float = math.inf,
        batched: bool = True,
    ):
        super().__init__(model, scale, low, high)
        if not isinstance(unconditional, Mapping) or not unconditional:
            raise ValueError(f"classifier_free needs the unconditional condition as a mapping, got {unconditional!r}")
        self.unconditional, self.batched = unconditional, batched

    def _guided(self, x: Tensor, t: float | Tensor, cond: dict[str, Any], scale: float | Tensor) -> dict[str, Tensor]:
        without = replaced(cond, self.unconditional)
        if self.batched:
            times = torch.cat((t, t)) if isinstance(t, Tensor) and t.ndim else t
            both = self.model.outputs(torch.cat((x, x)), times, **joined(cond, without))
            own, free = {name: value[: len(x)] for name, value in both.items()}, both["model"][len(x) :]
        else:
            own, free = self.model.outputs(x, t, **cond), self.model.output(x, t, **without)
        guided = torch.lerp(free, own["model"], scale)
        return {**known(own), "unconditional": free, "model": guided}

    def _plain(self, x: Tensor, t: float | Tensor, cond: dict[str, Any]) -> dict[str, Tensor]:
        own = super()._plain(x, t, cond)
        return {**own, "unconditional": own["model"]}

    def _more_calls(self, t: float | Tensor) -> int | Tensor:
        return self.model.network_calls(t)
