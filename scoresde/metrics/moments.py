"""Mean and covariance of a stream of features, in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from scoresde.metrics import npz

FORMAT = "scoresde-moments-1"


class Moments:
    """Count n, mean m and scatter S = Σ (f − m)(f − m)ᵀ of features seen so far, the same for any split into batches.

    Two sets join as n = n1 + n2, m = m1 + d n2/n, S = S1 + S2 + d dᵀ n1 n2/n with d = m2 − m1, which does not cancel
    when the mean is large.

    Source: Chan, Golub & LeVeque 1983, Algorithms for computing the sample variance, eq. 2.1.

    Args:
        size: number of features.
        space: name of the feature space; moments of different spaces are not merged or compared.
    """

    def __init__(self, size: int, space: str = ""):
        if size < 1:
            raise ValueError(f"moments need at least one feature, got size={size}")
        self.space = space
        self.count = 0
        self.mean: NDArray[np.float64] = np.zeros(size)
        self._scatter: NDArray[np.float64] = np.zeros((size, size))

    @property
    def size(self) -> int:
        """Number of features."""
        return len(self.mean)

    @property
    def covariance(self) -> NDArray[np.float64]:
        """Unbiased covariance S/(n − 1), shape (size, size).

        Raises:
            ValueError: fewer than two features were seen.
        """
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 samples, got {self.count}")
        return self._scatter / (self.count - 1)

    def update(self, features: Tensor | NDArray[Any]) -> None:
        """Add features of shape (n, size); n may be 0.

        Raises:
            ValueError: another shape, or a value that is not finite; nothing is added then.
        """
        if isinstance(features, Tensor):
            features = features.detach().double().cpu().numpy()
        values = np.asarray(features, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != self.size:
            raise ValueError(f"features must have shape (n, {self.size}), got {values.shape}")
        if not np.isfinite(values).all():
            raise ValueError(f"{int((~np.isfinite(values)).any(1).sum())} of {len(values)} features are not finite")
        if len(values):
            mean = values.mean(axis=0)
            centred = values - mean
            self._join(len(values), mean, centred.T @ centred)

    def merge(self, other: Moments) -> None:
        """Add all that ``other`` has seen.

        Raises:
            ValueError: ``other`` has another size or feature space.
        """
        self.check_comparable(other)
        if other.count:
            self._join(other.count, other.mean, other._scatter)

    def check_comparable(self, other: Moments) -> None:
        """Raise ValueError unless ``other`` has the same size and feature space."""
        if (self.size, self.space) != (other.size, other.space):
            raise ValueError(
                f"moments of {self.size} features in {self.space!r} and of {other.size} features in {other.space!r} "
                "have nothing to do with each other: measure both in one feature space"
            )

    def _join(self, count: int, mean: NDArray[np.float64], scatter: NDArray[np.float64]) -> None:
        total = self.count + count
        difference = mean - self.mean
        self._scatter = self._scatter + scatter + np.outer(difference, difference) * (self.count * count / total)
        self.mean = self.mean + difference * (count / total)
        self.count = total

    def save(self, path: str | Path) -> None:
        """Write an npz of ``format``, ``space``, ``count``, ``mean`` (size,) and ``scatter`` (size, size)."""
        arrays = {"space": self.space, "count": self.count, "mean": self.mean, "scatter": self._scatter}
        npz.write(path, FORMAT, arrays)

    @classmethod
    def load(cls, path: str | Path) -> Moments:
        """Moments from a file of :meth:`save`, bit for bit.

        Raises:
            ValueError: the file is missing, damaged, of another format, or holds no moments of anything.
        """
        arrays = npz.read(path, FORMAT, ("space", "count", "mean", "scatter"))
        mean, scatter, count = arrays["mean"], arrays["scatter"], arrays["count"]
        possible = (
            count.shape == ()
            and count.dtype.kind == "i"
            and count >= 0
            and mean.ndim == 1
            and len(mean) > 0
            and scatter.shape == (len(mean), len(mean))
            and mean.dtype == scatter.dtype == np.float64
            and np.isfinite(mean).all()
            and np.isfinite(scatter).all()
            and np.allclose(scatter, scatter.T, rtol=1e-9)
            and np.linalg.eigvalsh(scatter)[0] >= -1e-9 * np.trace(scatter)
        )
        if not possible:
            raise ValueError(
                f"{str(path)!r} is damaged: its mean of shape {mean.shape} and scatter of shape {scatter.shape} are "
                "not a count and finite float64 moments with a positive semi-definite covariance"
            )
        moments = cls(len(mean), str(arrays["space"]))
        moments.count, moments.mean, moments._scatter = int(count), mean, scatter
        return moments
