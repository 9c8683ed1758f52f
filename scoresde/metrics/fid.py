"""FID in a named feature space."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from torch import Tensor

from scoresde.files.bundled import DEFAULT
from scoresde.metrics.figures.frechet import frechet_distance
from scoresde.metrics.moments import Gaussian, Moments, check_comparable
from scoresde.metrics.spaces.network import FeatureSpace, load_features
from scoresde.metrics.spaces.space import Space


@dataclass(frozen=True)
class Score:
    """A FID, with what it means nothing without.

    Attributes:
        value: the Fréchet distance; smaller is better.
        feature_space: name of the space in which it was measured.
        samples: how many samples were compared with the reference.
        reference: how many real images the reference is of; None where nobody knows.
    """

    value: float
    feature_space: str
    samples: int
    reference: int | None = None

    def __str__(self) -> str:
        of = "" if self.reference is None else f", reference of {self.reference:,}"
        return f"FID {self.value:.3f} in {self.feature_space}, {self.samples:,} samples{of}"


S = TypeVar("S", bound=Space)


class FID(Generic[S]):
    """Fréchet distance between the features of images seen so far and a reference, streamed in float64.

    It keeps moments, not features, and so has no interval; :class:`scoresde.metrics.Collector` has one.

    FID depends on the number of samples: their covariance is itself uncertain, which adds about (constant)/n even when
    they come from the reference's distribution. Compare values at one sample count only, and with floors of that count
    (:func:`scoresde.metrics.floors`).

    Args:
        features: the feature space; its name stands in every score.
        reference: moments of the real images' features in that space.

    Raises:
        ValueError: the reference was measured in another feature space.
    """

    def __init__(self, features: S, reference: Gaussian):
        self.features, self.reference = features, reference
        self.moments = Moments(features.size, features.name)
        check_comparable(self.moments, reference)

    @classmethod
    def load(cls, folder: str | Path = DEFAULT) -> FID[FeatureSpace]:
        """The FID of a model folder, from its ``features/`` and ``reference.npz``, the bundled one's by default.

        Raises:
            ValueError: a file is missing, damaged or foreign.
        """
        return FID(load_features(Path(folder) / "features"), Moments.load(Path(folder) / "reference.npz"))

    def update(self, images: Tensor) -> None:
        """Add images: uint8 pixels or states in [−1, 1], as the feature space takes them."""
        self.moments.update(self.features.features(images))

    def compute(self) -> Score:
        """The score of all images added so far.

        Raises:
            ValueError: there are fewer than two.
        """
        value = frechet_distance(self.moments, self.reference)
        return Score(value, self.features.name, self.moments.count, self.reference.count)
