"""The Fréchet distance between two Gaussians."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scoresde.metrics.moments import Moments


def frechet_distance(a: Moments, b: Moments) -> float:
    """‖m1 − m2‖² + tr C1 + tr C2 − 2 tr (C1^½ C2 C1^½)^½, in float64.

    The last trace is the sum of the singular values of C1^½ C2^½, both roots from symmetric eigen-decompositions.
    Unlike the root of the product, that loses no digits when a covariance is singular, as it is for fewer samples than
    features. Rounding below zero is cut to 0.

    It is FID in the feature space of the moments, and the Inception FID of the literature only if those features are
    Inception's, which ours are not.

    Source: Dowson & Landau 1982, The Fréchet distance between multivariate normal distributions; Heusel et al. 2017,
    GANs trained by a two time-scale update rule, eq. 6.

    Raises:
        ValueError: fewer than two samples in one of them, or different sizes or feature spaces.
    """
    a.check_comparable(b)
    first, second = a.covariance, b.covariance
    cross = np.linalg.svd(_root(first) @ _root(second), compute_uv=False).sum()
    distance = np.sum((a.mean - b.mean) ** 2) + np.trace(first) + np.trace(second) - 2 * cross
    return max(float(distance), 0.0)


def _root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """The symmetric square root; eigenvalues that are rounding errors of zero count as zero."""
    values, vectors = np.linalg.eigh(covariance)
    noise = len(values) * np.finfo(np.float64).eps * values[-1]
    return (vectors * np.sqrt(np.where(values > noise, values, 0.0))) @ vectors.T
