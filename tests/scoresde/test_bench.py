"""The benchmark: every solver at every budget, from the same seeds, kept as it goes."""

from __future__ import annotations

import json
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from scoresde import bench
from scoresde.commands.main import main
from scoresde.metrics import floors

SMALL = ["n=20", "batch_size=20", "reference_nfe=30", "tolerances=[0.1]"]
SOLVERS = "solvers=[ddim,{name: pf_ode, method: rk4},{name: ddim, eta: 1},pf_ode]"


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench") / "out"
    assert main(["bench", *SMALL, SOLVERS, "nfe=[4,5,8]", f"out={folder}"]) == 0
    return folder


def rows(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def test_each_solver_has_a_row_per_budget_and_budgets_of_equal_steps_share_one(out):
    found = [(row["solver"], row["nfe"]) for row in rows(out)]
    assert found[:3] == [("ddim", 4), ("ddim", 5), ("ddim", 8)]
    assert [nfe for solver, nfe in found if solver == "pf_ode(method=rk4)"] == [1, 5]  # 8 NFE buy no more than 5
    assert [nfe for solver, nfe in found if solver == "ddim(eta=1)"] == [4, 5, 8]
    assert found[-1][0] == "pf_ode(method=dopri5, rtol=0.1, atol=0.1)" and found[-1][1] > 8


def test_the_error_falls_with_nfe_and_stochastic_solvers_have_none(out):
    errors = {(row["solver"], row["nfe"]): row["error"] for row in rows(out)}
    assert errors["ddim", 8] < errors["ddim", 5] < errors["ddim", 4]
    assert errors["ddim(eta=1)", 8] is None


def test_the_table_names_feature_space_and_sample_count_beside_the_floors(out):
    text = (out / "table.md").read_text()
    floor = floors(20)
    assert f"FID in {floor.real.feature_space}, 20 samples each" in text
    assert f"{floor.real.value:.2f}" in text and f"{floor.converged.value:.2f}" in text


def test_figures_show_every_solver(out):
    for name in ("steps_vs_fid.png", "samples.png"):
        with Image.open(out / name) as picture:
            assert np.asarray(picture.convert("L")).std() > 10


def test_a_second_run_computes_nothing(out, capsys):
    with mock.patch.object(bench.run, "sample", side_effect=AssertionError("sampled again")):
        assert main(["bench", *SMALL, SOLVERS, "nfe=[4,5,8]", f"out={out}"]) == 0
    assert "already in" in capsys.readouterr().out


def test_an_interrupted_run_does_only_what_is_missing(tmp_path, out):
    arguments = ["bench", *SMALL, "solvers=[ddim]", "nfe=[4,5,8]", f"out={tmp_path / 'out'}"]
    sample, calls = bench.run.sample, []

    def interrupted(*args, **kwargs):
        calls.append(kwargs["nfe"])
        if len(calls) == 4:  # the reference, its half, and the first row are done
            raise KeyboardInterrupt
        return sample(*args, **kwargs)

    with mock.patch.object(bench.run, "sample", interrupted):
        assert main(arguments) == 130
        assert main(arguments) == 0
    assert calls == [30, 15, 4, 5, 5, 8]
    whole = {row["nfe"]: row["fid"] for row in rows(out) if row["solver"] == "ddim"}
    assert {row["nfe"]: row["fid"] for row in rows(tmp_path / "out")} == whole


def test_other_settings_in_the_same_folder_are_refused_by_name(out, capsys):
    assert main(["bench", *SMALL, SOLVERS, "nfe=[4,5]", f"out={out}"]) == 1
    assert "nfe" in capsys.readouterr().err


def test_a_damaged_results_file_is_refused(tmp_path, capsys):
    arguments = ["bench", *SMALL, "solvers=[ddim]", "nfe=[4]", f"out={tmp_path}"]
    assert main(arguments) == 0
    (tmp_path / "table.md").unlink()
    (tmp_path / "results.jsonl").write_text("{")
    assert main(arguments) == 1
    assert "damaged" in capsys.readouterr().err
