"""What a feature space is, and the one road from images to features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from scoresde.data import to_pixels

BATCH = 50


class Space(Protocol):
    """A map from images to features, with the name that is printed next to every figure measured in it.

    The name says what the space is, the start of the SHA-256 of its weights, and how images are resized, so that two
    figures under one name can be compared. Moments and features carry it, and refuse to meet those of another.
    """

    @property
    def name(self) -> str:
        """What it is, its weights' hash, its resize."""
        ...

    @property
    def size(self) -> int:
        """Number of features."""
        ...

    def features(self, images: Tensor) -> Tensor:
        """Features (n, size), float32 on the CPU, of n images.

        Args:
            images: uint8 pixels, or floating-point states in [−1, 1], of shape (n, channels, height, width). States are
                rounded to 8-bit pixels first: the real images are 8 bit, so anything finer would be compared with what
                cannot be there.

        Raises:
            ValueError: a shape or dtype that the space does not take, or a state that is not finite.
        """
        ...


def pixels_of(images: Tensor) -> Tensor:
    """uint8 pixels from pixels or states.

    Raises:
        ValueError: not four axes, another dtype, or a state that is not finite.
    """
    _check_tensor(images)
    if images.ndim != 4:
        raise ValueError(f"images must have shape (n, channels, height, width), got {tuple(images.shape)}")
    if images.dtype == torch.uint8:
        return images
    if not images.is_floating_point():
        raise ValueError(f"images must be uint8 pixels or floating-point states in [-1, 1], got {images.dtype}")
    if not images.isfinite().all():
        bad = int((~images.isfinite()).flatten(1).any(1).sum())
        raise ValueError(f"{bad} of {len(images)} images hold values that are not finite")
    if images.numel() and images.min() >= 0 and images.max() > 2:  # states that run away do so to both sides
        raise ValueError(
            f"images hold numbers from {float(images.min()):g} to {float(images.max()):g}, which are no states in "
            "[-1, 1]: give pixels of 0 to 255 as uint8"
        )
    return to_pixels(images)


def _check_tensor(images: object) -> None:
    if not isinstance(images, Tensor):
        raise TypeError(f"images must be a tensor, got {type(images).__name__}: give torch.as_tensor of them")
    if images.device.type == "meta":
        raise ValueError("images on the device 'meta' have no values")


def check_shape(name: str, images: Tensor, shape: tuple[int, int, int]) -> None:
    """Raise ValueError unless the images have this shape, and TypeError if they are none."""
    _check_tensor(images)
    if images.ndim != 4 or images.shape[1:] != shape:
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"{name} takes images of shape (n, {wanted}), got {tuple(images.shape)}")


def as_rgb(name: str, pixels: Tensor) -> Tensor:
    """Grey images as three equal channels, colour images as they are.

    Raises:
        ValueError: another number of channels.
    """
    if pixels.shape[1] not in (1, 3):
        raise ValueError(f"{name} takes images of 1 or 3 channels, got {pixels.shape[1]}")
    return pixels.expand(-1, 3, -1, -1)


@torch.no_grad()
def in_batches(network: Callable[[Tensor], Tensor], pixels: Tensor, device: torch.device) -> Tensor:
    """What a network makes of pixels, always ``BATCH`` at a time, the last batch filled up with black images.

    Kernels are chosen by the shape of a batch and round differently; with one shape an image has the same features
    whatever batch it came in.
    """
    parts = []
    for part in pixels.split(BATCH):
        batch = part.new_zeros(BATCH, *part.shape[1:])
        batch[: len(part)] = part
        parts.append(network(batch.to(device))[: len(part)].cpu())
    return torch.cat(parts)
