"""auto and tuned plans beside every public toolkit: python benchmarks/tuning/beside.py --data FOLDER.

On the exact problems of :mod:`benchmarks.peers.problems`, from the starts on which benchmarks/peers/compare.py measured
the peers, whose smallest errors of each cell, chosen with hindsight among thousands of configurations, are read from
``results/peers.json``. ``auto`` has the σ* that :func:`scoresde.noise_scale` measures on other starts, and multiples of
it; tuned plans are fitted, chosen and judged on other starts too (``scoresde.tune``, effort quick). So are what they
stand beside: the best of all peers' configurations on other starts (``results/peers_chosen.json``, by
:mod:`benchmarks.peers.chosen`) and the best of ours (:mod:`scoresde.tuning.fixed`). A choice with hindsight knows which
of some thousand starts near the border of two basins end in the right one. The best *single* solver is the one of
these whose geometric mean over all cells is least, at a number of evaluations or at ``SINGLE`` and more, by hindsight
too; the peers' was chosen on other starts.
``--cache`` keeps what was measured.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.peers import problems
from benchmarks.peers.chosen import SINGLE
from benchmarks.peers.compare import PROCESSES
from benchmarks.peers.problems import Source
from benchmarks.recorded import RESULTS, write
from benchmarks.tuning.problems import fixed_and_tuned, planned
from scoresde import ScoreModel
from scoresde.files import replacing
from scoresde.process import Process
from scoresde.tuning import procedure
from scoresde.tuning.fixed import candidates
from scoresde.tuning.scale import measured
from scoresde.tuning.trajectories import Trajectories

NFE = (3, 4, 5, 6, 8, 10, 12, 15, 20)
OFF = (0.5, 0.67, 1.0, 1.5, 2.0)  # multiples of σ*
FIT_SEED = 11  # of the draws that are not those of the peers
STARTS = 512  # half of them fitted
ABOVE = 1.2  # ratios that are named
NAMES = {"tuned": "tuned", "auto": "auto, with σ* measured", "before": "auto without it"}
MEASURES = ("RMSE", "median")
ON = ("VP", "EDM")
Rivals = dict[tuple[str, str, int, str], tuple[float, float | None]]  # errors of a peer, and of auto without σ*
RESAMPLES = 1000  # of the starts, for an interval


def model_of(source: Source, process: Process) -> ScoreModel:
    """The exact score of a problem in its own coordinates."""
    on = source.on(process)

    def net(x: Tensor, t: Tensor) -> Tensor:
        return on(x, float(t[0]))

    return ScoreModel(net, process, "sample")


def measure(source: Source, fitting: Source, on: str, folder: Path | None) -> dict[str, Any]:
    """Errors of auto at multiples of σ*, and of tuned plans, by evaluations: (RMSE, median)."""
    process = PROCESSES[on]
    judged = problems.exact(source, process)
    model, width = model_of(source, process), source.draws.shape[1]
    fit = Trajectories(model, fitting.draws)
    scale = measured(fit.part(range(16)))
    own = Trajectories(model, source.draws, judged.end)
    shrunk = math.sqrt(width / source.dim)  # errors are those of the states before the rotation

    def errors(samples: Tensor) -> tuple[float, float]:
        each = own.errors(samples) * shrunk
        return float(each.square().mean().sqrt()), float(each.median())

    found: dict[str, Any] = {"scale": scale, "auto": {}, "tuned": {}, "fixed": {}, "peer": {}, "all": {}}
    for off in OFF:
        auto = planned("auto", scale=off * scale)
        plans = {nfe: auto.plan(process, auto.recommended(process, nfe), "sample") for nfe in NFE}
        found["auto"][str(off)] = {str(nfe): errors(own.planned(plan)) for nfe, plan in plans.items()}
    about = {"process": repr(process), "problem": source.name, "starts": STARTS}
    kept = procedure.Kept.of(folder, about, None)
    tuned = procedure.from_starts(fit, NFE, "quick", "both", kept, print)
    for nfe in NFE:
        member = tuned.members[nfe]
        fixed, taken = fixed_and_tuned(own, tuned, nfe)
        found["tuned"][str(nfe)] = (*errors(taken), member.report["plan"])
        rival = torch.tensor(chosen_peers()[on, source.name, nfe, MEASURES[0]]["distances"])
        found["peer"][str(nfe)] = interval(own.errors(taken) * shrunk, rival.double())
        ends = interval(own.errors(taken), own.errors(fixed))
        found["fixed"][str(nfe)] = (*errors(fixed), str(member.fixed), *ends)
        each = candidates(process, nfe, "sample")
        found["all"][str(nfe)] = {str(name): errors(own.planned(plan)) for name, plan in each}
    return found


def interval(taken: Tensor, fixed: Tensor) -> tuple[float, float]:
    """In which the ratio of two root mean squares lies by 95 of 100, with starts drawn anew from these."""
    random = np.random.default_rng(0)
    squares = [errors.square().numpy() for errors in (taken, fixed)]
    drawn = random.integers(0, len(taken), (RESAMPLES, len(taken)))
    ratios = np.sqrt(squares[0][drawn].mean(1) / squares[1][drawn].mean(1))
    low, high = np.quantile(ratios, (0.025, 0.975))
    return float(low), float(high)


@functools.cache
def chosen_peers() -> dict[tuple[str, str, int, str], dict[str, Any]]:
    """What benchmarks/peers/chosen.py found, by process, problem, evaluations and measure."""
    cells = json.loads((RESULTS / "peers_chosen.json").read_text(encoding="utf-8"))["cells"]
    return {(cell["process"], cell["problem"], cell["nfe"], cell["measure"]): cell for cell in cells}


def single_peer() -> tuple[tuple[str, str], Rivals]:
    """The best single configuration of all peers, and its errors."""
    found = json.loads((RESULTS / "peers_chosen.json").read_text(encoding="utf-8"))["single"]
    return tuple(found["chosen"]), {
        (process, problem, int(nfe), measure): (errors[problem][place], None)
        for process, by in found["errors"].items()
        for nfe, errors in by.items()
        for problem in errors
        for place, measure in enumerate(MEASURES)
    }


def peers() -> Rivals:
    """The smallest error of any peer, and that of the auto of before, by process, problem, evaluations and measure."""
    found: Rivals = {key: (cell["least"][0], None) for key, cell in chosen_peers().items()}
    for cell in json.loads((RESULTS / "peers.json").read_text(encoding="utf-8"))["cells"]:
        best = min(error for toolkit, (error, _) in cell["best"].items() if toolkit != "scoresde")
        key = cell["process"], cell["problem"], cell["nfe"], cell["measure"]
        found[key] = min(best, found.get(key, (best, None))[0]), cell["auto"]
    return found


def mean(values: Sequence[float]) -> str:
    """Geometric mean."""
    return f"{math.exp(float(np.log(values).mean())):.2f}" if values else "–"


def report(kept: dict[str, Any]) -> list[str]:
    """The tables."""
    hindsight = peers()
    fairly: Rivals = {key: (cell["error"], None) for key, cell in chosen_peers().items()}

    def told(ends: Sequence[tuple[float, float]]) -> str:
        return (
            f"Of {len(ends)} cells the 95 % interval of the ratio of RMSE is below 1 in "
            f"{sum(high < 1 for _, high in ends)} and above it in {sum(low > 1 for low, _ in ends)}."
        )

    def chosen(nfe: int, place: int) -> list[float]:
        pairs = [(found["tuned"][str(nfe)][place], found["fixed"][str(nfe)][place]) for found in kept.values()]
        return [tuned / fixed for tuned, fixed in pairs]

    def single(place: int, *budgets: int) -> str:
        """Of the fixed solvers that all cells of these budgets have."""
        cells = [found["all"][str(nfe)] for found in kept.values() for nfe in budgets]
        names = [name for name in cells[0] if all(name in cell for cell in cells)]
        return min(names, key=lambda name: float(np.log([cell[name][place] for cell in cells]).mean()))

    def beyond(name: str, nfe: int, place: int) -> list[float]:
        solver, result = single(place, nfe), []
        for found in kept.values():
            own = found["tuned"] if name == "tuned" else found["auto"]["1.0"]
            if str(nfe) in own:
                result.append(own[str(nfe)][place] / found["all"][str(nfe)][solver][place])
        return result

    def ratios(name: str, nfe: int, place: int, off: str = "1.0", rivals: Rivals = hindsight) -> list[float]:
        result = []
        for key, found in kept.items():
            process, problem = key.split("/")
            rival, before = rivals.get((process, problem, nfe, MEASURES[place]), (None, None))
            if rival is None:
                continue
            entry = {"tuned": found["tuned"], "auto": found["auto"][off]}.get(name)
            value = before if entry is None else entry[str(nfe)][place] if str(nfe) in entry else None
            if value is not None:
                result.append(value / rival)
        return result

    def over(words: str, rows: Iterable[tuple[str, Callable[[int], list[float]]]]) -> list[str]:
        lines = [f"| {words} | {' | '.join(map(str, NFE))} |", "|---|" + "---:|" * len(NFE)]
        return lines + [f"| {name} | {' | '.join(mean(of(nfe)) for nfe in NFE)} |" for name, of in rows]

    def to(rivals: Rivals, names: Sequence[str]) -> Iterator[tuple[str, Callable[[int], list[float]]]]:
        for name, place in itertools.product(names, (0, 1)):
            yield f"{NAMES[name]}, {MEASURES[place]}", partial(ratios, name, place=place, rivals=rivals)

    def alone_over(nfe: int, solver: str) -> list[float]:
        rivals = {key: alone[(*key.split("/"), nfe, MEASURES[0])][0] for key in kept}  # type: ignore[index]
        have = {key: found["all"][str(nfe)] for key, found in kept.items() if solver in found["all"][str(nfe)]}
        return [errors[solver][0] / rivals[key] for key, errors in have.items()]

    (toolkit, label), alone = single_peer()
    leader = single(0, *(nfe for nfe in NFE if nfe >= SINGLE))

    def above(of: Callable[[int], list[float]]) -> str:
        found = [
            f"{key} at {nfe}: {ratio:.2f}"
            for nfe in NFE
            if nfe >= SINGLE
            for key, ratio in zip(kept, of(nfe), strict=True)
            if ratio > ABOVE
        ]
        return ", ".join(found) or "none"

    ends = {
        "peer": [tuple(found["peer"][str(nfe)]) for found in kept.values() for nfe in NFE],
        "fixed": [tuple(found["fixed"][str(nfe)][3:]) for found in kept.values() for nfe in NFE],
    }
    lines = [
        *over("over the best public configuration of each cell", to(hindsight, tuple(NAMES))),
        "",
        *over("over the peers' configuration that was best on other starts", to(fairly, ("tuned", "auto"))),
        "",
        f"Tuned: {told(ends['peer'])}",
        "",
        *over("over the best single public configuration", to(alone, ("tuned", "auto"))),
        "",
        f"It is {toolkit}, {label.replace(' | ', ' on ')}, also chosen on other starts. Cells in which",
        f"the RMSE of auto is above {ABOVE:g} times its: {above(partial(ratios, 'auto', place=0, rivals=alone))}.",
        "",
        *over(
            "over the fixed solver that was best on the starts of the fit",
            ((f"tuned, {MEASURES[place]}", partial(chosen, place=place)) for place in (0, 1)),
        ),
        "",
        told(ends["fixed"]),
        "",
        *over(
            "over the best single fixed solver",
            (
                (f"{name}, {MEASURES[place]}", partial(beyond, name, place=place))
                for name, place in itertools.product(("tuned", "auto"), (0, 1))
            ),
        ),
        "| which, by RMSE | " + " | ".join(single(0, nfe) for nfe in NFE) + " |",
        "",
        *over(
            "fixed solvers alone, RMSE over the best single public configuration",
            (
                ("the best single one of each number of evaluations", lambda nfe: alone_over(nfe, single(0, nfe))),
                (f"{leader}, the best single one at {SINGLE} and more", lambda nfe: alone_over(nfe, leader)),
            ),
        ),
        "",
        f"Its cells above {ABOVE:g}: {above(partial(alone_over, solver=leader))}.",
        "",
        "## If the scale is off",
        "",
        *over(
            "auto, RMSE over the best public configuration, with",
            ((f"{off:g} σ*", partial(ratios, "auto", place=0, off=str(off))) for off in OFF),
        ),
    ]
    lines += ["", "## Every cell", ""]
    for key, found in kept.items():
        process, problem = key.split("/")
        lines += [f"### {problem} on {process}, σ* = {found['scale']:.3g}", ""]
        lines.append(
            "| NFE | tuned RMSE | over fixed | auto RMSE | best peer's | tuned median | auto median | best peer's | "
            "tuned plan | fixed solver |"
        )
        lines.append("|---:|---:|---:|---:|---:|---:|---:|---:|---|---|")
        for nfe in NFE:
            tuned, auto = found["tuned"][str(nfe)], found["auto"]["1.0"].get(str(nfe), (math.nan, math.nan))
            best = [hindsight.get((process, problem, nfe, each), (math.nan, None))[0] for each in MEASURES]
            cells = [tuned[0], auto[0], best[0], tuned[1], auto[1], best[1]]
            shown = ["–" if math.isnan(cell) else f"{cell:.2e}" for cell in cells]
            fixed = found["fixed"][str(nfe)]
            shown.insert(1, f"{tuned[0] / fixed[0]:.2f} ({fixed[3]:.2f} to {fixed[4]:.2f})")
            lines.append(f"| {nfe} | {' | '.join(shown)} | {tuned[2]} | {fixed[2]} |")
        lines.append("")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with the files of benchmarks/peers/problems.py")
    parser.add_argument("--cache", type=Path, default=Path("build/beside"), help="folder of what was measured")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    kept: dict[str, Any] = {}
    for problem in problems.NAMES:
        (source,) = problems.sources(arguments.data, [problem])
        (fitting,) = problems.sources(arguments.data, [problem], FIT_SEED, STARTS)
        for process in ON:
            path = arguments.cache / f"{problem}-{process}.json"
            if not path.is_file():
                found = measure(source, fitting, process, arguments.cache / f"{problem}-{process}")
                with replacing(path) as temporary:
                    temporary.write_text(json.dumps(found, indent=1) + "\n")
            kept[f"{process}/{problem}"] = json.loads(path.read_text())
    head = [
        "# auto and tuned plans beside every public toolkit",
        "",
        "Written by `python benchmarks/tuning/beside.py --data FOLDER`; its docstring says how it is measured.",
        f"Tuned plans are fitted on {STARTS // 2} other starts; errors are on the starts of peers.md. Ratios are",
        "geometric means over ring, MNIST and CIFAR on VP and EDM.",
        "",
    ]
    write(RESULTS / "universal.md", [*head, *report(kept)])


if __name__ == "__main__":
    main()
