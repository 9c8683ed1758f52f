"""DINOv2."""

from __future__ import annotations

import torch

from scoresde.metrics.spaces.torch_fidelity import Fidelity
from solvers.errors import known

DINOV2 = ("dinov2-vit-s-14", "dinov2-vit-b-14", "dinov2-vit-l-14", "dinov2-vit-g-14")


def dinov2(model: str = "dinov2-vit-l-14", *, device: str | torch.device = "cpu") -> Fidelity:
    """DINOv2's class token; torch.hub fetches code and weights from its authors' repository.

    Source: Stein et al. 2023, Exposing flaws of generative model evaluation metrics.
    """
    return Fidelity(known("model", model, DINOV2), device=device)
