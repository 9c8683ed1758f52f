"""Precision and recall: how many samples look real, and how much of what is real they reach."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from scoresde.metrics.checks import check_finite
from scoresde.metrics.figures.blocks import blocks
from scoresde.metrics.figures.estimate import SPLITS, Estimate, error_of_halves, halves, share

Array = NDArray[np.float64]
NEIGHBOURS = 3
LOOKED_AT = 32  # nearest points, of which a half has the third nearest but once in ten million times


def precision_recall(
    features: NDArray[np.floating],
    reference: NDArray[np.floating],
    radii: Array | None = None,
    splits: int = SPLITS,
) -> tuple[Estimate, Estimate]:
    """Shares of samples within the real images' manifold, and of real images within the samples'.

    The manifold of a set is the union of balls around its points, each up to its third nearest neighbour in the set,
    border included. Both shares depend on both counts; compare them at one count.

    Precision's interval is that of a share, recall's value ± 1.96 errors of random halves of the samples
    (:func:`scoresde.metrics.figures.estimate.error_of_halves`). The real images are taken as they are.

    Args:
        features: of the samples, (n, d).
        reference: of real images, (m, d).
        radii: the reference's, from :func:`squared_radii`, if they are known already.
        splits: number of halvings.

    Source: Kynkäänniemi et al. 2019, Improved precision and recall metric for assessing generative models, eqs. 1
    and 2, with k = 3.

    Raises:
        ValueError: fewer than four of either, or some that are not finite.
    """
    x, y = np.asarray(features, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    check_finite(x)
    check_finite(y)
    real = squared_radii(y) if radii is None else radii
    sets = [np.arange(len(x))]
    if len(x) >= 2 * (NEIGHBOURS + 1):
        sets += [half for pair in halves(len(x), splits) for half in pair]
    reach, near = np.full((len(sets), len(x)), -math.inf), _nearest(x, LOOKED_AT)
    for index, rows in enumerate(sets):
        reach[index, rows] = _radii_among(x, rows, *near)
    widest, slack = reach.max(axis=0), _slack(x, y)

    precise = np.zeros(len(x), dtype=bool)
    reached = np.zeros((len(sets), len(y)), dtype=bool)
    for rows in blocks(len(y), len(x)):
        distances = _squared(y[rows], x) - slack
        precise |= (distances <= real[rows, None]).any(axis=0)
        images, samples = np.nonzero(distances <= widest)  # few: the others are in no ball of any half
        near = distances[images, samples]
        for some, within in zip(reached[:, rows], reach, strict=True):
            some[images[near <= within[samples]]] = True
    recalls = reached.mean(axis=1)
    error = error_of_halves(zip(recalls[1::2], recalls[2::2], strict=True)) if len(sets) > 1 else None
    return share(int(precise.sum()), len(x)), Estimate.of(float(recalls[0]), error, 0.0, 1.0)


def squared_radii(features: NDArray[np.floating]) -> Array:
    """Squared distance of each point to its third nearest neighbour among the others, (n,).

    Raises:
        ValueError: fewer than four points.
    """
    x = np.asarray(features, dtype=np.float64)
    return _nearest(x, NEIGHBOURS)[1][:, -1]


def _nearest(x: Array, count: int) -> tuple[NDArray[np.int64], Array]:
    """Of each point the nearest others, at most ``count``, the nearest first: which, and their squared distances."""
    if len(x) <= NEIGHBOURS:
        raise ValueError(f"precision and recall need at least {NEIGHBOURS + 1} samples on either side, got {len(x)}")
    count = min(count, len(x) - 1)
    which, squared = np.empty((len(x), count), dtype=np.int64), np.empty((len(x), count))
    for rows in blocks(len(x), len(x)):
        distances = _squared(x[rows], x)
        distances[np.arange(len(distances)), np.arange(len(x))[rows]] = math.inf
        some = np.argpartition(distances, count - 1, axis=1)[:, :count]
        own = np.take_along_axis(distances, some, axis=1)
        order = own.argsort(axis=1)
        which[rows] = np.take_along_axis(some, order, axis=1)
        squared[rows] = np.take_along_axis(own, order, axis=1)
    return which, squared


def _radii_among(x: Array, rows: NDArray[np.int64], which: NDArray[np.int64], squared: Array) -> Array:
    """:func:`squared_radii` of some of the points among these alone, from the nearest of all.

    Where these hold fewer than three of a point's nearest, which is hardly ever so, it is looked for anew.
    """
    member = np.zeros(len(x), dtype=bool)
    member[rows] = True
    third = member[which[rows]].cumsum(axis=1) == NEIGHBOURS
    radii = squared[rows, third.argmax(axis=1)]
    for index in np.flatnonzero(~third.any(axis=1)):
        distances = _squared(x[rows[index], None], x[rows])[0]
        distances[index] = math.inf
        radii[index] = np.partition(distances, NEIGHBOURS - 1)[NEIGHBOURS - 1]
    return radii


def _squared(x: Array, y: Array) -> Array:
    squares = np.einsum("ij,ij->i", x, x)[:, None] + np.einsum("ij,ij->i", y, y)
    return np.maximum(squares - 2 * (x @ y.T), 0)


def _slack(x: Array, y: Array) -> float:
    """What rounding may add to a squared distance: points on the border, such as copies, are within."""
    return 1e-14 * float(max(np.einsum("ij,ij->i", x, x).max(), np.einsum("ij,ij->i", y, y).max()))
