"""Kernel distance between features: KID."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from scoresde.metrics.checks import check_finite
from scoresde.metrics.figures.blocks import blocks
from scoresde.metrics.figures.estimate import Estimate

Array = NDArray[np.float64]


def kid(features: NDArray[np.floating], reference: NDArray[np.floating], within: float | None = None) -> Estimate:
    """Unbiased squared maximum mean discrepancy with k(x, y) = (x·y/d + 1)³, over all samples, with ± 1.96 errors.

    KID = mean_{i≠j} k(x_i, x_j) + mean_{i≠j} k(y_i, y_j) − 2 mean k(x_i, y_j), for n samples x and m real images y. Its
    mean is 0 for samples of the reference's own distribution at every n, so it may be negative; random subsets, which
    other programs average over, would only add noise.

    As a function of the samples, with the reference as it is, it is the U-statistic U of the kernel
    h(x, x') = k(x, x') − g(x) − g(x') + const with g(x) = mean_j k(x, y_j). The variance of U has the unbiased estimate
    U² − mean h(x_i, x_j) h(x_k, x_l) over all distinct i, j, k, l. Where it comes out below what pairs alone
    contribute, 2 Var h/(n(n − 1)), that is taken.

    Args:
        features: of the samples, (n, d).
        reference: of real images, (m, d).
        within: the reference's own mean, from :func:`kernel_mean`, if it is known already.

    Source: Bińkowski et al. 2018, Demystifying MMD GANs, eq. 4; Wang & Lindsay 2014, Variance estimation of a general
    U-statistic with application to cross-validation, for the variance.

    Raises:
        ValueError: fewer than two of either, or some that are not finite.
    """
    x, y = _checked(features), _checked(reference)
    n = len(x)
    across = np.concatenate([_kernel(x[rows], y).mean(axis=1) for rows in blocks(n, len(y))])
    sums, squares = np.zeros(n), np.zeros(n)
    for rows in blocks(n, n):
        h = _kernel(x[rows], x) - across[rows, None] - across
        h[np.arange(len(h)), np.arange(n)[rows]] = 0
        sums[rows], squares[rows] = h.sum(axis=1), np.einsum("ij,ij->i", h, h)
    mean = sums.sum() / (n * (n - 1))
    value = mean + (kernel_mean(y) if within is None else within)
    return Estimate.of(float(value), _error(sums, squares, float(mean)))


def kernel_mean(features: NDArray[np.floating]) -> float:
    """mean_{i≠j} k(y_i, y_j) of features (m, d).

    Raises:
        ValueError: fewer than two.
    """
    y = _checked(features)
    total = sum(float(_kernel(y[rows], y).sum()) for rows in blocks(len(y), len(y)))
    diagonal = (np.einsum("ij,ij->i", y, y) / y.shape[1] + 1) ** 3
    return (total - float(diagonal.sum())) / (len(y) * (len(y) - 1))


def _error(sums: Array, squares: Array, mean: float) -> float | None:
    """Square root of the variance of a U-statistic from the row sums of its kernel matrix and of its square.

    A constant may be taken off the kernel; with the mean, the product of means is zero and does not cancel.
    """
    n = len(sums)
    if n < 4:
        return None
    of_pairs = float(squares.sum()) - n * (n - 1) * mean**2
    of_rows = float(np.square(sums - (n - 1) * mean).sum())
    variance = (4 * of_rows - 2 * of_pairs) / (n * (n - 1) * (n - 2) * (n - 3))
    return math.sqrt(max(variance, 2 * of_pairs / (n * (n - 1)) ** 2))


def _kernel(x: Array, y: Array) -> Array:
    base = x @ y.T / x.shape[1] + 1
    return base * base * base  # a power is five times slower


def _checked(features: NDArray[np.floating]) -> Array:
    if len(features) < 2:
        raise ValueError(f"KID needs at least 2 samples on either side, got {len(features)}")
    found = np.asarray(features, dtype=np.float64)
    check_finite(found)
    return found
