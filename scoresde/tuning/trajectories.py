"""Trajectories of a model that plans are fitted to: starts, where the probability-flow ODE takes them, plans run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scoresde import conditions
from scoresde.noise import Noise
from scoresde.process import VPDiscrete
from scoresde.score import ScoreModel
from solvers import Plan
from solvers.coefficients.fitted import Numbers, bracket

Prefix = list[tuple[Tensor, tuple[Tensor, ...]]]
Tell = Callable[[int], object]


@dataclass(frozen=True)
class Trajectories:
    """Starts of a model and their converged ends.

    Attributes:
        model: the score model.
        noise: x(t_max)/σ(t_max), draw 0 of each seed, batch first.
        ends: the converged samples of the same starts; None as long as they are not known.
        cond: what the network is given beside state and time, one row for each start.
        batch_size: how many states one evaluation of the network takes at most.
        unit: levels of :class:`Numbers` but the first are in multiples of it.
        between: whether D between two whole times is linear between those at them: of a network that is asked at whole
            times alone (:meth:`asks_whole_times`), and says nothing of changes of a level by less than one.
        tell: called with the number of states after each evaluation.
    """

    model: ScoreModel
    noise: Tensor
    ends: Tensor | None = None
    cond: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int | None = None
    unit: float = 1.0
    between: bool = False
    tell: Tell = lambda states: None

    @classmethod
    def of(
        cls,
        model: ScoreModel,
        seeds: Sequence[int],
        shape: Sequence[int],
        *,
        cond: Mapping[str, Any] | None = None,
        batch_size: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        tell: Tell = lambda states: None,
    ) -> Trajectories:
        """The starts of these seeds, those that ``sample`` begins with; ``shape`` is that of one sample."""
        noise = Noise(list(seeds), tuple(shape), dtype, torch.device(device))()
        return cls(model, noise, None, dict(cond or {}), batch_size, tell=tell)

    def __len__(self) -> int:
        return len(self.noise)

    @property
    def first(self) -> float:
        """The noise level σ/α that they start from; infinite where α(t_max) = 0."""
        return math.exp(-self.model.process.half_log_snr(self.model.process.t_max))

    @property
    def last(self) -> float:
        """The least level that the network knows, that of t_min, in multiples of ``unit``."""
        return math.exp(-self.model.process.half_log_snr(self.model.process.t_min)) / self.unit

    @property
    def known_ends(self) -> Tensor:
        assert self.ends is not None, "the converged ends are not known yet"
        return self.ends

    def asks_whole_times(self) -> bool:
        """Whether the network is told indices of a chain's table: between two of them its output is the same."""
        model, chain = self.model, self.model.process
        if not isinstance(chain, VPDiscrete):
            return False
        few = self.part(range(min(2, len(self))))
        with torch.no_grad():
            for share in (0.25, 0.5, 0.75):
                index = math.floor(share * chain.t_max)
                # Rounded or cut, the first two are one index, and the third is the next.
                one, same, other = (model.output(few.noise, index + t, **few.cond) for t in (0.1, 0.4, 1.1))
                if not torch.equal(one, same) or torch.equal(one, other):
                    return False
        return True

    def part(self, index: Sequence[int]) -> Trajectories:
        """Those of these rows."""
        rows = list(index)
        ends = None if self.ends is None else self.ends[rows]
        cond = conditions.select(dict(self.cond), rows, self.noise.device)
        return replace(self, noise=self.noise[rows], ends=ends, cond=cond)

    def batched(self, run: Callable[[Trajectories], Tensor]) -> Tensor:
        """What a function makes of all of them, batch by batch."""
        count, size = len(self), self.batch_size or len(self)
        if size >= count:
            return run(self)
        return torch.cat([run(self.part(range(low, min(low + size, count)))) for low in range(0, count, size)])

    def predict(self, x: Tensor, t: float) -> dict[str, Tensor]:
        """The model's outputs at states of all trajectories."""
        outputs = self.model.outputs(x, t, **self.cond)
        self.tell(len(x))
        return outputs

    def planned(self, plan: Plan) -> Tensor:
        """Samples of a plan for the model's process and prediction type, from the starts."""
        sigma = self.model.process.sigma(plan.times[0])

        def run(part: Trajectories) -> Tensor:
            return plan.run(part.predict, sigma * part.noise)

        with torch.no_grad():
            return self.batched(run)

    def denoised(self, z: Tensor, level: float, offset: float = 0.0) -> Tensor:
        """E[x0 | x] for z = x/σ at a noise level, as asked for at level e^offset.

        Beyond the ends of the process, which the network does not know, it is asked at the ends.
        """
        process = self.model.process
        t = process.t_max
        if level < self.first:
            lam = -math.log(level) - offset
            lam = min(max(lam, process.half_log_snr(t)), process.half_log_snr(process.t_min))
            t = min(max(process.time(lam), process.t_min), t)
        own, sigma = replace(self, noise=z, ends=None), process.sigma(t)
        scale = sigma if level == math.inf else process.alpha(t) * level
        if not self.between or t == (below := math.floor(t)):
            return own._at(t, scale)
        one, other = (own._at(index, process.sigma(index) * (scale / sigma)) for index in (below, below + 1))
        return torch.lerp(one, other, t - below)

    def _at(self, t: float, scale: float) -> Tensor:
        """D at states scale · z, of the network told t."""

        def run(part: Trajectories) -> Tensor:
            found = part.model.denoised(scale * part.noise, t, **part.cond)
            part.tell(len(part))
            return found

        return self.batched(run)

    def follow(self, numbers: Numbers, prefix: Prefix | None = None, since: int = 0) -> Tensor:
        """Where a plan takes the starts, by its numbers.

        Args:
            numbers: of the plan; the first level is that of the trajectories, whatever stands there.
            prefix: filled with the states and D of all steps where ``since`` is 0; otherwise read up to that step.
            since: the step whose state is the first that may differ from the prefix, made from the D before it.
        """
        levels = (self.first, *(self.unit * level for level in numbers.levels[1:]))
        inverse = [1 / level for level in levels]
        kept = prefix if since == 0 else None
        with torch.no_grad():
            if since and prefix is not None:
                index, (z, found) = since - 1, prefix[since - 1]
                known = list(found)
            else:
                index, z = 0, self.noise
                told = levels[0] if numbers.told is None else min(self.unit * numbers.told, levels[0])
                known = [self.denoised(z, told if levels[0] < math.inf else levels[0])]
                if kept is not None:
                    kept.append((z, tuple(known)))
            while True:
                weights = bracket(numbers.history[index][:index])
                mean = weights[0] * known[-1]
                for back, weight in enumerate(weights[1:], start=2):
                    if weight:
                        mean = torch.add(mean, known[-back], alpha=weight)
                if index == len(levels) - 1:
                    return mean
                z = torch.add(z, mean, alpha=inverse[index + 1] - inverse[index])
                index += 1
                known.append(self.denoised(z, levels[index], numbers.offset(index)))
                if kept is not None:
                    kept.append((z, tuple(known)))

    def walk(self, points: int, furthest: float) -> Iterator[tuple[float, Tensor, Tensor]]:
        """λ, z and D along the trajectories at levels that are even in λ, up to ``furthest`` from 0.

        By Adams–Bashforth steps of second order in 1/s, which need one evaluation each.
        """
        process, z, before = self.model.process, self.noise, None
        ends = (process.half_log_snr(process.t_max), process.half_log_snr(process.t_min))
        lam = np.linspace(max(ends[0], -furthest), min(ends[1], furthest), points)
        with torch.no_grad():
            for index, here in enumerate(lam):
                found = self.denoised(z, math.exp(-here))
                yield float(here), z, found
                if index + 1 < points:
                    slope = found if before is None else found + 0.5 * (found - before)
                    z = z + (math.exp(lam[index + 1]) - math.exp(here)) * slope
                before = found

    def errors(self, samples: Tensor) -> Tensor:
        """Root mean square over the elements of each sample of its distance to the converged one, float64."""
        apart = (samples - self.known_ends).flatten(1)
        return apart.double().square().mean(1).sqrt().cpu()
