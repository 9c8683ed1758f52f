"""One run by several processes, over gloo on this machine."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from scoresde.commands.main import main
from scoresde.runs.ranks import Ranks

Several = Callable[..., Any]
SIZES = ["n=96", "batch_size=8", "shard=16", "threads=1"]
DIGITS = ["nfe=2", "label=data", "metrics=true", *SIZES]


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes of the bundled model, with metrics."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    assert main(["sample", *DIGITS, f"out={folder}"]) == 0
    return folder


def test_torchrun_with_two_processes_writes_the_files_of_one(alone: Path, tmp_path: Path) -> None:
    folder = tmp_path / "two"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launcher, "-m", "scoresde", "sample", *DIGITS, f"out={folder}"], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert content(folder) == content(alone)
    assert done.stdout.count("NFE") == done.stdout.count("96 images in") == 1
    assert "float32 network, cpu, 2 processes" in done.stdout


@pytest.mark.slow
def test_three_processes_that_find_damage_write_the_files_of_one(several: Several, alone: Path, tmp_path: Path) -> None:
    folder = tmp_path / "three"
    with several(3, "sample", *DIGITS, f"out={folder}") as processes:
        statuses = processes.ends()
    assert [status for status, _, _ in statuses] == [0, 0, 0]
    assert [bool(out) for _, out, _ in statuses] == [True, False, False]
    assert content(folder) == content(alone)
    for name in ("000016-000031.npz", "000032-000047.json", "000080-000095.features.npz"):
        (folder / "shards" / name).write_bytes(b"")
    (folder / "metrics.json").unlink()
    with several(3, "sample", *DIGITS, f"out={folder}") as processes:
        statuses = processes.ends()
    assert "48 of 96 images are there; going on" in statuses[0][1]
    assert content(folder) == content(alone)


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_lost_process_loses_nothing_and_the_others_do_their_part(
    several: Several, lost: int, alone: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with several(3, "sample", *DIGITS, f"out={folder}") as processes:
        while not list(folder.glob("shards/*.json")):
            assert [process.poll() for process in processes] == [None] * 3
            time.sleep(0.01)
        processes[lost].kill()
        begin = time.monotonic()
        statuses = processes.ends()
    assert time.monotonic() - begin < 60
    assert sorted(status for status, _, _ in statuses) == [-9, 1, 1]
    there = len(list(folder.glob("shards/*.json")))
    assert there >= 4
    if lost:
        # The first process says it while the remaining one may still be writing.
        said = re.search(r"another process of this run is gone; (\d+) of 96 images are written", statuses[0][2])
        assert said is not None
        assert int(said[1]) <= 16 * there
    before = content(folder)
    assert main(["sample", *DIGITS, f"out={folder}"]) == 0
    after = content(folder)
    assert after == content(alone)
    finished = {name for name in before if not Path(name).name.startswith((".", "run.lock"))}
    assert all(before[name] == after[name] for name in finished)


@pytest.mark.slow
def test_torchrun_starts_again_when_a_process_is_lost_and_completes_the_run(alone: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    with subprocess.Popen(
        [*launcher, "-m", "scoresde", "sample", *DIGITS, f"out={folder}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as agent:
        while not list(folder.glob("shards/*.json")):
            assert agent.poll() is None
            time.sleep(0.01)
        # It may have helpers besides the processes of the run.
        children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text(encoding="utf-8").split()
        ours = [int(pid) for pid in children if "scoresde" in Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")]
        os.kill(ours[-1], signal.SIGKILL)
        out, err = agent.communicate(timeout=240)
    assert agent.returncode == 0, err
    assert "of 96 images are there; going on" in out
    assert content(folder) == content(alone)


@pytest.mark.slow
def test_a_process_that_fails_says_so_and_the_others_do_their_part(
    several: Several, model: str, tmp_path: Path
) -> None:
    """The second of two finds its second shard's place taken by a folder."""
    folder = tmp_path / "run"
    chosen = ["model=folder", f"model.path={model}", "nfe=4", *SIZES, f"out={folder}"]
    assert main(["sample", *chosen]) == 0
    for path in (folder / "shards").iterdir():
        path.unlink()
    (folder / "shards" / "000048-000063.npz").mkdir()
    with several(2, "sample", *chosen) as processes:
        (first, said, complaint), (second, _, reason) = processes.ends()
    assert (first, second) == (1, 1), (said, complaint)
    assert "scoresde: process 1: " in reason
    assert "000048-000063.npz" in reason
    assert len(list(folder.glob("shards/*.json"))) == 4
    assert "1 of 2 processes failed; 64 of 96 images are written, and the same command" in complaint


def test_every_process_makes_what_is_refused_known_once(several: Several, model: str, tmp_path: Path) -> None:
    with several(2, "sample", "model=folder", f"model.path={model}", "n=0", f"out={tmp_path / 'here'}") as processes:
        statuses = processes.ends()
    assert [status for status, _, _ in statuses] == [1, 1]
    assert [bool(err) for _, _, err in statuses] == [True, False]
    assert "n must be a whole number of at least 1, got 0" in statuses[0][2]
    assert not (tmp_path / "here").exists()


def test_each_process_takes_the_gpu_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    cuda = torch.device("cuda")
    assert Ranks(5, 8, 1).device(cuda) == torch.device("cuda:1")
    assert Ranks(5, 8, 1).device(torch.device("cpu")) == torch.device("cpu")
    assert Ranks(5, 8, 1).device(torch.device("cuda:0")) == torch.device("cuda:0")
    with pytest.raises(ValueError, match="process 2 on this machine has no GPU of its own, torch sees 2"):
        Ranks(2, 8, 2).device(cuda)
