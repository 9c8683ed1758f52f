"""Standard densities by name, each a mixture of Gaussians, so that its score, density and draws are exact."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scoresde.exact.mixture import GaussianMixture
from scoresde.process import VP, Process
from solvers.registry import Registry

# A density is made on a process (VP where none is given) with options of its own.
DENSITIES: Registry[GaussianMixture] = Registry("density", given=("process",))
get = DENSITIES.get

ARC = 48  # Gaussians along a curve: neighbours of the default width overlap so far that no ripple is seen
SIDE = 5  # Gaussians along the side of a square of the checkerboard
MOST: dict[str, int] = {"modes": 1000, "dim": 1000, "squares": 20}


def mixture(
    process: Process | None = None, modes: int = 5, dim: int = 2, width: float = 0.1, seed: int = 0
) -> GaussianMixture:
    """Gaussians at random places.

    Σ_k N(m_k, width² I)/modes with each m_k uniform in [−1, 1]^dim.

    Args:
        process: the forward process.
        modes: number of Gaussians.
        dim: dimension of the points.
        width: standard deviation of each Gaussian.
        seed: of the places.
    """
    _whole(modes=modes, dim=dim)
    generator = torch.Generator().manual_seed(seed)
    places = 2 * torch.rand(modes, dim, generator=generator, dtype=torch.float64) - 1
    return _equal(process, places, width)


def ring(process: Process | None = None, modes: int = 8, width: float = 0.05) -> GaussianMixture:
    """Gaussians evenly on a circle of radius 1.

    Args:
        process: the forward process.
        modes: number of Gaussians.
        width: standard deviation of each Gaussian.
    """
    _whole(modes=modes)
    angles = 2 * math.pi * torch.arange(modes, dtype=torch.float64) / modes
    return _equal(process, torch.stack([angles.cos(), angles.sin()], 1), width)


def moons(process: Process | None = None, width: float = 0.05) -> GaussianMixture:
    """Two half circles that reach into each other.

    Args:
        process: the forward process.
        width: standard deviation across the half circles.
    """
    angles = math.pi * (torch.arange(ARC, dtype=torch.float64) + 0.5) / ARC
    upper = torch.stack([angles.cos() - 0.5, angles.sin() - 0.25], 1)
    return _equal(process, torch.cat([upper, -upper]) * (2 / 3), width)


def swiss_roll(process: Process | None = None, turns: float = 1.5, width: float = 0.04) -> GaussianMixture:
    """A spiral.

    Args:
        process: the forward process.
        turns: how often it goes round.
        width: standard deviation across the spiral.
    """
    if not 0 < turns <= 10:
        raise ValueError(f"turns must be above 0 and at most 10, got {turns}")
    # Even in the square of the radius, which is nearly even in the length of an Archimedean spiral.
    count = math.ceil(2 * ARC * turns)
    radii = torch.linspace(0.15**2, 1, count, dtype=torch.float64).sqrt()
    angles = 2 * math.pi * turns * radii
    return _equal(process, radii[:, None] * torch.stack([angles.cos(), angles.sin()], 1), width)


def checkerboard(process: Process | None = None, squares: int = 4, width: float = 0.15) -> GaussianMixture:
    """Every other square of a board on [−1, 1]², filled with Gaussians.

    Args:
        process: the forward process.
        squares: along each side of the board.
        width: standard deviation of each Gaussian, in sides of a square; well below 0.1 single ones show.
    """
    _whole(squares=squares)
    inner = (torch.arange(SIDE, dtype=torch.float64) + 0.5) / SIDE
    cell = torch.cartesian_prod(inner, inner)
    dark = [torch.tensor([i, j]) for i in range(squares) for j in range(squares) if (i + j) % 2 == 0]
    places = torch.cat([corner + cell for corner in dark]) * (2 / squares) - 1
    return _equal(process, places, 2 / squares * width)


def _equal(process: Process | None, places: Tensor, width: float) -> GaussianMixture:
    """Gaussians of one width and weight.

    Raises:
        ValueError: a width that is not positive.
    """
    if not 0 < width < math.inf:
        raise ValueError(f"width must be above 0 and finite, got {width}")
    ones = torch.ones(len(places), dtype=torch.float64)
    return GaussianMixture(process or VP(), ones, places, width**2 * ones)


def _whole(**counts: int) -> None:
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST[name]:
            raise ValueError(f"{name} must be a whole number from 1 to {MOST[name]}, got {count!r}")


for make in (mixture, ring, moons, swiss_roll, checkerboard):
    DENSITIES.add(make.__name__, make)
