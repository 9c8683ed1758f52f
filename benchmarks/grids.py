"""Which grid suits which solver on the bundled model: python benchmarks/grids.py [--out benchmarks/results/grids.md].

Every solver on every grid at several budgets, from the same seeds. For solvers of the ODE the measure is the error from
the converged solution, for those that draw noise FID; the last column is the geometric mean over the budgets.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path

import torch

import solvers
from scoresde import models
from scoresde.bench import Bench, Row
from scoresde.files import replacing
from scoresde.hardware import describe

NFE = (5, 10, 20, 50)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--reference", type=int, default=150, help="NFE of the converged solution")
    parser.add_argument("--out", type=Path, help="Markdown file for the table")
    arguments = parser.parse_args()
    chosen = [solver for name in solvers.names() if not (solver := solvers.get(name)).adaptive]
    chosen.append(solvers.get("pf_ode", method="rk4"))
    found: dict[tuple[str, str], list[Row]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in solvers.grids.names():
            bench = Bench(
                models.load("mnist", dtype=torch.bfloat16),
                models.find("mnist"),
                n=arguments.samples,
                seed=0,
                batch_size=arguments.samples,
                out=Path(folder) / name,
                device=torch.device("cpu"),
                grid=solvers.grids.get(name),
                reference=arguments.reference,
            )
            for row in bench.run(chosen, NFE, ()).rows:
                found.setdefault((row.solver, name), []).append(row)
            print(name, flush=True)
    header = " | ".join(f"{nfe} NFE" for nfe in NFE)
    lines = [
        f"`python benchmarks/grids.py --samples {arguments.samples} --reference {arguments.reference}`: "
        f"{describe(torch.device('cpu'))}, network in bfloat16. Error from the converged solution "
        "(RMS per pixel), FID for solvers that draw noise; NFE at most.",
        "",
        f"| solver | grid | measure | {header} | geometric mean |",
        "|---|---|---|" + "---:|" * (len(NFE) + 1),
    ]
    for (solver, grid), rows in sorted(found.items()):
        stochastic = rows[0].stochastic
        values = [row.fid if row.error is None else row.error for row in rows]
        mean = math.exp(sum(math.log(value) for value in values) / len(values))
        cells = " | ".join(f"{value:.3g}" for value in [*values, mean])
        lines.append(f"| {solver} | {grid} | {'FID' if stochastic else 'error'} | {cells} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.out:
        with replacing(arguments.out) as path:
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
