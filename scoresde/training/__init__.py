"""Training: a network learns to denoise, in a folder where it can be stopped and gone on with at any step."""

from __future__ import annotations

from scoresde.training.loss import Task, loss
from scoresde.training.objectives import OBJECTIVES, Objective
from scoresde.training.settings import Settings
from scoresde.training.trainer import Trainer

__all__ = ["OBJECTIVES", "Objective", "Settings", "Task", "Trainer", "loss"]
