"""``dpm_adaptive`` beside public implementations: python benchmarks/agreement/adaptive.py [--peers FOLDER].

Public adaptive methods step a whole batch as one, so each start point goes to them alone; ours takes all of them in one
batch, in which each has its own steps. Exact score and start points are those of ``benchmarks/agreement/ode.py``, from
λ = −3 to 4, and noise, where there is any, is the same. Evaluations of each start point are
counted by a wrapper. A peer that is not there is reported as absent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

import solvers
from benchmarks.agreement.ode import PROCESSES, TOLERANCE, Problem, command, levels
from benchmarks.peers import adapters


@dataclass(frozen=True)
class Row:
    """A public function beside ours.

    Attributes:
        peer, function: as :mod:`benchmarks.peers.adapters` calls it.
        process: ``VP`` or ``EDM``.
        options: of theirs.
        ours: options of ``dpm_adaptive`` beside those.
    """

    peer: str
    function: str
    process: str
    options: Mapping[str, Any] = field(default_factory=dict)
    ours: Mapping[str, Any] = field(default_factory=dict)


ROWS = [
    *(
        Row("k-diffusion", "sample_dpm_adaptive", "EDM", options)
        for options in (
            {"order": 2},
            {"order": 3},
            {"order": 3, "rtol": 0.001, "atol": 0.001},
            {"order": 3, "pcoeff": 0.2, "icoeff": 0.6, "dcoeff": 0.1, "accept_safety": 0.9},
            {"order": 2, "eta": 1.0},
            {"order": 3, "eta": 0.5},
        )
    ),
    *(
        Row(
            "DPM-Solver", "adaptive", "VP", {"order": order, "algorithm_type": "dpmsolver"}, {"controller": "published"}
        )
        for order in (2, 3)
    ),
]


def compare(peer: adapters.Peer, row: Row) -> dict[str, Any]:
    """The largest difference of the end states, and the evaluations of each start point by both."""
    problem, order = Problem(PROCESSES[row.process], levels(-3.0, 4.0, 1)), int(row.options["order"])
    starts, generator = problem.start, torch.Generator().manual_seed(1)
    draws = [torch.randn(starts.shape, generator=generator, dtype=torch.float64) for _ in range(1000)]
    paid, calls = [0] * len(starts), 0
    ends = []
    for i, start in enumerate(starts.split(1)):

        def counted(x: Tensor, t: float, i: int = i) -> Tensor:
            paid[i] += 1
            return problem.denoised(x, t)

        def drawn(*interval: Any, i: int = i) -> Tensor:
            return draws[paid[i] // order - 1][i : i + 1]  # that of the attempt which was just evaluated

        times, options = problem.times, dict(row.options)
        if row.function == "sample_dpm_adaptive":
            options |= {"sigma_max": problem.process.sigma(float(times[0])), "noise_sampler": drawn}
            times = times[-1:]
        ends.append(peer.sample(counted, problem.process, times, start, row.function, **options))

    counts, attempts = torch.zeros(len(starts), dtype=torch.int64), iter(draws)

    def denoised(x: Tensor, t: Tensor, rows: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        counts[rows] += 1
        return problem.denoised(x, t)  # type: ignore[arg-type]

    shared = {name: value for name, value in row.options.items() if name != "algorithm_type"}
    solver = solvers.get("dpm_adaptive", **shared, **row.ours)
    ours = solver.run(
        problem.process, problem.times, denoised, starts, lambda rows: next(attempts)[rows], prediction="sample"
    )
    difference = float((torch.cat(ends) - ours).abs().max())
    return {"difference": difference, "theirs": paid, "evaluations": counts.tolist(), "calls": calls}


def report(rows: Sequence[Mapping[str, Any]], absent: Mapping[str, str]) -> str:
    versions = {row["peer"]: row["version"] for row in rows}
    lines = [
        "# `dpm_adaptive` beside public implementations",
        "",
        "Written by `python benchmarks/agreement/adaptive.py --peers FOLDER`; its docstring says how that is measured.",
        *(f"Compared: {peer} {version}." for peer, version in versions.items()),
        *(f"Absent: {peer} ({why})." for peer, why in absent.items()),
        "",
        f"Largest difference of the end states; at most {TOLERANCE:.0e} is agreement. *Evaluations*: ours and theirs",
        "of all start points; *equal*: how many of them cost both the same; *calls*: our batched evaluations, as many",
        "as the start point that takes longest needs.",
        "",
        "| peer | options | process | ours | difference | evaluations | equal | calls |",
        "|---|---|---|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        ours, theirs = row["evaluations"], row["theirs"]
        equal = sum(a == b for a, b in zip(ours, theirs, strict=True))
        cells = [row["peer"], _words(row["options"]), row["process"], _words(row["ours"]), f"{row['difference']:.0e}"]
        cells += [f"{sum(ours)}, {sum(theirs)}", f"{equal} of {len(ours)}", str(row["calls"])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _words(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in options.items())


def main(argv: Sequence[str] | None = None) -> None:
    def measured(peer: adapters.Peer, row: Row) -> dict[str, Any]:
        return {**asdict(row), "version": peer.version, **compare(peer, row)}

    command(argv, __doc__, "agreement_adaptive.md", ROWS, measured, report)


if __name__ == "__main__":
    main()
