"""The numbers of solver=auto, fitted to a family of exact problems at once: python benchmarks/tuning/universal.py.

For each number of evaluations one table of levels, in multiples of σ*, and coefficients: the same for every problem of
:mod:`benchmarks.tuning.family`, fitted so that the mean over the problems of the logarithm of the error is least
(:mod:`scoresde.tuning.fit`). Each begins with the plan of one evaluation less, a level put in. The tables are written
after each number, so that the run may be stopped and goes on where it was; ``--without KIND`` leaves a kind of problems
out, for the test of plans on problems that had no part in them.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.tuning.family import FAMILY, KINDS, trajectories
from scoresde.files import replacing
from scoresde.process import EDM
from scoresde.tuning.fit import free, inserted, levenberg_marquardt
from scoresde.tuning.trajectories import Trajectories
from solvers.coefficients.fitted import Numbers
from solvers.grids.universal import FILE

BACK = 2  # differences of history
MOST = 16
SAMPLES = 64
SEED = 3
START = 1.3  # level of the second evaluation of two, in multiples of σ*
ITERATIONS = 30
QUANTILES = (0.97,)  # of errors, see scoresde.tuning.fit: medians alone would draw levels towards the sharpest problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FILE, help="where the tables are kept")
    parser.add_argument("--without", choices=KINDS, help="a kind of problems that has no part in the fit")
    parser.add_argument("--most", type=int, default=MOST, help="the largest number of evaluations")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    members = [member for member in FAMILY if member.kind != arguments.without]
    sets = [trajectories(member, EDM(), SAMPLES, SEED) for member in members]
    fit(sets, arguments.out, arguments.most, [member.name for member in members])


def fit(sets: Sequence[Trajectories], out: Path, most: int, names: Sequence[str]) -> None:
    """Tables for 2 to ``most`` evaluations, those that the file has already left as they are."""
    kept = json.loads(out.read_text()) if out.is_file() else {"problems": list(names), "plans": {}}
    for count in range(2, most + 1):
        if str(count) in kept["plans"]:
            continue
        began = time.perf_counter()
        if count == 2:
            start = Numbers((sets[0].first, START), ((), ()))
        else:
            start = inserted(
                sets, read(kept["plans"][str(count - 1)], sets[0].first), BACK, quantiles=QUANTILES
            ).numbers
        which = free(count, ("level", "history"), BACK)
        found = levenberg_marquardt(sets, start, which, iterations=ITERATIONS, quantiles=QUANTILES)
        kept["plans"][str(count)] = written(found.numbers)
        print(f"{count}: {math.exp(found.loss):.5f}, {time.perf_counter() - began:.0f} s", flush=True)
        with replacing(out) as temporary:
            temporary.write_text(json.dumps(kept, indent=1) + "\n")


def read(plan: dict[str, Any], first: float) -> Numbers:
    """The numbers of a table, in multiples of σ*."""
    return Numbers((first, *plan["levels"]), tuple(map(tuple, plan["history"])))


def written(numbers: Numbers) -> dict[str, Any]:
    """As the file has it: all levels but the first, which is where a process begins."""
    return {"levels": list(numbers.levels[1:]), "history": [list(row) for row in numbers.history]}


if __name__ == "__main__":
    main()
