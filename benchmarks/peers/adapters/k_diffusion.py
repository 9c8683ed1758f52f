"""Samplers of k-diffusion (https://github.com/crowsonkb/k-diffusion), in σ with α = 1: its sampling.py alone.

With ``steps=n`` the grid is ``get_sigmas_{schedule}(n, **levels)``, and x has the scale α² + σ² = 1.
"""

from __future__ import annotations

import importlib.util
import inspect
import math
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import torch
from torch import Tensor

from benchmarks.peers.adapters import Denoised, Levels, Sample, source, version


def load(folder: Path | None) -> tuple[str, Sample]:
    return version("k_diffusion", folder), sampler(module(folder))


def module(folder: Path | None) -> ModuleType:
    """Their ``sampling.py``."""
    path = Path(str(folder)) / "k_diffusion" / "sampling.py"
    if not path.is_file():
        spec = importlib.util.find_spec("k_diffusion")
        path = path if spec is None else Path(str(spec.origin)).with_name("sampling.py")
    package = SimpleNamespace(__path__=[], utils=SimpleNamespace(append_dims=append_dims))
    stubs = {"k_diffusion": package, "k_diffusion.utils": package.utils, "torchsde": MagicMock()}
    return source(path, "k_diffusion.sampling", stubs)


def append_dims(value: Tensor, dims: int) -> Tensor:
    """Their helper, which the stand-in for their utilities must have."""
    return value.reshape(value.shape + (1,) * (dims - value.ndim))


def sampler(module: ModuleType) -> Sample:
    """What runs ``sample_*`` functions of a module that follows k-diffusion's conventions."""

    def run(denoised: Denoised, process: Any, times: Levels, x: Tensor, function: str, **options: Any) -> Tensor:
        model = Model(denoised, process)
        if "steps" in options:
            return by_their_grid(module, model, x, function, **options)
        sigmas = torch.tensor([process.sigma(float(t)) for t in times])
        if function == "sample_dpm_fast":
            nfe = 3 * (len(times) - 2) + options.pop("remainder")  # which buys as many steps, even in λ
            return module.sample_dpm_fast(model, x, float(sigmas[-1]), float(sigmas[0]), nfe, disable=True, **options)
        return sampled(module, model, x, sigmas, function, **options)

    return run


def sampled(module: ModuleType, model: Model, x: Tensor, sigmas: Tensor, function: str, **options: Any) -> Tensor:
    found = getattr(module, function)
    if "noise_sampler" in inspect.signature(found).parameters:
        options.setdefault("noise_sampler", lambda *levels: 0.0)  # none is drawn unless it is asked for
    return found(model, x, sigmas, disable=True, **options)


def by_their_grid(
    module: ModuleType,
    model: Model,
    x: Tensor,
    function: str,
    steps: int,
    schedule: str,
    levels: Mapping[str, float],
    **options: Any,
) -> Tensor:
    """All of one of their grids; ``sample_dpm_fast`` makes its own and calls ``steps`` what it may evaluate."""
    if function == "sample_dpm_fast":
        x = x * math.hypot(1, levels["sigma_max"])
        return module.sample_dpm_fast(model, x, n=steps, disable=True, **levels, **options)
    sigmas = getattr(module, f"get_sigmas_{schedule}")(steps, **levels)
    return sampled(module, model, x * math.hypot(1, float(sigmas[0])), sigmas, function, **options)


class Model(torch.nn.Module):
    """The denoiser as their model(x, sigma), one sigma for each x."""

    def __init__(self, denoised: Denoised, process: Any):
        super().__init__()
        self.denoised, self.process, self.inner_model = denoised, process, MagicMock()

    def forward(self, x: Tensor, sigma: Tensor, **extra: Any) -> Tensor:
        return self.denoised(x, float(sigma.ravel()[0]))
