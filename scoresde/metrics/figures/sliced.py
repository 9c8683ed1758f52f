"""Sliced Wasserstein distance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from scoresde.metrics.checks import check_finite
from scoresde.metrics.figures.estimate import SPLITS, Estimate, error_of_halves, halves

Array = NDArray[np.float64]
DIRECTIONS = 128


def directions(size: int, number: int = DIRECTIONS) -> Array:
    """Random unit vectors, (size, number), the same at every call."""
    vectors = np.random.default_rng(0).normal(size=(number, size)).T
    return vectors / np.linalg.norm(vectors, axis=0)


def sliced_wasserstein(
    features: NDArray[np.floating], reference: NDArray[np.floating], splits: int = SPLITS
) -> Estimate:
    """Mean over 128 fixed directions u of W1 = ∫₀¹ |F⁻¹(q) − G⁻¹(q)| dq between the projections, with ± 1.96 errors.

    F⁻¹ and G⁻¹ are the empirical quantile functions of x·u and y·u, steps of 1/n and 1/m, so the counts may differ. W1
    is the one that image metrics are reported in (Karras et al. 2018); like FID it does not reach 0 at finite counts.

    Args:
        features: of the samples, (n, d).
        reference: of real images, (m, d), taken as they are.
        splits: number of halvings for :func:`scoresde.metrics.figures.estimate.error_of_halves`.

    Source: Rabin et al. 2012, Wasserstein barycenter and its application to texture mixing; Karras et al. 2018,
    Progressive growing of GANs, sec. 5.

    Raises:
        ValueError: none of either, or some that are not finite.
    """
    x, y = np.asarray(features, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if not len(x) or not len(y):
        raise ValueError(f"a Wasserstein distance needs samples on both sides, got {len(x)} and {len(y)}")
    check_finite(x)
    check_finite(y)
    axes = directions(x.shape[1]).T
    projected, real = axes @ x.T, np.sort(axes @ y.T, axis=1)
    order = np.argsort(projected, axis=1)
    ranked = np.take_along_axis(projected, order, axis=1)
    value = _distance(len(x), real)(ranked)
    if len(x) < 4:
        return Estimate(value)
    of_half = _distance(len(x) // 2, real)

    def value_of(rows: NDArray[np.int64]) -> float:
        chosen = np.zeros(len(x), dtype=bool)
        chosen[rows] = True
        return of_half(ranked[chosen[order]].reshape(len(order), len(rows)))

    error = error_of_halves((value_of(a), value_of(b)) for a, b in halves(len(x), splits))
    return Estimate.of(value, error, least=0.0)


def _distance(n: int, y: Array) -> Callable[[Array], float]:
    """Mean W1 of rows of n sorted values from those of y (r, m), sorted too."""
    m = y.shape[1]
    # Between two neighbouring levels of {i/n} ∪ {j/m} both quantile functions are constant; in units of 1/nm all are
    # whole numbers.
    levels = np.union1d(np.arange(n + 1) * m, np.arange(m + 1) * n)
    starts, widths = levels[:-1], np.diff(levels) / (n * m)
    index, quantiles = starts // m, y[:, starts // n]

    def distance(x: Array) -> float:
        differences = np.take(x, index, axis=1)
        differences -= quantiles
        np.abs(differences, out=differences)
        return float((differences @ widths).mean())

    return distance
