"""Mean and covariance of a stream of features, in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scoresde.metrics import npz
from scoresde.metrics.checks import check_finite

FORMAT = "scoresde-moments-1"


class Gaussian(Protocol):
    """What the Fréchet distance takes: :class:`Moments`, or statistics from elsewhere."""

    @property
    def space(self) -> str: ...

    @property
    def mean(self) -> NDArray[np.float64]: ...

    @property
    def covariance(self) -> NDArray[np.float64]: ...

    @property
    def count(self) -> int | None: ...


def check_comparable(a: Gaussian, b: Gaussian) -> None:
    """Raise ValueError unless both have one size and one feature space."""
    if (len(a.mean), a.space) != (len(b.mean), b.space):
        raise ValueError(
            f"moments of {len(a.mean)} features in {a.space!r} and of {len(b.mean)} features in {b.space!r} "
            "have nothing to do with each other: measure both in one feature space"
        )


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
            features = features.detach().cpu().double().numpy()
        values = np.asarray(features, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != self.size:
            raise ValueError(f"features must have shape (n, {self.size}), got {values.shape}")
        check_finite(values, self.space)
        if len(values):
            mean = values.mean(axis=0)
            centred = values - mean
            self._join(len(values), mean, centred.T @ centred)

    def merge(self, other: Moments) -> None:
        """Add all that ``other`` has seen.

        Raises:
            ValueError: ``other`` has another size or feature space.
        """
        check_comparable(self, other)
        if other.count:
            self._join(other.count, other.mean, other._scatter)

    def _join(self, count: int, mean: NDArray[np.float64], scatter: NDArray[np.float64]) -> None:
        total = self.count + count
        difference = mean - self.mean
        self._scatter = self._scatter + scatter + np.outer(difference, difference) * (self.count * count / total)
        self.mean = self.mean + difference * (count / total)
        self.count = total

    def packed(self, shift: NDArray[np.float64]) -> Tensor:
        """n, Σ (f − c) and Σ (f − c)(f − c)ᵀ in one float64 tensor, for a given c = ``shift``.

        Tensors packed with one shift may be added, as ``torch.distributed.all_reduce`` does, and :meth:`unpacked`
        again. With a shift near the mean, such as the reference's, nothing cancels.

        Raises:
            ValueError: the shift is not one finite value for each feature.
        """
        shift = self._checked(shift)
        offset = self.mean - shift
        second = self._scatter + self.count * np.outer(offset, offset)
        return torch.from_numpy(np.concatenate([[self.count], self.count * offset, second.ravel()]))

    @classmethod
    def unpacked(cls, packed: Tensor, shift: NDArray[np.float64], space: str = "") -> Moments:
        """Moments from a sum of :meth:`packed` tensors.

        Raises:
            ValueError: it is not such a sum for as many features as the shift has.
        """
        moments = cls(len(shift), space)
        values = packed.detach().cpu().double().numpy()
        if values.shape != (1 + moments.size + moments.size**2,) or values[0] < 0 or values[0] != round(values[0]):
            raise ValueError(f"no packed moments of {moments.size} features: shape {values.shape}")
        moments.count = int(values[0])
        if moments.count:
            offset = values[1 : 1 + moments.size] / moments.count
            second = values[1 + moments.size :].reshape(moments.size, moments.size)
            moments.mean = moments._checked(shift) + offset
            moments._scatter = second - moments.count * np.outer(offset, offset)
        return moments

    def _checked(self, shift: NDArray[np.float64]) -> NDArray[np.float64]:
        shift = np.asarray(shift, dtype=np.float64)
        if shift.shape != self.mean.shape or not np.isfinite(shift).all():
            raise ValueError(f"the shift must be {self.size} finite values, got shape {shift.shape}")
        return shift

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
