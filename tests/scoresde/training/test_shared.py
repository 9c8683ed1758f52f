"""One training by several processes, over gloo on this machine."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from scoresde.commands.main import main
from scoresde.runs.ranks import LostError, Ranks, exchanging

# Steps of 15 images, of which two processes have 8 and 7, with labels left out, in parts.
TINY = [
    "network.channels=[8,16]",
    "network.depth=1",
    "batch_size=15",
    "bf16=false",
    "averages=[0.1]",
    "held_out=1300",  # few are left to train on
    "threads=1",
    "every=4",
]


def losses(folder: Path) -> list[tuple[int, float]]:
    with (folder / "losses.csv").open(encoding="utf-8", newline="") as file:
        return [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(file)]


def kept(folder: Path) -> dict[str, Tensor]:
    """The weights in a checkpoint."""
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    return {**state["net"], **{f"mean {key}": value for key, value in state["averages"][0].items()}}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "run"
    assert main(["train", *TINY, "epochs=1", f"out={folder}"]) == 0
    return folder


def test_two_processes_train_as_one_does_to_rounding(alone: Path, several: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "two"
    with several(2, "train", *TINY, "epochs=1", "accumulate=2", f"out={folder}") as processes:
        (status, out, err), (other, silent, _) = processes.ends()
    assert (status, other) == (0, 0), err
    assert "2 processes" in out and silent == ""
    assert [step for step, _ in losses(folder)] == [4, 8, 9]
    assert losses(folder) == [(step, pytest.approx(loss, rel=2e-5)) for step, loss in losses(alone)]
    expected, found = kept(alone), kept(folder)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)
    assert main(["train", *TINY, "epochs=1", f"out={folder}"]) == 0  # of one process, which finds all done


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_after_a_process_is_lost_one_goes_on_from_the_checkpoint(
    lost: int, several: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with several(2, "train", *TINY, "epochs=500", f"out={folder}") as processes:
        while not (folder / "losses.csv").exists():
            assert [process.poll() for process in processes] == [None, None]
            time.sleep(0.01)
        processes[lost].kill()
        ends = processes.ends()
    assert ends[lost][0] == -9 and ends[1 - lost][0] == 1
    assert "another process of this run is gone" in ends[1 - lost][2]
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert state["step"] >= 4 and state["step"] % 4 == 0


@pytest.mark.slow
def test_what_is_refused_is_said_once(several: Callable[..., Any], tmp_path: Path) -> None:
    with several(2, "train", *TINY, "accumulate=8", f"out={tmp_path / 'here'}") as processes:
        statuses = processes.ends()
    assert [status for status, _, _ in statuses] == [1, 1]
    assert [bool(err) for _, _, err in statuses] == [True, False]
    assert "accumulate must lie in [1, batch_size = 15/2 processes], got 8" in statuses[0][2]
    assert not (tmp_path / "here").exists()


def test_only_a_lost_connection_is_called_so() -> None:
    with pytest.raises(LostError, match="another process of this run is gone"), exchanging():
        raise RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:537] Connection reset by peer")
    with pytest.raises(RuntimeError, match="out of memory"), exchanging():
        raise RuntimeError("CUDA out of memory")


def test_one_process_is_no_other_than_before() -> None:
    ranks = Ranks()
    assert ranks.settle(False) == 0 and ranks.settle(True) == 1
