"""Runs of one's own: schedules, batches in parts, compiled networks, defaults by length, more epochs after the end."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

from scoresde import models
from scoresde.commands import train
from scoresde.data import load
from scoresde.networks.unet import UNet
from scoresde.process import VP
from scoresde.training import Settings, Trainer
from scoresde.training.schedules import SCHEDULES, factor

DIGITS = load("digits").take(torch.arange(64))
SETTINGS = Settings(epochs=2, batch_size=16, warmup=3, learning_rate=3e-3, ema=0.999, seed=5, bf16=False)
TINY = ("network.channels=[8,16]", "network.depth=1", "every=6")
OLD = ["epochs", "batch_size", "learning_rate", "warmup", "clip", "ema", "label_dropout", "bf16", "seed"]


def trainer(folder: Path, settings: Settings = SETTINGS, **options: Any) -> Trainer:
    torch.manual_seed(options.pop("init", 0))
    net = options.pop("net", None) or UNet(channels=(16, 32), depth=1, num_classes=10)
    return Trainer(net, VP(), "epsilon", DIGITS, settings, folder, time_input=lambda t: 1000 * t, **options)


def nothing(run: Trainer) -> None:
    pass


class LeaveError(Exception):
    """Raised by a report, to leave the run in its middle."""


def leave(run: Trainer) -> None:
    raise LeaveError


def same(one: Trainer, other: Trainer) -> bool:
    pairs = ((getattr(run, name).state_dict() for run in (one, other)) for name in ("net", "averaged"))
    return all(a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a) for a, b in pairs)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """A run of eight steps without interruption, in one part."""
    run = trainer(tmp_path_factory.mktemp("straight"))
    run.run(nothing, every=1)
    return run


# Schedules


def test_schedules_are_their_formulas() -> None:
    def rates(schedule: str, decay_steps: int | None = None) -> list[float]:
        return [factor(schedule, step, 100, 10, decay_steps) for step in range(100)]

    for schedule in SCHEDULES:
        found = rates(schedule, 25 if schedule == "inverse_sqrt" else None)
        assert found[:10] == [(step + 1) / 10 for step in range(10)] and found[10] == 1
    assert rates("cosine")[55] == pytest.approx(0.5) and rates("cosine")[32] == pytest.approx(
        0.5 * (1 + math.cos(math.pi * 22 / 90))
    )
    assert rates("constant")[10:] == [1.0] * 90
    assert rates("linear")[10:] == pytest.approx([1 - step / 90 for step in range(90)])
    falling = rates("inverse_sqrt", 25)
    assert falling[9:26] == [1.0] * 17 and falling[50] == pytest.approx(0.5**0.5)
    assert factor("inverse_sqrt", 100, 1000, 0, 25) == 0.5
    assert factor("cosine", 100, 100, 10) == factor("linear", 100, 100, 10) == 0


def test_the_rate_of_a_step_is_the_schedule_s_and_is_recorded(tmp_path: Path) -> None:
    run = trainer(tmp_path, replace(SETTINGS, schedule="inverse_sqrt", decay_steps=4))
    run.run(nothing, every=1)
    expected = [1e-3, 2e-3, 3e-3, 3e-3, 3e-3, *(3e-3 / math.sqrt(step / 4) for step in (5, 6, 7))]
    assert [entry["learning_rate"] for entry in run.losses] == pytest.approx(expected)
    assert run.last_rate == pytest.approx(expected[-1])
    with pytest.raises(ValueError, match=r"other values of settings\.decay_steps, settings\.schedule;"):
        trainer(tmp_path).resume()


def test_a_checkpoint_of_the_cosine_is_as_before_there_was_a_choice(straight: Trainer) -> None:
    state = torch.load(straight.checkpoint, weights_only=True)
    assert list(state["identity"]["settings"]) == OLD and "continued" not in state


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"schedule": "cosin"}, "unknown schedule 'cosin'; did you mean 'cosine'?"),
        ({"decay_steps": 5}, "decay_steps is of schedule=inverse_sqrt, not of cosine"),
        ({"schedule": "inverse_sqrt", "decay_steps": 0}, "decay_steps must be at least 1, got 0"),
        ({"warmup": -1}, "warmup must be at least 0, got -1"),
        ({"ema": 1.5}, r"ema must lie in \[0, 1\], got 1.5"),
    ],
)
def test_schedules_that_make_no_sense_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words) if "[" not in words else words):
        Settings(epochs=1, **options)


# Batches in parts


@pytest.mark.parametrize("parts", [3, 4])
def test_a_batch_in_parts_has_the_loss_and_the_gradient_of_the_whole(
    tmp_path: Path, straight: Trainer, parts: int
) -> None:
    run = trainer(tmp_path, accumulate=parts)
    run.run(nothing, every=1)
    assert [entry["loss"] for entry in run.losses] == pytest.approx([entry["loss"] for entry in straight.losses], 1e-4)
    assert run.losses[0]["loss"] == pytest.approx(straight.losses[0]["loss"], 1e-6)


def test_the_gradient_of_uneven_parts_is_that_of_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[int, list[Tensor]] = {}
    for parts in (1, 3):  # 6, 5 and 5 images

        def keep(parameters: Any, most: float, parts: int = parts) -> None:
            seen.setdefault(parts, [parameter.grad.clone() for parameter in parameters])

        monkeypatch.setattr("scoresde.training.trainer.nn.utils.clip_grad_norm_", keep)
        trainer(tmp_path, accumulate=parts).run(nothing, every=8)
    for whole, summed in zip(seen[1], seen[3], strict=True):
        torch.testing.assert_close(summed, whole, rtol=1e-4, atol=1e-6)


def test_a_run_in_parts_goes_on_bit_for_bit_and_in_another_number_of_parts(tmp_path: Path) -> None:
    for name in ("whole", "left"):
        (tmp_path / name).mkdir()
    whole = trainer(tmp_path / "whole", accumulate=3)
    whole.run(nothing, every=8)
    with pytest.raises(LeaveError):
        trainer(tmp_path / "left", accumulate=3).run(leave, every=3)
    again = trainer(tmp_path / "left", accumulate=3, init=99)
    assert trainer(tmp_path / "left", accumulate=1).resume() and again.resume() and again.step == 3
    again.run(nothing, every=8)
    assert same(again, whole)


@pytest.mark.parametrize("parts", [0, 17])
def test_parts_without_an_image_are_refused(tmp_path: Path, parts: int) -> None:
    with pytest.raises(ValueError, match=rf"accumulate must lie in \[1, batch_size = 16\], got {parts}"):
        trainer(tmp_path, accumulate=parts)


# Compiled networks


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What ``torch.compile`` compiles, which is then run as it is."""
    found: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Callable[..., Any]:
        found.append(graph)
        return graph.forward

    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    yield found
    torch._dynamo.reset()


