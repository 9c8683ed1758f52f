"""Samplers of k-diffusion (https://github.com/crowsonkb/k-diffusion), in σ with α = 1: its sampling.py alone."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import torch
from torch import Tensor

from benchmarks.adapters import Denoised, Levels, Sample, source, version


def load(folder: Path | None) -> tuple[str, Sample]:
    path = Path(str(folder)) / "k_diffusion" / "sampling.py"
    if not path.is_file():
        spec = importlib.util.find_spec("k_diffusion")
        path = path if spec is None else Path(str(spec.origin)).with_name("sampling.py")
    package = SimpleNamespace(__path__=[], utils=SimpleNamespace(append_dims=append_dims))
    stubs = {"k_diffusion": package, "k_diffusion.utils": package.utils, "torchsde": MagicMock()}
    return version("k_diffusion", folder), sampler(source(path, "k_diffusion.sampling", stubs))


def append_dims(value: Tensor, dims: int) -> Tensor:
    """Their helper, which the stand-in for their utilities must have."""
    return value.reshape(value.shape + (1,) * (dims - value.ndim))


def sampler(module: ModuleType) -> Sample:
    """What runs ``sample_*`` functions of a module that follows k-diffusion's conventions."""

    def run(denoised: Denoised, process: Any, times: Levels, x: Tensor, function: str, **options: Any) -> Tensor:
        sigmas = torch.tensor([process.sigma(float(t)) for t in times])
        model = Model(denoised, process)
        if function == "sample_dpm_fast":
            nfe = 3 * (len(times) - 2) + options.pop("remainder")  # which buys as many steps, even in λ
            return module.sample_dpm_fast(model, x, float(sigmas[-1]), float(sigmas[0]), nfe, disable=True, **options)
        found = getattr(module, function)
        if "noise_sampler" in inspect.signature(found).parameters:
            options.setdefault("noise_sampler", lambda *levels: 0.0)  # none is drawn unless it is asked for
        return found(model, x, sigmas, disable=True, **options)

    return run


class Model(torch.nn.Module):
    """The denoiser as their model(x, sigma), one sigma for each x."""

    def __init__(self, denoised: Denoised, process: Any):
        super().__init__()
        self.denoised, self.process, self.inner_model = denoised, process, MagicMock()

    def forward(self, x: Tensor, sigma: Tensor, **extra: Any) -> Tensor:
        return self.denoised(x, float(sigma.ravel()[0]))
