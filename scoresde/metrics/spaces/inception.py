"""Inception-v3, the feature space of the literature's FID."""

from __future__ import annotations

import torch

from scoresde.metrics.spaces.torch_fidelity import INCEPTION, Fidelity


def inception(weights: str | None = None, *, device: str | torch.device = "cpu") -> Fidelity:
    """The space of the FID of the literature: 2,048 features of TensorFlow's Inception-v3 of 2015-12-05.

    Source: Heusel et al. 2017, GANs trained by a two time-scale update rule.
    """
    return Fidelity(INCEPTION, weights, device=device)
