"""Metrics of samples that are made shard by shard: all figures follow from the features kept with the shards."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from scoresde.files import digest_of, regular, replacing
from scoresde.metrics import Collector, Measure, Moments, Score
from scoresde.metrics.reference import Reference
from scoresde.metrics.statistics import Statistics
from scoresde.runs.shards import Shards, seal

METRICS = "metrics.json"


class Scoring:
    """Metrics of the samples in a folder.

    ``metrics.json`` holds the SHA-256 of the features it was computed from, and of itself. Figures are computed from
    all features in the order of their seeds, by one process, so that its bytes depend on the samples alone: not on who
    made them, nor on how often that was interrupted.

    Attributes:
        about: what the features and the metrics depend on, for the configuration of a run.
        inputs: digests of what was found at the paths of the settings.

    Args:
        measure: the feature space and the reference; pixel space is not measured.
    """

    def __init__(self, measure: Measure):
        self.measure = measure
        self.about = {"features": measure.space.name, "reference": digest(measure.reference.moments)}
        self.inputs = {"reference": identity(measure.reference)}

    def features(self, samples: Tensor) -> NDArray[np.float32]:
        """Features of samples, (n, size)."""
        return self.measure.space.features(samples).numpy()

    def finished(self, shards: Shards) -> bool:
        """Whether the metrics of these shards, which are whole, are there as they were written."""
        try:
            written = regular(shards.folder / METRICS).read_text(encoding="utf-8")
            content = json.loads(written)
            return content["features_sha256"] == self._source(shards) and written == _sealed(content)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return False

    def finish(self, shards: Shards) -> None:
        """Write the metrics of shards that are whole: all figures, with intervals."""
        collector = Collector(self.measure.space)
        for shard in shards.parts:
            collector.add(shards.features(shard), shard.seeds)
        figures = collector.figures(self.measure.reference)
        content = {
            "metrics": {name: asdict(estimate) for name, estimate in figures.metrics.items()},
            "feature_space": figures.feature_space,
            "samples": figures.samples,
            "reference": {
                "images": figures.reference,
                "features": figures.reference_features,
                **({"resized": resized} if (resized := self.measure.reference.resized) else {}),
            },
            "reference_sha256": self.about["reference"],
            "features_sha256": self._source(shards),
        }
        with replacing(shards.folder / METRICS) as path:
            path.write_text(_sealed(content), encoding="utf-8")

    def score(self, folder: Path) -> Score:
        """FID, from metrics that are finished."""
        content = json.loads((folder / METRICS).read_text(encoding="utf-8"))
        reference = self.measure.reference.moments.count
        return Score(content["metrics"]["fid"]["value"], content["feature_space"], content["samples"], reference)

    @staticmethod
    def _source(shards: Shards) -> str:
        return digest_of(shards.features(shard).tobytes() for shard in shards.parts)


def _sealed(content: dict[str, Any]) -> str:
    content = {key: value for key, value in content.items() if key != "sha256"}
    return json.dumps({**content, "sha256": seal(content)}, indent=2) + "\n"


def digest(reference: Moments | Statistics) -> str:
    """SHA-256 of mean and covariance."""
    return digest_of([reference.mean.tobytes(), reference.covariance.tobytes()])


def identity(reference: Reference) -> str:
    """SHA-256 of all that samples are compared with: mean, covariance and, where there are some, features."""
    features = [] if reference.features is None else [reference.features.features]
    arrays = [reference.moments.mean, reference.moments.covariance, *features]
    return digest_of(array.tobytes() for array in arrays)
