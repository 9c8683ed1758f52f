"""Plans of auto for 2 to 4 evaluations on the family that they were chosen on: python -m benchmarks.tuning.quality.

The figure is the sliced Wasserstein distance of samples from the converged samples of the same starts, over that of the
best fixed choice (the solvers and grids of ``benchmarks/tuning/few.py``, by hindsight). Networks err at high noise:
problems of 64 dimensions and more have an error of x0 of ``ERROR`` times the noise level, that of the bundled network.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

import solvers
from benchmarks.recorded import RESULTS
from benchmarks.tuning import family
from benchmarks.tuning.few import GRIDS, SOLVERS, choices
from benchmarks.tuning.problems import planned
from scoresde import ScoreModel
from scoresde.metrics.figures.sliced import directions
from scoresde.process import EDM
from scoresde.runs.hardware import describe
from scoresde.tuning.trajectories import Trajectories
from solvers.coefficients.fitted import Numbers
from solvers.grids.universal import BY_QUALITY, TOLD

SAMPLES, SEED, STEPS = 512, 12, 100  # starts of each problem, and steps of their converged ends
ERROR = 0.0065  # of x0, over the noise level σ/α: the spread of the bundled network's x0 at σ/α of 20 to 150
NETWORKS = 64  # dimensions from which a problem has that error
AXES = 64
PROCESS = EDM()


@dataclass(frozen=True)
class Judged:
    """Starts of a problem, and the converged samples that a plan's are held against."""

    starts: Trajectories

    @cached_property
    def _axes(self) -> Tensor:
        return torch.from_numpy(directions(self.starts.noise.shape[1], AXES))

    @cached_property
    def _real(self) -> Tensor:
        return (self.starts.known_ends @ self._axes).sort(0).values

    def distance(self, samples: Tensor) -> float:
        """Sliced Wasserstein distance from the converged samples."""
        return float(((samples @ self._axes).sort(0).values - self._real).abs().mean())

    def best(self, count: int) -> float:
        """Least distance of a fixed choice."""
        return min(self.distance(self.planned(name, grid, count)) for name, grid in choices(GRIDS))

    def planned(self, name: str, grid: str | None, count: int) -> Tensor:
        """Samples of a solver on a grid."""
        solver = planned(name)
        place = solver.recommended if grid is None else solvers.grids.get(grid)
        return self.starts.planned(solver.plan(PROCESS, place(PROCESS, count), "sample"))

    def ratio(self, count: int) -> float:
        """That of the plan by quality over that of the best fixed choice."""
        table = BY_QUALITY[count]
        numbers = Numbers((self.starts.first, *table.levels), table.history, told=TOLD)
        return self.distance(self.starts.follow(numbers)) / self.best(count)


def judged(member: family.Member) -> Judged:
    """A problem of the family, with the error of a network where it has the dimensions of one."""
    starts, source = family.trajectories(member, PROCESS, SAMPLES, SEED, STEPS), member.make(1, 0)
    if source.dim < NETWORKS:
        return Judged(starts)
    on, size = source.on(PROCESS), starts.noise.shape[1]
    generator = torch.Generator().manual_seed(1)
    turned = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q

    def net(x: Tensor, t: Tensor) -> Tensor:
        level = PROCESS.sigma(float(t[0]))
        return on(x, float(t[0])) + ERROR * level * (x / math.hypot(1, level)) @ turned

    return Judged(replace(starts, model=ScoreModel(net, PROCESS, "sample")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS / "auto_family.md")
    out = parser.parse_args().out
    lines = ["| problem | " + " | ".join(map(str, BY_QUALITY)) + " |", "|---|" + "---:|" * len(BY_QUALITY)]
    found = dict[str, list[float]]()
    for member in family.FAMILY:
        problem = judged(member)
        found[member.name] = [problem.ratio(count) for count in BY_QUALITY]
        lines.append(f"| {member.name} | " + " | ".join(f"{ratio:.2f}" for ratio in found[member.name]) + " |")
        print(lines[-1], flush=True)
    means = [math.exp(sum(map(math.log, ratios)) / len(ratios)) for ratios in zip(*found.values(), strict=True)]
    lines.append("| geometric mean | " + " | ".join(f"{mean:.2f}" for mean in means) + " |")
    text = (
        "# `auto` at 2 to 4 evaluations, on the family that it was chosen on\n\n"
        "`python -m benchmarks.tuning.quality`: sliced Wasserstein distance of samples from the converged ones of the "
        f"same\n{SAMPLES} starts, over that of the best of {len(SOLVERS)} solvers on {len(GRIDS)} grids by hindsight, "
        f"by NFE; EDM, exact scores, of {NETWORKS}\ndimensions and more with a network's error at high noise, {ERROR} "
        f"of the noise level. σ* is measured.\n{describe(torch.device('cpu'))}.\n\n"
    )
    out.write_text(text + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
