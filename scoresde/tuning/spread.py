"""Whether samples spread as the converged ones do: a Fréchet distance in features that no fit looks at.

Least squares draws samples towards their mean, so that an error may halve while the distribution gets worse. The
features are those of a small random network that is the same everywhere: of pictures, pooled responses of filters and
their differences; of anything else, rectified random projections.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from scoresde.metrics import frechet_distance
from scoresde.metrics.moments import Moments

SIZE = 16  # features
SPACE = "random"


def features(samples: Tensor) -> NDArray[np.float64]:
    """Random features of samples, shape (n, SIZE)."""
    random = torch.Generator().manual_seed(0)
    states = samples.detach().to("cpu", torch.float64)
    if states.ndim == 4 and min(states.shape[2:]) >= 8:
        filters = torch.randn(SIZE // 2, states.shape[1], 5, 5, generator=random, dtype=torch.float64)
        found = functional.relu(functional.conv2d(states, filters / math.sqrt(filters[0].numel()), stride=2))
        return torch.cat([found.mean((2, 3)), found.std((2, 3))], 1).numpy()
    flat = states.flatten(1)
    weights = torch.randn(flat.shape[1], SIZE, generator=random, dtype=torch.float64) / math.sqrt(flat.shape[1])
    shift = 0.5 * torch.randn(SIZE, generator=random, dtype=torch.float64)
    return functional.relu(flat @ weights + shift).numpy()


def distance(samples: Tensor, ends: Tensor) -> float:
    """Fréchet distance of samples to the converged ones of the same starts."""
    return frechet_distance(_moments(features(samples)), _moments(features(ends)))


def _moments(values: NDArray[np.float64]) -> Moments:
    found = Moments(values.shape[1], SPACE)
    found.update(values)
    return found


def worse(samples: Tensor, fixed: Tensor, ends: Tensor) -> tuple[float, float]:
    """How much farther from the converged samples some are than those of a fixed solver, and its standard error.

    By a jackknife over the starts, which all three have in common.
    """
    mine, theirs, true = features(samples), features(fixed), features(ends)

    def apart(rows: NDArray[np.int64]) -> float:
        reference = _moments(true[rows])
        return frechet_distance(_moments(mine[rows]), reference) - frechet_distance(_moments(theirs[rows]), reference)

    count = len(true)
    groups = np.array_split(np.arange(count), min(count, 32))
    left = np.array([apart(np.setdiff1d(np.arange(count), group)) for group in groups])
    error = math.sqrt((len(groups) - 1) / len(groups) * float(((left - left.mean()) ** 2).sum()))
    return apart(np.arange(count)), error
