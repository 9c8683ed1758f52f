"""Configurations of peers that are chosen on some starts and judged on others."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from benchmarks.peers import chosen, compare, problems
from benchmarks.peers.problems import Joined
from benchmarks.recorded import RESULTS
from scoresde.process import VP


def errors(**by_label: dict[int, tuple[int, float]]) -> dict[str, Any]:
    """As a peer's are kept, all problems alike: by label and budget, from evaluations and an error."""
    return {
        "peer": {
            label: {
                str(budget): (used, dict.fromkeys(problems.NAMES, (error, 2 * error)))
                for budget, (used, error) in by.items()
            }
            for label, by in by_label.items()
        }
    }


def test_the_least_error_is_of_those_within_the_budget() -> None:
    found = errors(a={5: (5, 0.3), 6: (6, 0.1)}, b={5: (4, 0.2), 6: (7, 0.01)}, c={5: (5, math.nan)})
    assert chosen.least([found], "ring", 5, "RMSE") == (0.2, "peer", "b", 5)
    assert chosen.least([found], "ring", 6, "median") == (0.2, "peer", "a", 6)


def test_the_best_single_one_has_every_cell() -> None:
    whole = {nfe: (nfe, 0.1) for nfe in chosen.NFE}
    better = {nfe: (nfe, 0.01) for nfe in chosen.NFE if nfe > chosen.SINGLE}
    both = errors(whole=whole, lacking=better)
    assert chosen.single({"VP": [both], "EDM": [both]}) == ("peer", "whole")
    assert chosen.single({"VP": [errors(one=better | whole, other=whole)], "EDM": [errors(other=whole)]}) == (
        "peer",
        "other",
    )


def test_samples_of_the_last_run_are_kept_with_their_distances() -> None:
    joined = Joined.of(problems.sources(None, ["ring"], samples=8), VP())
    sampler, last = chosen.keeping(lambda counted, steps: counted.start * steps)
    counted = compare.Counted(joined.start, joined.denoised, 3)
    assert torch.equal(sampler(counted, 2), 2 * joined.start)
    (problem,) = joined.problems
    distances = problem.distances(joined.apart(last[0])["ring"])
    root, median = joined.errors(last[0])["ring"]
    assert distances.shape == (8,)
    assert float(distances.square().mean().sqrt()) == pytest.approx(root)
    assert float(distances.median()) == pytest.approx(median)


def test_what_was_chosen_is_nowhere_better_than_the_best_by_hindsight() -> None:
    """Both were measured on the same starts, some by other machines."""
    kept = json.loads((RESULTS / "peers_chosen.json").read_text(encoding="utf-8"))
    best = {
        (cell["process"], cell["problem"], cell["nfe"], cell["measure"]): min(
            error for toolkit, (error, _) in cell["best"].items() if toolkit != compare.OURS
        )
        for cell in json.loads((RESULTS / "peers.json").read_text(encoding="utf-8"))["cells"]
    }
    for cell in kept["cells"]:
        where = cell["process"], cell["problem"], cell["nfe"], cell["measure"]
        least = min(cell["least"][0], best.get(where, math.inf))
        assert cell["error"] >= least * (1 - 1e-6), where
        if "distances" in cell:
            assert math.sqrt(sum(each**2 for each in cell["distances"]) / len(cell["distances"])) == pytest.approx(
                cell["error"], rel=1e-2
            )
