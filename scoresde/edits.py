"""Samples that begin with an image: image to image, and inpainting.

edit = Edit(checkpoint.encode(image), strength=0.6)
result = edit.sample(scoresde.Sampler(checkpoint, "dpmpp_2m", nfe=20), seeds=range(4))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from scoresde.noise import Noise
from scoresde.process import Flow
from scoresde.sampling import NETWORK, Result, Sampler
from solvers import Solver


@dataclass(frozen=True)
class Edit:
    """An image, how far samples go from it, and where.

    A sample begins at x = α x0 + σ ε with the image x0, draw 0 of its seed ε, and α and σ at the time at which so many
    steps of the grid are left as ``strength`` asks for. With a mask m each step's state becomes
    m x + (1 − m)(α x0 + σ ε) at the time that it has come to, so that what is not repainted is the image in the end;
    at full strength it begins with σ ε.

    Source: Meng et al. 2022, SDEdit; Lugmayr et al. 2022, RePaint, eq. 8, with one ε for all times, as diffusers has
    both.

    Attributes:
        known: states of the image, shape (1, channels, height, width).
        strength: share of the steps that are taken.
        mask: 1 where it is repainted and 0 elsewhere, shape (1, 1, height, width); None repaints all.

    Raises:
        ValueError: a strength outside (0, 1], or a mask of another size.
    """

    known: Tensor
    strength: float = 1.0
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        check_strength(self.strength)
        if self.mask is not None and self.mask.shape != (1, 1, *self.known.shape[2:]):
            raise ValueError(f"a mask of states of {tuple(self.known.shape)} cannot be of {tuple(self.mask.shape)}")

    def taken(self, sampler: Sampler) -> Sampler:
        """The sampler on the part of its grid that is left at this strength.

        Raises:
            ValueError: no step is left, or the solver chooses its own.
        """
        check_solver(sampler.solver)
        steps = len(sampler.times) - 1
        share = steps * self.strength
        # As diffusers' pipelines of flow models round it, and its others.
        left = steps - int(steps - share) if isinstance(sampler.model.process, Flow) else int(share)
        if left < 1:
            raise ValueError(
                f"strength = {self.strength:g} of {steps} steps is not one step: take more steps, or a larger strength"
            )
        return sampler.at(sampler.times[steps - left :])

    def begun(self, sampler: Sampler, start: float) -> Sampler:
        """The sampler on the part of its grid below a time, and that time before it."""
        times = [time for time in sampler.times if time < start]
        return sampler.at([start, *times])

    def sample(
        self,
        sampler: Sampler,
        *,
        seeds: Sequence[int],
        cond: Mapping[str, Any] | None = None,
        batch_size: int | None = None,
        dtype: torch.dtype | str | None = None,
        device: str | torch.device | None = None,
        decode: Callable[[Tensor], Tensor] | None = None,
        trajectory: bool = False,
        progress: Callable[[float], object] = lambda done: None,
    ) -> Result:
        """Samples of these seeds, by a sampler on the part of a grid that :meth:`taken` gives.

        The other arguments are those of :meth:`scoresde.Sampler.sample`; what it raises is raised here.
        """
        own, size = list(seeds), batch_size or len(seeds)
        parts = []
        for first in range(0, len(own), size):
            batch = own[first : first + size]
            start, keep = self._begun(sampler, batch, size, dtype, device or self.known.device)
            rows = slice(first, first + len(batch))
            parts.append(
                sampler.sample(
                    x_init=start,
                    seeds=batch,
                    cond={key: value[rows] for key, value in (cond or {}).items()},
                    batch_size=size,
                    dtype=dtype,
                    device=device,
                    decode=decode,
                    callback=keep,
                    trajectory=trajectory,
                    progress=progress,
                )
            )
        states = [part.trajectory for part in parts if part.trajectory is not None]
        return replace(
            parts[0],
            samples=torch.cat([part.samples for part in parts]),
            seeds=own,
            nfe=max(part.nfe for part in parts),
            evaluations=[count for part in parts for count in part.evaluations],
            network_calls=[count for part in parts for count in part.network_calls],
            trajectory=torch.cat(states, dim=1) if states else None,
        )

    def _begun(
        self, sampler: Sampler, seeds: list[int], size: int, dtype: Any, device: Any
    ) -> tuple[Tensor, Callable[[Tensor, float], Tensor] | None]:
        """States of a batch to begin with, and what keeps the image where there is a mask."""
        kind = torch.float32 if dtype in (None, NETWORK) else dtype
        process, first = sampler.model.process, sampler.times[0]
        known = self.known.to(device, kind)
        noise = Noise(seeds, known.shape[1:], kind, device)()

        def at(t: float, noise: Tensor) -> Tensor:
            return process.alpha(t) * known + process.sigma(t) * noise

        if self.mask is None:
            return at(first, noise), None
        mask, padding = self.mask.to(device, kind), size - len(noise)
        padded = torch.cat([noise, noise[-1:].expand(padding, *noise.shape[1:])])

        def keep(x: Tensor, t: float) -> Tensor:
            return (mask * x + (1 - mask) * at(t, padded[: len(x)])).to(x.dtype)

        return process.sigma(first) * noise if self.strength == 1 else at(first, noise), keep


def check_strength(strength: Any) -> None:
    """Refuse what is no share of the steps.

    Raises:
        ValueError: it is no number above 0 and up to 1.
    """
    if isinstance(strength, bool) or not isinstance(strength, (int, float)) or not 0 < strength <= 1:
        raise ValueError(f"strength must be a number above 0 and up to 1, got {strength!r}")


def check_solver(solver: Solver | str) -> None:
    """Refuse solvers that have no steps of which a share could be taken.

    Raises:
        ValueError: the solver chooses its own steps.
    """
    if isinstance(solver, Solver) and solver.adaptive:
        raise ValueError(
            f"{solver} chooses its own steps, and strength is a share of the steps of a grid: take a solver on one, "
            "such as dpmpp_2m"
        )
