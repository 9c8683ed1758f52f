"""Pixel space."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from scoresde.data import to_state
from scoresde.metrics.spaces.space import check_shape, pixels_of

LARGEST = 4096


class PixelSpace:
    """The images themselves, as vectors of values in [−1, 1].

    The Fréchet distance in it needs no network, and sees blur, contrast and colour, not what is depicted.

    Args:
        shape: (channels, height, width).

    Raises:
        ValueError: more than 4,096 values an image, for which a covariance would be too large and too uncertain.
    """

    def __init__(self, shape: Sequence[int]):
        if len(shape) != 3 or not all(isinstance(size, int) and size >= 1 for size in shape):
            raise ValueError(f"shape must be [channels, height, width], got {shape}")
        channels, height, width = shape
        self.shape = channels, height, width
        self.size = math.prod(self.shape)
        if self.size > LARGEST:
            raise ValueError(
                f"pixel space of {channels}×{height}×{width} images has {self.size:,} dimensions, more than "
                f"{LARGEST:,}: its covariance says nothing at common sample counts; use the features of a network"
            )
        self.name = f"pixels {channels}×{height}×{width}, as they are"

    def __str__(self) -> str:
        return self.name

    def features(self, images: Tensor) -> Tensor:
        """The images' 8-bit pixels in [−1, 1], (n, size), as :class:`~scoresde.metrics.spaces.space.Space` has it.

        Raises:
            ValueError: another shape or dtype, or a state that is not finite.
        """
        check_shape(self.name, images, self.shape)
        return to_state(pixels_of(images)).flatten(1).cpu()
