"""Exact models of points on the command line: sampled, drawn, compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import scoresde
from scoresde.commands.main import main
from scoresde.metrics import sliced_wasserstein


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compared")
    words = ["solvers=[ddim,euler_maruyama]", "nfe=[4,30]", "n=60", "batch_size=60", "reference_nfe=40"]
    assert main(["bench", "model=ring", "model.modes=3", *words, f"out={out}"]) == 0
    return out


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()]


def test_points_are_what_the_library_samples_and_lie_on_their_density(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "ring"
    assert main(["sample", "model=ring", "process=edm", "solver=heun", "nfe=19", "n=40", f"out={out}"]) == 0
    assert "40 points in" in (said := capsys.readouterr().out) and "image" not in said
    samples = np.load(out / "samples.npz")["samples"]
    model = scoresde.exact.get("ring").on(scoresde.EDM())
    meant = scoresde.sample(model, "heun", nfe=19, shape=(40, 2), seeds=0, batch_size=40).samples
    assert np.array_equal(samples, meant.numpy())
    assert np.abs(np.linalg.norm(samples, axis=1) - 1).mean() < 0.1
    assert Image.open(out / "samples.png").size[0] > 300 and not (out / "grid.png").exists()
    assert main(["sample", "model=ring", "process=edm", "solver=heun", "nfe=19", "n=40", f"out={out}"]) == 0
    assert "already in" in capsys.readouterr().out


@pytest.mark.parametrize("dim", [1, 3])
def test_points_of_any_dimension_have_a_picture_and_their_ways_another(
    dim: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["model=mixture", f"model.dim={dim}", "n=9", "nfe=3", "trajectory=5", f"out={tmp_path}"]
    assert main(["sample", *words]) == 0
    assert np.load(tmp_path / "samples.npz")["samples"].shape == (9, dim)
    for name in ("samples.png", "trajectories.png"):
        assert np.asarray(Image.open(tmp_path / name).convert("RGB")).std() > 5
    with np.load(tmp_path / "trajectory.npz") as found:
        assert (found["points"].shape, found["seeds"].tolist()) == ((4, 5, dim), [0, 1, 2, 3, 4])
        assert np.array_equal(found["points"][-1], np.load(tmp_path / "samples.npz")["samples"][:5])
    assert main(["convert", "images", str(tmp_path), f"out={tmp_path / 'way.gif'}"]) == 1
    assert "the ways of points" in capsys.readouterr().err
    (tmp_path / "trajectories.png").unlink()  # what is missing is made again
    assert main(["sample", *words]) == 0 and (tmp_path / "trajectories.png").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sample", "model=rign"], "unknown model 'rign'; did you mean 'ring'?"),
        (["sample", "model=ring", "model.modes=0"], "modes must be a whole number from 1 to 1000, got 0"),
        (["sample", "model=ring", "model.modes=abc"], "model.modes must be a number, got 'abc'"),
        (["sample", "model=ring", "model.mode=3"], "did you mean 'modes'?"),
        (["sample", "model=ring", "metrics=true"], "metrics=true is for images, and ring is of points"),
        (["sample", "model=ring", "format=png"], "format=png is for images, and ring is of points: npz"),
        (["sample", "model=ring", "dtype=bfloat16"], "dtype is of a network, and ring has none: float32 or float64"),
        (["sample", "model=ring", "shape=[1,2,2]"], "is for checkpoints of diffusers, and ring is exact"),
        (["sample", "model=ring", "prompt=a cat"], "prompt=a cat is for checkpoints of diffusers, and ring is exact"),
        (["bench", "model=ring", "label=3"], "label must be null: no classes here, got 3"),
        (["sample", "model=ring", "n=5", "trajectory=6"], "trajectory must be at most the 5 samples made at first"),
        (["bench", "model=ring", "reference=photos"], "reference=photos is for images: points of ring are compared"),
        (["bench", "model=ring", "features=pixels"], "features=pixels is for images"),
        (["bench", "model=ring", "compile=[default]"], "compile=default is of a network, and ring has none"),
    ],
)
def test_what_is_not_for_points_is_one_line_and_leaves_nothing(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, f"out={tmp_path / 'out'}"]) in (1, 2)
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_points_are_compared_by_their_distance_to_exact_draws_and_by_their_error(compared: Path) -> None:
    found = rows(compared)
    assert [(row["name"], set(row["metrics"])) for row in found] == [
        *[("ddim", {"sliced_wasserstein", "error"})] * 2,
        *[("euler_maruyama", {"sliced_wasserstein"})] * 2,
    ]
    few, many = found[:2]
    assert few["metrics"]["error"]["value"] > 2 * many["metrics"]["error"]["value"]
    model = scoresde.exact.get("ring", modes=3)
    points = scoresde.sample(model, "ddim", nfe=30, shape=(60, 2), seeds=0, batch_size=60).samples
    draws = model.sample(5000, torch.Generator().manual_seed(0)).float()
    estimate = sliced_wasserstein(points.numpy(), draws.numpy())
    assert many["metrics"]["sliced_wasserstein"] == {
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
    }
    assert many["feature_space"] == "5,000 exact draws in 2D"


def test_the_report_of_points_has_scatters_and_says_what_it_measures(compared: Path) -> None:
    page = (compared / "report.html").read_text(encoding="utf-8")
    assert page.count('alt="points: ') == 4 and "FID" not in page
    assert "Solvers compared on ring" in page and "smallest sliced Wasserstein" in page
    assert "root mean square per coordinate" in page and "per 1000 points" in page
    table = (compared / "table.md").read_text(encoding="utf-8")
    assert "Sliced Wasserstein distance to 5,000 exact draws in 2D, 60 samples each" in table and "points/s" in table
    for name in ("samples.png", "steps_vs_fid.png", "pareto.png"):
        assert np.asarray(Image.open(compared / name).convert("RGB")).std() > 5


def test_another_ring_is_not_compared_in_the_same_folder(compared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["solvers=[ddim]", "nfe=[4]", "n=60", "batch_size=60", "reference_nfe=40"]
    assert main(["bench", "model=ring", "model.modes=4", *words, f"out={compared}"]) == 1
    assert "other values of model.modes" in capsys.readouterr().err


def test_a_solver_tuned_to_one_density_refuses_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "tuned"
    assert main(["tune", "model=ring", "nfe=3", "n=16", "batch_size=16", "effort=quick", f"out={out}"]) == 0
    words = ["solver=tuned", f"solver.path={out / 'tuned.json'}", "nfe=3", "n=2"]
    assert main(["sample", "model=ring", *words, f"out={tmp_path / 'ring'}"]) == 0
    assert main(["sample", "model=ring", "model.modes=7", *words, f"out={tmp_path / 'seven'}"]) == 1
    assert "the solver was tuned to another network" in capsys.readouterr().err
