"""The U-Nets of EDM's checkpoints, for sampling: DDPM++ and NCSN++ (`SongUNet`), ADM (`DhariwalUNet`).

Weights are named as in those checkpoints. What serves training alone (dropout, the inputs of augmentation) is left out.

Sources: Song et al. 2021, Score-based generative modeling through SDEs, app. C; Dhariwal & Nichol 2021, Diffusion
models beat GANs on image synthesis, sec. 3; Karras et al. 2022, Elucidating the design space of diffusion-based
generative models, table 1 and app. C.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scoresde.networks.edm.layers import Block, Convolution, Fourier, Resampling, Sinusoids, normalisation
from solvers.errors import known

HEAD = 64  # channels of one attention head in ADM

KINDS = {
    "embedding": ("positional", "fourier"),
    "encoder": ("standard", "skip", "residual"),
    "decoder": ("standard", "skip"),
}


class UNet(nn.Module):
    """What both have in common: called as ``net(x, t, label=None)``.

    x has shape (batch, in_channels, H, W); t, shape (batch,), is EDM's c_noise; label has shape (batch,), with
    ``num_classes`` for "no label", which is also what None means. Returns the shape of x. ``resolution``, the side of
    the images it was trained on, names its levels and says which of them attend to themselves.
    """

    def __init__(self, resolution: int, widths: Sequence[int], blocks: int, num_classes: int):
        super().__init__()
        self.sides = [resolution >> level for level in range(len(widths))]
        self.blocks, self.num_classes = blocks, num_classes
        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()

    @property
    def label_count(self) -> int:
        """Labels that it knows, the one for "no label" included."""
        return self.num_classes + 1

    def _build(
        self,
        in_channels: int,
        first: int,
        widths: Sequence[int],
        block: Callable[..., Block],
        attends: Callable[[int], bool],
        attends_back: Callable[[int, int], bool],
    ) -> None:
        """Encoder and decoder; ``first`` is the width behind the first convolution."""
        now, skips = first, [first]
        for level, (side, width) in enumerate(zip(self.sides, widths, strict=True)):
            if level == 0:
                self.enc[f"{side}x{side}_conv"] = Convolution(in_channels, first, 3)
            else:
                self.enc[f"{side}x{side}_down"] = block(now, now, down=True)
                skips.append(now)
            for index in range(self.blocks):
                self.enc[f"{side}x{side}_block{index}"] = block(now, width, attention=attends(side))
                now = width
                skips.append(now)
        for level, (side, width) in reversed(list(enumerate(zip(self.sides, widths, strict=True)))):
            if level == len(widths) - 1:
                self.dec[f"{side}x{side}_in0"] = block(now, now, attention=True)
                self.dec[f"{side}x{side}_in1"] = block(now, now)
            else:
                self.dec[f"{side}x{side}_up"] = block(now, now, up=True)
            for index in range(self.blocks + 1):
                attention = attends_back(side, index)
                self.dec[f"{side}x{side}_block{index}"] = block(now + skips.pop(), width, attention=attention)
                now = width

    def _embedding(self, t: Tensor, label: Tensor | None) -> Tensor:
        raise NotImplementedError

    def _one_hot(self, t: Tensor, label: Tensor | None) -> Tensor:
        """Labels as rows with one 1, "no label" as zeros, shape (batch, num_classes)."""
        if label is None:
            return torch.zeros(len(t), self.num_classes, device=t.device)
        return F.one_hot(label.long(), self.num_classes + 1)[:, :-1].float()

    def _down(self, x: Tensor, aside: Tensor, side: int) -> tuple[Tensor, Tensor]:
        """The state after a step down, and what is carried down beside it."""
        return x, aside

    def _out(self, x: Tensor, so_far: Tensor | None, side: int) -> Tensor | None:
        """What the levels up to this one say of the output."""
        raise NotImplementedError

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        e = self._embedding(t, label).to(x.dtype)
        aside, skips = x, []
        for level, side in enumerate(self.sides):
            if level == 0:
                x = self.enc[f"{side}x{side}_conv"](x)
            else:
                x, aside = self._down(self.enc[f"{side}x{side}_down"](x, e), aside, side)
            skips.append(x)
            for index in range(self.blocks):
                x = self.enc[f"{side}x{side}_block{index}"](x, e)
                skips.append(x)
        x = self.dec[f"{self.sides[-1]}x{self.sides[-1]}_in0"](x, e)
        x = self.dec[f"{self.sides[-1]}x{self.sides[-1]}_in1"](x, e)
        out = None
        for side in reversed(self.sides):
            if side != self.sides[-1]:
                x = self.dec[f"{side}x{side}_up"](x, e)
            for index in range(self.blocks + 1):
                x = self.dec[f"{side}x{side}_block{index}"](torch.cat([x, skips.pop()], 1), e)
            out = self._out(x, out, side)
        assert out is not None
        return out


class SongUNet(UNet):
    """DDPM++ (the defaults) and NCSN++ (``fourier``, ``residual``, noise_multiple 2, taps 1 3 3 1) of EDM.

    Raises:
        ValueError: an unknown kind of embedding, encoder or decoder.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 0,
        resolution: int = 32,
        width: int = 128,
        multiples: Sequence[int] = (1, 2, 2, 2),
        blocks: int = 4,
        attention: Sequence[int] = (16,),
        embedding: str = "positional",
        embedding_multiple: int = 4,
        noise_multiple: int = 1,
        encoder: str = "standard",
        decoder: str = "standard",
        taps: Sequence[float] = (1, 1),
    ):
        kinds = {"embedding": embedding, "encoder": encoder, "decoder": decoder}
        for what, value in kinds.items():
            known(what, value, KINDS[what], of="song_unet")
        widths = [width * multiple for multiple in multiples]
        super().__init__(resolution, widths, blocks, num_classes)
        self.config = {
            "in_channels": in_channels,
            "num_classes": num_classes,
            "resolution": resolution,
            "width": width,
            "multiples": list(multiples),
            "blocks": blocks,
            "attention": list(attention),
            "embedding": embedding,
            "embedding_multiple": embedding_multiple,
            "noise_multiple": noise_multiple,
            "encoder": encoder,
            "decoder": decoder,
            "taps": list(taps),
        }
        wide, noise = width * embedding_multiple, width * noise_multiple
        self.noise = noise
        self.map_noise = Fourier(noise) if embedding == "fourier" else Sinusoids(noise, last=True)
        self.map_label = nn.Linear(num_classes, noise) if num_classes else None
        self.map_layer0, self.map_layer1 = nn.Linear(noise, wide), nn.Linear(wide, wide)

        def block(inside: int, outside: int, attention: bool = False, **moved: Any) -> Block:
            return Block(
                inside,
                outside,
                embedding=wide,
                heads=int(attention),
                scale=math.sqrt(0.5),
                eps=1e-6,
                adaptive=False,
                taps=taps,
                project=True,
                **moved,
            )

        self._build(
            in_channels,
            width,
            widths,
            block,
            lambda side: side in attention,
            lambda side, index: side in attention and index == blocks,
        )
        self._build_aside(in_channels, widths, encoder, decoder, taps)

    def _build_aside(
        self, in_channels: int, widths: Sequence[int], encoder: str, decoder: str, taps: Sequence[float]
    ) -> None:
        carried = in_channels
        for level, side in enumerate(self.sides[1:], start=1):
            if encoder == "skip":
                self.enc[f"{side}x{side}_aux_down"] = Resampling(up=False, taps=taps)
                self.enc[f"{side}x{side}_aux_skip"] = Convolution(in_channels, widths[level - 1], 1)
            elif encoder == "residual":
                self.enc[f"{side}x{side}_aux_residual"] = Convolution(
                    carried, widths[level - 1], 3, down=True, taps=taps, first=True
                )
                carried = widths[level - 1]
        for level, side in enumerate(self.sides):
            if decoder == "skip" or level == 0:
                if decoder == "skip" and level < len(self.sides) - 1:
                    self.dec[f"{side}x{side}_aux_up"] = Resampling(up=True, taps=taps)
                self.dec[f"{side}x{side}_aux_norm"] = normalisation(widths[level], 1e-6)
                self.dec[f"{side}x{side}_aux_conv"] = Convolution(widths[level], in_channels, 3)

    def _embedding(self, t: Tensor, label: Tensor | None) -> Tensor:
        waves = self.map_noise(t)
        e = torch.cat([waves[:, self.noise // 2 :], waves[:, : self.noise // 2]], dim=1)  # the sines come first here
        e = e.to(self.map_layer0.weight.dtype)
        if self.map_label is not None:
            e = e + self.map_label(math.sqrt(self.num_classes) * self._one_hot(t, label).to(e.dtype))
        return F.silu(self.map_layer1(F.silu(self.map_layer0(e))))

    def _down(self, x: Tensor, aside: Tensor, side: int) -> tuple[Tensor, Tensor]:
        if f"{side}x{side}_aux_skip" in self.enc:
            aside = self.enc[f"{side}x{side}_aux_down"](aside)
            return x + self.enc[f"{side}x{side}_aux_skip"](aside), aside
        if f"{side}x{side}_aux_residual" in self.enc:
            x = (x + self.enc[f"{side}x{side}_aux_residual"](aside)) / math.sqrt(2)
            return x, x
        return x, aside

    def _out(self, x: Tensor, so_far: Tensor | None, side: int) -> Tensor | None:
        if f"{side}x{side}_aux_conv" not in self.dec:
            return so_far
        here = self.dec[f"{side}x{side}_aux_conv"](F.silu(self.dec[f"{side}x{side}_aux_norm"](x)))
        return here if so_far is None else here + self.dec[f"{side}x{side}_aux_up"](so_far)


class DhariwalUNet(UNet):
    """ADM of EDM: scale and shift by the embedding, heads of 64 channels."""

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 0,
        resolution: int = 64,
        width: int = 192,
        multiples: Sequence[int] = (1, 2, 3, 4),
        blocks: int = 3,
        attention: Sequence[int] = (32, 16, 8),
        embedding_multiple: int = 4,
    ):
        widths = [width * multiple for multiple in multiples]
        super().__init__(resolution, widths, blocks, num_classes)
        self.config = {
            "in_channels": in_channels,
            "num_classes": num_classes,
            "resolution": resolution,
            "width": width,
            "multiples": list(multiples),
            "blocks": blocks,
            "attention": list(attention),
            "embedding_multiple": embedding_multiple,
        }
        wide = width * embedding_multiple
        self.map_noise = Sinusoids(width, last=False)
        self.map_label = nn.Linear(num_classes, wide, bias=False) if num_classes else None
        self.map_layer0, self.map_layer1 = nn.Linear(width, wide), nn.Linear(wide, wide)

        def block(inside: int, outside: int, attention: bool = False, **moved: Any) -> Block:
            heads = outside // HEAD if attention else 0
            return Block(inside, outside, embedding=wide, heads=heads, scale=1.0, eps=1e-5, adaptive=True, **moved)

        self._build(
            in_channels,
            widths[0],
            widths,
            block,
            lambda side: side in attention,
            lambda side, index: side in attention,
        )
        self.out_norm, self.out_conv = normalisation(widths[0], 1e-5), Convolution(widths[0], in_channels, 3)

    def _embedding(self, t: Tensor, label: Tensor | None) -> Tensor:
        e = self.map_layer1(F.silu(self.map_layer0(self.map_noise(t).to(self.map_layer0.weight.dtype))))
        if self.map_label is not None:
            e = e + self.map_label(self._one_hot(t, label).to(e.dtype))
        return F.silu(e)

    def _out(self, x: Tensor, so_far: Tensor | None, side: int) -> Tensor | None:
        return self.out_conv(F.silu(self.out_norm(x))) if side == self.sides[0] else None
