"""``dtype=auto``: measured once, told where results are, and kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from scoresde import models
from scoresde.commands import precision
from scoresde.commands.main import main

SAMPLE = ["sample", "model=folder", "n=8", "nfe=2", "batch_size=4", "shard=4", "dtype=auto", "out=out"]
BENCH = ["bench", "n=8", "batch_size=8", "reference_nfe=10", "solvers=[ddim]", "out=rows", "features=pixels"]
BENCH += ["reference=photos.npz", "model=folder"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "quicker", lambda *_: name)


def config(folder: str) -> dict:
    return yaml.safe_load(Path(folder, "config.yaml").read_text(encoding="utf-8"))


def test_the_quicker_precision_is_taken(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([9.0, 9.0, 0.5, 0.4, 0.6, 0.7, 0.3, 0.8])  # a warm-up of each, then each three times
    monkeypatch.setattr(precision, "_seconds", lambda *_: next(seconds))
    assert precision.quicker(models.load(model), 4, torch.device("cpu")) == "bfloat16"


def test_it_is_one_of_two_on_this_machine(model: str) -> None:
    assert precision.quicker(models.load(model), 4, torch.device("cpu")) in ("float32", "bfloat16")


def test_samples_go_on_in_the_precision_that_they_were_begun_in(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [*SAMPLE, f"model.path={model}"]
    says("bfloat16", monkeypatch)
    assert main(command) == 0
    assert config("out")["dtype"] == "bfloat16"
    whole = Path("out/shards/000004-000007.npz").read_bytes()
    Path("out/shards/000004-000007.npz").unlink()
    says("float32", monkeypatch)
    assert main(command) == 0
    assert Path("out/shards/000004-000007.npz").read_bytes() == whole
    assert main([*command, "dtype=float32"]) != 0


def test_rows_name_it_and_others_may_be_added(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez("photos.npz", images=np.random.default_rng(0).integers(0, 256, (32, 8, 8), dtype=np.uint8))
    command = [*BENCH, f"model.path={model}"]
    says("float32", monkeypatch)
    assert main([*command, "nfe=[2]"]) == 0
    says("bfloat16", monkeypatch)
    assert main([*command, "nfe=[2,3]"]) == 0
    assert main([*command, "nfe=[2]", "dtype=[auto,bfloat16]"]) == 0
    rows = [json.loads(line) for line in Path("rows/results.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["nfe"], row["dtype"]) for row in rows] == [(2, "float32"), (3, "float32"), (2, "bfloat16")]
    assert config("rows")["dtype_auto"] == "float32"
