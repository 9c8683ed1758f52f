"""scoresde: diffusion models as scores, sampled by any solver.

import scoresde

checkpoint = scoresde.models.load("mnist")
result = scoresde.sample(checkpoint.model, solver="dpmpp_2m", nfe=10, shape=(16, 1, 28, 28), seeds=0)
"""

from __future__ import annotations

from scoresde import exact, guidance, models, shards
from scoresde.process import EDM, VE, VP, Cosine, Flow, Process, SubVP, VPDiscrete
from scoresde.sampling import NonFiniteError, Result, sample
from scoresde.score import ScoreModel

__version__ = "0.1.0"

__all__ = [
    "EDM",
    "VE",
    "VP",
    "Cosine",
    "Flow",
    "NonFiniteError",
    "Process",
    "Result",
    "ScoreModel",
    "SubVP",
    "VPDiscrete",
    "exact",
    "guidance",
    "models",
    "sample",
    "shards",
]
