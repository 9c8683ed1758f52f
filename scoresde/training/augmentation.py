"""Augmentation that does not leak: images are transformed, and the network is told how.

A network that is told learns the images of every condition, and sampled with zeros it makes images that nobody
transformed. Each transformation is done with the same probability, and its parameters are 0 where it is not. In this
order, with a₀, a₁ ~ U{0, 1}, a₃, a₄ ~ U(−π, π) and the others ~ N(0, 1):

- x-flip: left and right exchanged where a₀ = 1. Condition: a₀.
- y-flip: top and bottom exchanged where a₁ = 1. Condition: a₁.
- scaling by 2^(0.2 a₂). Condition: a₂.
- rotation by a₃ counter-clockwise. Condition: cos a₃ − 1, sin a₃.
- anisotropy: scaling by 2^(0.2 a₅) in the direction a₄, and by its inverse across. Condition: a₅ cos a₄, a₅ sin a₄.
- translation by a₆ W/8 to the right and a₇ H/8 down. Condition: a₆, a₇.

They go around the middle of the image and are in pixels, so that angles stay angles where an image is not square; and
all are one resampling, bicubic, with what lies outside mirrored at the border. As in the source, a stretch a₅ in the
direction a₄ has the entries of −a₅ in a₄ + π, which is its inverse: the network is told of either.

Source: Karras et al. 2022, Elucidating the design space of diffusion-based generative models, app. F.2 and table 6;
the transformations are those of Karras et al. 2020, Training generative adversarial networks with limited data, app. B.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CONDITION = 9  # entries of the condition
KINDS = (0, 1, 2, 3, 4, 4, 5, 5)  # of each parameter, the transformation it belongs to
OCTAVES = 0.2  # log₂ of a scale is N(0, OCTAVES²)
SHIFT = 1 / 8  # standard deviation of a translation over the side of the image


def check(probability: Any, name: str = "augment") -> None:
    """Refuse what is no probability.

    Raises:
        ValueError: names the setting and its value.
    """
    if isinstance(probability, bool) or not isinstance(probability, (int, float)) or not 0 <= probability <= 1:
        raise ValueError(f"{name} must be a number in [0, 1], got {probability!r:.60}")


def augmented(
    images: Tensor, probability: float, generator: torch.Generator, mirror: bool = True
) -> tuple[Tensor, Tensor]:
    """Images transformed at random, and the condition that says how.

    Args:
        images: floating-point numbers in [−1, 1], shape (batch, C, H, W), on the CPU.
        probability: of each transformation.
        generator: of the CPU; what it draws does not depend on probability and ``mirror``.
        mirror: whether the x-flip is one of them; without it its entry is 0.

    Returns:
        Images in [−1, 1] of the same shape and dtype, untouched ones with their bits, and the condition, float32,
        shape (batch, 9), zeros for an untouched image.
    """
    parameters = drawn(len(images), probability, generator)
    if not mirror:
        parameters[:, 0] = 0
    return transformed(images, parameters), condition(parameters)


def drawn(count: int, probability: float, generator: torch.Generator) -> Tensor:
    """Parameters a of ``count`` images, float64, shape (count, 8)."""
    enabled = torch.rand(count, max(KINDS) + 1, generator=generator) < probability
    flips = torch.randint(2, (count, 2), generator=generator).double()
    angles = math.pi * (2 * torch.rand(count, 2, generator=generator, dtype=torch.float64) - 1)
    normal = torch.randn(count, 4, generator=generator, dtype=torch.float64)
    parameters = [flips, normal[:, :1], angles, normal[:, 1:]]
    return torch.cat(parameters, 1).where(enabled[:, list(KINDS)], 0.0)


def condition(parameters: Tensor) -> Tensor:
    """What the network is told of parameters of shape (batch, 8): float32, shape (batch, 9)."""
    x_flip, y_flip, scale, angle, direction, stretch, right, down = parameters.unbind(1)
    turned = [angle.cos() - 1, angle.sin()]
    stretched = [stretch * direction.cos(), stretch * direction.sin()]
    return torch.stack([x_flip, y_flip, scale, *turned, *stretched, right, down], 1).float()


def transformed(images: Tensor, parameters: Tensor) -> Tensor:
    """Images in [−1, 1], transformed by parameters of shape (batch, 8), each in one resampling.

    Images whose parameters are all 0 keep their bits. What bicubic interpolation overshoots is cut off at ±1.
    """
    index = (parameters != 0).any(1).nonzero().flatten()
    if not len(index):
        return images
    chosen = images[index]
    source = _source(parameters[index], *chosen.shape[2:]).to(chosen.dtype)
    grid = F.affine_grid(source, list(chosen.shape), align_corners=False)
    resampled = F.grid_sample(chosen, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    return images.index_copy(0, index, resampled.clamp(-1, 1))


def _source(parameters: Tensor, height: int, width: int) -> Tensor:
    """Where each place of the new image is in the old one, in coordinates (x, y) from −1 to 1: shape (batch, 2, 3)."""
    x_flip, y_flip, scale, angle, direction, stretch, right, down = parameters.unbind(1)
    ratio = torch.exp2(-OCTAVES * stretch)
    # y points down, where a matrix of rotation turns clockwise.
    stretched = _rotation(-direction) @ torch.diag_embed(torch.stack([ratio, 1 / ratio], 1)) @ _rotation(direction)
    flipped = torch.diag_embed(1 - 2 * torch.stack([x_flip, y_flip], 1))
    inverse = torch.exp2(-OCTAVES * scale).view(-1, 1, 1) * flipped @ _rotation(angle) @ stretched
    sides = parameters.new_tensor([width, height])
    # From pixels to coordinates in which every side is 2 long.
    inverse = inverse * (sides / sides[:, None])
    moved = 2 * SHIFT * torch.stack([right, down], 1)
    return torch.cat([inverse, -inverse @ moved.unsqueeze(2)], 2)


def _rotation(angle: Tensor) -> Tensor:
    """[[cos, −sin], [sin, cos]] of each angle, shape (batch, 2, 2)."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos, -sin, sin, cos], 1).view(-1, 2, 2)
