"""Seed-addressed Gaussian noise: the same numbers for a seed whatever the batch, the order or the device.

Philox4x32-10 is a counter-based generator: block b of draw k of seed s is one function of (s, k, b) and of where the
run begins, so nothing is carried from draw to draw or from sample to sample. Written in int64 tensor operations it
gives equal integers on every device; the normals that follow from them by Box–Muller in float64 agree to rounding. A
device without float64 is given those of the CPU.

Source: Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3, sec. 3.3.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from solvers.arrays import wide
from solvers.steps import Process

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_MASK = 0xFFFFFFFF
VERSION = "2"  # of what keys a draw: 1 seed and number; 2 the level of the start too, where that is below full noise
SEED_LIMIT = 2**63
ROUNDING = 1e-6  # of the times of a process, below which a start is that of full noise


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Philox4x32-10: four 32-bit words for each counter and key.

    Args:
        counter, key: words as int64 tensors with values in [0, 2³²), broadcast against each other.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        # The low 64 bits of the product wrap around in int64; shifted and masked they are its two words.
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (p1 >> 32 & _MASK) ^ c1 ^ k0, p1 & _MASK, (p0 >> 32 & _MASK) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + _KEY_STEPS[0]) & _MASK, (k1 + _KEY_STEPS[1]) & _MASK
    return c0, c1, c2, c3


def begun_at(process: Process, t: float) -> int:
    """What keys the draws of a run that begins with a state at time t: the bits of λ(t) in float32; 0 at t_max.

    Parts of one work, each begun where the one before ended, then never share a draw of one seed, while a run from full
    noise draws the same whether its first state is made of its seeds or given.
    """
    if t >= process.t_max - ROUNDING * (process.t_max - process.t_min):
        return 0
    (bits,) = struct.unpack("<I", struct.pack("<f", process.half_log_snr(t)))
    return bits or 1 << 31  # λ = 0 has another zero


def normal(seeds: Tensor, draw: int, size: int, begun: int = 0) -> Tensor:
    """Standard normals in float64, shape (len(seeds), size): draw number ``draw`` of each seed.

    Box–Muller on pairs of words u: √(−2 log u₁) (cos 2πu₂, sin 2πu₂) with u = (word + ½)/2³².

    Args:
        seeds: int64 of shape (n,), not negative.
        draw: number of the draw, 0 to 2³² − 1.
        size: numbers wanted for each seed.
        begun: where the run begins (:func:`begun_at`), 0 to 2³² − 1.
    """
    block = torch.arange(math.ceil(size / 4), dtype=torch.int64, device=seeds.device)[None]
    keys = (seeds[:, None] & _MASK, seeds[:, None] >> 32)
    words = philox((block & _MASK, block >> 32, torch.full_like(block, draw), torch.full_like(block, begun)), keys)
    u0, u1, u2, u3 = ((word.to(torch.float64) + 0.5) * 2.0**-32 for word in words)
    pairs = []
    for first, second in ((u0, u1), (u2, u3)):
        radius, angle = torch.sqrt(-2 * torch.log(first)), 2 * math.pi * second
        pairs += [radius * torch.cos(angle), radius * torch.sin(angle)]
    return torch.stack(pairs, dim=-1).flatten(1)[:, :size]


class Noise:
    """The draws of a batch of seeds, one after another.

    Each call gives the next draw, starting from number 0; ``draw`` is the number of the next one. ``noise(rows)`` gives
    the next draw of some of the seeds alone, by their positions, an int64 tensor.

    Args:
        seeds: one per sample, each from 0 to 2⁶³ − 1; repeats are allowed.
        shape: shape of one sample.
        dtype, device: of the draws.
        begun: where the run begins (:func:`begun_at`).

    Raises:
        ValueError: a seed out of range.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        shape: Sequence[int],
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        begun: int = 0,
    ):
        self._device = torch.device(device)
        numbers = [check_seed(seed) for seed in seeds]
        self._seeds = torch.tensor(numbers, dtype=torch.int64, device=wide(self._device))
        self._shape, self._dtype, self._begun, self.draw = tuple(shape), dtype, begun, 0

    def __call__(self, rows: Tensor | None = None) -> Tensor:
        seeds = self._seeds if rows is None else self._seeds[rows.to(self._seeds.device)]
        values = normal(seeds, self.draw, math.prod(self._shape), self._begun)
        self.draw += 1
        return values.to(self._dtype).to(self._device).view(-1, *self._shape)


def check_seed(seed: Any) -> int:
    """The seed as an int.

    Raises:
        ValueError: not a whole number from 0 to 2⁶³ − 1.
    """
    try:
        number = int(seed)
    except (TypeError, ValueError, OverflowError):
        number = -1
    if isinstance(seed, bool) or number != seed or not 0 <= number < SEED_LIMIT:
        raise ValueError(f"a seed must be a whole number from 0 to 2**63 - 1, got {seed!r}")
    return number
