"""Sweeps: a job that fails stops no other, and each gives its figure to who varies what is typed."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.core.plugins import Plugins
from hydra.core.utils import run_job

from scoresde.commands.app import JobFailed, Jobs
from scoresde.commands.main import main

SMALL = ["model=folder", "model.path=model", "features=pixels", "reference=photos.npz", "n=4", "batch_size=4"]
SAMPLE = ["sample", *SMALL, "nfe=2", "metrics=true"]
BENCH = ["bench", *SMALL, "reference_nfe=10", "dtype=float32", "solvers=[ddim]"]
TRAIN = ["train", "data=npz", "data.path=photos.npz", "epochs=1", "batch_size=16", "network.channels=[8,16]"]
TRAIN += ["network.depth=1", "warmup=1"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, unplotted: None) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model").symlink_to(model)
    np.savez("photos.npz", images=np.random.default_rng(0).integers(0, 256, (32, 8, 8), dtype=np.uint8))


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, list[Any]]]:
    """The exit status of a command with ``-m``, and what each job gave Hydra's sweeper."""

    def call(*arguments: str) -> tuple[int, list[Any]]:
        given: list[Any] = []

        def watched(**options: Any) -> Any:
            found = run_job(**options)
            given.append(found.return_value)
            return found

        Plugins.instance()  # or they would be loaded anew over what is put there
        with monkeypatch.context() as patched:
            patched.setattr(sys.modules["hydra._internal.core_plugins.basic_launcher"], "run_job", watched)
            return main([*arguments, "-m"]), given

    return call


def test_a_job_that_fails_is_told_at_the_end_and_the_others_are_done(
    figures: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    status, given = figures(*SAMPLE, "seed=0,-1,none,5", "out=sweep")
    assert status == 1
    made = ["sweep/metrics=True,seed=0", "sweep/metrics=True,seed=5"]
    assert [path.as_posix() for path in sorted(Path("sweep").glob("*=*"))] == made
    found = [json.loads(Path(folder, "metrics.json").read_text(encoding="utf-8")) for folder in made]
    assert [given[0], given[3]] == [content["metrics"]["fid"]["value"] for content in found]
    err = capsys.readouterr().err.splitlines()
    reason = "error: seed must be a whole number of at least 0, got"
    assert err == [
        f"scoresde: {reason} -1",
        f"scoresde: {reason} 'none'",
        f"scoresde: job metrics=True,seed=-1: {reason} -1",
        f"scoresde: job metrics=True,seed=none: {reason} 'none'",
        "scoresde: error: 2 of 4 jobs failed",
    ]
    for job in given[1:3]:  # no figure, as a sweeper that looks for the best finds out, and goes on too
        with pytest.raises(ValueError, match="seed must be a whole number"):
            float(pickle.loads(pickle.dumps(job)))


def test_a_sweep_without_failures_says_nothing_of_jobs(figures: Any, capsys: pytest.CaptureFixture[str]) -> None:
    status, given = figures("sample", *SMALL, "nfe=1,2", "out=sweep")
    assert (status, given, capsys.readouterr().err) == (0, [None, None], "")  # without metrics there is no figure
    assert figures("sample", *SMALL, "nfe=1,2", "seed=3", "--force", "out=sweep")[0] == 0
    assert {path.name for path in Path("sweep").iterdir()} == {"multirun.yaml", "nfe=1", "nfe=2"}


def test_a_benchmark_s_figure_is_the_fid_of_its_rows(figures: Any) -> None:
    status, given = figures(*BENCH, "nfe=[2],[2,4]", "seed=3", "out=sweep")
    assert status == 0
    fids = [
        [json.loads(line)["metrics"]["fid"]["value"] for line in path.read_text(encoding="utf-8").splitlines()]
        for path in sorted(Path("sweep").glob("*/results.jsonl"), key=lambda path: len(path.read_bytes()))
    ]
    assert [len(each) for each in fids] == [1, 2]
    assert given == pytest.approx([fids[0][0], sum(fids[1]) / 2], rel=1e-12)


@pytest.mark.parametrize("measured", [[], ["held_out=4"], ["fid=8"]])
def test_a_training_s_figure_is_the_fid_or_the_loss(measured: list[str], figures: Any) -> None:
    status, given = figures(*TRAIN, *measured, "out=sweep")
    assert status == 0
    card = json.loads(next(Path("sweep").glob("**/model/config.json")).read_text(encoding="utf-8"))["training"]
    if "fid=8" in measured:
        assert given == [card["fid"][-1]["fid"]]
    elif measured:
        losses = [level["loss"] for level in card["held_out"]["levels"]]
        assert given == pytest.approx([sum(losses) / len(losses)], rel=1e-12)
    else:
        assert given == [card["loss"][-1][1]]


def test_ctrl_c_ends_the_sweep(figures: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("scoresde.commands.sample.run", interrupted)
    assert figures(*SAMPLE, "seed=0,1", "out=sweep") == (130, [])


def test_a_failure_that_cannot_be_noted_is_an_error_of_its_own() -> None:
    jobs = Jobs(Path("gone"))
    jobs.note(0, None)
    with pytest.raises(RuntimeError, match="seed=1: error: no"):
        jobs.note(1, JobFailed("seed=1", "error: no"))
