"""The numbers of solver=auto, fitted to a family of models at once: python -m benchmarks.tuning.universal.

For each number of evaluations one table of levels, in multiples of σ*, and coefficients: the same for every exact
problem of :mod:`benchmarks.tuning.family` and every trained network of :mod:`benchmarks.tuning.networks`, fitted so
that the mean over them of the logarithm of the error is least (:mod:`scoresde.tuning.fit`). Each begins with the plan
of one evaluation less, a level put in, or with the table that there was, whichever is better. The tables are written
after each number, so that the run may be stopped and goes on where it was. :mod:`benchmarks.tuning.left_out` leaves
kinds of problems out.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.tuning import networks
from benchmarks.tuning.family import FAMILY, trajectories
from scoresde.files import replacing
from scoresde.process import EDM
from scoresde.tuning.fit import Fitted, free, inserted, levenberg_marquardt, loss
from scoresde.tuning.trajectories import Trajectories
from solvers.coefficients.fitted import Numbers
from solvers.grids.universal import FILE, TOLD

BACK = 2  # differences of history
LEAST, MOST = 2, 16
SAMPLES = 64
SEED = 3
NETWORK_SAMPLES, NETWORK_SEEDS = 32, (3000, 4000)  # of each network, which so counts as two problems
ITERATIONS = 30
QUANTILES = (0.97,)  # of errors, see scoresde.tuning.fit: medians alone would draw levels towards the sharpest problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FILE, help="where the tables are kept")
    parser.add_argument("--networks", type=Path, default=networks.OUT, help="folder of the trained networks")
    parser.add_argument("--least", type=int, default=LEAST, help="the smallest number of evaluations")
    parser.add_argument("--most", type=int, default=MOST, help="the largest")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sets = [trajectories(each, EDM(), SAMPLES, SEED) for each in FAMILY]
    for name in networks.NETWORKS:
        place = networks.folder(name, arguments.networks)
        sets += [networks.trajectories(place, NETWORK_SAMPLES, seed) for seed in NETWORK_SEEDS]
    known = json.loads(FILE.read_text(encoding="utf-8"))["plans"]
    fit(sets, arguments.out, range(arguments.least, arguments.most + 1), names(), known)


def names() -> list[str]:
    """Of the problems that have a part in the tables that are shipped."""
    return [*(member.name for member in FAMILY), *(f"network: {name}" for name in networks.NETWORKS)]


def fit(
    sets: Sequence[Trajectories],
    out: Path,
    counts: Sequence[int],
    problems: Sequence[str],
    known: Mapping[str, Any],
    iterations: int = ITERATIONS,
) -> None:
    """Tables for some numbers of evaluations, those that the file has already for these problems as they are.

    ``known`` are tables to begin with, by the number of evaluations.
    """
    kept = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {"problems": None, "plans": {}}
    if kept["problems"] != list(problems):
        kept = {"problems": list(problems), "plans": {}}
    for count in counts:
        if str(count) in kept["plans"]:
            continue
        began, first = time.perf_counter(), sets[0].first
        starts, plans = list[Fitted](), {**known, **kept["plans"]}
        if str(count - 1) in plans:
            starts.append(inserted(sets, read(plans[str(count - 1)], first), BACK, quantiles=QUANTILES))
        if str(count) in known:
            plain = read(known[str(count)], first)
            starts.append(Fitted(plain, loss(sets, plain, QUANTILES)))
        start = min(starts, key=lambda each: each.loss)
        which = free(count, ("level", "history"), BACK)
        found = levenberg_marquardt(sets, start.numbers, which, iterations=iterations, quantiles=QUANTILES)
        kept["plans"][str(count)] = written(found.numbers)
        print(f"{count}: {math.exp(found.loss):.5f}, {time.perf_counter() - began:.0f} s", flush=True)
        with replacing(out) as temporary:
            temporary.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def read(plan: dict[str, Any], first: float) -> Numbers:
    """The numbers of a table, in multiples of σ*."""
    return Numbers((first, *plan["levels"]), tuple(map(tuple, plan["history"])), told=TOLD)


def written(numbers: Numbers) -> dict[str, Any]:
    """As the file has it: all levels but the first, which is where a process begins."""
    return {"levels": list(numbers.levels[1:]), "history": [list(row) for row in numbers.history]}


if __name__ == "__main__":
    main()
