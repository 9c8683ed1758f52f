"""The model of CIFAR-10 that a checkout has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import scoresde
from scoresde.commands.main import main
from scoresde.files.bundled import CHECKOUT

FOLDER = CHECKOUT / "cifar10"


def test_it_is_small_whole_and_of_its_card() -> None:
    assert (FOLDER / "model.safetensors").stat().st_size < 12e6
    checkpoint = scoresde.models.load("cifar10")
    assert (checkpoint.shape, checkpoint.classes, checkpoint.class_names[9]) == ((3, 32, 32), 10, "truck")
    training = checkpoint.card["training"]
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert training["command"] in card and f"{training['steps']:,} steps" in card
    told = re.search(r"\(0.002 to 80\): ([\d. ]+)\.", " ".join(card.split()))
    assert told is not None
    losses = [level["loss"] for level in training["held_out"]["levels"]]
    assert list(map(float, told[1].split())) == pytest.approx(losses, abs=1e-3)
    assert f"is {training['fid'][-1]['fid']:.2f} (" in " ".join(card.split())


def test_it_denoises_and_its_samples_are_images() -> None:
    model = scoresde.models.load("cifar10").model
    x = torch.zeros(1, 3, 32, 32)
    assert float(model.denoised(x, 0.002).abs().max()) < 0.05  # a grey image with hardly any noise stays itself
    samples = scoresde.sample(model, "dpmpp_2m", nfe=8, shape=(6, 3, 32, 32), seeds=0, cond={"label": torch.arange(6)})
    assert 0.2 < float(samples.samples.std()) < 0.8 and float(samples.samples.abs().max()) < 1.5


def test_it_is_a_choice_of_the_command_line(tmp_path: Path) -> None:
    asked = ["model=cifar10", "label=ship", "n=2", "nfe=3", "dtype=float32", f"out={tmp_path / 'out'}"]
    assert main(["sample", *asked]) == 0
    assert (tmp_path / "out" / "grid.png").is_file()
