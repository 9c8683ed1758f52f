"""Metrics of samples as they are made: features are kept shard by shard, and moments are merged at the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scoresde.files import digest
from scoresde.metrics import FID, Moments, Score, frechet_distance, load_features

REFERENCE = "reference.npz"


class Scoring:
    """FID of samples that several processes make.

    Attributes:
        about: what the features and the metrics depend on, for the configuration of a run.
        score: FID of all samples, when :meth:`result` has been asked for.

    Args:
        folder: holds ``features/`` and ``reference.npz``, as a model folder does.
        shape: of one sample.
        device: where the feature network runs.

    Raises:
        ValueError: a file is missing, damaged or foreign, or the feature network takes images of another shape.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...], device: torch.device):
        self._fid = FID(load_features(folder / "features", device=device), Moments.load(folder / REFERENCE))
        if self._fid.features.shape != tuple(shape):
            raise ValueError(f"{self._fid.features} takes images of {self._fid.features.shape}, not of {tuple(shape)}")
        self.score: Score | None = None
        self.about = {"features": self._fid.features.name, "reference": digest(folder / REFERENCE)}

    def features(self, samples: Tensor) -> NDArray[np.float32]:
        """Features of samples, (n, size)."""
        return self._fid.features.features(samples).numpy()

    def add(self, features: NDArray[np.float32]) -> None:
        """Add features of one shard."""
        self._fid.moments.update(features)

    def result(self, total: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> dict[str, Any]:
        """The metrics of what all processes have added, in words that JSON knows.

        Args:
            total: sums an array over all processes; it is called once.
        """
        reference = self._fid.reference
        packed = total(pack(self._fid.moments, reference.mean))
        moments = unpack(packed, reference.mean, self._fid.features.name)
        self.score = score = Score(frechet_distance(moments, reference), self._fid.features.name, moments.count)
        fid = {"value": score.value, "feature_space": score.feature_space, "samples": score.samples}
        return {"fid": fid, "reference_sha256": self.about["reference"]}


def pack(moments: Moments, shift: NDArray[np.float64]) -> NDArray[np.float64]:
    """Moments as one vector (n, Σ (f − r), Σ (f − r)(f − r)ᵀ) of which the sum over sets is that of their union.

    Args:
        moments: of a set of features f.
        shift: r, near their mean, so that nothing cancels in :func:`unpack`.
    """
    n, difference = moments.count, moments.mean - shift
    scatter = moments.covariance * (n - 1) if n > 1 else np.zeros((moments.size, moments.size))
    raw = scatter + n * np.outer(difference, difference)
    return np.concatenate([[n], n * difference, raw.ravel()])


def unpack(packed: NDArray[np.float64], shift: NDArray[np.float64], space: str) -> Moments:
    """The moments of a vector of :func:`pack`, or of a sum of such.

    With d = Σ (f − r)/n, the mean is r + d and the scatter Σ (f − r)(f − r)ᵀ − n d dᵀ.
    """
    moments = Moments(len(shift), space)
    n = round(float(packed[0]))
    if n:
        difference = packed[1 : 1 + moments.size] / n
        raw = packed[1 + moments.size :].reshape(moments.size, moments.size)
        moments.count, moments.mean = n, shift + difference
        moments._scatter = raw - n * np.outer(difference, difference)
    return moments
