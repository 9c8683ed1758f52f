"""What the classifiers have in common whose penultimate layers are feature spaces."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Classifier(nn.Module):
    """A classifier of small images whose penultimate layer h, whitened, is a feature space.

    The logits are linear in h, and so are the features, C^(−½) (h − m), with m and C the mean and covariance of h.

    Why whitened: the penultimate layer of a classifier of few classes collapses to one point per class. On MNIST nine
    of 64 directions held 97 % of the variance, and FID followed the random class counts of its samples more than
    their looks. With all directions at unit variance, the same defects stand out about five times further from
    the spread of the floor.

    Args:
        trunk: maps states (n, channels, H, W) to maps (n, size, h, w), which :meth:`pooled` makes h of.
        size: number of features.
        classes: number of logits.
        bias: whether the logits have one.

    Attributes:
        config: what builds the network again, in JSON's types.
    """

    config: dict[str, Any]
    centre: Tensor
    whitening: Tensor

    def __init__(self, trunk: nn.Sequential, size: int, classes: int, *, bias: bool = True):
        super().__init__()
        self.trunk = trunk
        self.head = nn.Linear(size, classes, bias=bias)
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("whitening", torch.eye(size))

    @property
    def size(self) -> int:
        """Number of features."""
        return self.head.in_features

    def forward(self, x: Tensor) -> Tensor:
        """Features (n, size) of states x in [−1, 1], float32 of shape (n, in_channels, H, W)."""
        return (self.pooled(x) - self.centre) @ self.whitening

    def classify(self, x: Tensor) -> Tensor:
        """Logits (n, classes) of states x, as in :meth:`forward`."""
        return self.head(self.pooled(x))

    def pooled(self, x: Tensor) -> Tensor:
        """h, (n, size), of states x, as in :meth:`forward`: averages of the last maps over space."""
        return self.trunk(x).mean(dim=(2, 3))

    def whiten(self, features: Tensor, ridge: float = 0.0) -> None:
        """Make these features (n, size), from this network before whitening, have mean 0 and covariance I.

        Args:
            features: h of many images.
            ridge: is added to each eigenvalue of C, in units of their mean. Directions of less variance than that, in
                which there is little but noise, then stay smaller than others: at λ their variance is λ/(λ + ridge).

        Raises:
            ValueError: their covariance is singular to 1e-7 of its largest eigenvalue: a feature is dead or a copy.
        """
        known = features.cpu().double()
        values, vectors = torch.linalg.eigh(torch.cov(known.T))
        values = values + ridge * values.mean()
        if not values[0] > 1e-7 * values[-1]:
            raise ValueError(
                f"features cannot be whitened: the eigenvalues of their covariance go from {float(values[0]):.3g} "
                f"to {float(values[-1]):.3g}, so one is dead or a copy; train longer or take fewer"
            )
        self.centre.copy_(known.mean(0))
        self.whitening.copy_(vectors / values.sqrt() @ vectors.T)
