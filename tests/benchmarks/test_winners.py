"""Every configuration of a peer that wins a cell of peers.json is a configuration of ours, or has a fault."""

from __future__ import annotations

import json
from typing import Any

import pytest

import solvers
from benchmarks.peers import adapters, compare, winners
from benchmarks.peers import grids as peer_grids
from benchmarks.peers import problems as peer_problems
from benchmarks.peers.problems import Joined
from benchmarks.recorded import RESULTS
from scoresde.process import EDM, VP

RESULT = json.loads((RESULTS / "winners.json").read_text(encoding="utf-8"))
FOUND = winners.winners(json.loads((RESULTS / "peers.json").read_text(encoding="utf-8")))
ROWS = {(row["peer"], row["label"]): row for row in RESULT["rows"]}
RING = peer_problems.sources(None, ["ring"])


@pytest.fixture(scope="module", params=["VP", "EDM"])
def ring(request: pytest.FixtureRequest) -> Joined:
    return winners.started(RING, compare.PROCESSES[request.param])


@pytest.fixture(scope="module")
def diffusers() -> adapters.Peer:
    return adapters.load("diffusers")


def test_every_winner_is_on_the_page_with_all_its_cells() -> None:
    assert ROWS.keys() == FOUND.keys()
    for key, cells in FOUND.items():
        assert [(cell["process"], cell["problem"], cell["nfe"]) for cell in ROWS[key]["cells"]] == cells
    assert (RESULTS / "winners.md").read_text(encoding="utf-8") == winners.report(RESULT)


@pytest.mark.parametrize("row", ROWS.values(), ids=lambda row: f"{row['peer']}: {row['label']}")
def test_a_winner_without_a_fault_is_ours(row: dict[str, Any]) -> None:
    assert solvers.get(row["solver"], **row["options"]).name == row["solver"]
    for cell in row["cells"]:
        theirs, ours = cell["evaluations"]
        assert ours == theirs <= cell["nfe"]
    assert bool(row["fault"]) == (row["difference"] > winners.TOLERANCE)
    assert row["difference"] == max(cell["difference"] for cell in row["cells"])
    assert all("rounding" not in cell or cell["rounding"] < 1e-6 for cell in row["cells"])


OF_DIFFUSERS = [label for peer, label in FOUND if peer == "diffusers"]


@pytest.mark.parametrize("label", OF_DIFFUSERS)
def test_diffusers_winners_are_ours_on_the_ring(ring: Joined, diffusers: adapters.Peer, label: str) -> None:
    (run,) = (run for run in peer_grids.runs("diffusers", ring.process) if run.label == label)
    for budget in (6, 10):
        row = winners.measure(diffusers, run, ring, budget, ["ring"])
        assert row["difference"]["ring"] < winners.TOLERANCE
        assert row["evaluations"][0] == row["evaluations"][1] == budget


def test_an_order_is_lowered_only_where_theirs_is() -> None:
    """diffusers' DPM-Solvers lower theirs below 15 steps, DPM-Solver's own code below 10, UniPC always."""
    chosen = {
        ("DPM-Solver", "multistep algorithm_type=dpmsolver order=3 solver_type=dpmsolver lower_order_final=True"): 10,
        (
            "diffusers",
            "EDMDPMSolverMultistepScheduler solver_order=3 solver_type=heun final_sigmas_type=sigma_min ",
        ): 15,
        ("UniPC", "multistep variant=bh1 algorithm_type=data_prediction order=3 lower_order_final=True"): 999,
    }
    for (peer, start), most in chosen.items():
        found = (run for run in peer_grids.runs(peer, EDM()) if run.label.startswith(start))
        run = next(run for run in found if run.options["lower_order_final"])
        assert winners.ours(run, most - 1)[1]["lower_order_final"]
        assert most == 999 or "lower_order_final" not in winners.ours(run, most)[1]


def test_grids_end_where_a_peer_s_do_though_ours_would_end_above() -> None:
    last = {str(end): VP().half_log_snr(end) for end in peer_grids.T_ENDS}
    for run in peer_grids.runs("UniPC", VP()):
        times = winners.place(run).times(VP(), 7)
        assert len(times) == 8 + run.options["denoise_to_zero"]
        assert VP().half_log_snr(float(times[7])) == pytest.approx(last[run.grid.split()[-1]], rel=1e-9)
        assert bool(times[-1] == 0) is run.options["denoise_to_zero"]
