from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import speed


def test_speed_reports_executor_peer_and_bound_of_every_method(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    speed.main(["--quick", "--threads", "1", "--out", str(tmp_path / "new" / "speed.md")])
    results = json.loads((tmp_path / "new" / "speed.json").read_text())
    assert set(results["per step"]) == {"ddim", "dpmpp_2m", "heun", "dpm_solver_2", "ddpm"}
    for ways in results["per step"].values():
        assert set(ways) == {"executor", "diffusers", "bound"}
        for timing in ways.values():
            assert 0 < timing["low"] <= timing["median"] <= timing["high"] < 0.1
    text = (tmp_path / "new" / "speed.md").read_text()
    assert text in capsys.readouterr().out
    assert "images/s" in text and results["network"]["images per second"] > 0
    assert 0 < results["network"]["share outside the network"] < 1