class Small(nn.Module):
    """A network that is quick to compile."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        nn.init.constant_(self.layer.weight, 0.1)

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        return self.layer(x) * (1 + t / 1000 + label / 10).view(-1, 1, 1, 1)


def test_a_compiled_network_is_trained_and_stored_as_the_plain_one(tmp_path: Path, graphs: list[Any]) -> None:
    runs = {}
    for compile in (False, True):
        (tmp_path / str(compile)).mkdir()
        runs[compile] = trainer(tmp_path / str(compile), net=Small(), compile=compile)
        runs[compile].run(nothing, every=8)
        assert bool(graphs) is compile
    for name in ("net", "averaged"):
        plain, compiled = (getattr(runs[compile], name).state_dict() for compile in (False, True))
        assert list(compiled) == list(plain) == ["layer.weight"]
        for key, value in plain.items():
            torch.testing.assert_close(compiled[key], value)
    assert runs[True]._identity() == runs[False]._identity()


def test_a_run_is_taken_up_compiled_or_not(tmp_path: Path, graphs: list[Any]) -> None:
    whole = trainer(tmp_path, net=Small())
    whole.run(nothing, every=8)
    with pytest.raises(LeaveError):
        trainer(tmp_path, net=Small(), compile=True).run(leave, every=3)
    plain = trainer(tmp_path, net=Small(), init=9)
    assert plain.resume() and plain.step == 3
    with pytest.raises(LeaveError):
        plain.run(leave, every=3)
    compiled = trainer(tmp_path, net=Small(), init=9, compile=True)
    assert compiled.resume() and compiled.step == 6
    compiled.run(nothing, every=8)
    for key, value in whole.averaged.state_dict().items():
        torch.testing.assert_close(compiled.averaged.state_dict()[key], value)


# Defaults by length


@pytest.mark.parametrize(
    ("steps", "warmup", "ema"),
    [(1, 0, 0), (8, 0, 0), (11, 1, 1 / 11), (100, 10, 0.9), (5000, 500, 0.998), (10**5, 500, 0.999)],
)
def test_warmup_and_averaging_fit_the_length_where_they_are_not_asked_for(steps: int, warmup: int, ema: float) -> None:
    found = Settings(epochs=1).filled(steps)
    assert found.warmup == warmup and found.ema == pytest.approx(ema) and found.decay_steps is None
    if found.ema:
        assert 1 / (1 - found.ema) <= steps / 10 + 1e-9
    asked = Settings(epochs=1, warmup=7, ema=0.5, bf16=False)
    assert asked.filled(steps) == asked == asked.filled(steps, recorded={"warmup": 500, "ema": 0.999, "bf16": True})
    assert Settings(epochs=1, schedule="inverse_sqrt").filled(steps).decay_steps == max(1, steps // 10)


def test_a_checkpoint_of_before_keeps_its_own_warmup_and_averaging(tmp_path: Path) -> None:
    before = replace(SETTINGS, warmup=500, ema=0.999)
    for name in ("whole", "left"):
        (tmp_path / name).mkdir()
    whole = trainer(tmp_path / "whole", before)
    whole.run(nothing, every=8)
    with pytest.raises(LeaveError):
        trainer(tmp_path / "left", before).run(leave, every=3)
    again = trainer(tmp_path / "left", replace(before, warmup=None, ema=None))
    assert (again.settings.warmup, again.settings.ema) == (0, 0)
    assert again.resume() and again.settings == before
    again.run(nothing, every=8)
    assert same(again, whole)
    with pytest.raises(ValueError, match=r"other values of settings\.ema;"):
        trainer(tmp_path / "left", replace(before, warmup=None, ema=0.9)).resume()


@pytest.mark.parametrize(
    ("flags", "native"),
    [("fpu avx2 avx512_bf16", True), ("fpu avx512f amx_bf16", True), ("asimd bf16 i8mm", True), ("fpu avx512f", False)],
)
def test_precision_is_what_the_processor_has_instructions_for(
    flags: str, native: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reads = Path.read_text
    text = f"model name\t: one\nflags\t\t: {flags}\n"
    monkeypatch.setattr(
        Path, "read_text", lambda path, **options: text if path.name == "cpuinfo" else reads(path, **options)
    )
    asked = replace(SETTINGS, bf16=None)
    assert trainer(tmp_path, asked).settings.bf16 is native
    trainer(tmp_path, replace(SETTINGS, bf16=not native)).save()
    again = trainer(tmp_path, asked)
    assert again.resume() and again.settings.bf16 is not native  # a run keeps its own


# More epochs after the end


def test_a_constant_rate_goes_on_after_the_end_as_if_there_had_been_none(tmp_path: Path) -> None:
    constant = replace(SETTINGS, schedule="constant")
    for name in ("long", "short"):
        (tmp_path / name).mkdir()
    long = trainer(tmp_path / "long", replace(constant, epochs=4))
    long.run(nothing, every=4)
    trainer(tmp_path / "short", constant).run(nothing, every=4)
    again = trainer(tmp_path / "short", replace(constant, epochs=4), init=9)
    assert again.resume() and (again.step, again.steps) == (8, 16)
    again.run(nothing, every=4)
    assert same(again, long)
    assert [entry["step"] for entry in again.losses] == [4, 8, 12, 16]


def test_a_cosine_goes_on_where_that_of_more_epochs_is_and_the_change_is_kept(tmp_path: Path) -> None:
    trainer(tmp_path).run(nothing, every=8)
    again = trainer(tmp_path, replace(SETTINGS, epochs=4))
    assert again.resume() and again.continued == [{"step": 8, "epochs": 2}]
    assert again.last_rate < 0.2 * again.rate(8) == pytest.approx(0.2 * 3e-3 * factor("cosine", 8, 16, 3))
    with pytest.raises(LeaveError):
        again.run(leave, every=2)
    third = trainer(tmp_path, replace(SETTINGS, epochs=4))
    assert third.resume() and third.continued == [{"step": 8, "epochs": 2}]
    fewer = trainer(tmp_path, replace(SETTINGS, epochs=3))
    assert fewer.resume() and fewer.continued == [{"step": 8, "epochs": 2}, {"step": 10, "epochs": 4}]
    with pytest.raises(ValueError, match=r"has 2\.5 epochs done, more than epochs=2: ask for at least as many"):
        trainer(tmp_path).resume()
    with pytest.raises(ValueError, match=r"other values of settings\.seed;"):
        trainer(tmp_path, replace(SETTINGS, epochs=4, seed=6)).resume()


# The command


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(command: Run) -> Run:
    """``scoresde train`` of a tiny network in an empty folder: status, output and errors."""

    return partial(command, *TINY)


@pytest.fixture
def interrupted(run: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The same, and Ctrl-C after the report of a step."""

    def call(step: int, *arguments: str) -> None:
        report = train._report

        def stop(run: Trainer) -> Any:
            levels = report(run)
            if run.step == step:
                raise KeyboardInterrupt
            return levels

        with monkeypatch.context() as patched:
            patched.setattr(train, "_report", stop)
            assert run(*arguments)[0] == 130

    return call


