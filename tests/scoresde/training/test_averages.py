"""Several averages of the weights at once, one of them chosen afterwards, and FID of it while a run goes on."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import scoresde
from scoresde import models
from scoresde.commands.progress import SOLVER, STEPS
from scoresde.data import load, to_pixels
from scoresde.metrics import FID, Moments, PixelSpace, class_labels
from scoresde.networks.unet import UNet
from scoresde.process import VP
from scoresde.training import Settings, Trainer, averages

DIGITS = load("digits").take(torch.arange(64))
SETTINGS = Settings(epochs=2, batch_size=16, warmup=3, learning_rate=3e-3, ema=0.99, seed=5, bf16=False)
WITH = Settings(**{**vars(SETTINGS), "averages": (0.05, 0.1)})
TINY = ("network.channels=[8,16]", "network.depth=1", "every=4", "epochs=1")  # 11 steps


def trainer(folder: Path, settings: Settings = WITH, net: nn.Module | None = None, **options: Any) -> Trainer:
    torch.manual_seed(0)
    net = net or UNet(channels=(16, 32), depth=1, num_classes=10)
    return Trainer(net, VP(), "epsilon", DIGITS, settings, folder, time_input=lambda t: 1000 * t, **options)


def nothing(run: Trainer) -> None:
    pass


def weights(net: nn.Module) -> Tensor:
    return torch.cat([value.flatten() for value in net.state_dict().values()])


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    run = trainer(tmp_path_factory.mktemp("straight"))
    run.run(nothing, every=1)
    return run


# Profiles


def test_published_exponents() -> None:
    """Of Karras et al. 2024, sec. 3.1."""
    assert averages.exponent(0.05) == pytest.approx(16.97, abs=5e-3)
    assert averages.exponent(0.10) == pytest.approx(6.94, abs=5e-3)
    assert averages.exponent(averages.WIDEST) == pytest.approx(0, abs=1e-9)


@given(st.floats(1e-4, averages.WIDEST))
def test_the_exponent_has_the_asked_width(width: float) -> None:
    gamma = averages.exponent(width)
    assert gamma >= 0
    assert math.sqrt((gamma + 1) / (gamma + 3)) / (gamma + 2) == pytest.approx(width, rel=1e-6)


@pytest.mark.parametrize("width", [0.02, 0.1, averages.WIDEST])
def test_weights_of_steps_are_a_power_whose_deviation_is_the_width(width: float) -> None:
    steps = 3000
    profile = np.zeros(steps)  # of the average after that many steps, by the step
    for step in range(1, steps + 1):
        kept = averages.power(width, step)
        profile *= kept
        profile[step - 1] += 1 - kept
    t = np.arange(1, steps + 1) / steps
    assert profile.sum() == pytest.approx(1)
    mean = (profile * t).sum()
    assert math.sqrt((profile * (t - mean) ** 2).sum()) == pytest.approx(width, rel=0.01)
    inner = slice(steps // 2, None)
    slope = np.polyfit(np.log(t[inner]), np.log(profile[inner]), 1)[0]
    assert slope == pytest.approx(averages.exponent(width), rel=0.01, abs=1e-6)


@pytest.mark.parametrize("width", [0, -0.1, 0.3, math.nan, True, "0.1"])
def test_other_widths_are_refused(width: Any) -> None:
    with pytest.raises(ValueError, match="width of an average must lie in"):
        averages.exponent(width)


def test_an_average_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"averages must differ, got \[0.1, 0.1\]"):
        Settings(epochs=1, averages=(0.1, 0.1))


# In a run


def test_further_averages_change_neither_the_weights_nor_the_usual_average(straight: Trainer, tmp_path: Path) -> None:
    alone = trainer(tmp_path, SETTINGS)
    alone.run(nothing, every=1)
    assert torch.equal(weights(alone.net), weights(straight.net))
    assert torch.equal(weights(alone.averaged), weights(straight.averages["ema"]))


def test_averages_are_the_means_of_the_weights_that_were(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    expected: dict[Any, Tensor] = {}

    def follow(run: Trainer) -> None:
        for width in WITH.averages:
            kept = averages.power(width, run.step)
            before = expected.get(width, torch.zeros(()))
            expected[width] = kept * before + (1 - kept) * weights(run.net).double()

    run.run(follow, every=1)
    for width in WITH.averages:
        torch.testing.assert_close(weights(run.averages[width]).double(), expected[width], rtol=1e-5, atol=1e-7)
    narrow, wide = (float((weights(run.averages[width]) - weights(run.net)).norm()) for width in WITH.averages)
    assert 0 < narrow < wide


def test_averages_are_taken_up_bit_for_bit(straight: Trainer, tmp_path: Path) -> None:
    first = trainer(tmp_path)
    with pytest.raises(InterruptedError):
        first.run(_leave, every=3)
    again = trainer(tmp_path)
    assert again.resume() and again.step == 3
    again.run(nothing, every=1)
    for name, net in straight.averages.items():
        assert torch.equal(weights(net), weights(again.averages[name]))


def _leave(run: Trainer) -> None:
    raise InterruptedError


def test_a_run_with_other_averages_is_another_run(straight: Trainer, tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.save()
    other = trainer(tmp_path, Settings(**{**vars(SETTINGS), "averages": (0.05,)}))
    with pytest.raises(ValueError, match="other values of settings.averages"):
        other.resume()


def test_any_average_can_be_the_model(straight: Trainer, tmp_path: Path) -> None:
    run = trainer(straight.folder, average=0.1)
    assert run.resume() and run.step == run.steps
    assert run.model.net is run.averages[0.1]
    assert torch.equal(weights(run.averaged), weights(straight.averages[0.1]))
    with pytest.raises(ValueError, match=r"average=0.2 is none of averages=\[0.05, 0.1\]"):
        trainer(tmp_path, average=0.2)


class Normed(nn.Module):
    """A network with a batch norm, whose running statistics are part of what it does."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(1), nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        return self.conv(self.norm(x))


