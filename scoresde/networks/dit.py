"""A diffusion transformer: patches of an image as tokens, time and label as what every layer is modulated by."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scoresde.networks.layers import EmbedAugment, Labelled, SelfAttention, check_whole, sinusoids, with_augment

FREQUENCIES = 256  # size of the sinusoidal features of time


class DiT(Labelled, nn.Module):
    """DiT with adaLN-Zero: ``depth`` transformer blocks over the ``patch × patch`` patches of an image.

    With c = silu(MLP(sinusoids of t) + embedding of the label), each block is z ← z + a₁ ⊙ Attention((1 + s₁) ⊙ LN(z) +
    b₁) and z ← z + a₂ ⊙ MLP((1 + s₂) ⊙ LN(z) + b₂), where (b₁, s₁, a₁, b₂, s₂, a₂) is linear in c and zero at first, so
    that a block begins as the identity; the linear layer behind the last, zero at first too, makes patches of tokens.
    So training begins at a network that returns zeros. Positions are told by fixed sinusoids of row and column, for
    images of any sides.

    Called as ``net(x, t, label=None, augment=None)``: x of shape (batch, in_channels, H, W), H and W divisible by
    ``patch``; t of shape (batch,), about 0 to 1000, which is the range of its sinusoidal features; label of shape
    (batch,), with ``num_classes`` standing for "no label", which is also what None means; augment of shape (batch,
    ``augment``), where None is zeros. Returns the shape of x.

    Source: Peebles & Xie 2023, Scalable diffusion models with transformers, sec. 3.2.

    Args:
        in_channels, num_classes: of the images and their labels.
        patch: side of a patch; half of it makes four times as many tokens.
        width: channels of a token, a multiple of 4 and of ``heads``.
        depth: transformer blocks.
        heads: of every self-attention.
        mlp_ratio: hidden channels of a block's MLP over ``width``.
        augment: size of the condition that says how images were augmented, 0 for none.

    Raises:
        ValueError: a setting out of range, or a width that is no multiple of 4 and of the heads.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 0,
        patch: int = 2,
        width: int = 192,
        depth: int = 6,
        heads: int = 3,
        mlp_ratio: float = 4.0,
        augment: int = 0,
    ):
        super().__init__()
        check_whole("dit", in_channels=in_channels, patch=patch, width=width, depth=depth, heads=heads)
        check_whole("dit", least=0, num_classes=num_classes, augment=augment)
        if width % 4:
            raise ValueError(f"dit needs a multiple of 4 as width, got {width}")
        if isinstance(mlp_ratio, bool) or not isinstance(mlp_ratio, (int, float)) or not 1 <= mlp_ratio * width < 2**31:
            raise ValueError(f"dit needs a number as mlp_ratio, with one hidden channel or more, got {mlp_ratio!r:.60}")
        self.config = {
            "in_channels": in_channels,
            "num_classes": num_classes,
            "patch": patch,
            "width": width,
            "depth": depth,
            "heads": heads,
            "mlp_ratio": mlp_ratio,
            # Only where there is one: other folders are as they were before.
            **({"augment": augment} if augment else {}),
        }
        self.multiple = patch  # of the sides of images
        self.patch, self.width, self.num_classes = patch, width, num_classes
        self.embed_time = nn.Sequential(nn.Linear(FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))
        self.embed_label = nn.Embedding(num_classes + 1, width)
        self.inlet = nn.Linear(in_channels * patch**2, width)
        self.blocks = nn.ModuleList(Block(width, heads, int(mlp_ratio * width)) for _ in range(depth))
        self.modulation = nn.Linear(width, 2 * width)
        self.outlet = nn.Linear(width, in_channels * patch**2)
        self._initialise()
        self.embed_augment = EmbedAugment(augment, width) if augment else None

    def _initialise(self) -> None:
        """As published: Xavier's uniform weights, N(0, 0.02²) in embeddings, zeros where a residual begins."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for module in (*self.embed_time, self.embed_label):
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
        for module in (*(block.modulation for block in self.blocks), self.modulation, self.outlet):
            nn.init.zeros_(module.weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None, augment: Tensor | None = None) -> Tensor:
        embedding = self.embed_time(sinusoids(t, FREQUENCIES).to(x.dtype)) + self.embed_label(self.labels(label, x))
        context = F.silu(with_augment(embedding, self.embed_augment, augment))
        patches = F.pixel_unshuffle(x, self.patch)
        rows, columns = patches.shape[2:]
        z = self.inlet(patches.flatten(2).transpose(1, 2))
        z = z + positions(rows, columns, self.width, x.device).to(x.dtype)
        for block in self.blocks:
            z = block(z, context)
        shift, scale = self.modulation(context)[:, None].chunk(2, dim=-1)
        z = self.outlet(modulated(z, shift, scale))
        return F.pixel_shuffle(z.transpose(1, 2).unflatten(2, (rows, columns)), self.patch).contiguous()


class Block(nn.Module):
    """Self-attention and an MLP, each modulated and added through a gate, as :class:`DiT` has them."""

    def __init__(self, width: int, heads: int, hidden: int):
        super().__init__()
        self.attention = SelfAttention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, width))
        self.modulation = nn.Linear(width, 6 * width)

    def forward(self, z: Tensor, context: Tensor) -> Tensor:
        parts = self.modulation(context)[:, None].chunk(6, dim=-1)
        z = z + parts[2] * self.attention(modulated(z, parts[0], parts[1]))
        return z + parts[5] * self.mlp(modulated(z, parts[3], parts[4]))


def modulated(z: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """(1 + scale) ⊙ LN(z) + shift, LN over the channels of each token."""
    return (1 + scale) * F.layer_norm(z, z.shape[-1:], eps=1e-6) + shift


def positions(rows: int, columns: int, width: int, device: torch.device) -> Tensor:
    """Sinusoids of the row and of the column of each token in half of its channels each, (rows·columns, width)."""
    row, column = (sinusoids(torch.arange(count, device=device), width // 2) for count in (rows, columns))
    return torch.cat([row.repeat_interleave(columns, 0), column.repeat(rows, 1)], dim=1)
