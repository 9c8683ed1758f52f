"""DPM-Solver's own code (https://github.com/LuChengTHU/dpm-solver), on the continuous VP process.

With ``steps=n``, what their code calls the number of steps, the grid is their own between the two ``times``.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers.adapters import Denoised, Levels, Sample, clone, source


def load(folder: Path | None) -> tuple[str, Sample]:
    root, commit = clone(folder, "dpm-solver")
    return commit, sampler(source(root / "dpm_solver_pytorch.py", "dpm_solver_pytorch"), "DPM_Solver")


def sampler(module: Any, name: str) -> Sample:
    """What runs a class of that code's conventions; UniPC's code has the same."""

    def run(
        denoised: Denoised,
        process: Any,
        times: Levels,
        x: Tensor,
        function: str,
        order: int,
        remainder: int = 0,
        solver_type: str | None = None,
        steps: int | None = None,
        skip_type: str = "logSNR",
        lower_order_final: bool = False,
        denoise_to_zero: bool = False,
        **options: Any,
    ) -> Tensor:
        def epsilon(x: Tensor, t: Tensor) -> Tensor:
            time = float(t.ravel()[0])
            return (x - process.alpha(time) * denoised(x, time)) / process.sigma(time)

        schedule = module.NoiseScheduleVP(
            "linear",
            continuous_beta_0=process.beta_min,
            continuous_beta_1=process.beta_max,
            dtype=torch.float64,
        )
        solver = getattr(module, name)(epsilon, schedule, **options)
        count = steps
        if count is None:
            spaced, grid = solver.get_time_steps, [torch.from_numpy(times)]
            # The first call places the steps, later ones the stages within a step.
            solver.get_time_steps = lambda *a, **asked: grid.pop() if grid else spaced(**asked)
            count = len(times) - 1
            if function == "singlestep_fixed":
                count *= order
            elif function == "singlestep":
                count = 3 * (count - 1) + remainder
        extra = {} if solver_type is None else {"solver_type": solver_type}
        ends = {"t_start": float(times[0]), "t_end": float(times[-1])}
        with contextlib.redirect_stdout(io.StringIO()):
            end = solver.sample(
                x,
                steps=count,
                order=order,
                method=function,
                skip_type=skip_type,
                lower_order_final=lower_order_final,
                denoise_to_zero=denoise_to_zero,
                **ends,
                **extra,
            )
        return end if steps is None or denoise_to_zero else end / process.alpha(ends["t_end"])

    return run
