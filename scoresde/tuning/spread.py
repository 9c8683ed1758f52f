"""Whether samples spread as the converged ones do: Fréchet distances in features that no fit looks at.

Least squares draws samples towards their mean, so that an error may halve while the distribution gets worse. There are
two spaces. The *random* one is that of a small random network that is the same everywhere: of pictures, pooled
responses of filters and their differences; of anything else, rectified random projections. The *texture* of pictures is
how much there is at the finest scales, where an eye is keen and an error of least squares is not: faint noise on a
plain ground, or edges that are blurred. Its features are mean logarithms of the energy that random filters of mean 0
find at two scales, whitened by the converged samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from scoresde.metrics import frechet_distance
from scoresde.metrics.moments import Moments

SIZE = 16  # features of each space
LEAST = 8  # pixels a side of a picture that filters are of use for
FAINT = 1 / 64  # of the standard deviation of pixels: a step of 8 bits where that is a quarter of the range
FLAT = 1e-3  # of the mean variance: the least along a principal direction of textures
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Space:
    """Features of samples, and how far apart two sets of them are."""

    features: Callable[[Tensor], Array]
    apart: Callable[[Array, Array], float]

    def distance(self, samples: Tensor, ends: Tensor) -> float:
        """Fréchet distance of samples to the converged ones of the same starts."""
        return self.apart(self.features(samples), self.features(ends))

    def farther(self, samples: Tensor, fixed: Tensor, ends: Tensor) -> tuple[float, float]:
        """How much farther from the converged samples some are than those of a fixed solver, and its standard error.

        By a jackknife over the starts, which all three have in common.
        """
        mine, theirs, true = self.features(samples), self.features(fixed), self.features(ends)

        def difference(rows: NDArray[np.int64]) -> float:
            return self.apart(mine[rows], true[rows]) - self.apart(theirs[rows], true[rows])

        count = len(true)
        groups = np.array_split(np.arange(count), min(count, 32))
        left = np.array([difference(np.setdiff1d(np.arange(count), group)) for group in groups])
        error = math.sqrt((len(groups) - 1) / len(groups) * float(((left - left.mean()) ** 2).sum()))
        return difference(np.arange(count)), error


def spaces(ends: Tensor) -> dict[str, Space]:
    """The spaces that samples of a model are compared in, ``texture`` last where they are pictures.

    Args:
        ends: converged samples, by which textures are whitened.
    """
    found = {"random": Space(random_features, _frechet)}
    if _pictures(ends):
        faint = max(FAINT * float(ends.double().std()), 1e-12)
        values = textures(ends, faint)
        mean, deviation = values.mean(0), values.std(0).clip(1e-12)
        variances, directions = np.linalg.eigh(np.cov(((values - mean) / deviation).T))
        white = directions / np.sqrt(variances.clip(max(FLAT * variances.mean(), 1e-12))) / deviation[:, None]
        found["texture"] = Space(lambda samples: (textures(samples, faint) - mean) @ white, _diagonal)
    return found


def _pictures(states: Tensor) -> bool:
    return states.ndim == 4 and min(states.shape[2:]) >= LEAST


def random_features(samples: Tensor) -> Array:
    """Features of a random network, shape (n, SIZE)."""
    random = torch.Generator().manual_seed(0)
    states = samples.detach().to("cpu", torch.float64)
    if _pictures(states):
        filters = torch.randn(SIZE // 2, states.shape[1], 5, 5, generator=random, dtype=torch.float64)
        found = functional.relu(functional.conv2d(states, filters / math.sqrt(filters[0].numel()), stride=2))
        return torch.cat([found.mean((2, 3)), found.std((2, 3))], 1).numpy()
    flat = states.flatten(1)
    weights = torch.randn(flat.shape[1], SIZE, generator=random, dtype=torch.float64) / math.sqrt(flat.shape[1])
    shift = 0.5 * torch.randn(SIZE, generator=random, dtype=torch.float64)
    return functional.relu(flat @ weights + shift).numpy()


def textures(samples: Tensor, faint: float) -> Array:
    """½ log(r² + faint²), averaged over each picture, r responses of filters of unit norm at two scales: (n, SIZE)."""
    random = torch.Generator().manual_seed(0)
    states, found = samples.detach().to("cpu", torch.float64), list[Tensor]()
    for scaled in (states, functional.avg_pool2d(states, 2)):
        filters = torch.randn(SIZE // 2, states.shape[1], 3, 3, generator=random, dtype=torch.float64)
        filters = filters - filters.mean((1, 2, 3), keepdim=True)
        filters = filters / filters.flatten(1).norm(dim=1)[:, None, None, None]
        found.append(0.5 * (functional.conv2d(scaled, filters).square() + faint**2).log().mean((2, 3)))
    return torch.cat(found, 1).numpy()


def _frechet(mine: Array, true: Array) -> float:
    one, other = (Moments(values.shape[1], "random") for values in (mine, true))
    one.update(mine)
    other.update(true)
    return frechet_distance(one, other)


def _diagonal(mine: Array, true: Array) -> float:
    """Fréchet distance of normal distributions whose coordinates are independent, as whitened ones are."""
    return float(((mine.mean(0) - true.mean(0)) ** 2).sum() + ((mine.std(0) - true.std(0)) ** 2).sum())
