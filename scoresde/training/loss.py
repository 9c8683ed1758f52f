"""Denoising: DDPM's Algorithm 1 for any process and prediction type."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from scoresde.process import Process
from solvers import prediction as predictions


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
    order = torch.randperm(batch, generator=generator, device=device)
    strata = (order + torch.rand(batch, generator=generator, device=device, dtype=torch.float64)) / batch
    t = process.t_min + (process.t_max - process.t_min) * strata
    alpha, sigma = (f(t).view(-1, *[1] * (x0.ndim - 1)) for f in (process.alpha, process.sigma))
    epsilon = torch.randn(x0.shape, generator=generator, device=device, dtype=x0.dtype)
    x = alpha.to(x0.dtype) * x0 + sigma.to(x0.dtype) * epsilon
    # a x + b ε as a combination of x0 and ε, in which nothing cancels when α is small.
    a, b = predictions.convert("epsilon", prediction, alpha, sigma)
    target = (a * alpha).to(x0.dtype) * x0 + (a * sigma + b).to(x0.dtype) * epsilon
    fed = t if time_input is None else time_input(t)
    out = net(x, fed.to(torch.float32) if fed.is_floating_point() else fed, **cond)
    return (out.to(x0.dtype) - target).square().mean()
