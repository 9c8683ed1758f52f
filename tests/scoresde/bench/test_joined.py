"""Benchmarks joined: what differs in seeds alone is averaged, everything else stands apart, nothing is mixed up."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from typing import Any

import pytest
import torch

from scoresde import bench, report
from scoresde.bench.rows import Estimate, Failure, Outcome, Row
from scoresde.commands.main import main

SPACE = "space (1)"


def row(solver: str = "ddim", fid: float = 3.0, seed: int = 0, **changes: Any) -> Row:
    basic = Row(
        solver=solver,
        name=solver,
        options={},
        stochastic=False,
        grid="uniform",
        budget=5.0,
        nfe=5.0,
        guidance="",
        dtype="float32",
        compile="",
        samples=100,
        feature_space=SPACE,
        metrics={"fid": Estimate(fid, fid - 0.3, fid + 0.4), "error": Estimate(fid / 10)},
        seconds=10.0,
        model="mnist",
        seeds=(seed,),
        versions="scoresde 1, torch 2, a laptop",
    )
    return replace(basic, **changes)


def outcome(*rows: Row, **changes: Any) -> Outcome:
    size = changes.pop("size", (1, 8, 8))
    converged = replace(rows[0], solver="converged", nfe=150.0, metrics={"fid": Estimate(2.9), "error": Estimate(0.0)})
    basic = Outcome(
        rows=list(rows),
        converged=converged,
        reference_error=0.01,
        floors=None,
        images=torch.zeros(len(rows) + 1, 3, *size, dtype=torch.uint8),
        labels=[0, 1, 2],
        environment={"torch": "2", "device": "a laptop"},
    )
    return replace(basic, **changes)


def test_runs_of_other_seeds_become_one_row_with_mean_spread_and_a_narrower_interval():
    runs = {f"s{seed}": outcome(row(fid=3 + seed / 1000, seed=seed, seconds=10 + seed / 100)) for seed in (0, 100, 200)}
    (joined,) = bench.join(runs).rows
    fid = joined.metrics["fid"]
    assert fid.value == pytest.approx(3.1) and joined.spread["fid"] == pytest.approx((3.0, 3.2))
    assert fid.low == pytest.approx(3.1 - 0.3 / math.sqrt(3)) and fid.high == pytest.approx(3.1 + 0.4 / math.sqrt(3))
    assert joined.seeds == (0, 100, 200) and joined.seconds == pytest.approx(11) and joined.folder == ""
    assert joined.metrics["error"].low is None  # which has no interval in the runs


def test_seeds_that_overlap_are_no_further_draws_and_narrow_nothing():
    (joined,) = bench.join({"a": outcome(row(seed=0)), "b": outcome(row(seed=50, fid=3.2))}).rows
    fid = joined.metrics["fid"]
    assert fid.value == pytest.approx(3.1) and fid.low is not None and fid.value - fid.low == pytest.approx(0.3)


def test_the_same_seeds_on_two_machines_stand_apart_and_seeds_shared_out_over_them_do_not():
    server = "scoresde 1, torch 2, a server"
    apart = bench.join({"laptop": outcome(row()), "server": outcome(row(versions=server, seconds=1.0))})
    assert [(each.folder, each.seconds) for each in apart.rows] == [("laptop", 10.0), ("server", 1.0)]
    assert "laptop" in report.html(apart)
    (together,) = bench.join({"laptop": outcome(row()), "server": outcome(row(seed=100, versions=server))}).rows
    assert together.folder == "" and together.versions.count(";") == 1


def test_other_models_stand_apart_with_their_own_converged_solutions_and_pictures():
    colour = outcome(row(model="photos", fid=9.0), size=(3, 16, 12), labels=[])
    joined = bench.join({"a": outcome(row()), "b": colour})
    assert [each.model for each in joined.rows] == ["mnist", "photos"]
    assert [each.converged.model for each in joined.limits] == ["mnist", "photos"]
    assert joined.images.shape == (4, 3, 3, 16, 12) and joined.labels == []
    assert int(joined.images[0, 0, 0, 0, 0]) == 255 and int(joined.images[0, 0, 0, 8, 6]) == 0  # the smaller in white
    page = report.html(joined)
    assert "Solvers compared on mnist, photos" in page and "converged solution of photos" in page


def test_what_cannot_stand_in_one_table_is_refused_by_the_folders_names():
    other = outcome(row(feature_space="pixels"))
    with pytest.raises(ValueError, match=r"feature spaces.*a in space \(1\); b in pixels"):
        bench.join({"a": outcome(row()), "b": other})
    with pytest.raises(ValueError, match="b compares with the model's own converged samples and a with real images"):
        bench.join({"a": outcome(row()), "b": outcome(row(), own=True)})
    with pytest.raises(ValueError, match="a and b compare the samples of mnist with other images"):
        bench.join({"a": outcome(row()), "b": outcome(row(), config={"inputs": {"reference": "other"}})})


def test_what_failed_in_one_run_and_not_in_another_has_a_row():
    failure = Failure("ddim", "uniform", 5.0, "", "float32", "", "no memory")
    other = replace(failure, solver="heun")
    assert bench.join({"a": outcome(row(), failures=[failure, other])}).failures == [other]


SMALL = ["solvers=[ddim,{name: ddim, eta: 1}]", "nfe=[4]", "n=20", "batch_size=20", "reference_nfe=20", "dtype=float32"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = tmp_path_factory.mktemp("joined")
    for seed in (0, 20):
        assert main(["bench", *SMALL, f"seed={seed}", f"out={made / f's{seed}'}"]) == 0
    return made


def test_the_report_of_a_folder_is_made_again_to_the_byte(folders, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(folders / "s0", folder)
    for name in ("report.html", "table.csv", "table.md", "steps_vs_fid.svg"):
        (folder / name).unlink()
    assert main(["report", str(folder)]) == 0
    for name in ("report.html", "table.csv", "table.md", "steps_vs_fid.svg"):
        assert (folder / name).read_bytes() == (folders / "s0" / name).read_bytes()


def test_rows_say_which_model_seed_and_versions_they_are_of(folders):
    (first, *_) = bench.read(folders / "s20").rows
    assert (first.model, first.seeds) == ("mnist", (20,)) and "torch" in first.versions
    head, *lines = (folders / "s20" / "table.csv").read_text().splitlines()
    assert {"model", "seeds", "versions"} <= set(head.split(",")) and all("mnist" in line for line in lines)


def test_rows_of_an_earlier_version_take_it_from_their_folder(folders, tmp_path):
    folder = tmp_path / "old"
    shutil.copytree(folders / "s20", folder)
    old = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    for line in old:
        for name in ("model", "seeds", "versions", "folder", "spread"):
            del line[name]
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in old))
    assert bench.read(folder).rows == bench.read(folders / "s20").rows


def test_folders_are_joined_by_the_command(folders, tmp_path, capsys):
    out = tmp_path / "all"
    assert main(["report", str(folders / "s0"), str(folders / "s20"), f"out={out}", "title=Both, at 1,000 = n"]) == 0
    assert "2 rows of 2 folders" in capsys.readouterr().out
    assert (
        "<h1>Both, at 1,000 = n</h1>" in (out / "report.html").read_text()
        and "fid_lowest_run" in (out / "table.csv").read_text()
    )


def test_a_benchmark_that_is_under_way_has_a_report_too(folders, tmp_path):
    folder = tmp_path / "half"
    shutil.copytree(folders / "s0", folder)
    first, *_ = (folder / "results.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "results.jsonl").write_bytes(first + b'{"key": "torn')  # the next is being written
    assert main(["report", str(folder)]) == 0
    assert (folder / "results.jsonl").read_bytes() == first + b'{"key": "torn'
    assert len(bench.read(folder).rows) == 1


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "is no folder of scoresde bench"), ("rows", "holds no outcome.json"), ("damaged", "is damaged")],
)
def test_a_folder_without_a_benchmark_is_refused_in_a_line(folders, tmp_path, capsys, content, told):
    if content is not None:
        shutil.copytree(folders / "s0", tmp_path, dirs_exist_ok=True)
        (tmp_path / "outcome.json").unlink()
    if content == "damaged":
        (tmp_path / "outcome.json").write_text('{"format": "scoresde-outcome-1"}')
    assert main(["report", str(tmp_path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


def test_a_report_needs_a_folder_and_replaces_no_other_benchmark(folders, capsys):
    assert main(["report"]) == 2
    assert "folders must be given" in capsys.readouterr().err
    assert main(["report", str(folders / "s0"), str(folders / "s20"), f"out={folders / 's0'}"]) == 1
    assert "holds a benchmark of its own" in capsys.readouterr().err