def recorded(folder: str) -> dict[str, Any]:
    return yaml.safe_load((Path(folder) / "config.yaml").read_text(encoding="utf-8"))


def weights(folder: str) -> bytes:
    return (Path(folder) / "model" / models.WEIGHTS).read_bytes()


def steps(folder: str) -> list[int]:
    lines = (Path(folder) / "losses.csv").read_text(encoding="utf-8").splitlines()
    return [int(line.partition(",")[0]) for line in lines[1:]]


def test_runs_of_before_go_on_by_the_same_command_and_keep_their_defaults(
    run: Run, interrupted: Callable[..., None]
) -> None:
    before = ("epochs=1", "warmup=500", "ema=0.999")  # recorded so by earlier versions, where nothing was asked for
    interrupted(6, *before, "out=left")
    status, out, err = run("epochs=1", "out=left")
    assert (status, err) == (0, "") and "going on from step 6 of 11" in out
    assert run(*before, "out=whole")[0] == 0
    assert weights("left") == weights("whole")
    assert (recorded("left")["warmup"], recorded("left")["ema"]) == (500, 0.999)
    assert "already in whole" in run("epochs=1", "out=whole")[1]
    assert "made with other values of warmup" in run("epochs=1", "warmup=1", "out=whole")[2]
    assert recorded("left").keys() == recorded("whole").keys() >= set(OLD)
    assert not {"schedule", "decay_steps", "accumulate", "compile", "log"} & recorded("whole").keys()


