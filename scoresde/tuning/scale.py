"""σ*, the one number by which a plan for all models is fitted to this one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scoresde.conditions import SCALE
from scoresde.score import ScoreModel
from scoresde.tuning.trajectories import Trajectories

POINTS = 48
RANGE = 5.5  # |λ| up to which the denoised sample is followed
RISEN = 3.0  # times the least of motion/level at higher levels, above which it is none of the network's error
DOUBT = 1.5  # times that, up to which motion does not count


def noise_scale(
    model: ScoreModel,
    *,
    shape: Sequence[int],
    seeds: Sequence[int] = range(16),
    cond: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> float:
    """σ*, the noise level σ/α around which the denoised sample moves on its way from noise to data.

    With m(λ) = √E‖dD/dλ‖² along trajectories, D = E[x0 | x_t], it is the level where half of ∫ m dλ is done. It takes
    :data:`POINTS` evaluations of some trajectories, and needs no data.

    A network's x0 at a noise level s is in error by s times the error of its ε, so that m(s)/s, which falls for the
    data's own motion, reaches a floor a > 0. The motion is counted up to where m(s)/s comes near that floor, and as
    √(m² − (a s)²).

    Args:
        model: the score model.
        shape: of one sample.
        seeds: one for each trajectory.
        cond: as for :func:`scoresde.sample`, one row for each seed; scales of a model that is guided over a range are
            spread over it where they are not given.
        batch_size: how many states one evaluation takes at most.
        dtype: of the state.
        device: where the state lives; None is that of the network.

    Raises:
        ValueError: nothing moves: the data are a single point.
    """
    return measured(started(model, seeds, shape, cond, batch_size, dtype, device))


def started(
    model: ScoreModel,
    seeds: Sequence[int],
    shape: Sequence[int],
    cond: Mapping[str, Any] | None,
    batch_size: int | None,
    dtype: torch.dtype,
    device: torch.device | str | None,
) -> Trajectories:
    """The starts of these seeds, on the network's device where none is given.

    Of a model that is guided over a range of scales each has its own, spread evenly over the range in mixed order, so
    that parts of them and the rows of each label cover it.
    """
    if model.scales is not None and SCALE not in (cond or {}):
        spread = torch.linspace(*model.scales, len(seeds))
        order = torch.randperm(len(seeds), generator=torch.Generator().manual_seed(1))  # not that of the parts
        cond = {**(cond or {}), SCALE: spread[order]}
    if device is None:
        parameters = model.net.parameters() if isinstance(model.net, torch.nn.Module) else iter(())
        device = next((parameter.device for parameter in parameters), torch.device("cpu"))
    return Trajectories.of(model, seeds, shape, cond=cond, batch_size=batch_size, dtype=dtype, device=device)


def measured(trajectories: Trajectories) -> float:
    """σ* of trajectories of a model; see :func:`noise_scale`."""
    levels, motion = profile(trajectories)
    slope = motion / levels
    lowest = np.minimum.accumulate(slope)
    risen = np.flatnonzero(slope > RISEN * lowest)  # from here on the data move
    top = slice(0, int(risen[0]) if risen.size else 1)
    floor = float(slope[top].min())
    first = int(np.flatnonzero(slope[top] <= DOUBT * floor).max())
    own = np.sqrt(np.maximum(motion[first:] ** 2 - (floor * levels[first:]) ** 2, 0.0))
    counted = own if own.any() else motion[first:]  # all of it, where none can be told from the network's error
    total = np.cumsum(counted)
    if not total[-1] > 0:
        raise ValueError("the denoised sample moves at no noise level: the data are a single point")
    return math.exp(float(np.interp(0.5, total / total[-1], np.log(levels[first:]))))


def profile(trajectories: Trajectories) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Noise levels, falling, and how fast the denoised sample moves there: √E‖dD/dλ‖² per element."""
    lam, motion, before = list[float](), list[float](), None
    for here, _, found in trajectories.walk(POINTS, RANGE):
        if before is not None:
            motion.append(float((found - before).double().square().mean().sqrt()) / (here - lam[-1]))
        lam.append(here)
        before = found
    middle = 0.5 * (np.array(lam[1:]) + np.array(lam[:-1]))
    return np.exp(-middle), np.array(motion)
