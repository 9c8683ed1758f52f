"""All figures of one stream of images."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from scoresde.metrics import npz
from scoresde.metrics.checks import check_finite
from scoresde.metrics.figures.estimate import SPLITS, Estimate
from scoresde.metrics.figures.frechet import frechet
from scoresde.metrics.figures.kid import kid
from scoresde.metrics.figures.precision_recall import NEIGHBOURS, precision_recall
from scoresde.metrics.figures.sliced import sliced_wasserstein
from scoresde.metrics.moments import Gaussian, Moments, check_comparable
from scoresde.metrics.reference import Reference
from scoresde.metrics.spaces.pixels import PixelSpace
from scoresde.metrics.spaces.space import Space

FORMAT = "scoresde-figures-1"
FIGURES = ("fid", "kid", "precision", "recall", "sliced_wasserstein", "pixel_fd")


@dataclass(frozen=True)
class Figures:
    """Figures, with what they mean nothing without.

    Attributes:
        metrics: estimates by name: ``fid``, and where the reference has features ``kid``, ``precision``, ``recall`` and
            ``sliced_wasserstein``; ``pixel_fd`` where there is a reference for it.
        feature_space: name of the space of all but ``pixel_fd``.
        samples: how many samples were compared.
        reference: how many real images the moments are of; None where nobody knows.
        reference_features: how many real images' features there are; 0 for moments only.
    """

    metrics: dict[str, Estimate]
    feature_space: str
    samples: int
    reference: int | None
    reference_features: int

    def __str__(self) -> str:
        of = "unknown count" if self.reference is None else f"{self.reference:,}"
        counts = f"{self.samples:,} samples, reference of {of} (features of {self.reference_features:,})"
        lines = [f"{self.feature_space}, {counts}"]
        for name, figure in self.metrics.items():
            interval = "" if figure.low is None else f"  [{figure.low:.4g}, {figure.high:.4g}]"
            lines.append(f"  {name} {figure.value:.4g}{interval}")
        return "\n".join(lines)


class Collector:
    """Features of images as they come, by seed, and every figure of them.

    Figures are computed from all features in the order of their seeds, so they are the same bits for any split into
    batches and processes, and merging is exact. It keeps 4 bytes for each feature and pixel; where that is too much,
    :class:`scoresde.metrics.FID` keeps moments only.

    Args:
        space: of FID, KID, precision, recall and sliced Wasserstein.
        pixels: collect the images too, for the Fréchet distance in pixel space.
    """

    def __init__(self, space: Space, pixels: PixelSpace | None = None):
        self.space, self.pixels = space, pixels
        self._seen: set[int] = set()
        self._seeds = [np.zeros(0, np.int64)]
        self._features = [np.zeros((0, space.size), np.float32)]
        self._images = [np.zeros((0, 0 if pixels is None else pixels.size), np.float32)]

    def __len__(self) -> int:
        return len(self._seen)

    @property
    def seeds(self) -> NDArray[np.int64]:
        """Seeds of all images so far, ascending."""
        return np.sort(np.concatenate(self._seeds))

    @property
    def features(self) -> NDArray[np.float32]:
        """Features in the order of their seeds, (n, size)."""
        return self._ordered(self._features)

    @property
    def images(self) -> NDArray[np.float32]:
        """Images in the order of their seeds, as vectors in pixel space."""
        return self._ordered(self._images)

    def update(self, images: Tensor, seeds: Iterable[int]) -> None:
        """Add images, uint8 pixels or states in [−1, 1], and the seed of each.

        Raises:
            ValueError: seeds that do not number the images or came before, or images that the space does not take;
                nothing is added then.
        """
        numbers = np.array([int(seed) for seed in seeds], dtype=np.int64)
        features = self.space.features(images).numpy()
        flat = np.zeros((len(images), 0), np.float32)
        self._add(numbers, features, flat if self.pixels is None else self.pixels.features(images).numpy())

    def add(self, features: NDArray[np.float32], seeds: Iterable[int]) -> None:
        """Add features that the space gave before, (n, size), where no pixels are collected.

        Raises:
            ValueError: seeds that do not number the features or came before.
        """
        self._add(np.array([int(seed) for seed in seeds], np.int64), features, np.zeros((len(features), 0), np.float32))

    def merge(self, other: Collector) -> None:
        """Add all that ``other`` has, which must be of other seeds and the same spaces.

        Raises:
            ValueError: they are not; nothing is added then.
        """
        ours, theirs = (self.space.name, str(self.pixels)), (other.space.name, str(other.pixels))
        if ours != theirs:
            raise ValueError(f"features in {ours} and in {theirs} have nothing to do with each other")
        self._add(other.seeds, other.features, other.images)

    def figures(
        self,
        reference: Reference,
        pixels: Gaussian | None = None,
        splits: int = SPLITS,
        names: Container[str] = FIGURES,
    ) -> Figures:
        """The figures that the references allow, with 95 % intervals over draws of the samples.

        Args:
            reference: in the feature space.
            pixels: moments of real images in pixel space.
            splits: number of halvings that errors are measured by; a fifth of them in pixel space.
            names: of the figures wanted, of ``FIGURES``.

        Raises:
            ValueError: fewer than two images, a reference of another space, or one in pixel space where no pixels were
                collected.
        """
        if len(self) < 2:
            raise ValueError(f"figures need 2 samples or more, got {len(self)}")
        features = self.features
        in_pixels = max(1, splits // 5)  # each half costs the eigenvalues of a matrix of up to 4,096 dimensions
        halvings = in_pixels if isinstance(self.space, PixelSpace) else splits
        metrics: dict[str, Estimate] = {}
        if "fid" in names:
            metrics["fid"] = frechet(features, _comparable(reference.moments, self.space), halvings)
        if reference.features is not None:
            real = reference.array
            if "kid" in names:
                metrics["kid"] = kid(features, real, reference.kernel_mean)
            if ("precision" in names or "recall" in names) and min(len(features), len(real)) > NEIGHBOURS:
                both = precision_recall(features, real, reference.squared_radii, splits)
                found = dict(zip(("precision", "recall"), both, strict=True))
                metrics |= {name: estimate for name, estimate in found.items() if name in names}
            if "sliced_wasserstein" in names:
                metrics["sliced_wasserstein"] = sliced_wasserstein(features, real, splits)
        if pixels is not None and "pixel_fd" in names:
            if self.pixels is None:
                raise ValueError("no pixels were collected: give Collector a PixelSpace")
            metrics["pixel_fd"] = frechet(self.images, _comparable(pixels, self.pixels), in_pixels)
        of_features = 0 if reference.features is None else len(reference.features.features)
        return Figures(metrics, self.space.name, len(self), reference.moments.count, of_features)

    def save(self, path: str | Path) -> None:
        """Write an npz of ``format``, ``space``, ``pixels`` (its name), ``seeds``, ``features`` and ``images``."""
        arrays: dict[str, Any] = {"space": self.space.name, "pixels": str(self.pixels)}
        npz.write(path, FORMAT, {**arrays, "seeds": self.seeds, "features": self.features, "images": self.images})

    def load(self, path: str | Path) -> None:
        """Add all that is in a file of :meth:`save`.

        Raises:
            ValueError: the file is missing, damaged, of other spaces, or has seeds that are here already.
        """
        arrays = npz.read(path, FORMAT, ("space", "pixels", "seeds", "features", "images"))
        ours, theirs = (self.space.name, str(self.pixels)), (str(arrays["space"]), str(arrays["pixels"]))
        if ours != theirs:
            raise ValueError(f"{str(path)!r} has features in {theirs}, not in {ours}")
        kinds = {key: arrays[key].dtype.kind for key in ("seeds", "features", "images")}
        if kinds != {"seeds": "i", "features": "f", "images": "f"} or arrays["seeds"].ndim != 1:
            raise ValueError(f"{str(path)!r} is damaged: its seeds, features and images are not numbers of theirs")
        self._add(arrays["seeds"], arrays["features"], arrays["images"])

    def _add(self, seeds: NDArray[Any], features: NDArray[Any], images: NDArray[Any]) -> None:
        for found, parts in ((features, self._features), (images, self._images)):
            if found.shape != (len(seeds), parts[0].shape[1]):
                wanted = (len(seeds), parts[0].shape[1])
                raise ValueError(f"{len(seeds)} seeds need vectors of shape {wanted}, got {found.shape}")
        check_finite(features, self.space.name)
        new = set(seeds.tolist())
        again = new & self._seen
        if again or len(new) < len(seeds):
            raise ValueError(f"seeds come twice: {sorted(again)[:3] or 'within one batch'}")
        self._seen |= new
        self._seeds.append(seeds)
        self._features.append(features)
        self._images.append(images)

    def _ordered(self, parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.concatenate(parts)[np.argsort(np.concatenate(self._seeds))]


def _comparable(reference: Gaussian, space: Space) -> Gaussian:
    check_comparable(Moments(space.size, space.name), reference)
    return reference
