"""CLIP."""

from __future__ import annotations

import torch

from scoresde.metrics.spaces.torch_fidelity import Fidelity
from solvers.errors import known

CLIP = (
    "clip-rn50",
    "clip-rn101",
    "clip-rn50x4",
    "clip-rn50x16",
    "clip-rn50x64",
    "clip-vit-b-32",
    "clip-vit-b-16",
    "clip-vit-l-14",
    "clip-vit-l-14-336px",
)


def clip(
    model: str = "clip-vit-b-32",
    weights: str | None = None,
    trust: bool = False,
    *,
    device: str | torch.device = "cpu",
) -> Fidelity:
    """CLIP's image embedding.

    Source: Kynkäänniemi et al. 2023, The role of ImageNet classes in Fréchet inception distance.
    """
    return Fidelity(known("model", model, CLIP), weights, trust=trust, device=device)
