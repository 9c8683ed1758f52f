from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.cost import overhead, speed


def test_overhead_reports_executor_peer_and_bound_of_every_method(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overhead.main(["--quick", "--threads", "1", "--out", str(tmp_path / "new" / "overhead.md")])
    results = json.loads((tmp_path / "new" / "overhead.json").read_text())
    assert set(results["per step"]) == {"ddim", "dpmpp_2m", "heun", "dpm_solver_2", "ddpm"}
    for ways in results["per step"].values():
        assert set(ways) == {"executor", "diffusers", "bound"}
        for timing in ways.values():
            assert 0 < timing["low"] <= timing["median"] <= timing["high"] < 0.1
    text = (tmp_path / "new" / "overhead.md").read_text()
    assert text in capsys.readouterr().out


def test_speed_divides_the_time_between_network_draws_and_solver(tmp_path: Path) -> None:
    chosen = ["--solvers", "ddim", "euler_ancestral", "--batches", "2", "--dtypes", "float32", "--compile", "none"]
    speed.main([*chosen, "--rounds", "2", "--threads", "1", "--out", str(tmp_path / "speed.md")])
    rows = json.loads((tmp_path / "speed.json").read_text())
    assert {(row["toolkit"], row["solver"]) for row in rows} >= {
        (toolkit, solver) for toolkit in ("scoresde", "diffusers") for solver in ("ddim", "euler_ancestral")
    }
    for row in rows:
        assert row["network"] + row["draws"] + row["outside"] == pytest.approx(1, abs=0.05)
        assert 0.5 < row["network"] < 1 and row["outside"] > 0
        assert (row["draws"] > 0) == (row["solver"] == "euler_ancestral")
        assert row["peak"] > 2 * 28 * 28 * 4
        middle, low, high = row["images_per_second"]
        assert 0 < low <= middle <= high and row["seconds_per_nfe"] == pytest.approx(2 / middle / 9)


def test_memory_alive_is_counted_while_it_lives() -> None:
    given = torch.zeros(1000)
    with speed.Alive() as alive:
        first = given + 1
        second = first.view(10, 100) * 2
        del first
        third = second + 1
        assert alive.now == 8000
        third.add_(1)
        given.view(10, 100)
        del second
        assert alive.now == 4000
    assert alive.peak == 8000