def test_a_new_run_records_what_its_defaults_came_to_and_says_that_it_is_short(run: Run) -> None:
    status, out, _ = run("epochs=1", "schedule=inverse_sqrt", "accumulate=2", "out=new")
    assert status == 0 and "note: 11 steps are few: below 1000 or so the averaged weights" in out
    assert "more epochs (epochs=91 are 1001 steps)" in out
    found = recorded("new")
    assert (found["warmup"], found["ema"], found["decay_steps"]) == (1, pytest.approx(1 / 11), 1)
    assert models.load("new/model").card["training"]["settings"]["schedule"] == "inverse_sqrt"
    assert "already in new" in run("epochs=1", "schedule=inverse_sqrt", "warmup=1", "accumulate=3", "out=new")[1]


def test_epochs_that_nobody_asks_for_make_a_model_and_are_those_that_a_run_was_begun_with(
    run: Run, interrupted: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "STEPS_LEAST", 100)
    monkeypatch.setattr(train, "EPOCHS", 2)
    interrupted(6, "out=new")
    assert recorded("new")["epochs"] == 10  # of 11 steps each
    monkeypatch.setattr(train, "STEPS_LEAST", 1)
    interrupted(6, "out=long")
    assert recorded("long")["epochs"] == 2
    interrupted(6, "epochs=1", "out=old")
    assert "going on from step 6 of 11\n" in run("out=old")[1] and "already in old" in run("out=old")[1]


