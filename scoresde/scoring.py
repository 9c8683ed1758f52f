"""Metrics of samples as they are made: features are kept shard by shard, and moments are merged at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from scoresde.metrics import FID, Collector, Estimate, Measure, Moments, Score
from scoresde.metrics.reference import Statistics


class Scoring:
    """Metrics of samples that several processes make.

    Attributes:
        about: what the features and the metrics depend on, for the configuration of a run.
        score: FID of all samples, when :meth:`merge` has been called.

    Args:
        measure: the feature space and the reference; pixel space is not measured.
    """

    def __init__(self, measure: Measure):
        self.measure, self._fid = measure, FID(measure.space, measure.reference.moments)
        self.score: Score | None = None
        self.about = {"features": measure.space.name, "reference": digest(measure.reference.moments)}

    def features(self, samples: Tensor) -> NDArray[np.float32]:
        """Features of samples, (n, size)."""
        return self.measure.space.features(samples).numpy()

    def add(self, features: NDArray[np.float32]) -> None:
        """Add features of one shard."""
        self._fid.moments.update(features)

    def merge(self, total: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> None:
        """FID of what all processes have added.

        Args:
            total: sums an array over all processes; it is called once.
        """
        shift = self._fid.reference.mean
        packed = self._fid.moments.packed(shift)
        summed = packed.new_tensor(total(packed.numpy()))
        self._fid.moments = Moments.unpacked(summed, shift, self.measure.space.name)
        self.score = self._fid.compute()

    def result(self, shards: Iterable[tuple[NDArray[np.float32], Iterable[int]]]) -> dict[str, Any]:
        """All metrics, with intervals, in words that JSON knows: FID as merged, the others from all features.

        Args:
            shards: features and seeds of all of them.
        """
        assert self.score is not None, "merge comes first"
        collector = Collector(self.measure.space)
        for features, seeds in shards:
            collector.add(features, seeds)
        figures = collector.figures(self.measure.reference)
        fid = figures.metrics["fid"]
        metrics = {**figures.metrics, "fid": Estimate(self.score.value, fid.low, fid.high)}
        return {
            "metrics": {name: asdict(estimate) for name, estimate in metrics.items()},
            "feature_space": figures.feature_space,
            "samples": figures.samples,
            "reference": {"images": figures.reference, "features": figures.reference_features},
            "reference_sha256": self.about["reference"],
        }


def digest(reference: Moments | Statistics) -> str:
    """SHA-256 of mean and covariance."""
    return sha256(reference.mean.tobytes() + reference.covariance.tobytes()).hexdigest()
