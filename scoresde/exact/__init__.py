"""Models whose score is known in closed form, to hold solvers and networks against the truth.

Each is a :class:`scoresde.score.ScoreModel` of a data distribution p_0 under any process. ``prediction`` chooses what
the model returns, so the very same function can be had as an ε-, x0-, v-, score- or flow-model. ``get("ring",
modes=8)`` is one of the standard densities.
"""

from scoresde.energy import Energy
from scoresde.exact.densities import DENSITIES, get
from scoresde.exact.gaussian import Gaussian
from scoresde.exact.mixture import GaussianMixture
from scoresde.exact.points import DataPoints

__all__ = ["DENSITIES", "DataPoints", "Energy", "Gaussian", "GaussianMixture", "get"]