@pytest.mark.parametrize(("epochs", "every"), [(1, 20), (20, 22), (182, 200), (2000, 250)])
def test_log_lines_fit_the_length_of_the_run(
    epochs: int, every: int, command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int] = []
    monkeypatch.setattr(train, "_begun", lambda prepared, *_: found.append(prepared.every))
    monkeypatch.setattr(train, "_figure", lambda out: 0.0)
    assert command(*TINY[:2], f"epochs={epochs}")[0] == 0  # of 11 steps
    assert found == [every]


@pytest.mark.parametrize("losses", [[0.75], [0.75, 0.74, 0.73], [0.9, 0.1, 0.004]])
def test_a_curve_of_losses_is_seen_from_its_first_point_on(
    losses: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each point is marked, on axes of the whole run and with two numbers at least."""
    run, figures = trainer(tmp_path), list[Figure]()
    run.losses = [{"step": 2 + index, "loss": loss, "seconds": 1.0} for index, loss in enumerate(losses)]
    monkeypatch.setattr(train, "_picture", lambda run, rows, steps: torch.zeros(rows * 10, 1, 8, 8))
    monkeypatch.setattr(train, "Figure", lambda **options: figures.append(Figure(**options)) or figures[-1])
    train._draw(run)
    (axes,) = figures[0].axes
    assert axes.lines[0].get_marker() == "o" and np.array_equal(axes.lines[0].get_data()[1], losses)
    assert axes.get_xlim()[0] == 0 and axes.get_xlim()[1] >= run.steps
    low, high = axes.get_ylim()
    assert low < min(losses) and max(losses) < high
    assert len([tick for tick in axes.get_yticks() if low <= tick <= high]) >= 2
    drawn = np.asarray(Image.open(tmp_path / "loss.png").convert("RGB")).reshape(-1, 3)
    assert (np.abs(drawn.astype(int) - (31, 119, 180)).max(1) < 10).sum() > 20  # pixels in the colour of the curve


def test_a_compiled_run_is_recorded_as_any_other(run: Run, interrupted: Callable[..., None], graphs: list[Any]) -> None:
    interrupted(6, "epochs=1", "compile=true", "out=run")
    assert graphs and "compile" not in recorded("run")
    assert "going on from step 6 of 11" in run("epochs=1", "out=run")[1]


def test_more_epochs_go_on_from_the_end_however_often_interrupted(run: Run, interrupted: Callable[..., None]) -> None:
    assert run("epochs=1", "out=left")[0] == 0
    shutil.copytree("left", "whole")
    before = weights("left")
    Path("left/results.sha256").unlink()  # as earlier versions left their runs: no file says what the results are of
    interrupted(18, "epochs=2", "out=left")
    assert weights("left") == before and "epochs=1: ask for at least" in run("epochs=1", "out=left")[2]
    status, out, err = run("epochs=2", "out=left")
    assert (status, err) == (0, "") and "going on from step 18 of 22" in out and "was asked before" not in out
    status, out, err = run("epochs=2", "out=whole")
    assert (status, err) == (0, "") and "going on from step 11 of 22" in out
    assert re.search(r"note: epochs=1 was asked before; the learning rate, \S+ in the last step, goes on at 0.00", out)
    assert weights("left") == weights("whole") != before
    assert steps("left") == steps("whole") == [6, 11, 12, 18, 22]
    assert recorded("left")["epochs"] == 2 and "already in left" in run("epochs=2", "out=left")[1]
    assert models.load("left/model").card["training"]["continued"] == [{"step": 11, "epochs": 1}]
    status, _, err = run("epochs=1", "out=left")
    assert status == 1 and err.count("\n") == 1 and "has 2 epochs done, more than epochs=1" in err
    Path("left/checkpoint.pt").unlink()
    assert "made with other values of epochs" in run("epochs=3", "out=left")[2]


def test_a_process_whose_models_could_not_be_read_is_not_trained_on(run: Run, tmp_path: Path) -> None:
    status, _, told = run("process=edm", "process.sigma_max=1e30")
    assert status == 1 and "which no network is trained at" in told
    assert not list(tmp_path.rglob("*.safetensors"))
