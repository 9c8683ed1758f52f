"""The Fréchet distance between two Gaussians."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import get_lapack_funcs

from scoresde.metrics.figures.estimate import SPLITS, Estimate, error_of_halves, halves
from scoresde.metrics.moments import Gaussian, Moments, check_comparable

Array = NDArray[np.float64]


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """‖m1 − m2‖² + tr C1 + tr C2 − 2 tr (C1^½ C2 C1^½)^½, in float64.

    The last trace is the sum of the singular values of F1ᵀ F2 for any factors with F Fᵀ = C; here they are those of
    Cholesky, pivoted, of as many columns as C has rank. Unlike the root of the product, that loses no digits when a
    covariance is singular, as it is for fewer samples than features, and is the quicker the fewer there are.

    Rounding below zero is cut to 0. It is FID in the feature space of the moments, and the Inception FID of the
    literature only if those features are Inception's, which ours are not.

    Source: Dowson & Landau 1982, The Fréchet distance between multivariate normal distributions; Heusel et al. 2017,
    GANs trained by a two time-scale update rule, eq. 6.

    Raises:
        ValueError: fewer than two samples in one of them, or different sizes or feature spaces.
    """
    check_comparable(a, b)
    return _distance(a, _factor(a.covariance), b, _factor(b.covariance))


def frechet(features: NDArray[np.floating], reference: Gaussian, splits: int = SPLITS) -> Estimate:
    """The Fréchet distance of features (n, size) in the reference's space from it, with :func:`frechet_error`'s.

    Raises:
        ValueError: fewer than two samples, or of another size.
    """
    moments = Moments(len(reference.mean), reference.space)
    moments.update(features)
    factor = _factor(reference.covariance)
    value = _distance(moments, _factor(moments.covariance, features), reference, factor)
    return Estimate.of(value, _error(features, reference, factor, splits), least=0.0)


def frechet_error(features: NDArray[np.floating], reference: Gaussian, splits: int = SPLITS) -> float | None:
    """Standard error of the Fréchet distance of features (n, size) from a reference, which is taken as it is.

    See :func:`scoresde.metrics.figures.estimate.error_of_halves`; None for n < 4.
    """
    return _error(features, reference, _factor(reference.covariance), splits)


def _distance(a: Gaussian, first: Array, b: Gaussian, second: Array) -> float:
    """Of Gaussians whose covariances have these factors."""
    cross = np.linalg.svd(first.T @ second, compute_uv=False).sum()
    distance = np.sum((a.mean - b.mean) ** 2) + np.trace(a.covariance) + np.trace(b.covariance) - 2 * cross
    return max(float(distance), 0.0)


def _error(features: NDArray[np.floating], reference: Gaussian, factor: Array, splits: int) -> float | None:
    n = len(features)
    if n < 4:
        return None
    values = np.asarray(features, dtype=np.float64)
    centre = values.mean(axis=0)
    centred = values - centre
    offset, squares = centre - reference.mean, np.einsum("ij,ij->i", centred, centred)
    turned = centred @ factor

    def distance(rows: NDArray[np.int64]) -> float:
        """Up to the trace of the reference's covariance, which both halves share."""
        mean, some = centred[rows].mean(axis=0), turned[rows]
        some -= some.mean(axis=0)
        # The singular values are those of the centred rows of X F, over √(n − 1), with the reference's F; of the two
        # Gram matrices with their squares the smaller one is enough.
        gram = some @ some.T if len(rows) < some.shape[1] else some.T @ some
        cross = np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0) / (len(rows) - 1)).sum()
        trace = (squares[rows].sum() - len(rows) * (mean @ mean)) / (len(rows) - 1)
        return float(np.sum((offset + mean) ** 2) + trace - 2 * cross)

    return error_of_halves((distance(a), distance(b)) for a, b in halves(n, splits))


def _factor(covariance: Array, features: NDArray[np.floating] | None = None) -> Array:
    """F with F Fᵀ = C, of as many columns as C has rank; the samples themselves where they are few."""
    if features is not None and len(features) < len(covariance):
        values = np.asarray(features, dtype=np.float64)
        return (values - values.mean(axis=0)).T / np.sqrt(len(values) - 1)
    (pivoted,) = get_lapack_funcs(("pstrf",), (covariance,))
    lower, pivots, rank, _ = pivoted(covariance, lower=1)
    factor = np.zeros((len(covariance), rank))
    factor[pivots - 1] = np.tril(lower)[:, :rank]
    return factor
