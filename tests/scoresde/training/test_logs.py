"""Logs: a table with each step once, and other programs that are shown the same, where they are installed."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from scoresde.commands import train
from scoresde.commands.main import main
from scoresde.data import load
from scoresde.networks.unet import UNet
from scoresde.process import VP
from scoresde.runs.trackers import LOGS
from scoresde.training import Settings, Trainer, logs
from scoresde.training.logs import COLUMNS

TINY = ("data=npz", "data.path=few.npz", "network.channels=[8,16]", "network.depth=1", "batch_size=16", "every=2")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(command: Run) -> Run:
    """``scoresde train`` of four steps an epoch in an empty folder: status, output and errors."""
    np.savez("few.npz", images=load("digits").pixels[:64].numpy())
    return partial(command, *TINY)


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Have the next run end by Ctrl-C after step 2, before anything of it is shown or drawn."""

    def call() -> None:
        def stop(run: Trainer) -> Any:
            monkeypatch.setattr(train, "_report", report)
            raise KeyboardInterrupt

        report = train._report
        monkeypatch.setattr(train, "_report", stop)

    return call


def table(folder: str | Path) -> list[dict[str, str]]:
    with open(Path(folder) / "losses.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_has_each_step_once_however_a_run_was_left(run: Run, interrupt: Callable[[], None]) -> None:
    interrupt()
    assert run("epochs=1", "out=run")[0] == 130
    assert run("epochs=1", "out=run")[0] == 0
    assert run("epochs=2", "out=run")[0] == 0
    rows = table("run")
    assert tuple(rows[0]) == COLUMNS and [row["step"] for row in rows] == ["2", "4", "6", "8"]
    assert [float(row["epoch"]) for row in rows] == [0.5, 1, 1.5, 2]
    state = torch.load("run/checkpoint.pt", weights_only=True)
    for row, entry in zip(rows, state["losses"], strict=True):
        assert all(float(row[key]) == pytest.approx(entry[key], rel=1e-5) for key in entry)
        assert float(row["images_per_second"]) > 0 < float(row["learning_rate"])


def test_records_of_earlier_versions_have_neither_rate_nor_speed(tmp_path: Path) -> None:
    images, settings = load("digits").take(torch.arange(64)), Settings(epochs=1, batch_size=16)
    run = Trainer(UNet(channels=(8, 16), depth=1, num_classes=10), VP(), "epsilon", images, settings, tmp_path)
    run.run(lambda run: None, every=2)
    state = torch.load(run.checkpoint, weights_only=True)
    state["losses"] = [{key: entry[key] for key in ("step", "loss", "seconds")} for entry in state["losses"]]
    torch.save(state, run.checkpoint)
    assert run.resume()
    logs.write_losses(run)
    rows = table(tmp_path)
    assert [(row["step"], row["learning_rate"], row["images_per_second"]) for row in rows] == [
        ("2", "", ""),
        ("4", "", ""),
    ]
    assert all(row["loss"] and row["epoch"] for row in rows)


class Seen:
    """Stands in for TensorBoard, Weights & Biases and MLflow, and keeps what it is shown."""

    def __init__(self) -> None:
        self.began: list[dict[str, Any]] = []
        self.shown: dict[int, dict[str, float]] = {}
        self.parameters: list[dict[str, Any]] = []
        self.ended: list[Any] = []

    def show(self, values: dict[str, float], step: int) -> None:
        self.shown.setdefault(step, {}).update(values)

    def begin(self, **options: Any) -> Any:
        self.began.append(options)
        name = options.get("id") or options.get("run_id") or f"run{len(self.began)}"
        return SimpleNamespace(id=name, info=SimpleNamespace(run_id=name), log=self.show, finish=self.finish)

    def finish(self, exit_code: int) -> None:
        self.ended.append(exit_code)

    def writer(self, log_dir: str, purge_step: int | None) -> Any:
        self.began.append({"log_dir": log_dir, "purge_step": purge_step})
        return SimpleNamespace(
            add_scalar=lambda name, value, step: self.show({name: value}, step),
            flush=lambda: None,
            close=lambda: self.ended.append(None),
        )


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    found = Seen()
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    for name, module in {
        "torch.utils.tensorboard": {"SummaryWriter": found.writer},
        "wandb": {"init": found.begin},
        "mlflow": {
            "start_run": found.begin,
            "log_params": found.parameters.append,
            "log_metrics": found.show,
            "end_run": found.ended.append,
        },
    }.items():
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(**module))  # type: ignore[arg-type]
    return found


