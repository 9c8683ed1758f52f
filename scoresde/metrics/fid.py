"""FID in a named feature space."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from scoresde.metrics.features import FeatureSpace, load_features
from scoresde.metrics.frechet import frechet_distance
from scoresde.metrics.moments import Moments

BUNDLED = Path(__file__).parents[1] / "models" / "mnist"


@dataclass(frozen=True)
class Score:
    """A FID, with what it means nothing without.

    Attributes:
        value: the Fréchet distance; smaller is better.
        feature_space: name of the space in which it was measured.
        samples: how many samples were compared with the reference.
    """

    value: float
    feature_space: str
    samples: int

    def __str__(self) -> str:
        return f"FID {self.value:.3f} in {self.feature_space}, {self.samples:,} samples"


class FID:
    """Fréchet distance between the features of images seen so far and a reference, streamed in float64.

    FID depends on the number of samples: their covariance is itself uncertain, which adds about (constant)/n even when
    they come from the reference's distribution. Compare values at one sample count only, and with floors of that count
    (:func:`scoresde.metrics.floors`).

    Args:
        features: the feature space; its name stands in every score.
        reference: moments of the real images' features in that space.

    Raises:
        ValueError: the reference was measured in another feature space.
    """

    def __init__(self, features: FeatureSpace, reference: Moments):
        self.features, self.reference = features, reference
        self.moments = Moments(features.size, features.name)
        self.moments.check_comparable(reference)

    @classmethod
    def load(cls, folder: str | Path = BUNDLED) -> FID:
        """The FID of a model folder, from its ``features/`` and ``reference.npz``, the bundled one's by default.

        Raises:
            ValueError: a file is missing, damaged or foreign.
        """
        return cls(load_features(Path(folder) / "features"), Moments.load(Path(folder) / "reference.npz"))

    def update(self, images: Tensor) -> None:
        """Add images: uint8 pixels or states in [−1, 1], as :meth:`FeatureSpace.features` takes them."""
        self.moments.update(self.features.features(images))

    def compute(self) -> Score:
        """The score of all images added so far.

        Raises:
            ValueError: there are fewer than two.
        """
        return Score(frechet_distance(self.moments, self.reference), self.features.name, self.moments.count)
