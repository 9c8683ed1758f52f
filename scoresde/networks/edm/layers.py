"""The layers of EDM's networks, named in their state as in those checkpoints."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Convolution(nn.Conv2d):
    """A convolution of the given side after resampling by a factor of 2, or in front of it (``first``)."""

    def __init__(
        self,
        inside: int,
        outside: int,
        side: int,
        *,
        up: bool = False,
        down: bool = False,
        taps: Sequence[float] = (1, 1),
        first: bool = False,
    ):
        super().__init__(inside, outside, side, padding=side // 2)
        self.up, self.down, self.first = up, down, first
        self.register_buffer("resample_filter", filter_of(taps) if up or down else None)

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.resample_filter
        if isinstance(kernel, Tensor) and self.first:
            wide = F.conv2d(x, self.weight, self.bias, padding=self.weight.shape[-1] // 2 + (kernel.shape[-1] - 1) // 2)
            return resample(wide, kernel, up=self.up, padding=0)
        if isinstance(kernel, Tensor):
            x = resample(x, kernel, up=self.up, padding=(kernel.shape[-1] - 1) // 2)
        return super().forward(x)


class Resampling(nn.Module):
    """Resampling by a factor of 2 alone."""

    def __init__(self, *, up: bool, taps: Sequence[float]):
        super().__init__()
        self.up = up
        self.register_buffer("resample_filter", filter_of(taps))

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.resample_filter
        assert isinstance(kernel, Tensor)
        return resample(x, kernel, up=self.up, padding=(kernel.shape[-1] - 1) // 2)


def filter_of(taps: Sequence[float]) -> Tensor:
    """The separable filter of these taps, with sum 1, shape (1, 1, n, n)."""
    row = torch.tensor(taps, dtype=torch.float32)
    return torch.outer(row, row)[None, None] / row.sum() ** 2


def resample(x: Tensor, kernel: Tensor, *, up: bool, padding: int) -> Tensor:
    """Every channel filtered on its own, to twice or half the size."""
    channels = x.shape[1]
    weight = kernel.to(x.dtype).expand(channels, -1, -1, -1)
    if up:
        return F.conv_transpose2d(x, 4 * weight, stride=2, padding=padding, groups=channels)
    return F.conv2d(x, weight, stride=2, padding=padding, groups=channels)


def normalisation(channels: int, eps: float) -> nn.GroupNorm:
    """Groups of four channels or more, 32 groups at most."""
    return nn.GroupNorm(min(32, channels // 4), channels, eps)


class Block(nn.Module):
    """A residual block, x ← s (x + F(x, e)), and self-attention where there are heads, x ← s (x + A(x)).

    The embedding e shifts the normalised features (DDPM++, NCSN++) or scales and shifts them (ADM, ``adaptive``).
    """

    def __init__(
        self,
        inside: int,
        outside: int,
        *,
        embedding: int,
        heads: int,
        scale: float,
        eps: float,
        adaptive: bool,
        taps: Sequence[float] = (1, 1),
        project: bool = False,
        up: bool = False,
        down: bool = False,
    ):
        super().__init__()
        self.heads, self.scale, self.adaptive = heads, scale, adaptive
        self.norm0 = normalisation(inside, eps)
        self.conv0 = Convolution(inside, outside, 3, up=up, down=down, taps=taps)
        self.affine = nn.Linear(embedding, outside * (2 if adaptive else 1))
        self.norm1 = normalisation(outside, eps)
        self.conv1 = Convolution(outside, outside, 3)
        self.skip: nn.Module = nn.Identity()
        if inside != outside or (project and (up or down)):
            self.skip = Convolution(inside, outside, 1, up=up, down=down, taps=taps)
        elif up or down:
            self.skip = Resampling(up=up, taps=taps)
        if heads:
            self.norm2 = normalisation(outside, eps)
            self.qkv, self.proj = Convolution(outside, 3 * outside, 1), Convolution(outside, outside, 1)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        y = self.conv0(F.silu(self.norm0(x)))
        told = self.affine(e)[:, :, None, None]
        if self.adaptive:
            factor, shift = told.chunk(2, dim=1)
            y = shift + (1 + factor) * self.norm1(y)
        else:
            y = self.norm1(y + told)
        x = self.scale * (self.skip(x) + self.conv1(F.silu(y)))
        return self.scale * (x + self._attention(x)) if self.heads else x

    def _attention(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        parts = self.qkv(self.norm2(x)).reshape(batch, self.heads, channels // self.heads, 3, height * width)
        q, k, v = parts.transpose(2, 4).unbind(3)  # (batch, heads, positions, channels of a head)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(2, 3).reshape(batch, channels, height, width))


class Sinusoids(nn.Module):
    """Cosines and sines of t at frequencies from 1 down to 1/10000 (that one itself with ``last``), (batch, width)."""

    def __init__(self, width: int, last: bool):
        super().__init__()
        self.count, self.last = width // 2, last

    def forward(self, t: Tensor) -> Tensor:
        powers = torch.arange(self.count, dtype=t.dtype, device=t.device) / (self.count - int(self.last))
        angles = torch.outer(t, 1e-4**powers)
        return torch.cat([angles.cos(), angles.sin()], dim=1)


class Fourier(nn.Module):
    """Cosines and sines of t at random frequencies, which are a part of the checkpoint, (batch, width)."""

    def __init__(self, width: int):
        super().__init__()
        self.register_buffer("freqs", 16 * torch.randn(width // 2))

    def forward(self, t: Tensor) -> Tensor:
        freqs = self.freqs
        assert isinstance(freqs, Tensor)
        angles = torch.outer(t, 2 * math.pi * freqs.to(t.dtype))
        return torch.cat([angles.cos(), angles.sin()], dim=1)
