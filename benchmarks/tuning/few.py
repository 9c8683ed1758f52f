"""solver=auto at 1 to 4 evaluations beside every fixed choice: python benchmarks/tuning/few.py.

Fixed choices are six solvers on six grids. On exact problems the figure is the sliced Wasserstein distance of samples
from draws of the data, on the bundled model FID. ``auto`` is given σ*, measured as the command line does it, from
trajectories of other seeds; beside it stands what it does where σ* is not known. Its plans for 2 to 4 evaluations
were chosen by trying, on other exact problems (benchmarks/tuning/quality.py) and on the bundled model with other seeds,
and with a look at ring, low rank, points, digits and mixture; so were the levels that ``solvers/grids/auto.py`` has for
2 to 4 steps. ``spirals`` and ``wine`` came after those for 3 and 4.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn import datasets

import scoresde
from benchmarks.recorded import RESULTS
from benchmarks.tuning.problems import EXACT, planned
from scoresde import models
from scoresde.data import load, to_state
from scoresde.exact import DataPoints, GaussianMixture
from scoresde.metrics import BUNDLED, Collector, Reference, spaces
from scoresde.metrics.figures.estimate import NORMAL, Estimate
from scoresde.metrics.figures.sliced import sliced_wasserstein
from scoresde.process import EDM, VP, Process
from scoresde.runs.hardware import describe
from solvers import PlannedSolver

NFE = (1, 2, 3, 4)
SOLVERS = ("ddim", "dpmpp_2m", "dpmpp_3m", "uni_pc", "deis", "ipndm")
GRIDS = (None, "karras", "log_snr", "quadratic", "trailing", "align_your_steps")
MODEL_GRIDS = (None, "align_your_steps")  # of the bundled model, where an evaluation costs
N, MODEL_N, SEED, SCALE_SEED = 3000, 400, 31_000, 1_000
SPLITS = 10

Exact = GaussianMixture | DataPoints
Grids = tuple[str | None, ...]
Solver = str | PlannedSolver
Figure = Callable[[Solver, str | None], Estimate]  # of a solver on a grid


def digits(process: Process) -> DataPoints:
    """A kernel density of scikit-learn's digits, in 64 dimensions."""
    return DataPoints(process, to_state(load("digits").pixels)[::3].double().flatten(1), bandwidth=0.05)


def mixture(process: Process) -> GaussianMixture:
    """Five normals in 12 dimensions."""
    generator = torch.Generator().manual_seed(99)
    means = 0.7 * torch.randn(5, 12, generator=generator, dtype=torch.float64)
    return GaussianMixture(process, torch.ones(5), means, torch.full((5,), 0.1**2, dtype=torch.float64))


def spirals(process: Process) -> DataPoints:
    """A kernel density of 120 points on two spirals in two dimensions."""
    along = torch.linspace(0.2, 1, 60, dtype=torch.float64)
    arm = along[:, None] * torch.stack([(7 * along).cos(), (7 * along).sin()], dim=1)
    return DataPoints(process, torch.cat([arm, -arm]), bandwidth=0.05)


def wine(process: Process) -> DataPoints:
    """A kernel density of scikit-learn's 178 wines, 13 standardised measurements over 2."""
    measured, _ = datasets.load_wine(return_X_y=True)
    states = torch.from_numpy(np.asarray(measured))
    return DataPoints(process, (states - states.mean(0)) / (2 * states.std(0)), bandwidth=0.1)


PROBLEMS: dict[str, Callable[[Process], Exact]] = {
    **EXACT,
    "digits": digits,
    "mixture": mixture,
    "spirals": spirals,
    "wine": wine,
}


def drawn(model: Exact, n: int) -> NDArray[np.float64]:
    """Draws of the data."""
    generator = torch.Generator().manual_seed(5)
    if isinstance(model, GaussianMixture):
        return model.sample(n, generator).flatten(1).numpy()
    index = torch.randint(len(model.points), (n,), generator=generator)
    white = torch.randn(n, *model.points.shape[1:], generator=generator, dtype=torch.float64)
    return (model.points[index] + model.bandwidth * white).flatten(1).numpy()


