"""All that is known of diffusers: what its configurations say, its checkpoints as models, our solvers as its scheduler.

pipe.scheduler = scoresde.integrations.diffusers.Scheduler.from_config(pipe.scheduler.config, solver="dpmpp_3m")

``Scheduler``, ``from_pipeline`` and ``tune`` need diffusers, and are loaded when they are asked for; conventions are
read without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from scoresde.integrations.diffusers.conventions import SchedulerConfigError, read
from scoresde.integrations.diffusers.loading import from_diffusers

if TYPE_CHECKING:
    from scoresde.integrations.diffusers.pipelines import tune
    from scoresde.integrations.diffusers.prompted import from_pipeline
    from scoresde.integrations.diffusers.scheduler import Scheduler

_HOMES = {"Scheduler": "scheduler", "from_pipeline": "prompted", "tune": "pipelines"}

__all__ = ["Scheduler", "SchedulerConfigError", "from_diffusers", "from_pipeline", "read", "tune"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
