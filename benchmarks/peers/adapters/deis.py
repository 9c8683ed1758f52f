"""DEIS' own code for torch (https://github.com/qsh-zh/deis), on the continuous VP process; it needs jax."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from benchmarks.peers.adapters import AbsentError, Denoised, Levels, Sample, clone, importing_from


def load(folder: Path | None) -> tuple[str, Sample]:
    root, commit = clone(folder, "deis")
    try:
        jax = importlib.import_module("jax")
    except ImportError:
        raise AbsentError("DEIS' code needs jax, which is not installed") from None
    jax.config.update("jax_enable_x64", True)
    private = importlib.import_module("jax._src.numpy.lax_numpy")
    if not hasattr(private, "_promote_dtypes_inexact"):  # moved since; its discrete process alone would use it
        private._promote_dtypes_inexact = None  # type: ignore[attr-defined]
    with importing_from(root):
        module = importlib.import_module("th_deis.sampler")
        sde = importlib.import_module("th_deis.vpsde")

    def run(denoised: Denoised, process: Any, times: Levels, x: Tensor, function: str, **options: Any) -> Tensor:
        def epsilon(x: Tensor, t: Tensor) -> Tensor:
            time = float(t)
            return (x - process.alpha(time) * denoised(x, time)) / process.sigma(time)

        functions = sde.get_linear_alpha_fns(process.beta_min, process.beta_max)
        vp = sde.VPSDE(*functions, float(times[-1]), float(times[0]))
        grid = jax.numpy.asarray(np.asarray(times, dtype=np.float64))
        with patch.object(module, "get_rev_ts", lambda *a, **k: grid):
            sampler = module.get_sampler(vp, epsilon, "t", 1, len(times) - 1, method=function, **options)
        return sampler(x).to(torch.float64)

    return f"{commit}, jax {jax.__version__}", run
