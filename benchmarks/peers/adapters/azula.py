"""Samplers of azula (https://github.com/probabilists/azula), on any process and grid.

With ``steps=n`` the grid is their own, of one of their noise schedules: ``schedule`` is its name, ``levels`` are its
arguments. x then has the scale α² + σ² = 1, and the process is EDM, on which x/α is asked for at σ/α.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers.adapters import AbsentError, Denoised, Levels, Sample, importing_from, version


def load(folder: Path | None) -> tuple[str, Sample]:
    with importing_from(folder or Path()):
        try:
            sample, denoise, noise = (importlib.import_module(f"azula.{n}") for n in ("sample", "denoise", "noise"))
        except ImportError as error:
            raise AbsentError(f"azula: {error}") from None

    def run(denoised: Denoised, process: Any, times: Levels, x: Tensor, function: str, **options: Any) -> Tensor:
        class Denoiser(denoise.Denoiser):
            def schedule(self, t: Tensor) -> tuple[Tensor, Tensor]:
                return process.alpha(t), process.sigma(t)

            def forward(self, x: Tensor, t: Tensor) -> Any:
                return denoise.DiracPosterior(mean=denoised(x, float(t)))

        if "steps" in options:
            place = getattr(noise, options.pop("schedule"))(**options.pop("levels"))

            class Scheduled(denoise.Denoiser):
                def schedule(self, t: Tensor) -> tuple[Tensor, Tensor]:
                    return place(t)

                def forward(self, x: Tensor, t: Tensor) -> Any:
                    alpha, sigma = place(t)
                    return denoise.DiracPosterior(mean=denoised(x / alpha, float(sigma / alpha)))

            sampler = getattr(sample, function)(Scheduled(), silent=True, **options)
            first, last = sampler.timesteps[0], sampler.timesteps[-1]
            return sampler(x * torch.hypot(*place(first))) / place(last)[0]
        grid = property(lambda self: torch.from_numpy(times))
        kind = type(function, (getattr(sample, function),), {"timesteps": grid})
        return kind(Denoiser(), silent=True, **options)(x)

    return version("azula", folder), run
