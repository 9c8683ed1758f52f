"""All that is known of diffusers: what its configurations say, its checkpoints as models, our solvers as its scheduler.

pipe.scheduler = scoresde.integrations.diffusers.Scheduler.from_config(pipe.scheduler.config, solver="dpmpp_3m")

``Scheduler`` needs diffusers, and is loaded when it is asked for; conventions are read without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from scoresde.integrations.diffusers.conventions import SchedulerConfigError, read
from scoresde.integrations.diffusers.loading import from_diffusers

if TYPE_CHECKING:
    from scoresde.integrations.diffusers.scheduler import Scheduler

__all__ = ["Scheduler", "SchedulerConfigError", "from_diffusers", "read"]


def __getattr__(name: str) -> Any:
    if name != "Scheduler":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module("scoresde.integrations.diffusers.scheduler").Scheduler
