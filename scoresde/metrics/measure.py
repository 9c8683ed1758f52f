"""What samples are measured in, and compared with."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from scoresde.metrics.collector import FIGURES, Collector
from scoresde.metrics.figures.estimate import Estimate, share
from scoresde.metrics.moments import Gaussian
from scoresde.metrics.reference import Reference
from scoresde.metrics.spaces.network import FeatureSpace
from scoresde.metrics.spaces.pixels import PixelSpace
from scoresde.metrics.spaces.space import Space

OWN_CLASS = "own_class"
NAMES = (*FIGURES, OWN_CLASS)


@dataclass(frozen=True)
class Measure:
    """Figures of a set of images, in one feature space against one reference.

    Attributes:
        space: of all figures but ``pixel_fd``.
        reference: of real images, in that space.
        pixels: space and moments of real images for ``pixel_fd``; None where there are none.
        classifier: tells which class an image is of; None where nobody can.
        names: of the figures wanted, of ``NAMES``.
    """

    space: Space
    reference: Reference
    pixels: tuple[PixelSpace, Gaussian] | None = None
    classifier: FeatureSpace | None = None
    names: tuple[str, ...] = NAMES

    @property
    def where(self) -> str:
        """What figures are measured in, in words: the feature space."""
        return self.space.name

    def of(self, images: Tensor, labels: Tensor | None) -> dict[str, Estimate]:
        """Estimates by name, of uint8 images (n, channels, height, width) that were asked for with these labels."""
        space, moments = (self.pixels if "pixel_fd" in self.names else None) or (None, None)
        collector = Collector(self.space, space)
        collector.update(images, range(len(images)))
        found = collector.figures(self.reference, moments, names=self.names).metrics
        if labels is not None and self.classifier is not None and OWN_CLASS in self.names:
            right = int((self.classifier.classify(images).argmax(1) == labels).sum())
            found[OWN_CLASS] = share(right, len(images))
        return found