BEGAN = {
    "tensorboard": [{"log_dir": "run/tensorboard", "purge_step": step} for step in (None, 3)],
    "wandb": [
        {"project": "scoresde", "name": "run", "id": name, "resume": "allow", "dir": "run", "allow_val_change": True}
        for name in (None, "run1")
    ],
    "mlflow": [{"run_id": None, "run_name": "run"}, {"run_id": "run1", "run_name": None}],
}
ENDED = {"tensorboard": [None, None], "wandb": [1, 0], "mlflow": ["KILLED", "FINISHED"]}


@pytest.mark.parametrize("name", LOGS)
def test_a_program_is_shown_each_row_and_takes_up_a_run_that_was_left(
    name: str, run: Run, interrupt: Callable[[], None], seen: Seen
) -> None:
    interrupt()
    assert run("epochs=1", "held_out=8", "batch_size=14", f"log={name}", "out=run")[0] == 130
    status, _, err = run("epochs=1", "held_out=8", "batch_size=14", f"log=[{name}]", "out=run")
    assert (status, err) == (0, "")
    configs = [options.pop("config", None) for options in seen.began]
    assert seen.began == BEGAN[name] and seen.ended == ENDED[name]
    if name == "wandb":
        assert configs[0]["epochs"] == 1 and configs[0]["network"]["name"] == "unet"
    assert [parameters["epochs"] for parameters in seen.parameters] == ([1] if name == "mlflow" else [])
    (step,), (last,) = seen.shown, table("run")[1:]
    held_out = {key for key in seen.shown[step] if key.startswith("held_out_loss/")}
    assert step == int(last["step"]) == 4 and len(held_out) == 8
    assert seen.shown[step].keys() - held_out == set(COLUMNS) - {"step"}
    assert all(seen.shown[step][key] == float(last[key]) for key in COLUMNS[1:])


@pytest.mark.parametrize("name", LOGS)
def test_a_program_that_is_not_installed_is_refused_in_one_line(
    name: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, LOGS[name].module, None)  # type: ignore[arg-type]
    status, _, err = run("epochs=1", f"log=[{name}]", "out=run")
    assert status == 1 and not Path("run").exists()
    assert err == (
        f"scoresde: error: log={name} needs the package {name}, which is not installed: pip install {name}\n"
    )


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("log=[tensorbord]", "unknown log 'tensorbord'; did you mean 'tensorboard'?"),
        ("log=3", "unknown log 3; known: mlflow, tensorboard, wandb"),
        ("schedule=1", "unknown schedule 1; known: constant, cosine, inverse_sqrt, linear"),
        ("decay_steps=9", "decay_steps is of schedule=inverse_sqrt, not of cosine"),
        ("accumulate=17", "accumulate must lie in [1, batch_size = 16], got 17"),
        ("accumulate=half", "accumulate must be a whole number of at least 1, got 'half'"),
        ("compile=maybe", "compile must be true or false, got 'maybe'"),
        ("epochs=null", "epochs must be a whole number of at least 1, got None"),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_anything_is_written(run: Run, typed: str, message: str) -> None:
    status, _, err = run(typed, "out=run")
    assert status == 1 and err == f"scoresde: error: {message}\n" and not Path("run").exists()


@pytest.mark.parametrize("name", LOGS)
def test_a_benchmark_is_shown_whole_each_time_with_nfe_as_steps(
    name: str, command: Run, model: str, seen: Seen
) -> None:
    asked = ["bench", f"model={model}", "n=2", "reference_nfe=10", "metrics=[]", f"log=[{name}]", "out=run"]
    assert main([*asked, "solvers=[ddim]", "nfe=[2]"]) == 0
    seen.shown.clear()
    assert main([*asked, "solvers=[{name: ddim, eta: 0.5},heun]", "nfe=[3]"]) == 0
    assert sorted(seen.shown) == [2, 3]
    assert seen.shown[2].keys() == {"error/ddim", "seconds/ddim"}
    assert seen.shown[3].keys() == {"seconds/ddim eta 0.5", "error/heun", "seconds/heun"}
    if name == "tensorboard":
        assert [began["purge_step"] for began in seen.began] == [0, 0]  # all of before
    else:
        assert [began.get("id") or began.get("run_id") for began in seen.began] == [None, None]  # another run


def test_a_name_of_a_run_that_is_none_is_refused(tmp_path: Path, seen: Seen) -> None:
    (tmp_path / "wandb.id").write_text("../../thesis", encoding="utf-8")
    with pytest.raises(ValueError, match="wandb.id' holds no name of a run: remove it"):
        LOGS["wandb"](tmp_path, 0, {})
