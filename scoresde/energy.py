"""An energy function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from scoresde.process import Process
from scoresde.score import ScoreModel, as_times, expand
from solvers import prediction as predictions


class Energy(ScoreModel):
    """The model p_t(x) ∝ exp(−E(x, t)): its score is −∇_x E(x, t), by automatic differentiation.

    Works under ``no_grad`` and ``inference_mode``; with gradients on and an x that requires them, the score can itself
    be differentiated. x0, v and flow follow from a score only where α > 0.

    Args:
        process: the forward process whose p_t the energy describes.
        energy: called as ``energy(x, t, **cond)`` with x of shape (batch, …) and process time t of shape (batch,);
            returns one energy per state, of shape (batch,).
        prediction: what the model returns, see :class:`ScoreModel`.

    Raises:
        TypeError: the energy is not callable.
        ValueError: in a call, the energy returns another shape or does not depend on x.
    """

    def __init__(self, process: Process, energy: Callable[..., Tensor], *, prediction: str = "score"):
        if not callable(energy):
            raise TypeError(f"energy must be callable as energy(x, t), got {type(energy).__name__}")
        super().__init__(self._predict, process, prediction)
        self.energy = energy

    def _predict(self, x: Tensor, t: Tensor, **cond: Any) -> Tensor:
        times = as_times(t, x)
        alpha, sigma = expand(self.process.alpha(times), x), expand(self.process.sigma(times), x)
        a, b = predictions.convert("score", self.prediction, alpha, sigma)
        return a * x - b * self._gradient(x, t, cond)

    def _gradient(self, x: Tensor, t: Tensor, cond: dict[str, Any]) -> Tensor:
        twice = torch.is_grad_enabled() and x.requires_grad
        with torch.inference_mode(False), torch.enable_grad():
            # Clones, because tensors made in inference mode cannot take part in differentiation.
            leaf = x if twice else x.detach().clone().requires_grad_()
            value = self.energy(leaf, t.clone(), **cond)
            if not isinstance(value, Tensor) or value.shape != (len(x),):
                got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(f"the energy must return one number per state, shape ({len(x)},), got {got}")
            if not value.requires_grad:
                raise ValueError("the energy does not depend on x: its result has no gradient")
            (gradient,) = torch.autograd.grad(value.sum(), leaf, create_graph=twice)
        return gradient
