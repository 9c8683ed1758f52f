"""Samplers of ComfyUI (https://github.com/comfyanonymous/ComfyUI), or of reForge, which carries a copy of them.

Only the file sampling.py is loaded, with stand-ins for the rest of the program.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

from torch import Tensor

from benchmarks.peers.adapters import AbsentError, Denoised, Levels, Sample, clone, k_diffusion, source

CLONES = {"ComfyUI": "comfy", "stable-diffusion-webui-reForge": "ldm_patched"}
PROGRAM = ("modules", "model_patcher", "model_sampling", "memory_management", "utils")


def load(folder: Path | None) -> tuple[str, Sample]:
    root, commit = clone(folder, *CLONES)
    package = CLONES[root.name]
    here = root / package / "k_diffusion"
    if not here.is_dir():
        raise AbsentError(f"there is no {here}")
    utils = SimpleNamespace(append_dims=k_diffusion.append_dims)
    deis = source(here / "deis.py", f"{package}.k_diffusion.deis")
    adams = here / "sa_solver.py"  # which older clones have not
    adams = source(adams, f"{package}.k_diffusion.sa_solver") if adams.is_file() else MagicMock()
    inner = SimpleNamespace(__path__=[], utils=utils, deis=deis, sa_solver=adams)
    sampling = SimpleNamespace(CONST=type("CONST", (), {}))
    modules = MagicMock(utils=utils, model_sampling=sampling)
    program = MagicMock(k_diffusion=inner, modules=modules, model_sampling=sampling)
    program.utils.model_trange = lambda count, disable=None: range(count)
    stubs = {package: program, f"{package}.k_diffusion": inner, f"{package}.k_diffusion.utils": utils}
    stubs |= {f"{package}.{name}": getattr(program, name) for name in PROGRAM}
    stubs |= {f"{package}.modules.{name}": getattr(modules, name) for name in PROGRAM}
    stubs |= {f"{package}.k_diffusion.deis": deis, f"{package}.k_diffusion.sa_solver": inner.sa_solver}
    outside = ("torchsde", "modules", "modules.shared", "modules.sd_samplers_kdiffusion_smea")
    stubs |= {name: MagicMock() for name in outside}
    module = source(here / "sampling.py", f"{package}.k_diffusion.sampling", stubs)
    sample, settings = k_diffusion.sampler(module), stubs["modules"].shared.opts

    def run(denoised: Denoised, process: Any, times: Levels, x: Tensor, function: str, **options: Any) -> Tensor:
        if root.name != "ComfyUI":  # reForge keeps these among its settings
            for key in ("max_order", "mode"):
                if key in options:
                    setattr(settings, f"{function.removeprefix('sample_')}_{key}", options.pop(key))
        elif "mode" in options:
            options["deis_mode"] = options.pop("mode")
        if function == "sample_sa_solver":
            return predicted(sample, denoised, process, times, x, function, **options)
        with contextlib.redirect_stdout(io.StringIO()):
            return sample(denoised, process, times, x, function, **options)

    return f"{commit} ({root.name})", run


class _ReachedError(Exception):
    """Carries the state at which the model was to be evaluated."""


def predicted(
    sample: Sample, denoised: Denoised, process: Any, times: Levels, x: Tensor, function: str, **options: Any
) -> Tensor:
    """The state that a predictor-corrector method reaches at the last time, where it returns the one before: that at
    which the model is evaluated when the grid is longer by a step."""
    beyond = process.time(process.half_log_snr(float(times[-1])) + 0.1)
    calls = 0

    def evaluated(state: Tensor, t: float) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == len(times):
            raise _ReachedError(state)
        return denoised(state, t)

    try:
        sample(evaluated, process, [*times, beyond], x, function, **options)
    except _ReachedError as reached:
        return reached.args[0]
    raise RuntimeError(f"{function} does not evaluate the model at every level of the grid")
