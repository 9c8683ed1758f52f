"""What FID is at best, at a given sample count: of real test images, and of the model's own converged solution."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scoresde.files.bundled import DEFAULT
from scoresde.metrics import npz
from scoresde.metrics.checks import check_finite
from scoresde.metrics.fid import Score
from scoresde.metrics.figures.frechet import frechet_distance
from scoresde.metrics.moments import Moments

FORMAT = "scoresde-sample-features-1"


@dataclass(frozen=True)
class SampleFeatures:
    """Features of many images, in an order of which every stretch is a fair sample of the whole.

    Attributes:
        space: name of the feature space.
        features: (n, size); stored in float16, which moves FID by less than a part in a thousand.
        labels: class of each image, (n,).
        about: what the images are, such as the solver, its options and the share of samples of their class.
    """

    space: str
    features: NDArray[Any]
    labels: NDArray[Any]
    about: dict[str, Any]

    def __post_init__(self) -> None:
        features, labels = self.features, self.labels
        fitting = features.ndim == 2 and labels.shape == (len(features),)
        if not fitting or features.dtype.kind != "f" or labels.dtype.kind not in "iu":
            raise ValueError(
                f"sample features need floating-point features (n, size) and integer labels (n,), got {features.dtype} "
                f"{features.shape} and {labels.dtype} {labels.shape}"
            )
        check_finite(features, self.space)

    def moments(self, n: int, first: int = 0) -> Moments:
        """Moments of n of them, from the one numbered ``first`` on.

        Raises:
            ValueError: there are not so many, or n < 2.
        """
        if not 2 <= n <= len(self.features) - first:
            raise ValueError(f"floors are known for 2 to {len(self.features):,} samples, not for {n:,}")
        moments = Moments(self.features.shape[1], self.space)
        moments.update(self.features[first : first + n])
        return moments

    def save(self, path: str | Path) -> None:
        """Write an npz of ``format``, ``space``, ``features`` (float16), ``labels`` (uint16) and ``about`` (JSON).

        Features beyond float16, and labels beyond uint16, are written as they are.
        """
        small = np.abs(self.features).max(initial=0) <= np.finfo(np.float16).max
        few = self.labels.min(initial=0) >= 0 and self.labels.max(initial=0) <= np.iinfo(np.uint16).max
        arrays = {
            "space": self.space,
            "features": self.features.astype(np.float16) if small else self.features,
            "labels": self.labels.astype(np.uint16) if few else self.labels,
            "about": json.dumps(self.about),
        }
        npz.write(path, FORMAT, arrays)

    @classmethod
    def load(cls, path: str | Path) -> SampleFeatures:
        """Features from a file of :meth:`save`.

        Raises:
            ValueError: the file is missing, damaged or of another format.
        """
        arrays = npz.read(path, FORMAT, ("space", "features", "labels", "about"))
        try:
            about = json.loads(str(arrays["about"]))
            if not isinstance(about, dict):
                raise ValueError("what it says about its images is no JSON object")
            return cls(str(arrays["space"]), arrays["features"], arrays["labels"], about)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{str(path)!r} is damaged: {error}") from error


@dataclass(frozen=True)
class Floors:
    """What FID is at best at one sample count.

    Attributes:
        real: of n real test images, the mean over all disjoint sets of n that there are.
        spread: standard deviation of FID between those sets, the chance in any FID at n; None if there is only one.
        converged: of the model's converged samples of seeds 0 … n − 1.
    """

    real: Score
    spread: float | None
    converged: Score


def floors(n: int, folder: str | Path = DEFAULT) -> Floors:
    """Both floors at n samples, from the statistics in a model folder; needs no data.

    A solver is not expected below ``converged``, which has the model's own error, nor a model below ``real``, by more
    than ``spread``. Every set has its classes in proportion, as the samples compared with it should: see
    :func:`scoresde.metrics.class_labels`.

    Args:
        n: number of samples, 2 to 10,000 for the bundled model.
        folder: holds ``reference.npz``, ``test_features.npz`` and ``converged_features.npz``.

    Raises:
        ValueError: n is out of range, a file is missing, damaged or foreign, or the files' feature spaces differ.
    """
    folder = Path(folder)
    reference = Moments.load(folder / "reference.npz")
    converged = SampleFeatures.load(folder / "converged_features.npz")
    real, spread = _real(n, folder, reference)
    return Floors(
        real=real,
        spread=spread,
        converged=Score(frechet_distance(converged.moments(n), reference), reference.space, n, reference.count),
    )


def real_floor(n: int, folder: str | Path = DEFAULT) -> tuple[Score, float | None]:
    """``real`` and ``spread`` of :func:`floors`, which need no model: of a folder with nothing but its real images."""
    folder = Path(folder)
    return _real(n, folder, Moments.load(folder / "reference.npz"))


def _real(n: int, folder: Path, reference: Moments) -> tuple[Score, float | None]:
    real = SampleFeatures.load(folder / "test_features.npz")
    sets = max(1, len(real.features) // max(1, n))
    values = [frechet_distance(real.moments(n, index * n), reference) for index in range(sets)]
    score = Score(float(np.mean(values)), reference.space, n, reference.count)
    return score, float(np.std(values, ddof=1)) if sets > 1 else None
