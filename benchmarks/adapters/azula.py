"""Samplers of azula (https://github.com/probabilists/azula), on any process and grid."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.adapters import AbsentError, Denoised, Levels, Sample, importing_from, version


def load(folder: Path | None) -> tuple[str, Sample]:
    with importing_from(folder or Path()):
        try:
            sample, denoise = (importlib.import_module(f"azula.{name}") for name in ("sample", "denoise"))
        except ImportError as error:
            raise AbsentError(f"azula: {error}") from None

    def run(denoised: Denoised, process: Any, times: Levels, x: Tensor, function: str, **options: Any) -> Tensor:
        class Denoiser(denoise.Denoiser):
            def schedule(self, t: Tensor) -> tuple[Tensor, Tensor]:
                return process.alpha(t), process.sigma(t)

            def forward(self, x: Tensor, t: Tensor) -> Any:
                return denoise.DiracPosterior(mean=denoised(x, float(t)))

        grid = property(lambda self: torch.from_numpy(times))
        kind = type(function, (getattr(sample, function),), {"timesteps": grid})
        return kind(Denoiser(), silent=True, **options)(x)

    return version("azula", folder), run
