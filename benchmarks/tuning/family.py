"""A family of exact problems that plans for all models are fitted to, and are left out of one kind at a time.

Every problem is a mixture Σ_k w_k N(m_k, s² I + U_k diag(v_k) U_kᵀ) of ``dim`` dimensions, in coordinates in which its
score is cheap (:class:`benchmarks.peers.problems.Source`); what lies outside the hull of its parts is one coordinate.
The kinds: kernel densities of random points, mixtures with falling spectra, mixtures of photographs' patches, and
scikit-learn's digits both ways. Densities are blunt: sharp ones would draw the last levels down, where no network
gains. None of them is a problem of :mod:`benchmarks.tuning.problems` or of
:mod:`benchmarks.peers.problems`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from sklearn import datasets
from sklearn.cluster import KMeans
from torch import Tensor

from benchmarks.peers.problems import Source, rotated
from benchmarks.tuning.problems import converged
from scoresde import ScoreModel
from scoresde.process import Process
from scoresde.tuning.scale import measured
from scoresde.tuning.trajectories import Trajectories

RESTS = (0.1, 0.2, 0.4)  # of mixtures in turn: their isotropic spread over that of their parts
STEPS = 200  # of the converged solution


@dataclass(frozen=True)
class Member:
    """A problem of the family: its kind, and how it is made from a number of samples and a seed of their draws."""

    name: str
    kind: str
    make: Callable[[int, int], Source]


def trajectories(member: Member, process: Process, samples: int, seed: int, steps: int = STEPS) -> Trajectories:
    """Starts of a problem on a process with their converged ends, levels in multiples of its σ*."""
    source = member.make(samples, seed)
    on = source.on(process)

    def net(x: Tensor, t: Tensor) -> Tensor:
        return on(x, float(t[0]))

    model = ScoreModel(net, process, "sample")
    found = Trajectories(model, source.draws)
    unit = measured(found.part(range(min(16, samples))))
    ends = converged(process, on, process.sigma(process.t_max) * source.draws, steps)
    # Errors are averaged over coordinates, of which there may be fewer than dimensions: a factor, the same for all.
    return replace(found, ends=ends, unit=unit)


def mixture(dim: int, parts: int, rank: int, falls: float, apart: float, inner: float, own: int) -> Member:
    """Normals with variances k^−falls·inner² along random axes, their means ``apart`` from 0 an element."""

    def make(samples: int, seed: int) -> Source:
        random = torch.Generator().manual_seed(own)
        means = apart * torch.randn(parts, dim, generator=random, dtype=torch.float64)
        axes = torch.linalg.qr(torch.randn(parts, dim, rank, generator=random, dtype=torch.float64)).Q
        spreads = inner**2 * dim / torch.arange(1, rank + 1, dtype=torch.float64) ** falls / rank
        weights = 0.5 + torch.rand(parts, generator=random, dtype=torch.float64)
        chosen = spreads.expand(parts, rank).clone()
        return rotated(
            "mixture", weights / weights.sum(), means, axes, chosen, (RESTS[own % 3] * inner) ** 2, samples, seed
        )

    return Member(f"mixture of {parts} in {dim}, rank {rank}", "mixtures", make)


def points(dim: int, count: int, width: float, own: int) -> Member:
    """A kernel density of random points, in clusters of ten."""

    def make(samples: int, seed: int) -> Source:
        random = torch.Generator().manual_seed(own)
        centres = torch.randn(-(-count // 10), dim, generator=random, dtype=torch.float64)
        around = 0.3 * torch.randn(count, dim, generator=random, dtype=torch.float64)
        return _density(centres.repeat_interleave(10, 0)[:count] + around, width, samples, seed)

    return Member(f"{count} points in {dim}", "points", make)


def _density(points: Tensor, width: float, samples: int, seed: int) -> Source:
    weights, flat = torch.full((len(points),), 1 / len(points)).double(), points[..., None][..., :0]
    return rotated("points", weights, points, flat, flat[:, 0], width**2, samples, seed)


def _fitted(states: Tensor, labels: Tensor, rank: int, rest: float, samples: int, seed: int) -> Source:
    """A normal for each label, with its principal axes, and one variance for what is left."""
    means, axes, spreads = [], [], []
    for label in range(int(labels.max()) + 1):
        chosen = states[labels == label]
        means.append(chosen.mean(0))
        _, lengths, vectors = torch.linalg.svd(chosen - chosen.mean(0), full_matrices=False)
        axes.append(vectors[:rank].T)
        spreads.append((lengths[:rank] ** 2 / len(chosen) - rest).clamp(min=1e-6))
    weights = labels.bincount() / len(labels)
    stacked = [torch.stack(values) for values in (means, axes, spreads)]
    return rotated("fitted", weights.double(), stacked[0], stacked[1], stacked[2], rest, samples, seed)


def _digits(samples: int, seed: int, mixed: bool) -> Source:
    """Scikit-learn's digits in [−1, 1], 64 dimensions: a mixture of ten classes, or the density of 200."""
    pixels, labels = datasets.load_digits(return_X_y=True)
    states = torch.from_numpy(np.asarray(pixels) / 8 - 1)
    if mixed:
        return _fitted(states, torch.from_numpy(np.asarray(labels)), 8, 0.02, samples, seed)
    return _density(states[:200], 0.1, samples, seed)


