"""Samples of badly trained networks, by solver, beside their data: python -m benchmarks.tuning.network_quality.

The figure is the sliced Wasserstein distance of samples from the images that the network was trained on: what the
distance from the converged solution does not say, since that is itself far from the data where the network errs at
high noise. Networks are those of :mod:`benchmarks.tuning.networks` on digits and patches. σ* is measured on starts of
other seeds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

import scoresde
from benchmarks.recorded import RESULTS, write
from benchmarks.tuning import networks
from benchmarks.tuning.family import patches
from benchmarks.tuning.few import deviation
from benchmarks.tuning.problems import planned
from scoresde import models
from scoresde.data import load, to_state
from scoresde.metrics.figures.sliced import sliced_wasserstein
from scoresde.runs.hardware import describe
from scoresde.tuning.scale import measured

NFE = (4, 5, 8, 10, 15)
SAMPLES, SEED, SCALE_SEED = 1000, 5_000, 1_000
SPLITS = 10
SOLVERS = ("auto", "uni_pc", "dpmpp_2m", "deis", "ipndm", "ddim")
CONVERGED = ("uni_pc", 128)


def data() -> dict[str, Tensor]:
    """Images in [−1, 1] by the network's name, flat."""
    digits = to_state(load("digits").pixels).double().flatten(1)
    return {
        "digits, vp": digits,
        "patches, edm": patches(networks.SIDE)
        .unflatten(1, (networks.SIDE, networks.SIDE, 3))
        .movedim(-1, 1)
        .flatten(1),
    }


def rows(name: str, real: Tensor, place: Path, count: int = SAMPLES) -> list[str]:
    """The lines of a network."""
    checkpoint = models.load(place)

    scale = measured(networks.starts(checkpoint, 32, SCALE_SEED))

    def distance(solver: str, nfe: int, known: float | None = None) -> str:
        made = planned("auto", scale=known) if known else planned(solver)
        samples = scoresde.sample(
            checkpoint.model,
            made,
            nfe=nfe,
            shape=(count, *checkpoint.shape),
            seeds=SEED,
            cond=networks.cond(checkpoint, count),
            batch_size=250,
        ).samples
        found = sliced_wasserstein(samples.flatten(1).double().numpy(), real[:count].numpy(), SPLITS)
        return f"{found.value:.4f} ± {deviation(found):.2g}"

    lines = []
    for nfe in NFE:
        cells = [distance("auto", nfe, scale), *(distance(solver, nfe) for solver in SOLVERS)]
        lines.append(f"| {name} | {scale:.3g} | {nfe} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    solver, steps = CONVERGED
    lines.append(f"| {name}, converged | | {steps} | | | {distance(solver, steps)} |" + " |" * (len(SOLVERS) - 2))
    print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=Path, default=networks.OUT, help="folder of benchmarks.tuning.networks")
    parser.add_argument("--out", type=Path, default=RESULTS / "auto_network_quality.md")
    arguments = parser.parse_args()
    lines = [
        "# Samples of badly trained networks",
        "",
        "Written by `python -m benchmarks.tuning.network_quality`; its docstring says how it is measured. Sliced",
        f"Wasserstein distance of {SAMPLES} samples from the data, ± one standard error. Without σ*, `auto` is one of",
        f"the fixed solvers. {describe(torch.device('cpu'))}.",
        "",
        f"| network | σ* | NFE | auto | {' | '.join(('auto without σ*', *SOLVERS[1:]))} |",
        "|---|---:|---:|" + "---:|" * (1 + len(SOLVERS)),
    ]
    for name, real in data().items():
        lines += rows(name, real, networks.folder(name, arguments.networks))
    write(arguments.out, lines)


if __name__ == "__main__":
    main()
