"""What our own networks share: features of times and positions, self-attention, and checks of their settings."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEAD = 64  # channels of a head where nobody says how many: narrow heads are slow on CPUs


class Labelled:
    """What class-conditional networks of ours know of labels: ``num_classes`` stands for "no label"."""

    num_classes: int

    @property
    def label_count(self) -> int:
        """Labels that it knows, the one for "no label" included."""
        return self.num_classes + 1

    def labels(self, label: Tensor | None, x: Tensor) -> Tensor:
        """The labels of a batch x, int64; "no label" for all of it where None is given."""
        if label is None:
            return torch.full(x.shape[:1], self.num_classes, dtype=torch.long, device=x.device)
        return label.long()


class SelfAttention(nn.Module):
    """softmax(q kᵀ/√d) v over all tokens, in ``heads`` of d channels each; (batch, tokens, channels) to the same.

    Source: Vaswani et al. 2017, Attention is all you need, sec. 3.2.

    Raises:
        ValueError: heads that do not divide the channels.
    """

    def __init__(self, channels: int, heads: int):
        super().__init__()
        if channels % heads:
            raise ValueError(f"'heads' must divide the {channels} channels that attend, got {heads}")
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, channels = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4)
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, channels)
        return self.out(h)


class EmbedAugment(nn.Linear):
    """What the condition of an augmentation adds to an embedding, for networks that are told how images were changed.

    It has no bias, so that zeros, which an untouched image has, are no condition; and it begins at zero, so that
    training begins at the network without it, with the same weights from the same seed if it is made after them.

    Source: Karras et al. 2022, Elucidating the design space of diffusion-based generative models, app. F.2.
    """

    def __init__(self, size: int, width: int):
        super().__init__(size, width, bias=False)
        nn.init.zeros_(self.weight)


def with_augment(embedding: Tensor, layer: EmbedAugment | None, augment: Tensor | None) -> Tensor:
    """An embedding, shape (batch, width), with what the condition ``augment``, shape (batch, size), adds to it.

    Raises:
        ValueError: a condition for a network that has no layer for it.
    """
    if augment is None:
        return embedding
    if layer is None:
        raise ValueError("this network was made with augment=0: it takes no condition of an augmentation")
    return embedding + layer(augment.to(embedding.dtype))


def usual_heads(channels: int) -> int:
    """How many heads of about 64 channels divide that many channels."""
    return next(heads for heads in range(max(1, channels // HEAD), 0, -1) if channels % heads == 0)


def sinusoids(t: Tensor, size: int) -> Tensor:
    """cos and sin of t at ``size/2`` frequencies from 1 to 1/10000, in float32, shape (batch, size)."""
    rates = torch.exp(-math.log(10000.0) * torch.arange(size // 2, device=t.device, dtype=torch.float32) / (size // 2))
    angles = t.to(torch.float32)[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def check_whole(owner: str, least: int = 1, **settings: Any) -> None:
    """Refuse settings that are not whole numbers of at least ``least``.

    Raises:
        ValueError: names the setting and its value.
    """
    for name, value in settings.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{owner} needs a whole number of at least {least} as {name}, got {value!r:.60}")


def check_wholes(owner: str, name: str, values: Any) -> None:
    """Refuse what is not a list of whole numbers above 0.

    Raises:
        ValueError: names the setting and its value.
    """
    if not isinstance(values, (list, tuple)):
        raise ValueError(f"{owner} needs a list of whole numbers as {name}, got {values!r:.60}")
    for value in values:
        check_whole(owner, **{name: value})
