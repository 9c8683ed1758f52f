"""Plans for all models on kinds of problems that had no part in their fit: python -m benchmarks.tuning.left_out.

Each kind of the exact problems of :mod:`benchmarks.tuning.family` is left out in turn, and tables are fitted to the
others from 2 evaluations on, with fewer samples and iterations than those of ``auto``. They are judged on the kind that
was left out, on other starts, beside the tables fitted in the same way with it, and beside the best fixed solver by
hindsight (:mod:`scoresde.tuning.fixed`). Nothing but the table for 2 evaluations, two numbers, is taken from ``auto``.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import torch

from benchmarks.recorded import RESULTS, write
from benchmarks.tuning import universal
from benchmarks.tuning.family import FAMILY, KINDS, Member, trajectories
from scoresde.process import EDM
from scoresde.tuning import fixed
from scoresde.tuning.trajectories import Trajectories
from solvers.grids.universal import FILE

NFE = (4, 5, 6, 8)
SAMPLES, ITERATIONS, OTHER_SEED, STARTS = 16, 12, 40, 256
PROCESS = EDM()


def fitted(without: str | None, folder: Path) -> dict[str, Any]:
    """Tables by the number of evaluations, fitted without a kind; with all of them where it is None."""
    own, path = [each for each in FAMILY if each.kind != without], folder / f"{without or 'none'}.json"
    two = json.loads(FILE.read_text(encoding="utf-8"))["plans"]["2"]
    sets = [trajectories(each, PROCESS, SAMPLES, universal.SEED) for each in own]
    counts, names = range(3, NFE[-1] + 1), [each.name for each in own]
    universal.fit(sets, path, counts, names, {"2": two}, ITERATIONS)
    return json.loads(path.read_text(encoding="utf-8"))["plans"]


def error(starts: Trajectories, plan: dict[str, Any]) -> float:
    """Logarithm of the root mean square of the errors of a table."""
    return logarithm(starts, starts.follow(universal.read(plan, starts.first)))


def logarithm(starts: Trajectories, samples: torch.Tensor) -> float:
    """Of the root mean square of the errors."""
    return 0.5 * math.log(float(starts.errors(samples).square().mean()))


def row(kind: str, members: list[Member], without: dict[str, Any], whole: dict[str, Any]) -> str:
    """A line of the table: geometric means over the problems of a kind, of tables fitted without it and with it."""
    cells = []
    problems = [trajectories(each, PROCESS, STARTS, OTHER_SEED) for each in members]
    for count in NFE:
        apart, ahead = 0.0, 0.0
        for starts in problems:
            own = error(starts, without[str(count)])
            plan = fixed.best(starts, count)[0].plan(PROCESS, count, "sample")
            apart += own - error(starts, whole[str(count)])
            ahead += own - logarithm(starts, starts.planned(plan))
        cells.append(f"{math.exp(apart / len(members)):.2f} / {math.exp(ahead / len(members)):.2f}")
    return f"| {kind} | {len(members)} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("build/left_out"), help="keeps the tables")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    lines = [
        "# Plans for all models, by kinds of problems left out",
        "",
        "Written by `python -m benchmarks.tuning.left_out`; its docstring says how it is measured. RMSE over that of",
        "tables fitted with the kind / over that of the best fixed solver by hindsight, by NFE.",
        "",
        f"| left out | problems | {' | '.join(map(str, NFE))} |",
        "|---|---:|" + "---:|" * len(NFE),
    ]
    whole = fitted(None, folder)
    for kind in KINDS:
        members = [each for each in FAMILY if each.kind == kind]
        lines.append(row(kind, members, fitted(kind, folder), whole))
        print(lines[-1], flush=True)
    write(RESULTS / "auto_left_out.md", lines)


if __name__ == "__main__":
    main()
