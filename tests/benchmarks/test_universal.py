"""How the plans for all models are fitted and judged, on a small scale."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.tuning import beside, family, left_out, networks, on_networks, twenty, universal
from benchmarks.tuning.family import FAMILY, KINDS
from scoresde import models
from scoresde.process import EDM, VP
from scoresde.tuning import fixed
from scoresde.tuning.fit import loss
from solvers.grids.universal import FILE, tables

KNOWN = json.loads(FILE.read_text())["plans"]


def small(name: str, process: Any = None) -> family.Trajectories:
    member = next(member for member in FAMILY if member.name.startswith(name))
    return family.trajectories(member, process or EDM(), 12, 3, steps=30)


def test_the_tables_that_are_shipped_are_of_this_family_and_for_every_small_number() -> None:
    assert json.loads(FILE.read_text(encoding="utf-8"))["problems"] == universal.names()
    assert list(tables()) == list(range(universal.LEAST, universal.MOST + 1))
    assert len(KINDS) == 4 and len({member.name for member in FAMILY}) == len(FAMILY)


def test_a_fit_goes_on_where_it_was_and_errs_less_with_each_evaluation(tmp_path: Path) -> None:
    sets, path = [small("mixture of 5 in 2"), small("20 points in 2")], tmp_path / "tables.json"
    universal.fit(sets, path, (2, 3), ["a", "b"], KNOWN)
    before = path.read_text()
    universal.fit(sets, path, (2, 3), ["a", "b"], KNOWN)
    assert path.read_text() == before
    universal.fit(sets, path, (2,), ["a", "another"], KNOWN)  # other problems: begun anew
    assert list(json.loads(path.read_text())["plans"]) == ["2"]
    plans = json.loads(before)["plans"]
    losses = [loss(sets, universal.read(plans[str(count)], sets[0].first)) for count in (2, 3)]
    assert losses[1] < losses[0] - 0.1


@pytest.mark.parametrize("name", ["mixture of 10 in 784", "digits, mixture", "patches of 8"])
def test_problems_are_the_same_whatever_is_drawn_from_them(name: str) -> None:
    member = next(member for member in FAMILY if member.name.startswith(name))
    one, other = member.make(3, 1), member.make(5, 2)
    assert torch.equal(one.means, other.means) and torch.equal(one.spreads, other.spreads)
    assert one.draws.shape[0] == 3 and other.draws.shape[0] == 5


def test_the_problems_of_peers_have_no_part_in_the_family() -> None:
    assert not [member for member in FAMILY if "ring" in member.name or "MNIST" in member.name]


def test_models_drawn_at_random_are_the_same_each_time() -> None:
    for number in (0, 2):
        one, other = (twenty.trajectories(twenty.drawn(number), VP(), 4, 1) for _ in range(2))
        assert torch.equal(one.noise, other.noise)
        assert torch.equal(one.denoised(one.noise, 1.0), other.denoised(one.noise, 1.0))


def test_ratios_are_those_to_the_best_peer_of_each_cell() -> None:
    rivals = beside.peers()
    best, before = rivals["VP", "ring", 5, "RMSE"]
    auto = {str(off): {str(nfe): (2 * best, 1.0) for nfe in beside.NFE} for off in beside.OFF}
    tuned = {str(nfe): (best / 2, 1.0, "fitted") for nfe in beside.NFE}
    fixed = {str(nfe): (5 * best, 10.0, "deis", 0.1, 0.2 if nfe < 8 else 1.2) for nfe in beside.NFE}
    peer = {str(nfe): (0.5, 0.9 if nfe < 6 else 1.1) for nfe in beside.NFE}
    entry = {"scale": 1.0, "auto": auto, "tuned": tuned, "fixed": fixed, "peer": peer}
    entry["all"] = {str(nfe): {"deis": (3 * best, 2.0), "ddim": (4 * best, 1.0)} for nfe in beside.NFE}
    lines, column = beside.report({"VP/ring": entry}), 2 + beside.NFE.index(5)

    def at_five(start: str) -> list[str]:
        return [line.split("|")[column].strip() for line in lines if line.startswith(start)]

    chosen, (_, alone) = beside.chosen_peers()["VP", "ring", 5, "RMSE"]["error"], beside.single_peer()
    single, _ = alone["VP", "ring", 5, "RMSE"]
    assert at_five("| auto, with σ* measured, RMSE") == [f"{2 * best / each:.2f}" for each in (best, chosen, single)]
    assert before is not None and at_five("| auto without it, RMSE") == [f"{before / best:.2f}"]
    over = [0.5, best / 2 / chosen, best / 2 / single, 0.1, 1 / 6]
    assert at_five("| tuned, RMSE") == [f"{each:.2f}" for each in over]
    assert at_five("| tuned, median")[3:] == ["0.10", "1.00"]
    assert "Tuned: Of 9 cells the 95 % interval of the ratio of RMSE is below 1 in 3 and above it in 0." in lines
    assert any(line.startswith("| which, by RMSE | deis |") for line in lines)
    assert any(line.startswith("Of 9 cells the 95 % interval of the ratio of RMSE is below 1 in 4 ") for line in lines)


def test_the_interval_of_a_ratio_holds_it() -> None:
    one = torch.rand(200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    low, high = beside.interval(one, 2 * one)
    assert abs(low - 0.5) < 1e-9 and abs(high - 0.5) < 1e-9  # paired: drawn together
    low, high = beside.interval(one, 2 * one.flip(0))
    assert 0.4 < low < 0.5 < high < 0.6


def test_auto_on_a_network_is_beside_the_best_fixed_choice_and_tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NFE": (3, 11), "STARTS": 4}.items():
        monkeypatch.setattr(on_networks, name, value)
    monkeypatch.setattr(networks, "STEPS", 16)
    for name in ("SOLVERS", "GRIDS"):
        monkeypatch.setattr(fixed, name, getattr(fixed, name)[:2])
    lines = on_networks.rows("bundled", models.load("mnist"))
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[2] for row in cells] == ["3", "11"] and cells[1][6] == "–"  # the bundled file has none
    assert all(0 < float(cell) < 2 for row in cells for cell in (*row[3:6], row[7]))
    assert cells[0][3] != cells[0][4]  # what the network is told at first matters


def test_networks_of_the_family_are_other_images_than_those_that_auto_is_judged_on(tmp_path: Path) -> None:
    assert not [name for name in networks.NETWORKS if "mnist" in name]
    folders = [networks.folder(name, tmp_path) for name in networks.NETWORKS]
    assert len(set(folders)) == len(networks.NETWORKS) and all(each.name == "model" for each in folders)


def test_what_is_left_out_has_no_part_in_the_tables_that_are_judged_on_it(tmp_path: Path, monkeypatch: Any) -> None:
    members = [each for each in FAMILY if each.name in ("mixture of 5 in 2, rank 2", "20 points in 2")]
    monkeypatch.setattr(left_out, "FAMILY", members)
    monkeypatch.setattr(left_out, "NFE", (4,))
    monkeypatch.setattr(left_out, "STARTS", 16)
    monkeypatch.setattr(left_out, "ITERATIONS", 3)
    without, whole = left_out.fitted("points", tmp_path), left_out.fitted(None, tmp_path)
    line = left_out.row("points", members[1:], without, whole)
    assert json.loads((tmp_path / "points.json").read_text())["problems"] == [members[0].name]
    assert json.loads((tmp_path / "none.json").read_text())["problems"] == [each.name for each in members]
    ratio, ahead = map(float, line.split("|")[3].split("/"))
    assert ratio > 0.2 and 0 < ahead < 5
