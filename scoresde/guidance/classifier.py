"""Classifier guidance."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from scoresde.conditions import replaced
from scoresde.energy import Energy
from scoresde.guidance.guided import known
from scoresde.guidance.interval import OnInterval, Scale
from scoresde.score import ScoreModel

LogProb = Callable[..., Tensor]


class ClassifierGuidance(OnInterval):
    """∇log p_t(x) + scale ∇log p(c | x_t), by Bayes the score of p_t(x) p(c | x_t)^scale: ε − scale σ ∇log p(c | x_t).

    The gradient is taken by automatic differentiation, under ``no_grad`` too. With the unconditional model, the exact
    classifier of noisy data and scale 1 it is the conditional score.

    Source: Dhariwal & Nichol 2021, Diffusion models beat GANs on image synthesis, Algorithm 2.

    Args:
        model: the model to guide, without the condition or with it.
        classifier: called as ``classifier(x, t, **cond)`` with noisy states (batch, …) and process times (batch,);
            returns log p(c | x_t), of shape (batch,).
        unconditional: what takes the place of the condition before the model, as for :class:`ClassifierFree`; None
            gives the model the condition too.
        scale: of the gradient; 0 is no guidance; a pair is a range, and each sample's own the condition
            ``guidance_scale``.
        low, high: guided where low < σ/α ≤ high.

    Raises:
        ValueError: an option out of range; in a call, a time with α = 0, where log p(c | x_t) says nothing about x0.
        TypeError: the classifier is not callable.
    """

    name = "classifier"

    def __init__(
        self,
        model: ScoreModel,
        classifier: LogProb,
        unconditional: Mapping[str, Any] | None = None,
        *,
        scale: Scale = 1.0,
        low: float = 0.0,
        high: float = math.inf,
    ):
        super().__init__(model, scale, low, high)
        if not callable(classifier):
            raise TypeError(f"classifier must be callable as classifier(x, t, **cond), got {type(classifier).__name__}")
        self.unconditional, self.classifier = unconditional, classifier
        self.push: ScoreModel = Energy(self.process, _Negative(classifier))

    def _guided(self, x: Tensor, t: float | Tensor, cond: dict[str, Any], scale: float | Tensor) -> dict[str, Tensor]:
        if not isinstance(t, Tensor) and self.process.alpha(t) == 0:
            raise ValueError(f"a classifier cannot guide at t = {t:g}, where α = 0; guide below with high=")
        own = self._plain(x, t, cond)
        _, b = self._conversion("epsilon", self.prediction, x, t)
        return {**own, "model": own["model"] + scale * b * self.push.epsilon(x, t, **cond)}

    def _plain(self, x: Tensor, t: float | Tensor, cond: dict[str, Any]) -> dict[str, Tensor]:
        given = cond if self.unconditional is None else replaced(cond, self.unconditional)
        return known(self.model.outputs(x, t, **given))

    def _more_calls(self, t: float | Tensor) -> int | Tensor:
        return self.push.network_calls(t)


class _Negative:
    """−log p(c | x_t), an energy."""

    def __init__(self, classifier: LogProb):
        self.classifier = classifier

    def __call__(self, x: Tensor, t: Tensor, /, **cond: Any) -> Tensor:
        return -self.classifier(x, t, **cond)
