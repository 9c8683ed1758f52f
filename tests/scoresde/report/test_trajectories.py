"""Trajectories as pictures: paths of points, a film strip of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

import scoresde
from scoresde.process import EDM, VP, Flow, Process
from scoresde.report import trajectories
from scoresde.score import ScoreModel


def walked(model: ScoreModel, shape: tuple[int, ...], solver: str = "ddim", nfe: int = 6) -> scoresde.Result:
    return scoresde.sample(model, solver, nfe=nfe, shape=shape, seeds=0, trajectory=True)


@pytest.mark.parametrize("process", [VP(), EDM(), Flow()], ids=repr)
@pytest.mark.parametrize("dim", [1, 2, 4])
def test_paths_of_points_end_in_the_samples_and_begin_in_noise_of_unit_size(
    process: Process, dim: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = scoresde.exact.get("mixture", process=process, dim=dim)
    result = walked(model, (70, dim))
    states = trajectories._scaled(result, model)
    assert states.shape == (7, 60, dim)
    assert torch.allclose(states[-1].float(), result.samples[:60]) and 0.7 < states[0].std() < 1.3
    drawn: list[Axes] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: drawn.extend(figure.axes) or Path(path).touch())
    trajectories.draw(result, model, tmp_path / "paths.png")
    assert "first 60 of 70" in drawn[0].figure.get_suptitle()  # type: ignore[union-attr]
    if dim == 1:
        ends = [np.asarray(line.get_ydata())[-1] for line in drawn[0].lines]
        assert np.allclose(ends, result.samples[:60, 0]) and len(drawn[0].images) == 1
        assert [label.get_text() for label in drawn[0].get_xticklabels()][-1] == "no noise"
    else:
        assert len(drawn[0].collections) == 1 + 60 + 3  # the density, the paths, their points and both ends


def test_a_model_seen_on_another_process_still_has_its_density_behind(tmp_path: Path) -> None:
    model = scoresde.exact.get("mixture", dim=1).on(EDM())
    trajectories.draw(walked(model, (3, 1)), model, tmp_path / "paths.png")
    assert (np.asarray(Image.open(tmp_path / "paths.png").convert("L")) < 250).mean() > 0.3


def halved(x: Tensor, t: Tensor) -> Tensor:
    return x.clamp(-1, 1) / 2


def test_images_are_a_strip_of_what_the_model_makes_of_each_state_and_the_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ScoreModel(halved, VP(), "sample")
    result = walked(model, (10, 1, 4, 4))
    films: list[Any] = []
    monkeypatch.setattr(Axes, "imshow", lambda axes, film, **_: films.append(film))
    trajectories.draw(result, model, tmp_path / "film.png")
    film = films[0]
    assert film.shape == (8 * 4, 7 * 4)  # 8 seeds; 6 states and the sample
    assert result.trajectory is not None
    first, last = result.trajectory[0, 0, 0].clamp(-1, 1) / 2, result.samples[0, 0]
    assert np.allclose(film[:4, :4], (first.numpy() + 1) / 2) and np.allclose(film[:4, -4:], (last.numpy() + 1) / 2)


@pytest.mark.parametrize("grid", [[1.0, 0.0], [1.0, 0.5]], ids=["one step", "to noise"])
@pytest.mark.parametrize("dim", [1, 2])
def test_short_ways_have_a_picture_too(grid: list[float], dim: int, tmp_path: Path) -> None:
    model = scoresde.exact.get("mixture", dim=dim)
    result = scoresde.sample(model, "ddim", grid=grid, shape=(2, dim), seeds=0, trajectory=True)
    trajectories.draw(result, model, tmp_path / "paths.svg")
    assert (tmp_path / "paths.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    model = ScoreModel(halved, VP(), "sample")
    without = scoresde.sample(model, "ddim", nfe=2, shape=(1, 2), seeds=0)
    with pytest.raises(ValueError, match=r"no trajectory: give scoresde.sample\(…, trajectory=True\)"):
        trajectories.draw(without, model, tmp_path / "x.png")
    with pytest.raises(ValueError, match=r"of points, and of images of 1 or 3 channels, got states of \(2, 4, 4\)"):
        trajectories.draw(walked(model, (1, 2, 4, 4)), model, tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()
