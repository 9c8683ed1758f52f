"""What training asks of a network: how often each noise level is shown, how much it counts, what the network returns.

An :class:`Objective` is a density of λ = log(α/σ), half the log-SNR, and a weight; with a prediction type, which is
what the network returns, it is a loss. Its expectation is, on every process,

    E_λ~p E_x0,ε  w(λ) ‖D(α x0 + σ ε, λ) − x0‖²/dim,

where D is the denoiser that the network is seen as. Densities and weights are functions of the noise level σ̃ = σ/α =
e^{−λ} of x/α = x0 + σ̃ ε alone, which is what every process has in common; weights may know σ_data, the standard
deviation of the data. So any density, weight and prediction go together, and no process is left out.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scoresde.data import Images
from scoresde.process import Process, VPDiscrete, variances, zero_terminal_snr
from solvers import prediction as predictions
from solvers.errors import known
from solvers.registry import Registry

DEFAULT = "ddpm"
PRECONDITIONED = "edm"  # what a network returns inside EDM's preconditioning, beside the prediction types
TRAINED = (*predictions.TYPES, PRECONDITIONED)
STEPS = 1000  # of the chain that a continuous process becomes, to end at zero SNR
LEAST = 1e-3  # share of a density that must lie within the levels of a process
EDGE = 1e-12  # shares this near to 0 or 1 are brought there, where quantiles are finite
CHUNK = 2**24  # pixels that are counted at once


class Density(ABC):
    """How often training shows each noise level, as a density of λ between λ(t_max) and λ(t_min) of a process."""

    @abstractmethod
    def of_level(self, level: Tensor, process: Process) -> Tensor:
        """p(λ) for λ of any shape within the levels of the process, float64; integrates to 1 over dλ."""

    @abstractmethod
    def times(self, share: Tensor, process: Process) -> Tensor:
        """The times at these shares of the distribution, in [0, 1) and of any shape: uniform shares have this density.

        Raises:
            ValueError: almost nothing of it lies within the levels of the process.
        """

    def of_time(self, t: Tensor, process: Process) -> Tensor:
        """p(t) = p(λ(t)) |dλ/dt|, integrates to 1 over dt."""
        return self.of_level(process.half_log_snr(t), process) * slope(process, t)


def slope(process: Process, t: Tensor) -> Tensor:
    """|dλ/dt| = g²/(2σ²), the Jacobian between densities of λ and of t."""
    return process.diffusion(t) / (2 * process.sigma(t) ** 2)


@dataclass(frozen=True)
class UniformTimes(Density):
    """p(t) = 1/(t_max − t_min), so p(λ) = 1/((t_max − t_min) |dλ/dt|).

    Source: Ho et al. 2020, Denoising diffusion probabilistic models, Algorithm 1; Song et al. 2021, eq. 7.
    """

    def of_level(self, level: Tensor, process: Process) -> Tensor:
        return 1 / ((process.t_max - process.t_min) * slope(process, process.time(level)))

    def times(self, share: Tensor, process: Process) -> Tensor:
        return process.t_min + (process.t_max - process.t_min) * share


@dataclass(frozen=True)
class NormalLogLevels(Density):
    """log σ̃ ~ N(mean, std²), cut off at the ends of the process: p(λ) ∝ exp(−(λ + mean)²/(2 std²)).

    Two papers' densities are this one: EDM's log-normal σ, and the logit-normal times of rectified flow, whose process
    has logit t = log(t/(1 − t)) = log σ̃.

    Source: Karras et al. 2022, table 1; Esser et al. 2024, Scaling rectified flow transformers, sec. 3.1, eq. 19.

    Args:
        mean: of log σ̃.
        std: of log σ̃.

    Raises:
        ValueError: ``mean`` is not finite, or ``std`` no positive number.
    """

    mean: float
    std: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.mean) or not 0 < self.std < math.inf:
            raise ValueError(f"levels need a finite mean and a positive std, got {self.mean} and {self.std}")

    def of_level(self, level: Tensor, process: Process) -> Tensor:
        low, high = self._ends(process)
        exponent = -0.5 * ((level + self.mean) / self.std) ** 2
        return exponent.exp() / (self.std * math.sqrt(2 * math.pi) * (high - low))

    def times(self, share: Tensor, process: Process) -> Tensor:
        low, high = self._ends(process)
        inside = (low + (high - low) * share).clamp(EDGE, 1 - EDGE)
        level = self.std * torch.special.ndtri(inside) - self.mean
        return process.time(level).clamp(process.t_min, process.t_max)

    def _ends(self, process: Process) -> tuple[float, float]:
        """Shares of the whole distribution of λ that lie below the ends of the process."""
        low, high = (
            0.5 * math.erfc(-(process.half_log_snr(t) + self.mean) / (self.std * math.sqrt(2)))
            for t in (process.t_max, process.t_min)
        )
        if not high - low > LEAST:
            raise ValueError(
                f"noise levels with log(σ/α) of mean {self.mean:g} and deviation {self.std:g} are hardly any that "
                f"{process!r} has"
            )
        return low, high


class Weight(ABC):
    """How much the squared error of the denoiser counts at each noise level."""

    needs_data = False

    @abstractmethod
    def __call__(self, level: Tensor, sigma_data: float) -> Tensor:
        """w(λ), float64, of the shape of ``level``; ``sigma_data`` is 1 where ``needs_data`` is False."""


@dataclass(frozen=True)
class OfPrediction(Weight):
    """1 on the squared error of a prediction type of x/α: w = 1/b², where x0 = a x/α + b prediction.

    That is e^{2λ} = SNR for ε, 1 + SNR for v, (1 + e^λ)² for flow, and 1 for x0.

    Source: Salimans & Ho 2022, Progressive distillation, sec. 4 (ε, x0, v); Lipman et al. 2023, eq. 23 (flow).

    Args:
        prediction: the type.
    """

    prediction: str

    def __call__(self, level: Tensor, sigma_data: float) -> Tensor:
        _, b = predictions.convert(self.prediction, "sample", torch.ones_like(level), (-level).exp())
        return 1 / (b * torch.ones_like(level)) ** 2


@dataclass(frozen=True)
class EDMWeight(Weight):
    """w = (σ̃² + d²)/(σ̃ d)² with d = σ_data: 1 on the squared error of what a preconditioned network returns.

    Source: Karras et al. 2022, table 1 and app. B.6.
    """

    needs_data = True

    def __call__(self, level: Tensor, sigma_data: float) -> Tensor:
        return (2 * level).exp() + sigma_data**-2


@dataclass(frozen=True)
class MinSNR(Weight):
    """w = min(SNR, γ) with SNR = α²/σ² = e^{2λ}, which is min(SNR, γ)/SNR on ε and min(SNR, γ)/(SNR + 1) on v.

    Source: Hang et al. 2023, Efficient diffusion training via min-SNR weighting strategy.

    Args:
        gamma: γ.

    Raises:
        ValueError: it is no positive number.
    """

    gamma: float

    def __post_init__(self) -> None:
        if not 0 < self.gamma < math.inf:
            raise ValueError(f"gamma must be a positive number, got {self.gamma}")

    def __call__(self, level: Tensor, sigma_data: float) -> Tensor:
        return (2 * level).exp().clamp_max(self.gamma)


@dataclass(frozen=True)
class Objective:
    """What training asks of a network.

    Attributes:
        density: of λ.
        weight: of the denoiser's squared error; None is 1 on the squared error of whatever the network returns.
        prediction: what the network returns, where nobody says: a prediction type, or ``edm`` inside EDM's
            preconditioning.
        terminal: whether the process must end at zero SNR, α = 0.
        described: its name and options, which tell it from others; empty for one of your own.

    Raises:
        ValueError: unknown prediction (the nearest is given).
    """

    density: Density = field(default_factory=UniformTimes)
    weight: Weight | None = None
    prediction: str = "epsilon"
    terminal: bool = False
    described: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check(self.prediction)

    @property
    def needs_data(self) -> bool:
        """Whether the weight knows σ_data."""
        return self.weight is not None and self.weight.needs_data

    def adapted(self, process: Process) -> Process:
        """The process that is trained on: the given one, or with ``terminal`` that with zero SNR at its end.

        Raises:
            ValueError: the process cannot end there.
        """
        return terminal(process) if self.terminal else process

    def check(self, process: Process, prediction: str) -> None:
        """Refuse a prediction that says nothing where the process ends, if that end is what is trained for.

        Raises:
            ValueError: names both, and what would do.
        """
        if not self.terminal or prediction == PRECONDITIONED:
            return
        if not predictions.defined(prediction, process.alpha(process.t_max), process.sigma(process.t_max)):
            raise ValueError(
                f"at zero signal-to-noise {prediction!r} says nothing about x0: prediction=v_prediction, sample, "
                f"flow and {PRECONDITIONED} do"
            )


def check(prediction: str) -> str:
    """What a network can be trained to return: a prediction type, or ``edm``.

    Raises:
        ValueError: it is neither; the nearest name is given.
    """
    return known("prediction type", prediction, TRAINED)


def ddpm() -> Objective:
    """Uniform times, and 1 on the squared error of what the network returns.

    Source: Ho et al. 2020, Denoising diffusion probabilistic models, eq. 14.
    """
    return Objective(described={"name": DEFAULT})


def edm(P_mean: float = -1.2, P_std: float = 1.2) -> Objective:
    """EDM's log-normal noise levels and its weight, on a network inside its preconditioning.

    Source: Karras et al. 2022, Elucidating the design space of diffusion-based generative models, table 1.

    Args:
        P_mean: mean of log(σ/α).
        P_std: standard deviation of log(σ/α).
    """
    described = {"name": "edm", "P_mean": P_mean, "P_std": P_std}
    return Objective(NormalLogLevels(P_mean, P_std), EDMWeight(), PRECONDITIONED, described=described)


def flow(mean: float = 0.0, std: float = 1.0) -> Objective:
    """Rectified flow with logit-normal times, and 1 on the squared error of the velocity.

    Source: Esser et al. 2024, Scaling rectified flow transformers for high-resolution image synthesis, sec. 3.1.

    Args:
        mean: of log(t/(1 − t)) on the process flow, which is log(σ/α) on every one.
        std: standard deviation of that.
    """
    described = {"name": "flow", "mean": mean, "std": std}
    return Objective(NormalLogLevels(mean, std), OfPrediction("flow"), "flow", described=described)


def min_snr(gamma: float = 5.0) -> Objective:
    """Uniform times, and min(SNR, γ) on the squared error of x0, whatever the network returns.

    Source: Hang et al. 2023, Efficient diffusion training via min-SNR weighting strategy.

    Args:
        gamma: largest weight γ.
    """
    return Objective(weight=MinSNR(gamma), described={"name": "min_snr", "gamma": gamma})


def v_prediction() -> Objective:
    """Uniform times on a process that ends at zero SNR, and 1 on the squared error of v.

    Source: Salimans & Ho 2022, Progressive distillation, sec. 4; Lin et al. 2024, Common diffusion noise schedules and
    sample steps are flawed, sec. 3.1 and 3.2.
    """
    described = {"name": "v_prediction"}
    return Objective(weight=OfPrediction("v_prediction"), prediction="v_prediction", terminal=True, described=described)


OBJECTIVES: Registry[Objective] = Registry("objective")
for make in (ddpm, edm, flow, min_snr, v_prediction):
    OBJECTIVES.add(make.__name__, make)
get = OBJECTIVES.get


def terminal(process: Process) -> Process:
    """A process that ends at zero SNR: itself if it does, else its chain of 1000 steps with √ᾱ shifted and scaled.

    Source: Lin et al. 2024, Common diffusion noise schedules and sample steps are flawed, Algorithm 1.

    Raises:
        ValueError: it is neither variance-preserving nor ends at α = 0.
    """
    if process.alpha(process.t_max) == 0:
        return process
    times = np.linspace(process.t_min, process.t_max, STEPS)
    if isinstance(process, VPDiscrete):
        times = np.arange(len(process.betas), dtype=np.float64)
    root = process.alpha(times)
    if np.abs(root**2 + process.sigma(times) ** 2 - 1).max() > 1e-6:
        raise ValueError(
            f"{process!r} cannot end at zero signal-to-noise: that is for α² + σ² = 1 (process=vp, cosine, "
            "vp_discrete) and for flow, which does"
        )
    return VPDiscrete(variances(zero_terminal_snr(root)))


def sigma_data(images: Images) -> float:
    """Standard deviation of all pixels of all images as states in [−1, 1], about their one mean.

    Raises:
        ValueError: all pixels are alike.
    """
    counts = torch.zeros(256, dtype=torch.float64)
    for chunk in images.chunks():
        for part in chunk.flatten().split(CHUNK):
            counts += part.long().bincount(minlength=256)
    values = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    share = counts / counts.sum()
    variance = float((share * (values - (share * values).sum()) ** 2).sum())
    if not variance > 0:
        raise ValueError("all pixels of the images are alike, so that they have no σ_data to train with")
    return math.sqrt(variance)
