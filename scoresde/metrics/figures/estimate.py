"""A figure and how far another draw of the samples would move it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NORMAL = 1.959963984540054  # the 97.5 % quantile of the standard normal
SPLITS = 50  # halvings, which leave the standard error uncertain by about a tenth of itself


@dataclass(frozen=True)
class Estimate:
    """A figure measured on samples.

    Attributes:
        value: the figure.
        low, high: ends of its 95 % interval over draws of the samples; None where there is none.
    """

    value: float
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, value: float, error: float | None, least: float = -math.inf, most: float = math.inf) -> Estimate:
        """value ± 1.96 ``error``, a standard error, cut to what is possible; no interval without one."""
        if error is None:
            return cls(value)
        return cls(value, max(value - NORMAL * error, least), min(value + NORMAL * error, most))


def share(hits: int, n: int) -> Estimate:
    """The share p = hits/n with the interval of those p' for which |p − p'| ≤ 1.96 √(p'(1 − p')/n).

    Unlike p ± 1.96 √(p(1 − p)/n) it does not shrink to nothing at p = 0 and p = 1.

    Source: Wilson 1927, Probable inference, the law of succession, and statistical inference.

    Raises:
        ValueError: hits is not in 0 … n, or n < 1.
    """
    if not (n >= 1 and 0 <= hits <= n):
        raise ValueError(f"a share needs 0 <= hits <= n and n >= 1, got {hits} of {n}")
    p, z = hits / n, NORMAL**2 / n
    middle = (p + z / 2) / (1 + z)
    reach = math.sqrt(z * p * (1 - p) + z * z / 4) / (1 + z)
    return Estimate(p, max(middle - reach, 0.0), min(middle + reach, 1.0))


def halves(n: int, splits: int = SPLITS) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Random disjoint halves of 0 … n − 1, the same at every call; one sample is left out of an odd n."""
    generator = np.random.default_rng(0)
    for _ in range(splits):
        order = generator.permutation(n)
        yield order[: n // 2], order[n // 2 : n // 2 * 2]


def error_of_halves(values: Iterable[tuple[float, float]]) -> float:
    """Standard error of a figure θ of n samples from its values on disjoint halves, √(mean (θ_a − θ_b)²)/2.

    Two halves are independent draws of n/2, so (θ_a − θ_b)²/2 is an unbiased estimate of the variance at n/2. That is
    a/(n/2) + b/(n/2)² + …, with b for the curvature of θ; half of it is taken for the variance a/n + b/n² + … at n.
    So the error is right where θ is well away from its least value, and up to √2 too large where it is nothing but
    curvature, as the FID of real images is; it is never too small on average.

    Why not the bootstrap: a resample repeats samples. That raises FID by as much again as its bias at n, overstates its
    spread at the floor and still more for fewer samples than features, and leaves no radius to the nearest neighbours
    of precision and recall. Halves have no repeats.

    Source: Politis & Romano 1994, Large sample confidence regions based on subsamples under minimal assumptions;
    Efron & Stein 1981, The jackknife estimate of variance, for the sign of the bias.
    """
    return math.sqrt(float(np.mean([(a - b) ** 2 for a, b in values]))) / 2