def test_averages_have_the_statistics_that_batch_norms_have_counted(tmp_path: Path) -> None:
    run = trainer(tmp_path, net=Normed())
    run.run(nothing, every=4)
    counted = run.net.norm.running_var
    assert not torch.equal(counted, torch.ones(1))  # type: ignore[arg-type]
    for net in run.averages.values():
        assert torch.equal(net.norm.running_var, counted)  # type: ignore[arg-type]


def test_the_held_out_loss_is_the_objective_in_the_same_noise_at_every_call(tmp_path: Path) -> None:
    held_out = load("digits").take(torch.arange(64, 96))
    run = trainer(tmp_path, held_out=held_out)
    zeros = nn.Module()
    zeros.forward = lambda x, t, label: torch.zeros_like(x)  # type: ignore[method-assign, assignment]
    assert run.held_out_loss(zeros) == run.held_out_loss(zeros) == pytest.approx(1, abs=0.1)  # of ε, E ε² = 1
    with pytest.raises(ValueError, match="no held-out images"):
        trainer(tmp_path).held_out_loss(zeros)


# By the command


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "losses.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def card(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "model" / "config.json").read_text())["training"]


def test_fid_is_that_of_the_model_against_its_training_images(command: Any) -> None:
    status, out, _ = command(*TINY, "bf16=false", "features=pixels", "fid=40", "fid_every=5", "out=run")
    assert status == 0
    table = rows(Path("run"))
    assert [row["step"] for row in table] == ["4", "8", "11"]
    assert [bool(row["fid"]) for row in table] == [False, True, True]  # the first line at or after step 5, and the end
    checkpoint, digits = models.load("run/model"), load("digits")
    assert digits.labels is not None
    space = PixelSpace((1, 8, 8))
    reference = Moments(space.size, space.name)
    reference.update(space.features(digits.pixels).numpy())
    labels = class_labels(40, torch.bincount(digits.labels).tolist())
    samples = scoresde.sample(
        checkpoint.model, SOLVER, steps=STEPS, shape=(40, 1, 8, 8), seeds=range(40), cond={"label": labels}
    ).samples
    fid = FID(space, reference)
    fid.update(to_pixels(samples))
    score = fid.compute()
    assert float(table[-1]["fid"]) == pytest.approx(score.value, rel=1e-4)
    assert (table[-1]["fid_samples"], table[-1]["fid_space"]) == ("40", space.name)
    assert [(each["step"], f"{each['fid']:.6g}") for each in card(Path("run"))["fid"]] == [
        (int(row["step"]), row["fid"]) for row in table[1:]
    ]
    assert f"FID {float(table[-1]['fid']):.3f} in {space.name}, 40 samples" in out


def test_one_of_the_averages_is_chosen_of_a_finished_run(command: Any) -> None:
    asked = (*TINY, "averages=[0.05,0.1]", "held_out=40", "out=run")
    status, out, _ = command(*asked, "features=pixels", "fid=20")
    assert status == 0 and "average 0.05: held_out_loss" in out and "(the model)" in out
    told = card(Path("run"))["averages"]
    assert [each["average"] for each in told] == ["ema", 0.05, 0.1]
    assert all(each["held_out_loss"] > 0 and each["fid"] > 0 for each in told)
    usual = models.load("run/model").model
    status, out, _ = command(*asked, "average=0.05")
    assert status == 0 and "average 0.05" in out
    assert card(Path("run"))["average"] == 0.05 and rows(Path("run"))[-1]["fid"]
    narrow = models.load("run/model").model
    assert isinstance(narrow.net, nn.Module) and isinstance(usual.net, nn.Module)
    assert not torch.equal(weights(narrow.net), weights(usual.net))
    status, out, _ = command(*asked, "average=0.05")
    assert status == 0 and "already in" in out
    assert command(*asked, "average=ema")[0] == 0 and "average" not in card(Path("run"))
    status, _, err = command(*asked, "average=0.07")
    assert status == 1 and "average=0.07 is none of averages=[0.05, 0.1]" in err


def test_a_killed_run_has_each_fid_once(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = (*TINY, "features=pixels", "fid=20", "fid_every=4")
    assert command(*asked, "out=whole")[0] == 0

    def stop(run: Trainer) -> list[dict[str, float]]:
        if run.step == 8:
            raise KeyboardInterrupt
        return []

    with monkeypatch.context() as patch:
        patch.setattr("scoresde.commands.train._report", stop)
        assert command(*asked, "out=killed")[0] == 130
    assert command(*asked, "out=killed")[0] == 0
    figures = [[(row["step"], row["fid"]) for row in rows(Path(name))] for name in ("whole", "killed")]
    assert figures[0] == figures[1] and all(fid for _, fid in figures[0])


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["fid=1"], "fid must be 0, for none, or the number of samples, 2 or more; got 1"),
        (["fid=20", "features=model"], "features=model needs features.path="),
        (["fid=20", "reference=nowhere"], "nowhere"),
        (["averages=[0.5]"], "the width of an average must lie in"),
        (["averages=[a]"], "averages"),
        (["fid=20", "fid_every=0"], "fid_every must be a whole number of at least 1"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_trained(
    command: Any, asked: list[str], said: str
) -> None:
    status, _, err = command(*TINY, *asked, "out=run")
    assert status != 0 and said in err and not Path("run/checkpoint.pt").exists()
