"""Peers' configurations chosen on other starts: python -m benchmarks.peers.chosen --peers FOLDER --data FOLDER.

benchmarks/peers/compare.py names the configuration of a peer that errs least in a cell, by the very errors that it is
then said to have. Someone who chooses has other starts. So here every configuration of every peer runs on ``SAMPLES``
starts of another seed (those of benchmarks/tuning/beside.py); the one that errs least on them in a cell runs on the
starts of compare.py, and that error is what the choice is worth. The best *single* configuration has the least root
mean square error on these other starts over all cells from ``SINGLE`` evaluations on (geometric mean). With ``FEW``
evaluations, which ``results/peers.json`` does not have, all of them run on the starts of compare.py too, so that the
least by hindsight is known (``least``: of those with no more than these).

Writes ``results/peers_chosen.json``, with the distances of single samples where the root mean square chose. ``--cache``
keeps the errors of each peer, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers import adapters, compare, problems
from benchmarks.peers import grids as peer_grids
from benchmarks.peers.problems import Joined
from benchmarks.peers.report import MEASURES
from benchmarks.recorded import RESULTS
from scoresde.files import replacing

NFE = (3, 4, 5, 6, 8, 10, 12, 15, 20)
FEW = (3, 4)
SINGLE = 5
SAMPLES, SEED = 256, 11
ON = ("VP", "EDM")
Errors = Mapping[str, Mapping[str, Mapping[str, Any]]]  # by toolkit, label and budget
Choice = tuple[float, str, str, int]  # error, toolkit, label and the budget that it was run with


def measured(joined: Joined, peer: str, folder: Path | None, budgets: Sequence[int], kept: Path) -> Errors:
    """Errors of all configurations of a peer, from ``kept`` where they are there."""
    if not kept.is_file():
        began = time.perf_counter()
        found = compare.measure(joined, peer, folder, budgets)
        with replacing(kept) as temporary:
            temporary.write_text(json.dumps(found), encoding="utf-8")
        print(f"{kept.stem}: {time.perf_counter() - began:.0f} s", flush=True)
    return json.loads(kept.read_text(encoding="utf-8"))


def least(all_errors: Iterable[Errors], problem: str, nfe: int, measure: str) -> Choice:
    """The configuration of all peers with the least error in a cell."""
    place = MEASURES.index(measure)
    return min(
        (errors[problem][place], toolkit, label, int(budget))
        for found in all_errors
        for toolkit, labels in found.items()
        for label, entries in labels.items()
        for budget, (evaluations, errors) in entries.items()
        if evaluations <= nfe and int(budget) <= nfe and math.isfinite(errors[problem][place])
    )


def single(on: Mapping[str, Sequence[Errors]]) -> tuple[str, str]:
    """Toolkit and label of the best single configuration, of those that have all cells; errors by process."""
    logs: dict[tuple[str, str], list[float]] = {}
    for found in (each for several in on.values() for each in several):
        for toolkit, labels in found.items():
            for label, entries in labels.items():
                cells = (
                    entries.get(str(nfe), (0, {}))[1].get(name)
                    for nfe in NFE
                    if nfe >= SINGLE
                    for name in problems.NAMES
                )
                errors = [cell[0] if cell is not None else math.inf for cell in cells]
                logs.setdefault((toolkit, label), []).append(sum(map(math.log, errors)))
    whole = {key: sum(each) for key, each in logs.items() if len(each) == len(on) and math.isfinite(sum(each))}
    return min(whole, key=lambda key: whole[key])


def keeping(sampler: compare.Sampler) -> tuple[compare.Sampler, list[Tensor]]:
    """A sampler, and where its last samples are."""
    last = list[Tensor]()

    def run(counted: compare.Counted, steps: int) -> Tensor:
        last[:] = [sampler(counted, steps)]
        return last[0]

    return run, last


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, help="folder with clones of the public repositories")
    parser.add_argument("--data", type=Path, help=f"folder with {' and '.join(problems.FILES.values())}")
    parser.add_argument("--cache", type=Path, default=Path("build/chosen"), help="folder of what was measured")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    arguments.cache.mkdir(parents=True, exist_ok=True)
    peers = {name: adapters.load(name, arguments.peers) for name in peer_grids.PEERS}
    fitting = problems.sources(arguments.data, seed=SEED, samples=SAMPLES)
    judging = problems.sources(arguments.data)
    cells, fits, judges = [], dict[str, list[Errors]](), dict[str, Joined]()
    for name in ON:
        fit, judge = (Joined.of(each, compare.PROCESSES[name]) for each in (fitting, judging))
        runs = {(peer, run.label): run for peer in peers for run in peer_grids.runs(peer, fit.process)}

        def of(kind: str, joined: Joined, budgets: Sequence[int], name: str = name) -> list[Errors]:
            return [
                measured(joined, peer, arguments.peers, budgets, arguments.cache / f"{name} {peer} {kind}.json")
                for peer in peers
            ]

        on_fit, few = of("fit", fit, NFE), of("few", judge, FEW)
        fits[name], judges[name] = on_fit, judge
        known: compare.Steps = {}
        for problem in problems.NAMES:
            for nfe in NFE:
                for place, measure in enumerate(MEASURES):
                    fitted, toolkit, label, budget = least(on_fit, problem, nfe, measure)
                    run = runs[toolkit, label]
                    sampler, last = keeping(compare.theirs(peers[toolkit], run))
                    found = compare.entries(judge, sampler, run.solver, [budget], known)[budget][1][problem]
                    where = {"process": name, "problem": problem, "nfe": nfe, "measure": measure}
                    chosen = {"chosen": [toolkit, label, budget], "fitted": fitted, "error": found[place]}
                    if measure == MEASURES[0]:
                        (own,) = (each for each in judge.problems if each.name == problem)
                        apart = own.distances(judge.apart(last[0].double())[problem])
                        chosen["distances"] = [float(f"{each:.3g}") for each in apart.tolist()]
                    cells.append(where | chosen | {"least": least(few, problem, nfe, measure)[:3]})
                    print(where, toolkit, label, budget, found[place], flush=True)
    best = single(fits)
    alone: dict[str, Any] = {"chosen": best, "errors": {}}
    for name, judge in judges.items():
        (run,) = (run for run in peer_grids.runs(best[0], judge.process) if run.label == best[1])
        found = compare.entries(judge, compare.theirs(peers[best[0]], run), run.solver, NFE, {})
        alone["errors"][name] = {budget: errors for budget, (_, errors) in found.items()}
    versions = {name: peer.version for name, peer in peers.items()}
    results = {"versions": versions, "single": alone, "cells": cells}
    with replacing(RESULTS / "peers_chosen.json") as temporary:
        temporary.write_text(json.dumps(results) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
