"""Samplers of diff-sampler (https://github.com/zju-pi/diff-sampler), in σ with α = 1, dynamic thresholding off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers.adapters import Denoised, Levels, Sample, clone, source


def load(folder: Path | None) -> tuple[str, Sample]:
    root, commit = clone(folder, "diff-sampler")
    utils = source(root / "diff-solvers-main" / "solver_utils.py", "solver_utils")
    module = source(root / "diff-solvers-main" / "solvers.py", "diff_sampler_solvers", {"solver_utils": utils})
    for place in (utils, module):
        place.dynamic_thresholding_fn = lambda x0: x0  # type: ignore[attr-defined]

    def run(denoised: Denoised, process: Any, times: Levels, x: Tensor, function: str, **options: Any) -> Tensor:
        sigmas = torch.tensor([process.sigma(float(t)) for t in times])
        if function == "deis_sampler":
            mode, order = options.pop("deis_mode"), options["max_order"]
            # Their analytic coefficients count the order from zero.
            count = order - 1 if mode == "rhoab" else order
            options["coeff_list"] = utils.get_deis_coeff_list(sigmas, count, deis_mode=mode)

        def net(x: Tensor, sigma: Tensor, class_labels: Any = None) -> Tensor:
            return denoised(x, float(sigma.ravel()[0]))

        if function in ("dpm_pp_sampler", "unipc_sampler"):
            options.setdefault("lower_order_final", False)
        return getattr(module, function)(net, x / sigmas[0], num_steps=len(sigmas), t_steps=sigmas, **options)

    return commit, run
