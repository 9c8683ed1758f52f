"""Rows of a benchmark that several processes share: each once, in the order and with the figures of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import solvers
from scoresde import models
from scoresde.bench import Bench, Case, Failure, Row, Settings
from scoresde.bench.run import shares
from scoresde.bench.store import Store
from scoresde.commands.main import main
from scoresde.edits import Edit
from scoresde.files.text import say

SMALL = ["bench", "model=folder", "model.path=model", "features=pixels", "reference=photos.npz", "n=6", "batch_size=6"]
SMALL += ["reference_nfe=10", "dtype=float32", "threads=1", "device=cpu"]
SOLVERS = "solvers=[heun,ddim,{name: ddim, eta: 1}]"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "scoresde"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rows(folder: str) -> list[dict[str, Any]]:
    """What a folder holds of its rows, without how long they took."""
    lines = Path(folder, "results.jsonl").read_text(encoding="utf-8").splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


def row(nfe: int) -> Row:
    told = {"solver": "ddim", "name": "ddim", "options": {}, "stochastic": False, "grid": "linspace"}
    told |= {"guidance": "", "dtype": "float32", "compile": "", "samples": 2, "feature_space": "f", "metrics": {}}
    return Row(budget=float(nfe), nfe=float(nfe), seconds=1.0, **told)  # type: ignore[arg-type]


def cases(*budgets: int) -> list[Case]:
    return [Case(solvers.get("ddim"), budget, None, "", "float32", "") for budget in budgets]


def test_two_processes_of_torchrun_give_the_rows_and_the_table_of_one(model: str, unplotted: None) -> None:
    Path("model").symlink_to(model)
    np.savez("photos.npz", images=np.random.default_rng(0).integers(0, 256, (32, 8, 8), dtype=np.uint8))
    assert main([*SMALL, "solvers=[ddim]", "nfe=[3]", "out=one"]) == 0
    assert main([*SMALL, "solvers=[ddim]", "nfe=[3]", "out=two"]) == 0  # a row that is there already
    assert main([*SMALL, SOLVERS, "nfe=[1,3]", "out=one"]) == 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*TORCHRUN, *SMALL, SOLVERS, "nfe=[1,3]", "out=two"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "6 rows of 6 images, 1 of them in two already; 2 processes" in done.stdout
    assert [len(rows("two")), rows("two")] == [6, rows("one")]
    names = [{path.relative_to(out).as_posix() for path in Path(out).rglob("*")} for out in ("one", "two")]
    assert names[0] == names[1]  # nothing is left of how they were shared
    tables = [Path(out, "table.md").read_text(encoding="utf-8").splitlines() for out in ("one", "two")]
    without = [[line.rpartition(" | ")[0] for line in table] for table in tables]  # images/s
    assert without[0] == without[1]
    for path in Path("one").glob("converged/*.npz"):
        assert path.read_bytes() == Path("two/converged", path.name).read_bytes()


def test_what_rows_that_begin_with_an_image_are_measured_from_is_shared_out_too(model: str) -> None:
    settings, edit = Settings(n=2, batch_size=2, reference=10), Edit(torch.zeros(1, 1, 8, 8), 0.5)
    bench = Bench(models.load(model), None, None, settings, "out", device=torch.device("cpu"), edit=edit)
    chosen, made = cases(3, 6), list[set[Path]]()
    for rank in range(2):
        bench.converge(chosen, rank, 2)
        made.append(set(Path("out", "converged").iterdir()))
    assert [len(files) for files in made] == [1, 2]  # each row begins at its own time
    outcome = bench.run(chosen)
    assert set(Path("out", "converged").iterdir()) == made[1]
    assert [set(row.metrics) for row in outcome.rows] == [{"error"}] * 2
    assert (outcome.converged.feature_space, outcome.own, outcome.features) == ("", False, 0)


def test_each_case_is_one_process_s_and_all_have_as_much_to_do() -> None:
    chosen = cases(5, 25, 7, 25, 10, 5, 15, 8)
    for size in (1, 2, 3, 9):
        found = shares(chosen, size)
        assert sorted(place for places in found for place in places) == list(range(len(chosen)))
        assert all(places == sorted(places) for places in found)
    sums = [sum(chosen[place].budget for place in places) for places in shares(chosen, 2)]
    assert abs(sums[0] - sums[1]) <= 5  # the least that there is to give


def test_rows_of_other_processes_are_taken_in_in_the_order_of_the_cases() -> None:
    keys = [case.key for case in cases(1, 2, 3, 4)]
    pixels = torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
    Store(Path("out")).fail(keys[1], Failure("ddim", "linspace", 2.0, "", "float32", "", "no"))
    first = Store(Path("out"))
    parts = [Store(Path("out"), part) for part in (1, 2)]
    assert all(keys[1] in part.failures for part in parts)
    parts[1].add(keys[3], row(4), pixels)
    first.add(keys[2], row(3), pixels)
    parts[0].add(keys[1], row(2), pixels)  # which failed before
    parts[0].add(keys[0], row(1), pixels)
    assert {path.name for path in Path("out").glob("*.jsonl")} == {
        "results.jsonl",
        "results-1.jsonl",
        "results-2.jsonl",
    }
    first.gather(keys)
    assert [line["key"] for line in rows("out")] == [keys[1], keys[0], keys[2], keys[3]]  # that of before stays first
    assert not first.failures
    assert [path.name for path in Path("out").glob("*.jsonl")] == ["results.jsonl"]
    assert all(key in Store(Path("out")) for key in keys)


def test_what_lost_processes_have_left_is_taken_in_by_the_next_run() -> None:
    keys = [case.key for case in cases(1, 2)]
    pixels = torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
    for part, key in enumerate(keys, 1):
        Store(Path("out"), part).add(key, row(part), pixels)
    with open("out/results-2.jsonl", "ab") as file:
        file.write(b'{"key": "half')  # killed in the middle of a line
    Path("out/results-mine.jsonl").write_text("mine", encoding="utf-8")
    assert Store(Path("out")).rows.keys() == set(keys)
    assert [line["key"] for line in rows("out")] == keys
    assert {path.name for path in Path("out").glob("*.jsonl")} == {"results.jsonl", "results-mine.jsonl"}
    Path("out/results-1.jsonl").write_text("{}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"'out/results-1.jsonl' is damaged in line 1"):
        Store(Path("out"))


def test_a_row_is_numbered_by_its_place_among_all(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[float, int, int]] = []
    monkeypatch.setattr(Bench, "__init__", lambda bench: None)
    monkeypatch.setattr(Bench, "_kept", lambda bench, case: row(case.budget))
    bench = Bench()  # type: ignore[call-arg]
    bench.report = lambda found, done, total, left: told.append((found.budget, done, total))
    for rank in (0, 1):
        bench.work(cases(4, 2, 1, 3), 6, rank, 2)
    assert sorted(told, key=lambda each: each[1]) == [(4, 3, 6), (2, 4, 6), (1, 5, 6), (3, 6, 6)]


@pytest.mark.parametrize("rank", [None, "0", "1"])
def test_notes_are_said_by_the_first_process(
    rank: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if rank is None:
        monkeypatch.delenv("RANK", raising=False)
    else:
        monkeypatch.setenv("RANK", rank)
    say("note: once")
    assert capsys.readouterr().out == ("" if rank == "1" else "note: once\n")
