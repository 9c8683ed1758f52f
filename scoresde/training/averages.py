"""Averages of the weights over the steps of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

WIDEST = 1 / math.sqrt(12)  # σ_rel of the plain mean over all steps, γ = 0


def exponential(decay: float, step: int) -> float:
    """Share of an average that is kept at a step, from 1: ``decay``, or step/(9 + step) while that is less."""
    return min(decay, step / (9 + step))


def power(width: float, step: int) -> float:
    """Share of an average that is kept at a step, from 1, for weights in proportion to t^γ: (1 − 1/step)^(γ + 1).

    So the profile keeps its shape however long a run is: its standard deviation is ``width`` times the steps done.

    Source: Karras et al. 2024, Analyzing and improving the training dynamics of diffusion models, eq. 6 and sec. 3.1.
    """
    return (1 - 1 / step) ** (exponent(width) + 1)


def exponent(width: float) -> float:
    """γ of the profile t^γ on [0, 1] whose standard deviation is σ_rel = ``width``.

    It solves σ_rel² = (γ + 1)/((γ + 2)² (γ + 3)): γ³ + 7γ² + (16 − σ_rel⁻²)γ + 12 − σ_rel⁻² = 0.

    Source: Karras et al. 2024, app. C.2.

    Raises:
        ValueError: the width is not in (0, 1/√12].
    """
    check(width)
    inverse = width**-2
    roots = np.roots([1, 7, 16 - inverse, 12 - inverse])
    return max(0.0, float(roots.real.max()))


def check(width: float) -> None:
    """Refuse what is no width of a profile.

    Raises:
        ValueError: names it and the range.
    """
    if isinstance(width, bool) or not isinstance(width, (int, float)) or not 1e-4 <= width <= WIDEST:
        raise ValueError(f"the width of an average must lie in [0.0001, {WIDEST:.4f}], got {width!r:.60}")


@torch.no_grad()
def update(average: nn.Module, net: nn.Module, kept: float) -> None:
    """Move an average towards the weights of a network; its buffers, as what batch norms count, are the network's."""
    for mean, value in zip(average.parameters(), net.parameters(), strict=True):
        mean.lerp_(value, 1 - kept)
    for mean, value in zip(average.buffers(), net.buffers(), strict=True):
        mean.copy_(value)


def check_all(widths: Sequence[float]) -> None:
    """Refuse what are no widths of different averages.

    Raises:
        ValueError: one is out of range, or there twice.
    """
    for width in widths:
        check(width)
    if len(set(widths)) < len(widths):
        raise ValueError(f"averages must differ, got {list(widths)}")
