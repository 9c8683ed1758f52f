"""What samples are compared with: statistics and features of real images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scoresde.metrics.figures.kid import kernel_mean
from scoresde.metrics.figures.precision_recall import squared_radii
from scoresde.metrics.floors import SampleFeatures
from scoresde.metrics.moments import Moments
from scoresde.metrics.spaces.space import Space
from scoresde.metrics.statistics import Statistics, load_moments


@dataclass(frozen=True)
class Reference:
    """Real images as all figures need them.

    Attributes:
        moments: for Fréchet distances.
        features: of some real images, for KID, precision, recall and sliced Wasserstein; None where there are none, and
            those figures are not to be had. They need not be those of the moments: the bundled reference has the
            moments of 60,000 training images and the features of 10,000 test images.
        resized: what became of the images first, in words; empty for nothing.

    Raises:
        ValueError: moments and features are of two spaces.
    """

    moments: Moments | Statistics
    features: SampleFeatures | None = None
    resized: str = ""

    def __post_init__(self) -> None:
        if self.features is not None and self.features.space != self.moments.space:
            raise ValueError(
                f"reference moments in {self.moments.space!r} and features in {self.features.space!r}: measure both in "
                "one feature space"
            )

    @property
    def space(self) -> str:
        """Name of the feature space."""
        return self.moments.space

    @cached_property
    def kernel_mean(self) -> float:
        """See :func:`scoresde.metrics.figures.kid.kernel_mean`; computed once."""
        return kernel_mean(self.array)

    @cached_property
    def squared_radii(self) -> NDArray[np.float64]:
        """See :func:`scoresde.metrics.figures.precision_recall.squared_radii`; computed once."""
        return squared_radii(self.array)

    @cached_property
    def array(self) -> NDArray[np.float64]:
        """The features in float64.

        Raises:
            ValueError: there are none.
        """
        if self.features is None:
            raise ValueError(f"the reference in {self.space!r} has moments only: FID is all it can give")
        return self.features.features.astype(np.float64)

    @classmethod
    def load(cls, path: str | Path, space: Space) -> Reference:
        """The reference in a folder with ``reference.npz`` and perhaps ``test_features.npz``, or moments in a file.

        Args:
            path: a folder, or a file as :func:`load_moments` takes it.
            space: the feature space that samples are measured in.

        Raises:
            ValueError: a file is missing, damaged or foreign, or of another feature space.
        """
        path = Path(path).expanduser()
        if not path.is_dir():
            return cls(load_moments(path, space))
        features = path / "test_features.npz"
        moments = load_moments(path / "reference.npz", space)
        return cls(moments, SampleFeatures.load(features) if features.is_file() else None)
