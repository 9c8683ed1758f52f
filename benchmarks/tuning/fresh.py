"""Tuned plans where they were not fitted: python -m benchmarks.tuning.fresh --data FOLDER.

- **Fresh seeds**: plans fitted with 100 trajectories are judged on 10,000 fresh ones of the mixture of MNIST in 784
  dimensions (``--data`` is the folder of :mod:`benchmarks.peers.problems`), and on 2,000 of the bundled model.
- **Other labels**: of the bundled model, fitted with digits 0 to 4 and judged on 5 to 9.
- **Other guidance**: of the bundled model, fitted at the scale 2 and judged at 1 to 4; and fitted over that range.

Beside each stands the best fixed solver, chosen on the trajectories of the fit. Errors are from the converged samples.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

import scoresde
from benchmarks.peers import problems
from benchmarks.peers.compare import PROCESSES
from benchmarks.recorded import RESULTS, write
from benchmarks.tuning.beside import model_of
from benchmarks.tuning.problems import fixed_and_tuned
from scoresde import ScoreModel, TunedSolver, guidance, models
from scoresde.runs.hardware import describe
from scoresde.tuning import procedure, teacher
from scoresde.tuning.trajectories import Trajectories

NFE = 5
FIT, FRESH, NETWORK_FRESH, FEW = 100, 10_000, 2_000, 256  # trajectories of a fit, and that judge
FIT_SEED, SEED = 1_000_000, 0
STEPS = 64  # of the converged solutions of the bundled model
SCALES = (1.0, 2.0, 3.0, 4.0)
HALVES = (range(5), range(5, 10))  # of the digits


def judged(own: Trajectories, tuned: TunedSolver) -> str:
    """Cells: mean errors of the fixed solver and of the tuned one, their ratio, that of medians, and the gain."""
    fixed, taken = map(own.errors, fixed_and_tuned(own, tuned, NFE))
    apart = fixed - taken
    error = float(apart.std()) / math.sqrt(len(apart))
    gain = f"{float(apart.mean()) / error:.1f}" if error else "–"  # where the fixed solver was kept
    return (
        f"{float(fixed.mean()):.4f} | {float(taken.mean()):.4f} | {float(taken.mean() / fixed.mean()):.2f} | "
        f"{float(taken.median() / fixed.median()):.2f} | {gain} | "
        f"{float((taken < fixed).double().mean()):.1%}"
    )


def ended(model: ScoreModel, shape: Sequence[int], cond: dict[str, Tensor]) -> Trajectories:
    """Fresh trajectories of a network with their ends."""
    count = len(next(iter(cond.values())))
    begun = Trajectories.of(model, range(SEED, SEED + count), shape, cond=cond, batch_size=125)
    return teacher.ended(begun, STEPS)


def tune(model: ScoreModel, shape: Sequence[int], labels: Tensor) -> TunedSolver:
    seeds = range(FIT_SEED, FIT_SEED + len(labels))
    return scoresde.tune(model, nfe=NFE, shape=shape, seeds=seeds, cond={"label": labels}, batch_size=100)


def rows(data: Path) -> list[str]:
    """The lines of the table."""
    found = list[str]()

    def add(problem: str, fitted: str, on: str, own: Trajectories, tuned: TunedSolver) -> None:
        found.append(f"| {problem} | {fitted} | {len(own):,} of {on} | {judged(own, tuned)} |")
        print(found[-1], flush=True)

    process = PROCESSES["VP"]
    (fitting,) = problems.sources(data, ["MNIST"], FIT_SEED, FIT)
    (source,) = problems.sources(data, ["MNIST"], SEED, FRESH)
    kept = procedure.Kept.of(None, {}, None)
    starts = Trajectories(model_of(fitting, process), fitting.draws)
    tuned = procedure.from_starts(starts, [NFE], "quick", "both", kept, print)
    own = Trajectories(model_of(source, process), source.draws, batch_size=1000)
    own = teacher.ended(own, 2 * kept.content["teacher"]["steps"])
    add("mixture of MNIST", f"{FIT} seeds", "others", own, tuned)

    checkpoint = models.load("mnist")
    model, shape = checkpoint.model, checkpoint.shape
    tuned = tune(model, shape, torch.arange(FIT) % 10)
    add("bundled", f"{FIT} seeds", "others", ended(model, shape, {"label": torch.arange(NETWORK_FRESH) % 10}), tuned)
    for fitted, on in (HALVES, HALVES[::-1]):
        labels = torch.tensor([fitted[row % 5] for row in range(FIT)])
        others = torch.tensor([on[row % 5] for row in range(FEW)])
        own, tuned = ended(model, shape, {"label": others}), tune(model, shape, labels)
        add("bundled", f"digits {fitted[0]} to {fitted[-1]}", f"digits {on[0]} to {on[-1]}", own, tuned)

    def guided(scale: float | tuple[float, float]) -> ScoreModel:
        recipe = guidance.get("classifier_free", scale=scale)
        return recipe(model, unconditional={"label": checkpoint.classes})

    at, over = (tune(guided(scale), shape, torch.arange(FIT) % 10) for scale in (2.0, (SCALES[0], SCALES[-1])))
    for scale in SCALES:
        own = ended(guided(scale), shape, {"label": torch.arange(FEW) % 10})
        add("bundled, guided", "scale 2", f"scale {scale:g}", own, at)
        add("bundled, guided", f"scales {SCALES[0]:g} to {SCALES[-1]:g}", f"scale {scale:g}", own, over)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with the files of benchmarks/peers/problems.py")
    lines = [
        "# Tuned plans on seeds, labels and guidance other than those of the fit",
        "",
        f"Written by `python -m benchmarks.tuning.fresh --data FOLDER`; its docstring says how. {NFE} evaluations; the",
        "gain is that of the mean error in standard errors of the paired difference, and the share of samples that are",
        f"better. {describe(torch.device('cpu'))}.",
        "",
        "| model | fitted with | judged on | fixed, mean error | tuned | ratio | of medians | gain | better |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
        *rows(parser.parse_args().data),
    ]
    write(RESULTS / "tuned_fresh.md", lines)


if __name__ == "__main__":
    main()
