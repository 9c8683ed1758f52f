"""How far points are from the density that a model is exact for."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from scoresde.metrics.figures.estimate import Estimate
from scoresde.metrics.figures.sliced import sliced_wasserstein

DRAWS = 5_000  # exact points that samples are compared with


@dataclass(frozen=True)
class PointMeasure:
    """The sliced Wasserstein distance of points from exact draws.

    Attributes:
        draws: of the density, (m, dim).
    """

    draws: Tensor

    @property
    def where(self) -> str:
        """What figures are measured against, in words."""
        return f"{len(self.draws):,} exact draws in {self.draws.shape[1]}D"

    def of(self, points: Tensor, labels: Tensor | None) -> dict[str, Estimate]:
        """``sliced_wasserstein`` of points (n, dim); labels are those of images."""
        return {"sliced_wasserstein": sliced_wasserstein(points.numpy(), self.draws.numpy())}
