"""Predictor–corrector sampling with Langevin steps of a size that each sample's norms set."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from solvers import catalogue, signature
from solvers.base import Hook, Noise, PlannedSolver, Predict, Solver
from solvers.catalogue import registered
from solvers.coefficients import exponential, frames
from solvers.signature import Draw, Solution, State, Steps
from solvers.steps import Process, Times


@registered
class LangevinPC(Solver):
    """A first-order step of the reverse SDE to s, then Langevin steps x ← x + δ ∇log p_s(x) + √(2δ) ξ at s.

    δ = 2 (α_t/α_s)² (snr |ξ|/|∇log p_s(x)|)² with Euclidean norms over each sample, so that samples do not depend on
    the batch (the paper's code takes the mean of each norm over the batch). (α_t/α_s)² is the paper's α: 1 on EDM and
    VE, and 1 − β_i on the chain of DDPM. Norms are not linear in the state, so that this is no plan; it is on a grid,
    and its evaluations are known beforehand. Langevin steps do not become shorter on longer grids, and what they leave,
    an error of relative size snr² in many dimensions and more in few, where the ratio of norms varies, does not vanish
    either: ``predictor_corrector`` is the method that converges.

    Args:
        snr: signal-to-noise ratio r of the Langevin steps.
        corrections: how many Langevin steps there are at each level, at least 1.
        eta: amplitude of the predictor's noise, at least 0; 1 is the reverse SDE.

    Use:
        Where the published predictor–corrector sampler must be met, at hundreds of evaluations.

    Raises:
        ValueError: an option out of range.
    """

    name = "langevin_pc"
    reference = "Song et al. 2021, Score-based generative modeling through SDEs, Algorithms 2 to 5 and app. G"
    stochastic = True
    order = None
    weak_order = None
    grid = "quadratic"
    family = "langevin"

    def __init__(self, snr: float = 0.16, corrections: int = 1, eta: float = 1.0):
        if not 0 < snr < math.inf:
            raise ValueError(f"langevin_pc needs a positive snr, got {snr}")
        if corrections not in range(1, 1001):
            raise ValueError(f"langevin_pc needs 1 to 1000 corrections, got {corrections}")
        frames.reverse(eta)
        self.options = {"snr": snr, "corrections": corrections, "eta": eta}

    def nfe(self, process: Process, times: Times) -> int:
        return catalogue.get("predictor_corrector", corrections=self.options["corrections"]).nfe(process, times)

    def run(
        self,
        process: Process,
        times: Times,
        predict: Predict,
        x: Tensor,
        noise: Noise | None = None,
        *,
        prediction: str = "epsilon",
        step: Hook | None = None,
    ) -> Tensor:
        told: dict[str, Any] = {key: getattr(self, key) for key in ("name", "reference", "order", "grid", "family")}
        on_tensors = PlannedSolver(_steps, self.options, weak_order=1, to_clean=False, **told)
        return on_tensors.run(process, times, predict, x, noise, prediction=prediction, step=step)


def _steps(
    steps: Steps, x: State, predict: signature.Predict, noise: Draw, snr: float, corrections: int, eta: float
) -> Solution:
    frame = frames.reverse(eta)
    for t, s in steps:
        x = exponential.single(frame, x, t, s, predict, noise)
        for _ in range(corrections):
            score, xi = predict(x, s).score, noise()
            size = 2 * (snr * t.alpha / s.alpha * _norm(xi) / _norm(score)) ** 2
            x = x + size * score + (2 * size).sqrt() * xi
        x = yield x


def _norm(x: Tensor) -> Tensor:
    """Euclidean norm of each sample, with as many dimensions as x."""
    return x.reshape(len(x), -1).norm(dim=1).reshape(-1, *[1] * (x.ndim - 1))
