"""Denoising: DDPM's Algorithm 1 for any process and prediction type."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from scoresde.process import Process
from scoresde.score import expand
from solvers import prediction as predictions
from solvers.arrays import has_float64, wide


def loss(
    net: Callable[..., Tensor],
    process: Process,
    prediction: str,
    x0: Tensor,
    generator: torch.Generator,
    time_input: Callable[[Tensor], Tensor] | None = None,
    **cond: Tensor,
) -> Tensor:
    """Mean over the batch of ‖net(α x0 + σ ε, t) − target‖²/dim, t uniform on [t_min, t_max], ε standard normal.

    The target is the true value of the prediction type: r x0 + s ε. Times are stratified: one in each of ``len(x0)``
    equal parts of the interval, in random order, each uniform by itself.

    Source: Ho et al. 2020, Algorithm 1 and eq. 14 (ε); the other types as in Salimans & Ho 2022, app. D.
    """
    batch = len(x0)
    device = x0.device
    order = torch.randperm(batch, generator=generator, device=device).to(wide(device))
    kind = torch.float64 if has_float64(device) else torch.float32
    within = torch.rand(batch, generator=generator, device=device, dtype=kind).to(wide(device)).double()
    strata = (order + within) / batch
    t = process.t_min + (process.t_max - process.t_min) * strata
    alpha, sigma = process.alpha(t), process.sigma(t)
    epsilon = torch.randn(x0.shape, generator=generator, device=device, dtype=x0.dtype)
    x = expand(alpha, x0) * x0 + expand(sigma, x0) * epsilon
    # a x + b ε as a combination of x0 and ε, in which nothing cancels when α is small.
    a, b = predictions.convert("epsilon", prediction, alpha, sigma)
    target = expand(a * alpha, x0) * x0 + expand(a * sigma + b, x0) * epsilon
    fed = t if time_input is None else time_input(t)
    out = net(x, (fed.to(torch.float32) if fed.is_floating_point() else fed).to(device), **cond)
    return (out.to(x0.dtype) - target).square().mean()
