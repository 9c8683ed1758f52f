"""Exact problems that peers can be compared on: a ring, digits and images.

* *ring*: the narrow normals on a circle of :mod:`benchmarks.tuning.problems`, in two dimensions;
* *MNIST*: one Gaussian for each class of the training digits in [−1, 1], with the class's mean, its ``RANK`` largest
  principal components, and one isotropic variance for what these leave, the mean over the classes;
* *CIFAR*: a kernel density of ``POINTS`` training images in [−1, 1], the first of each class in turn, with bandwidth
  ``BANDWIDTH``, the noise of 6 grey levels of 256; the nearest neighbour of an image is 0.36 away, root mean square.

Scores are exact and in float64. What is outside the affine hull of the components is the same isotropic normal for all
of them, so each state is rotated to coordinates in that hull and one more, its distance from it: in these the score is
exact as well and linear methods do the same. All are mixtures with one isotropic variance, so their posterior mean is
written here with matrix products, which the models of :mod:`scoresde.exact` avoid; the tests hold it against them.

``sources(folder)`` fits them, ``exact(source, process)`` gives the start states and where the ODE takes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.tuning import problems
from scoresde import data
from scoresde.exact import GaussianMixture
from scoresde.process import EDM, Process
from solvers import Plan

NAMES = ("ring", "MNIST", "CIFAR")
FILES = {"MNIST": "mnist.npz.xz", "CIFAR": "cifar10-train.tar.xz"}
SAMPLES = {"ring": 512, "MNIST": 256, "CIFAR": 512}  # so many that it counts little where single ones end
RANK = 10
POINTS = 100
BANDWIDTH = 0.05
SEED = 2  # of the draws
STEPS = 800  # of the converged solution
FAR = 1e8  # a noise level σ/α at which nothing is left of the data


class MissingDataError(Exception):
    """The folder given by --data lacks a data set; the message says which file is wanted."""


@dataclass(frozen=True)
class Source:
    """A mixture Σ_k w_k N(m_k, s² I + U_k diag(v_k) U_kᵀ) with unit normal draws, in coordinates in which it is cheap.

    Attributes:
        name: of the problem.
        dim: of the states before the rotation, over which errors are averaged.
        draws: standard normals of shape (samples, coordinates), rotated like the data.
        weights: w, of shape (components,).
        means: m, of shape (components, coordinates).
        variance: s².
        axes: U with orthonormal columns, of shape (components, coordinates, rank).
        spreads: v, of shape (components, rank).
    """

    name: str
    dim: int
    draws: Tensor
    weights: Tensor
    means: Tensor
    variance: float
    axes: Tensor
    spreads: Tensor

    def model(self, process: Process) -> GaussianMixture:
        """The exact model on a process."""
        variances = torch.full((len(self.means),), self.variance, dtype=torch.float64)
        factors = self.axes * self.spreads[:, None].sqrt()
        return GaussianMixture(process, self.weights, self.means, variances, factors)

    @cached_property
    def _constants(self) -> tuple[Tensor, Tensor, Tensor]:
        """Columns of all U side by side, m·U and log w − |m|²/2 apart."""
        columns = self.axes.movedim(0, 1).flatten(1)
        inside = torch.einsum("kd,kdr->kr", self.means, self.axes)
        return columns, inside, torch.stack([self.weights.log(), -0.5 * self.means.square().sum(1)])

    def denoised(self, x: Tensor, level: float) -> Tensor:
        """E[x0 | x = x0 + level ε] for x of shape (batch, coordinates)."""
        columns, shift, (log_weights, closest) = self._constants
        across = self.variance + level**2
        along = across + self.spreads
        logits = log_weights - 0.5 * along.log().sum(1) + (x @ self.means.T + closest) / across
        if columns.shape[1]:
            inside = (x @ columns).unflatten(1, shift.shape) - shift
            logits = logits + (inside.square() * (0.5 * self.spreads / (across * along))).sum(2)
        rho = logits.softmax(1)
        mean = rho @ self.means
        out = mean + (self.variance / across) * (x - mean)
        if columns.shape[1]:
            gain = self.spreads * (level**2 / across) / along
            out = out + (rho[..., None] * gain * inside).flatten(1) @ columns.T
        return out

    def on(self, process: Process) -> Callable[[Tensor, float], Tensor]:
        """``denoised`` of states on a process, at its times."""

        def predict(x: Tensor, t: float) -> Tensor:
            return scaled(self.denoised, x, process.alpha(t), process.sigma(t))

        return predict


def scaled(denoised: Callable[[Tensor, float], Tensor], x: Tensor, alpha: float, sigma: float) -> Tensor:
    """E[x0 | x = α x0 + σ ε] by a denoiser for α = 1."""
    if sigma > FAR * alpha:  # nothing is left of the data, whatever x is
        return denoised(torch.zeros_like(x), FAR)
    return denoised(x / alpha, sigma / alpha)


@dataclass(frozen=True)
class Problem(problems.Problem):
    """A problem whose states may stand for ones of more dimensions."""

    dim: int

    def errors(self, x: Tensor) -> tuple[float, float]:
        """Root mean square over all samples, and the median over samples, of their distance to the converged ones."""
        each = self.distances(x)
        return float(each.square().mean().sqrt()), float(each.median())

    def distances(self, x: Tensor) -> Tensor:
        """Of each sample to the converged one, root mean square per element."""
        return ((x - self.end).double().flatten(1).square().sum(1) / self.dim).sqrt()

    def error(self, plan: Plan) -> float:
        return self.errors(plan.run(self.predict, self.start))[0]


def sources(
    folder: Path | None, names: Sequence[str] = NAMES, seed: int = SEED, samples: int | None = None
) -> list[Source]:
    """The problems of these names; MNIST and CIFAR are fitted to the files of ``FILES`` in the folder.

    Args:
        folder: of the data.
        names: of the problems.
        seed: of the draws.
        samples: draws; None is those of ``SAMPLES``.

    Raises:
        MissingDataError: the folder has no such file.
    """
    found = {"ring": _ring, "MNIST": _mnist, "CIFAR": _cifar}
    return [found[name](folder, seed, samples or SAMPLES[name]) for name in names]


def exact(source: Source, process: Process, steps: int = STEPS) -> Problem:
    """The problem on a process: states at t_max, σ(t_max) times the draws, and their converged solution."""
    start, predict = process.sigma(process.t_max) * source.draws, source.on(process)
    end = problems.converged(process, predict, start, steps)
    return Problem(source.name, process, predict, start, end, source.dim)


def doubt(problem: Problem) -> float:
    """How far the converged solution is from that with half the steps, root mean square."""
    return problem.errors(problems.converged(problem.process, problem.predict, problem.start, STEPS // 2))[0]


@dataclass(frozen=True)
class Joined:
    """All problems of a process in one batch of shape (samples, 1, 1, coordinates), and its evaluations counted.

    Peers run on processes of their own: x = α x0 + σ ε on any of them is the same problem as x/α at the noise level
    σ/α. States are handed over in the scale α² + σ² = 1.
    """

    problems: list[Problem]
    sources: list[Source]

    @classmethod
    def of(cls, sources: list[Source], process: Process) -> Joined:
        return cls([exact(source, process) for source in sources], sources)

    @property
    def process(self) -> Process:
        return self.problems[0].process

    @property
    def start(self) -> Tensor:
        """States at the first noise level, in the scale α² + σ² = 1."""
        t = self.process.t_max
        norm = math.hypot(self.process.alpha(t), self.process.sigma(t))
        width = max(problem.start.shape[1] for problem in self.problems)
        padded = [torch.nn.functional.pad(p.start / norm, (0, width - p.start.shape[1])) for p in self.problems]
        return torch.cat(padded)[:, None, None]

    def denoised(self, x: Tensor, level: float) -> Tensor:
        """E[x0 | x = x0 + level ε] of every row by its own problem."""
        flat, parts, width = x.double().flatten(1), [], x.shape[-1]
        for source in self.sources:
            rows, flat = flat[: len(source.draws)], flat[len(source.draws) :]
            own = source.draws.shape[1]
            parts.append(torch.nn.functional.pad(source.denoised(rows[:, :own], level), (0, width - own)))
        return torch.cat(parts).reshape(x.shape)

    def errors(self, x: Tensor) -> dict[str, tuple[float, float]]:
        """Root mean square and median error of each problem."""
        own = self.apart(x)
        return {problem.name: problem.errors(own[problem.name]) for problem in self.problems}

    def apart(self, x: Tensor) -> dict[str, Tensor]:
        """The rows of each problem, as many coordinates of them as it has."""
        found, first = {}, 0
        for problem in self.problems:
            found[problem.name] = x[first : first + len(problem.start), 0, 0, : problem.start.shape[1]]
            first += len(problem.start)
        return found


def _draws(samples: int, dim: int, seed: int) -> Tensor:
    return torch.randn(samples, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _ring(folder: Path | None, seed: int, samples: int) -> Source:
    mixture = problems.EXACT["ring"](EDM())
    assert isinstance(mixture, GaussianMixture)
    flat = torch.zeros(len(mixture.means), 2, 0, dtype=torch.float64)
    return Source(
        "ring",
        2,
        _draws(samples, 2, seed),
        mixture.weights,
        mixture.means,
        float(mixture.variances[0]),
        flat,
        flat[:, 0],
    )


def _mnist(folder: Path | None, seed: int, samples: int) -> Source:
    images = data.load(_file(folder, "MNIST"))
    assert images.labels is not None
    states = data.to_state(images.pixels).flatten(1).double()
    means, axes, spreads, rests = [], [], [], []
    for label in range(images.classes):
        chosen = states[images.labels == label]
        variances, vectors = torch.linalg.eigh(chosen.T.cov(correction=0))
        means.append(chosen.mean(0))
        rests.append(variances[:-RANK].mean())
        axes.append(vectors[:, -RANK:])
        spreads.append(variances[-RANK:] - rests[-1])
    weights = images.labels.bincount() / len(images)
    rest = float(torch.stack(rests).mean())
    stacked = [torch.stack(values) for values in (means, axes, spreads)]
    return rotated("MNIST", weights.double(), stacked[0], stacked[1], stacked[2], rest, samples, seed)


def _cifar(folder: Path | None, seed: int, samples: int) -> Source:
    images = data.load(_file(folder, "CIFAR"))
    assert images.labels is not None
    ranks = torch.stack([images.labels == label for label in range(images.classes)]).cumsum(1)
    turn = ranks.gather(0, images.labels[None])[0]  # 1 for the first image of each class
    points = data.to_state(images.pixels[turn.argsort(stable=True)[:POINTS]]).flatten(1).double()
    weights, flat = torch.full((POINTS,), 1 / POINTS).double(), points[..., None][..., :0]
    return rotated("CIFAR", weights, points, flat, flat[:, 0], BANDWIDTH**2, samples, seed)


def _file(folder: Path | None, name: str) -> Path:
    path = None if folder is None else folder / FILES[name]
    if path is None or not path.exists():
        raise MissingDataError(f"{name} needs {FILES[name]} in the folder given by --data, got {folder}")
    return path


def rotated(
    name: str, weights: Tensor, means: Tensor, axes: Tensor, spreads: Tensor, variance: float, samples: int, seed: int
) -> Source:
    """In coordinates in the span of means and axes, and the distance to it, which is 0 for the data."""
    dim, pad = means.shape[1], torch.nn.functional.pad
    basis = torch.linalg.qr(torch.cat([means.T, axes.movedim(0, 1).flatten(1)], 1)).Q
    draws = _draws(samples, dim, seed)
    inside = draws @ basis
    outside = (draws - inside @ basis.T).norm(dim=1, keepdim=True)
    lifted = pad(basis.T @ axes, (0, 0, 0, 1))
    draws = torch.cat([inside, outside], 1)
    return Source(name, dim, draws, weights, pad(means @ basis, (0, 1)), variance, lifted, spreads)


def builders(folder: Path | None, names: Sequence[str] = NAMES) -> dict[str, Callable[[Process], Problem]]:
    """The problems by name, each a function of the process, like ``benchmarks.tuning.problems.exact``."""
    return {source.name: partial(exact, source) for source in sources(folder, names)}
