"""Solvers fitted to a model: converged trajectories, fits of a plan's numbers, and the one number of a model, σ*."""

from scoresde.tuning.procedure import tune
from scoresde.tuning.scale import noise_scale
from scoresde.tuning.teacher import NotConvergedError

__all__ = ["NotConvergedError", "noise_scale", "tune"]
