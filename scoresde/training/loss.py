"""Denoising: what a network is shown and asked for, and how far it is off, on any process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from scoresde import preconditioning
from scoresde.process import Process
from scoresde.score import ScoreModel, TimeMap, expand
from scoresde.training import objectives
from scoresde.training.objectives import PRECONDITIONED, Objective
from solvers import prediction as predictions
from solvers.arrays import has_float64, wide

Net = Callable[..., Tensor]
TIME_SCALE = 1000.0  # networks know times from 0 to 1000 by their sinusoids; EDM's ¼ log σ is stretched to that
QUIETEST, NOISIEST, LEVELS = 1e-3, 100.0, 8  # σ/α of the first and the last level that a loss is told at, how many


def loss(
    net: Net,
    process: Process,
    prediction: str,
    x0: Tensor,
    generator: torch.Generator,
    time_input: TimeMap | None = None,
    **cond: Tensor,
) -> Tensor:
    """Mean over the batch of ‖net(α x0 + σ ε, t) − target‖²/dim, t uniform on [t_min, t_max], ε standard normal.

    The target is the true value of the prediction type: r x0 + s ε. Times are stratified: one in each of ``len(x0)``
    equal parts of the interval, in random order, each uniform by itself.

    Source: Ho et al. 2020, Algorithm 1 and eq. 14 (ε); the other types as in Salimans & Ho 2022, app. D.
    """
    return Task(process, prediction, time_input).loss(net, x0, generator, **cond)


@dataclass(frozen=True)
class Task:
    """What a network is trained for: an objective on a process, and what the network returns.

    Attributes:
        process: one that :meth:`scoresde.training.objectives.Objective.adapted` gave.
        prediction: a prediction type, or ``edm``: the network is inside EDM's preconditioning.
        time_input: what the network is fed of process time, as in :class:`scoresde.ScoreModel`; not used by ``edm``.
        objective: density and weight.
        sigma_data: of the data, where the objective or ``edm`` needs it.

    Raises:
        ValueError: unknown prediction (the nearest is given), one that says nothing where the objective asks it, or
            ``sigma_data`` is needed and not given.
    """

    process: Process
    prediction: str
    time_input: TimeMap | None = None
    objective: Objective = field(default_factory=objectives.ddpm)
    sigma_data: float | None = None

    def __post_init__(self) -> None:
        objectives.check(self.prediction)
        self.objective.check(self.process, self.prediction)
        if self.sigma_data is None and needs_data(self.objective, self.prediction):
            raise ValueError("this objective needs sigma_data, the standard deviation of the data")

    @property
    def preconditioning(self) -> dict[str, Any] | None:
        """What surrounds the network, as :func:`scoresde.preconditioning.described` has it; None for nothing."""
        if self.prediction != PRECONDITIONED:
            return None
        return {"name": "edm", "sigma_data": self.sigma_data, "time_scale": TIME_SCALE}

    @property
    def stored(self) -> str:
        """The prediction type of network and preconditioning together."""
        return "sample" if self.prediction == PRECONDITIONED else self.prediction

    @property
    def maps(self) -> dict[str, Any]:
        """Time and scales around the network, as arguments of :class:`scoresde.ScoreModel`."""
        if (described := self.preconditioning) is not None:
            return preconditioning.described(described, self.process)
        return {"time_input": self.time_input}

    def model(self, net: Net) -> ScoreModel:
        """The network as a score model."""
        return ScoreModel(net, self.process, self.stored, **self.maps)

    def loss(self, net: Net, x0: Tensor, generator: torch.Generator, **cond: Tensor) -> Tensor:
        """Mean over the batch of w ‖D − x0‖²/dim, at stratified shares of the density and standard normal ε.

        Args:
            net: called as ``net(x, t, **cond)``.
            x0: data, shape (batch, …).
            generator: on the device of x0; draws times first, then ε.
            cond: what else the network is given.
        """
        return self.at(net, x0, *self.draw(x0, generator), **cond)

    def draw(self, x0: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noise of the shape of x0 and times, shape (batch,), float64, for a loss of the whole batch."""
        batch = len(x0)
        device = x0.device
        order = torch.randperm(batch, generator=generator, device=device).to(wide(device))
        kind = torch.float64 if has_float64(device) else torch.float32
        within = torch.rand(batch, generator=generator, device=device, dtype=kind).to(wide(device)).double()
        t = self.objective.density.times((order + within) / batch, self.process)
        return torch.randn(x0.shape, generator=generator, device=device, dtype=x0.dtype), t

    def at(self, net: Net, x0: Tensor, epsilon: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        """Mean over these images of w ‖D − x0‖²/dim, with the noise and at the times that :meth:`draw` gave for them.

        Args:
            net: called as ``net(x, t, **cond)``.
            x0, epsilon: data and noise, shape (batch, …).
            t: times, shape (batch,), float64.
            cond: what else the network is given.
        """
        squared = self.squared(net, x0, epsilon, t, **cond)
        factor = self.factor(t)
        return squared.mean() if factor is None else (squared * expand(factor, x0)).mean()

    def squared(self, net: Net, x0: Tensor, epsilon: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        """Squared error of what the network returns for α x0 + σ ε, shape and dtype of x0.

        Args:
            net: called as ``net(x, t, **cond)``.
            x0, epsilon: data and noise, shape (batch, …).
            t: times, shape (batch,), float64.
            cond: what else the network is given.
        """
        alpha, sigma, maps = self.process.alpha(t), self.process.sigma(t), self.maps
        x = expand(alpha, x0) * x0 + expand(sigma, x0) * epsilon
        if self.prediction == PRECONDITIONED:
            skip, scale = maps["skip"](t), maps["output_scale"](t)
            r, s = (1 - skip * alpha) / scale, -skip * sigma / scale
            x = x * expand(maps["input_scale"](t), x)
        else:
            # a x + b ε as a combination of x0 and ε, in which nothing cancels when α is small.
            a, b = predictions.convert("epsilon", self.prediction, alpha, sigma)
            r, s = a * alpha, a * sigma + b
        target = expand(r, x0) * x0 + expand(s, x0) * epsilon
        fed = t if maps["time_input"] is None else maps["time_input"](t)
        out = net(x, (fed.to(torch.float32) if fed.is_floating_point() else fed).to(x0.device), **cond)
        return (out.to(x0.dtype) - target).square()

    def output_scale(self, t: Tensor) -> Tensor:
        """b with x0 = a x + b output: by its square the denoiser's squared error is the larger one, shape (batch,)."""
        if self.prediction == PRECONDITIONED:
            return self.maps["output_scale"](t)
        _, b = predictions.convert(self.prediction, "sample", self.process.alpha(t), self.process.sigma(t))
        return b * torch.ones_like(t)

    def factor(self, t: Tensor) -> Tensor | None:
        """How much the squared error of what the network returns counts, w b², shape (batch,); None for 1."""
        if self.objective.weight is None:
            return None
        weight = self.objective.weight(self.process.half_log_snr(t), self.sigma_data or 1.0)
        return weight * self.output_scale(t) ** 2

    def times(self) -> Tensor:
        """Times at which a loss is told by noise level: evenly spaced in log(σ/α), as far as a network is needed."""
        low, high = (self.process.half_log_snr(t) for t in (self.process.t_max, self.process.t_min))
        ends = torch.tensor([QUIETEST, NOISIEST], dtype=torch.float64).log().neg().clamp(low, high)
        levels = torch.linspace(float(ends[0]), float(ends[1]), LEVELS, dtype=torch.float64)
        return self.process.time(levels).clamp(self.process.t_min, self.process.t_max)


def needs_data(objective: Objective, prediction: str) -> bool:
    """Whether σ_data is part of an objective, or of what surrounds the network."""
    return objective.needs_data or prediction == PRECONDITIONED