def distance(model: Exact, real: NDArray[np.float64], solver: Solver, grid: str | None, nfe: int) -> Estimate:
    """Sliced Wasserstein distance of samples from draws."""
    ask = {"shape": (len(real), *model.shape), "seeds": SEED, "dtype": torch.float64}
    samples = scoresde.sample(model, solver, nfe=nfe, grid=grid, **ask).samples
    return sliced_wasserstein(samples.flatten(1).numpy(), real, SPLITS)


def deviation(estimate: Estimate) -> float:
    """Standard error of a figure."""
    return 0.0 if estimate.high is None else (estimate.high - estimate.value) / NORMAL


def no_worse(auto: Estimate, best: Estimate) -> bool:
    """Whether a figure is not above another by more than one standard error of their difference."""
    return auto.value <= best.value + math.hypot(deviation(auto), deviation(best)) + 2e-3 * best.value


def choices(grids: Grids) -> Iterator[tuple[str, str | None]]:
    return ((solver, grid) for solver in SOLVERS for grid in grids)


def row(problem: str, process: str, nfe: int, scale: float, figure: Figure, grids: Grids) -> str:
    """A line of the table."""
    found = {choice: figure(*choice) for choice in choices(grids)}
    (solver, grid), best = min(found.items(), key=lambda item: item[1].value)
    auto, blind = (figure(planned("auto", scale=known), None) for known in (scale, None))
    told = " | ".join(f"{each.value:.4g} ± {deviation(each):.2g}" for each in (auto, blind, best))
    verdict = "yes" if no_worse(auto, best) else "**no**"
    which = f"`{solver}`, {grid or 'recommended'}"
    return f"| {problem} | {process} | {scale:.3g} | {nfe} | {told} | {which} | {verdict} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULTS / "auto_few.md")
    out = parser.parse_args().out
    lines = [
        "| problem | process | σ* | NFE | auto | without σ* | best fixed choice | which | auto no worse |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, make in PROBLEMS.items():
        for process in (VP(), EDM()):
            model = make(process)
            real, seeds = drawn(model, N), range(SCALE_SEED, SCALE_SEED + 64)
            scale = scoresde.noise_scale(model, shape=model.shape, seeds=seeds, dtype=torch.float64)
            for nfe in NFE:
                lines.append(row(name, process.name, nfe, scale, lambda s, g: distance(model, real, s, g, nfe), GRIDS))  # noqa: B023
                print(lines[-1], flush=True)
    checkpoint, space = models.load("mnist"), spaces.get("model")
    reference, labels = Reference.load(BUNDLED, space), torch.arange(MODEL_N) % 10

    def fid(solver: Solver, grid: str | None, nfe: int) -> Estimate:
        ask = {"shape": (MODEL_N, *checkpoint.shape), "seeds": SEED, "cond": {"label": labels}, "batch_size": 100}
        collector = Collector(space)
        collector.update(scoresde.sample(checkpoint.model, solver, nfe=nfe, grid=grid, **ask).samples, range(MODEL_N))
        return collector.figures(reference).metrics["fid"]

    scale = scoresde.noise_scale(
        checkpoint.model, shape=checkpoint.shape, seeds=range(SCALE_SEED, SCALE_SEED + 20), cond={"label": labels[:20]}
    )
    for nfe in NFE:
        lines.append(row("bundled model (FID)", "vp", nfe, scale, lambda s, g: fid(s, g, nfe), MODEL_GRIDS))  # noqa: B023
        print(lines[-1], flush=True)
    text = (
        "# `auto` at 1 to 4 evaluations\n\n"
        f"`python benchmarks/tuning/few.py`: the best of {len(SOLVERS)} solvers on {len(GRIDS)} grids (of the bundled "
        f"model {len(MODEL_GRIDS)}) by hindsight,\nbeside `auto`, where nothing is chosen: with σ*, measured, and "
        f"where it is not known; {N} samples of exact problems\n(sliced Wasserstein distance) and {MODEL_N} of the "
        "bundled model, ± one standard error. No worse: within one standard\nerror of the difference, and 0.2 %. "
        f"{describe(torch.device('cpu'))}.\n\n"
    )
    out.write_text(text + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
