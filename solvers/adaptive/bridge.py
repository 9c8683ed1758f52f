"""Brownian paths that are looked at where rejected steps left them: increments ahead, and bridges between them."""

from __future__ import annotations

import torch
from torch import Tensor

from solvers.adaptive.loop import Active, where
from solvers.base import mix

ROUNDING = 1e-6  # of a piece of path, below which its rest is none


def nothing_known(active: Active) -> dict[str, Tensor]:
    """The memory of a Brownian path that nobody has looked at.

    ``depth`` pieces of the path ahead of each sample are known, the nearest last: the time at which each ends,
    ``times`` of shape (n, most), and the increment over it, ``increments`` of shape (n, most, …).
    """
    return {
        "depth": torch.zeros_like(active.rows),
        "times": torch.zeros_like(active.at)[:, None],
        "increments": torch.zeros_like(active.x)[:, None],
    }


class Increment:
    """The increment of each sample's Brownian path from where it is to a target, or to the nearest known time.

    Attributes:
        to: where it ends.
        value: the increment, of the shape of the states.
    """

    def __init__(self, active: Active, target: Tensor, normal: Tensor):
        self._depth, self._times, self._increments = (active.memory[name] for name in ("depth", "times", "increments"))
        self._each, self._top = torch.arange(len(normal), device=target.device), (self._depth - 1).clamp(min=0)
        self._known = self._depth > 0
        nearest = self._times[self._each, self._top]
        # Steps that are powers of √2 of each other end where others did but for rounding: then there, and no rest.
        reached = target - nearest <= ROUNDING * (active.at - nearest)
        self.to = nearest.where(self._known & reached, target)
        self._whole = self._known & (self.to == nearest)
        h, length = active.at - self.to, (active.at - nearest).where(self._known, 1.0)
        share = (h / length).where(self._known, 0.0)
        spread = (h * (1 - share)).clamp(min=0).sqrt()
        self.value = mix((share, self._increments[self._each, self._top]), (spread, normal))

    def remembered(self, accepted: Tensor) -> dict[str, Tensor]:
        """What is known afterwards: the rest of a piece, and the increment itself where the step was rejected."""
        each, depth, times, increments = self._each, self._depth, self._times, self._increments
        piece = increments[each, self._top]
        increments[each, self._top] = where(self._known & ~self._whole, piece - self.value, piece)
        push = ~accepted & ~self._whole
        if bool((push & (depth == times.shape[1])).any()):
            times, increments = (torch.cat((known, torch.zeros_like(known[:, :1])), 1) for known in (times, increments))
        slot = depth.where(push, self._top)
        times[each, slot] = self.to.where(push, times[each, slot])
        increments[each, slot] = where(push, self.value, increments[each, slot])
        return {
            "depth": depth + push.long() - (accepted & self._whole).long(),
            "times": times,
            "increments": increments,
        }
