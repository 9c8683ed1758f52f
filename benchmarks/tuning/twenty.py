"""Whether tuning ever makes things worse: python -m benchmarks.tuning.twenty --networks FOLDER.

Twenty models: mixtures and densities of points drawn at random, of 1 to 1024 dimensions, on VP, EDM and Flow in turn,
and the four networks of a minute's training of :mod:`benchmarks.tuning.networks`. Each is tuned with 128 starts
(``scoresde.tune``, effort quick) and judged on 2,000 fresh ones, beside the best fixed solver, which the tuning itself
names. A difference counts where it is above two standard errors of the paired mean.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.recorded import RESULTS, write
from benchmarks.tuning import networks
from benchmarks.tuning.family import Member, mixture, points
from benchmarks.tuning.problems import fixed_and_tuned
from scoresde import ScoreModel, models
from scoresde.networks.checkpoint import Checkpoint
from scoresde.process import EDM, VP, Flow, Process
from scoresde.tuning import procedure, teacher
from scoresde.tuning.trajectories import Trajectories

DRAWN, STARTS, FRESH = 16, 128, 2000
NFE = (4, 6, 8)
SEEDS = 1_000_000  # between the seeds of the fit and those that judge
PROCESSES: list[Process] = [VP(), EDM(), Flow()]


def drawn(number: int) -> Member:
    """One of the models, with its own seed."""
    random = np.random.default_rng(1000 + number)
    dim = int(2 ** random.integers(0, 11))
    if number % 3 == 2:
        return points(dim, int(random.integers(10, 120)), float(random.uniform(0.05, 0.3)), 1000 + number)
    rank = int(min(dim, random.integers(1, 25)))
    shape = (float(random.uniform(0.5, 2)), float(random.uniform(0.1, 1)), float(random.uniform(0.1, 0.8)))
    return mixture(dim, int(random.integers(2, 13)), rank, *shape, 1000 + number)


def trajectories(member: Member, process: Process, samples: int, seed: int) -> Trajectories:
    source = member.make(samples, seed)
    on = source.on(process)

    def net(x: Tensor, t: Tensor) -> Tensor:
        return on(x, float(t[0]))

    return Trajectories(ScoreModel(net, process, "sample"), source.draws)


def twenty(folder: Path) -> Iterator[tuple[str, str, Callable[[int, int], Trajectories]]]:
    """Names of models and of their processes, and starts by their number and a seed."""
    for number in range(DRAWN):
        member, process = drawn(number), PROCESSES[number % len(PROCESSES)]
        yield member.name, process.name, partial(trajectories, member, process)
    for name in networks.NETWORKS:
        checkpoint = models.load(networks.folder(name, folder))

        def starts(samples: int, seed: int, checkpoint: Checkpoint = checkpoint) -> Trajectories:
            return networks.starts(checkpoint, samples, seed * SEEDS)

        yield f"network: {name.split(',')[0]}", checkpoint.model.process.name, starts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=Path, default=networks.OUT, help="folder of the trained networks")
    torch.set_num_threads(1)
    rows, gains, worse = [], list[float](), 0
    for name, process, starts in twenty(parser.parse_args().networks):
        began = time.perf_counter()
        kept = procedure.Kept.of(None, {}, None)
        tuned = procedure.from_starts(starts(STARTS, 1), NFE, "quick", "both", kept, print)
        seconds = time.perf_counter() - began
        fresh = starts(FRESH, 2)
        fresh = teacher.ended(fresh, 2 * kept.content["teacher"]["steps"])
        for nfe in NFE:
            fixed, own = map(fresh.errors, fixed_and_tuned(fresh, tuned, nfe))
            apart = own - fixed
            error = float(apart.std()) / math.sqrt(FRESH)
            worse += float(apart.mean()) > 2 * error
            gains.append(float(own.mean() / fixed.mean()))
            rows.append(
                f"| {name} | {process} | {nfe} | {float(fixed.mean()):.2e} | {float(own.mean()):.2e} | "
                f"{gains[-1]:.2f} | {float(own.median() / fixed.median()):.2f} | "
                f"{tuned.members[nfe].report['plan']} | {seconds:.0f} |"
            )
            print(rows[-1], flush=True)
    lines = [
        "# Twenty models tuned",
        "",
        "Written by `python -m benchmarks.tuning.twenty --networks FOLDER`; its docstring says how it is measured.",
        f"Worse than the best fixed solver by more than two standard errors: {worse} of {len(gains)}.",
        f"Error over the best fixed solver's: geometric mean {math.exp(float(np.log(gains).mean())):.2f}, largest "
        f"{max(gains):.2f}.",
        "",
        "| model | process | NFE | fixed, mean error | tuned | ratio | of medians | plan | seconds for all |",
        "|---|---|---:|---:|---:|---:|---:|---|---:|",
        *rows,
    ]
    write(RESULTS / "twenty.md", lines)


if __name__ == "__main__":
    main()
