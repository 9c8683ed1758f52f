"""Rescaled guidance."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from scoresde.guidance.guided import Guided, known, per_sample
from scoresde.score import ScoreModel
from solvers import prediction as predictions


class Rescale(Guided):
    """F (factor std(F_unguided)/std(F) + 1 − factor): guidance that keeps contrast, with the std over each sample.

    Source: Lin et al. 2024, Common diffusion noise schedules and sample steps are flawed, eqs. 15 and 16.

    Args:
        model: a guided model.
        factor: φ of the paper; 0 does nothing, 1 keeps the std of the unguided output.
        view: whose std, a prediction type: None is the network's own output, as published, and ``sample`` is x0, which
            gives the same samples whatever the network predicts.

    Raises:
        ValueError: the factor is out of [0, 1], the view is no prediction type, or the model is not guided.
    """

    name = "rescale"

    def __init__(self, model: ScoreModel, *, factor: float = 0.7, view: str | None = None):
        if not 0 <= factor <= 1:
            raise ValueError(f"rescale needs a factor from 0 to 1, got {factor}")
        super().__init__(model, factor=float(factor), **({} if view is None else {"view": view}))
        if not model.guidance:
            raise ValueError("rescale needs a guided model, got one without guidance: give of=, or guide it before")
        self.factor, self.view = float(factor), None if view is None else predictions.check(view)

    def outputs(self, x: Tensor, t: float | Tensor, **cond: Any) -> dict[str, Tensor]:
        """Those of the model inside, with ``"model"`` rescaled."""
        own = known(self.model.outputs(x, t, **cond))
        kind = self.prediction if self.view is None else self.view
        a, b = self._conversion(self.prediction, kind, x, t)
        kept = _std(a * x + b * own["unguided"])

        def rescaled(view: Tensor) -> Tensor:
            return view * per_sample(view, self.factor * kept / _std(view) + 1 - self.factor)

        return {**own, "model": self._edited(kind, own["model"], x, t, rescaled)}


def _std(x: Tensor) -> Tensor:
    """Standard deviation over the elements of each sample, (batch,)."""
    return x.flatten(1).std(1, correction=0)