def patches(side: int) -> Tensor:
    """1,200 patches of two photographs in [−1, 1], shape (n, side² · 3), the channel last."""
    random = np.random.default_rng(7)
    found = []
    for image in datasets.load_sample_images().images:
        for _ in range(600):
            size = side * int(random.integers(1, 4))  # seen from near and far
            top, left = (int(random.integers(0, extent - size)) for extent in image.shape[:2])
            cut = image[top : top + size, left : left + size].astype(np.float64)
            step = size // side
            found.append(cut.reshape(side, step, side, step, 3).mean((1, 3)).ravel())
    return torch.from_numpy(np.stack(found) / 127.5 - 1)


def _patches(samples: int, seed: int, side: int) -> Source:
    """Patches of photographs, side² · 3 dimensions, as a mixture of 16 clusters."""
    states = patches(side)
    labels = KMeans(16, n_init="auto", random_state=0).fit_predict(states.numpy())
    return _fitted(states, torch.from_numpy(labels).long(), 12, 0.01, samples, seed)


FAMILY = [
    mixture(1, 3, 1, 1.0, 1.0, 0.2, 1),
    mixture(2, 5, 2, 1.0, 0.8, 0.15, 2),
    mixture(2, 9, 1, 1.0, 1.0, 0.06, 19),
    mixture(3, 6, 2, 1.0, 0.7, 0.1, 20),
    mixture(4, 3, 4, 1.0, 0.6, 0.6, 11),
    mixture(8, 4, 4, 1.0, 0.5, 0.5, 3),
    mixture(16, 8, 8, 1.5, 0.3, 0.8, 12),
    mixture(64, 6, 16, 1.5, 0.4, 0.5, 4),
    mixture(64, 4, 24, 2.0, 0.1, 0.8, 13),
    mixture(256, 10, 24, 1.5, 0.15, 0.7, 14),
    mixture(784, 10, 12, 1.0, 0.3, 0.4, 5),
    mixture(784, 10, 24, 1.5, 0.2, 0.7, 15),
    mixture(3072, 8, 12, 2.0, 0.2, 0.5, 6),
    mixture(3072, 12, 24, 1.5, 0.1, 0.8, 16),
    points(2, 20, 0.3, 31),
    points(32, 60, 0.4, 32),
    points(256, 80, 0.5, 33),
    Member("digits, mixture", "digits", partial(_digits, mixed=True)),
    Member("digits, density", "digits", partial(_digits, mixed=False)),
    Member("patches of 8, mixture", "patches", partial(_patches, side=8)),
    Member("patches of 16, mixture", "patches", partial(_patches, side=16)),
    Member("patches of 32, mixture", "patches", partial(_patches, side=32)),
]
KINDS = tuple(dict.fromkeys(member.kind for member in FAMILY))
