"""A small convolutional U-Net that is quick on two CPU cores, and no slower to read than to run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scoresde.networks.layers import (
    EmbedAugment,
    Labelled,
    SelfAttention,
    check_whole,
    check_wholes,
    sinusoids,
    usual_heads,
    with_augment,
)


class Level(nn.Module):
    """A resolution above a lower one: residual blocks and a halving, a doubling and residual blocks with skips."""

    def _build_down(self, width: int, below: int, depth: int, embedding: int, heads: int) -> None:
        self.down = nn.ModuleList(Block(width, width, embedding, heads) for _ in range(depth))
        self.shrink = nn.Conv2d(width, below, 2, stride=2)

    def _build_up(self, width: int, below: int, depth: int, embedding: int, heads: int) -> None:
        self.grow = nn.Conv2d(below, 4 * width, 1)
        self.up = nn.ModuleList(Block(2 * width, width, embedding, heads) for _ in range(depth))

    def descend(self, h: Tensor, context: Tensor, skips: list[Tensor]) -> Tensor:
        """To half the resolution; what each block says is added to ``skips``."""
        for block in self.down:
            h = block(h, context)
            skips.append(h)
        return self.shrink(h)

    def ascend(self, h: Tensor, context: Tensor, skips: list[Tensor]) -> Tensor:
        """Back from half the resolution, with what :meth:`descend` left, the last first."""
        h = F.pixel_shuffle(self.grow(h), 2)
        for block in self.up:
            h = block(torch.cat([h, skips.pop()], 1), context)
        return h


class InnerLevel(Level):
    """A level below the first, which is :class:`UNet` itself."""

    def __init__(self, width: int, below: int, depth: int, embedding: int, heads: int):
        super().__init__()
        self._build_down(width, below, depth, embedding, heads)
        self._build_up(width, below, depth, embedding, heads)


class UNet(Labelled, Level):
    """A class-conditional U-Net with a resolution for each entry of ``channels``, after folding space into channels.

    After ``pixel_unshuffle(fold)``: ``depth`` residual blocks at each resolution but the lowest, the first of which is
    1/fold of the image's and each further one half of that before; ``2·depth`` blocks with one self-attention between
    them at the lowest; and ``depth`` blocks at each on the way back, with skip connections. Normalisation is over the
    channels of each position (LayerNorm on the channels-last layout), which on a CPU costs much less than the GroupNorm
    of diffusers' ``UNet2DModel``.

    Called as ``net(x, t, label=None, augment=None)``: x of shape (batch, in_channels, H, W), H and W divisible by
    ``fold · 2^(levels − 1)``; t of shape (batch,), about 0 to 1000, which is the range of its sinusoidal features;
    label of shape (batch,), with ``num_classes`` standing for "no label", which is also what None means;
    augment of shape (batch, ``augment``), where None is zeros. Returns the shape of x.

    Sources: Ho et al. 2020, app. B; Dhariwal & Nichol 2021, sec. 3, for attention at several resolutions.

    Args:
        in_channels, num_classes: of the images and their labels.
        channels: width at each resolution, the highest first; the first is even.
        depth: residual blocks at each resolution, each way.
        fold: space folded into channels by this factor first.
        attention: resolutions whose every block is followed by self-attention, as guided-diffusion and EDM name them:
            the side in positions there, image_size/(fold · 2^level), of images that are not square the shorter one.
            None and [] leave the one in the middle, which there always is.
        heads: of every self-attention; None is as many of 64 channels as there are.
        image_size: shorter side of the images, from which ``attention`` is reckoned.
        augment: size of the condition that says how images were augmented, 0 for none.

    Raises:
        ValueError: a setting out of range, ``attention`` at a resolution that there is none of, or heads that do not
            divide the channels.
    """

    def __init__(
        self,
        in_channels: int = 1,
        channels: Sequence[int] = (64, 128),
        depth: int = 2,
        num_classes: int = 0,
        fold: int = 2,
        attention: Sequence[int] | None = None,
        heads: int | None = None,
        image_size: int | None = None,
        augment: int = 0,
    ):
        super().__init__()
        check_wholes("unet", "channels", channels)
        if not channels or channels[0] % 2:
            raise ValueError(f"unet needs one or more channels, the first even, got {channels!r:.60}")
        check_whole("unet", least=0, depth=depth, num_classes=num_classes, augment=augment)
        chosen = {"in_channels": in_channels, "fold": fold, "heads": heads, "image_size": image_size}
        check_whole("unet", **{name: value for name, value in chosen.items() if value is not None})
        attending = _attending(attention, image_size, fold, len(channels))
        self.config = {
            "in_channels": in_channels,
            "channels": list(channels),
            "depth": depth,
            "num_classes": num_classes,
            "fold": fold,
            # Only where they are chosen: other folders are as they were before there was a choice.
            **({"attention": list(attention), "image_size": image_size} if attention else {}),
            **({} if heads is None else {"heads": heads}),
            **({"augment": augment} if augment else {}),
        }
        self.multiple = fold * 2 ** (len(channels) - 1)  # of the sides of images
        low, high = channels[0], channels[-1]
        embedding = 4 * low
        self.fold, self.num_classes, self.frequencies = fold, num_classes, low
        counts = [(heads or usual_heads(width)) if here else 0 for width, here in zip(channels, attending, strict=True)]
        pairs = zip(channels, channels[1:], counts, strict=False)
        levels = [(width, below, depth, embedding, count) for width, below, count in pairs]
        self.levels = len(levels)
        self.embed_time = nn.Sequential(nn.Linear(low, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.embed_label = nn.Embedding(num_classes + 1, embedding)
        self.inlet = nn.Conv2d(in_channels * fold**2, low, 3, padding=1)
        # The first level's modules are the network's own, around the others' and the middle's, in this order: so
        # folders name their weights, seeds draw them, and checkpoints of training number them.
        if levels:
            self._build_down(*levels[0])
        self.inner = nn.ModuleList(InnerLevel(*level) for level in levels[1:])
        # The last of these is followed by the attention in the middle, whatever ``attention`` says.
        self.middle_in = nn.ModuleList(
            Block(high, high, embedding, counts[-1] if index < depth - 1 else 0) for index in range(depth)
        )
        self.attention = Attention(high, heads or usual_heads(high))
        self.middle_out = nn.ModuleList(Block(high, high, embedding, counts[-1]) for _ in range(depth))
        if levels:
            self._build_up(*levels[0])
        self.outlet = nn.Conv2d(low, in_channels * fold**2, 3, padding=1)
        nn.init.zeros_(self.outlet.weight)
        nn.init.zeros_(self.outlet.bias)  # type: ignore[arg-type]
        self.embed_augment = EmbedAugment(augment, embedding) if augment else None

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None, augment: Tensor | None = None) -> Tensor:
        embedding = self.embed_time(sinusoids(t, self.frequencies).to(x.dtype))
        embedding = embedding + self.embed_label(self.labels(label, x))
        context = F.silu(with_augment(embedding, self.embed_augment, augment))
        h = self.inlet(F.pixel_unshuffle(x, self.fold).contiguous(memory_format=torch.channels_last))
        skips: list[Tensor] = []
        if self.levels:
            h = self.descend(h, context, skips)
        for level in self.inner:
            assert isinstance(level, Level)
            h = level.descend(h, context, skips)
        for block in self.middle_in:
            h = block(h, context)
        h = self.attention(h)
        for block in self.middle_out:
            h = block(h, context)
        for level in reversed(self.inner):
            assert isinstance(level, Level)
            h = level.ascend(h, context, skips)
        if self.levels:
            h = self.ascend(h, context, skips)
        return F.pixel_shuffle(self.outlet(F.silu(normalise(h))), self.fold).contiguous()


def _attending(attention: Sequence[int] | None, image_size: int | None, fold: int, levels: int) -> list[bool]:
    """Of each level whether its blocks are followed by self-attention.

    Raises:
        ValueError: a resolution that there is none of, or twice; or nobody says of what images.
    """
    if attention is None:
        return [False] * levels
    check_wholes("unet", "attention", attention)
    if not attention:
        return [False] * levels
    if image_size is None:
        raise ValueError(f"unet needs the image_size for attention={list(attention)!r:.60}")
    sides = [image_size / (fold * 2**level) for level in range(levels)]
    if len(set(attention)) < len(attention) or not set(attention) <= set(sides):
        raise ValueError(
            f"unet has the resolutions {', '.join(f'{side:g}' for side in sides)} on images of {image_size}, of which "
            f"attention may name some, each once; got {list(attention)!r:.60}"
        )
    return [side in attention for side in sides]


class Block(nn.Module):
    """Residual block: two 3×3 convolutions, the second modulated by the embedding of time and label.

    Where there are heads, self-attention follows.
    """

    def __init__(self, inputs: int, outputs: int, embedding: int, heads: int = 0):
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        nn.init.zeros_(self.second.weight)
        self.attention = Attention(outputs, heads) if heads else nn.Identity()

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        scale, shift = self.modulation(context)[:, :, None, None].chunk(2, dim=1)
        h = normalise(self.first(F.silu(normalise(x))))
        return self.attention(self.skip(x) + self.second(F.silu(torch.addcmul(shift, h, 1 + scale))))


class Attention(SelfAttention):
    """Self-attention over all positions of a normalised (batch, C, H, W) tensor, added to it."""

    def __init__(self, channels: int, heads: int):
        super().__init__(channels, heads)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        tokens = normalise(x).permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        return x + super().forward(tokens).view(batch, height, width, channels).permute(0, 3, 1, 2)


def normalise(x: Tensor) -> Tensor:
    """Zero mean and unit variance over the channels of each position of a channels-last (batch, C, H, W) tensor."""
    return F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2]).permute(0, 3, 1, 2)
