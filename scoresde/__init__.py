"""scoresde: diffusion models as scores, sampled by any solver.

import scoresde

checkpoint = scoresde.models.load("mnist")
result = scoresde.sample(checkpoint, solver="dpmpp_2m", nfe=10, seeds=range(16))

What is named here is loaded when it is first asked for, so that the command line is there before torch is.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from scoresde.version import __version__

if TYPE_CHECKING:
    from scoresde import exact, guidance, models
    from scoresde.process import EDM, VE, VP, Cosine, Flow, Process, SubVP, VPDiscrete
    from scoresde.runs import shards
    from scoresde.sampling import NonFiniteError, Result, Sampler, sample
    from scoresde.score import ScoreModel
    from scoresde.tuned import TunedSolver
    from scoresde.tuning import noise_scale, tune

_ROOMS = {"shards": "runs.shards"}  # modules of a room that are spoken of by their own names
_HOMES = {
    **dict.fromkeys(("EDM", "VE", "VP", "Cosine", "Flow", "Process", "SubVP", "VPDiscrete"), "process"),
    **dict.fromkeys(("NonFiniteError", "Result", "Sampler", "sample"), "sampling"),
    "ScoreModel": "score",
    "TunedSolver": "tuned",
    **dict.fromkeys(("noise_scale", "tune"), "tuning"),
}

__all__ = [
    "EDM",
    "VE",
    "VP",
    "Cosine",
    "Flow",
    "NonFiniteError",
    "Process",
    "Result",
    "Sampler",
    "ScoreModel",
    "SubVP",
    "TunedSolver",
    "VPDiscrete",
    "__version__",
    "exact",
    "guidance",
    "models",
    "noise_scale",
    "sample",
    "shards",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        found = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    else:
        try:
            found = importlib.import_module(f"{__name__}.{_ROOMS.get(name, name)}")
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{name}":
                raise
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
