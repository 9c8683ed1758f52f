"""A small convolutional U-Net that is quick on two CPU cores, and no slower to read than to run."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class UNet(nn.Module):
    """A class-conditional U-Net of two resolutions, after folding space into channels.

    After ``pixel_unshuffle(fold)``: ``depth`` residual blocks at ``channels[0]``, ``2·depth`` blocks with one
    self-attention at half the resolution and ``channels[1]``, and ``depth`` blocks back with skip connections.
    Normalisation is over the channels of each position (LayerNorm on the channels-last layout), which on a CPU costs
    much less than the GroupNorm of diffusers' ``UNet2DModel``.

    Called as ``net(x, t, label=None)``: x of shape (batch, in_channels, H, W), H and W divisible by ``2·fold``; t of
    shape (batch,), about 0 to 1000, which is the range of its sinusoidal features; label of shape (batch,), with
    ``num_classes`` standing for "no label", which is also what None means. Returns the shape of x.
    """

    def __init__(
        self,
        in_channels: int = 1,
        channels: tuple[int, int] = (64, 128),
        depth: int = 2,
        num_classes: int = 0,
        fold: int = 2,
    ):
        super().__init__()
        low, high = channels
        embedding = 4 * low
        self.config = {
            "in_channels": in_channels,
            "channels": list(channels),
            "depth": depth,
            "num_classes": num_classes,
            "fold": fold,
        }
        self.multiple = 2 * fold  # of the sides of images
        self.fold, self.num_classes, self.frequencies = fold, num_classes, low
        self.embed_time = nn.Sequential(nn.Linear(low, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.embed_label = nn.Embedding(num_classes + 1, embedding)
        self.inlet = nn.Conv2d(in_channels * fold**2, low, 3, padding=1)
        self.down = nn.ModuleList(Block(low, low, embedding) for _ in range(depth))
        self.shrink = nn.Conv2d(low, high, 2, stride=2)
        self.middle_in = nn.ModuleList(Block(high, high, embedding) for _ in range(depth))
        self.attention = Attention(high)
        self.middle_out = nn.ModuleList(Block(high, high, embedding) for _ in range(depth))
        self.grow = nn.Conv2d(high, 4 * low, 1)
        self.up = nn.ModuleList(Block(2 * low, low, embedding) for _ in range(depth))
        self.outlet = nn.Conv2d(low, in_channels * fold**2, 3, padding=1)
        nn.init.zeros_(self.outlet.weight)
        nn.init.zeros_(self.outlet.bias)  # type: ignore[arg-type]

    @property
    def label_count(self) -> int:
        """Labels that it knows, the one for "no label" included."""
        return self.num_classes + 1

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        if label is None:
            label = torch.full(t.shape, self.num_classes, dtype=torch.long, device=x.device)
        context = F.silu(self.embed_time(sinusoids(t, self.frequencies).to(x.dtype)) + self.embed_label(label.long()))
        h = self.inlet(F.pixel_unshuffle(x, self.fold).contiguous(memory_format=torch.channels_last))
        skips = []
        for block in self.down:
            h = block(h, context)
            skips.append(h)
        h = self.shrink(h)
        for block in self.middle_in:
            h = block(h, context)
        h = self.attention(h)
        for block in self.middle_out:
            h = block(h, context)
        h = F.pixel_shuffle(self.grow(h), 2)
        for block in self.up:
            h = block(torch.cat([h, skips.pop()], 1), context)
        return F.pixel_shuffle(self.outlet(F.silu(normalise(h))), self.fold).contiguous()


class Block(nn.Module):
    """Residual block: two 3×3 convolutions, the second modulated by the embedding of time and label."""

    def __init__(self, inputs: int, outputs: int, embedding: int):
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        scale, shift = self.modulation(context)[:, :, None, None].chunk(2, dim=1)
        h = normalise(self.first(F.silu(normalise(x))))
        return self.skip(x) + self.second(F.silu(torch.addcmul(shift, h, 1 + scale)))


class Attention(nn.Module):
    """Self-attention over all positions, in heads of 64 channels (narrow heads are slow on CPUs)."""

    def __init__(self, channels: int):
        super().__init__()
        self.heads = max(1, channels // 64)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        tokens = normalise(x).permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        q, k, v = self.qkv(tokens).view(batch, -1, 3, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4)
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, height * width, channels)
        return x + self.out(h).view(batch, height, width, channels).permute(0, 3, 1, 2)


def normalise(x: Tensor) -> Tensor:
    """Zero mean and unit variance over the channels of each position of a channels-last (batch, C, H, W) tensor."""
    return F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2]).permute(0, 3, 1, 2)


def sinusoids(t: Tensor, size: int) -> Tensor:
    """cos and sin of t at ``size/2`` frequencies from 1 to 1/10000, in float32, shape (batch, size)."""
    rates = torch.exp(-math.log(10000.0) * torch.arange(size // 2, device=t.device, dtype=torch.float32) / (size // 2))
    angles = t.to(torch.float32)[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], dim=1)
