"""diffusers' ``UNet2DModel`` behind the interface of our own networks."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from scoresde.networks.layers import Labelled

# Of normalisation. A group of one channel would take out what the embedding of time and label adds to that channel.
GROUPS = 8


class DiffusersUNet(Labelled, nn.Module):
    """``diffusers.UNet2DModel`` after folding space into channels, called as ``net(x, t, label=None)``.

    One level per entry of ``channels``, ``depth`` residual blocks in each, self-attention in the middle.

    x has shape (batch, in_channels, H, W), H and W divisible by ``fold · 2^(levels − 1)``; t has shape (batch,), in the
    units of diffusers' sinusoidal features (0 to 1000); label has shape (batch,), with ``num_classes`` for "no label",
    which is also what None means. Returns the shape of x.

    Raises:
        ImportError: diffusers is not installed.
        ValueError: a single level, or channels that are not multiples of 16.
    """

    def __init__(
        self,
        in_channels: int = 1,
        channels: tuple[int, ...] = (64, 128),
        depth: int = 1,
        num_classes: int = 0,
        fold: int = 2,
    ):
        super().__init__()
        try:
            from diffusers.models.unets.unet_2d import UNet2DModel
        except ImportError as error:
            raise ImportError("the network 'diffusers_unet' needs diffusers: install scoresde[diffusers]") from error
        if len(channels) < 2 or any(width < 1 or width % (2 * GROUPS) for width in channels):
            raise ValueError(f"diffusers_unet needs two or more channels, multiples of 16, got {tuple(channels)}")
        self.config = {
            "in_channels": in_channels,
            "channels": list(channels),
            "depth": depth,
            "num_classes": num_classes,
            "fold": fold,
        }
        self.multiple = fold * 2 ** (len(channels) - 1)  # of the sides of images
        self.fold, self.num_classes = fold, num_classes
        self.unet = UNet2DModel(
            in_channels=in_channels * fold**2,
            out_channels=in_channels * fold**2,
            block_out_channels=tuple(channels),
            layers_per_block=depth,
            down_block_types=("DownBlock2D",) * len(channels),
            up_block_types=("UpBlock2D",) * len(channels),
            attention_head_dim=32,  # the default of 8 is several times slower on CPUs
            norm_num_groups=GROUPS,
            num_class_embeds=num_classes + 1,
        )

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        folded = F.pixel_unshuffle(x, self.fold)
        return F.pixel_shuffle(
            self.unet(folded, t, class_labels=self.labels(label, x), return_dict=False)[0], self.fold
        )
