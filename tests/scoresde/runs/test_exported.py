"""Runs as pictures: the PNGs that sampling itself would have written, in a folder or a zip, and trajectories."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from scoresde.commands.main import main
from scoresde.data import to_pixels
from scoresde.files.arrays import Npz
from scoresde.files.pictures import grid
from scoresde.runs import exported, record, shards
from scoresde.runs.shards import Shards


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def convert(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """The exit status of ``scoresde convert images``, and what it says."""

    def call(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        status = main(["convert", "images", *arguments])
        captured = capsys.readouterr()
        return status, captured.err or captured.out

    return call


def run(folder: str, form: str = "npz", channels: int = 3, n: int = 29, **changes: Any) -> Shards:
    """A run of random images with seeds from 5 on, in shards of 16."""
    config = {"seeds": None, "seed": 5, "n": n, "shard": 16, "format": form, "keep": True, "metrics": False, **changes}
    found = Shards.of(folder, config)
    images = torch.rand(n, channels, 6, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for part in found.parts:
        some = images[part.place : part.place + len(part)]
        features = np.zeros((len(part), 2), np.float32) if config["metrics"] else None
        found.write(part, some, np.zeros(len(part), np.int64), [1] * len(part), features)
    found.finish()
    record.write(Path(folder), config, torch.device("cpu"))
    return found


def content(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("form", ["npz", "png", "zip"])
def test_pictures_are_those_that_sampling_writes_whatever_it_wrote(form: str, channels: int, convert: Any) -> None:
    run("pngs", "png", channels)
    run("zips", "zip", channels)
    run("run", form, channels)
    assert convert("run", "out=made") == (0, "made: 29 pictures, named by their seeds\n")
    assert sorted(content("made"))[0] == "000005.png"
    assert content("made") == content("pngs/images")
    assert convert("run", "out=made.zip")[0] == 0
    assert Path("made.zip").read_bytes() == Path("zips/samples.zip").read_bytes()
    before = {path: path.stat().st_mtime_ns for path in [*Path("made").iterdir(), Path("made.zip")]}
    assert convert("run", "out=made") == (0, "made: 29 pictures, named by their seeds\n")  # which are there
    assert {path: path.stat().st_mtime_ns for path in before if path.parent.name == "made"}.items() <= before.items()


def test_arrays_are_read_a_few_images_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, rows, most = run("run"), Npz.rows, []

    def watched(arrays: Npz, key: str, count: int) -> Iterator[Any]:
        for part in rows(arrays, key, count):
            most.append(len(part))
            yield part

    monkeypatch.setattr(Npz, "rows", watched)
    monkeypatch.setattr(Npz, "__getitem__", None)  # a whole array at once
    found = exported.pictures(whole)
    next(found)
    assert len(most) == 1 and most[0] < 16
    assert len(list(found)) == 28 and max(most) < 16


def test_another_file_in_the_place_of_a_picture_stays(convert: Any) -> None:
    run("run")
    Path("made").mkdir()
    for path in ("made/000006.png", "made.zip", "made/mine.txt"):
        Path(path).write_text("mine", encoding="utf-8")
    for out, named in (("made", "made/000006.png"), ("made.zip", "made.zip")):
        status, said = convert("run", f"out={out}")
        assert (status, said) == (
            1,
            f"scoresde: error: '{named}' is there and another file: remove it, or choose another out=…\n",
        )
        assert Path(named).read_text(encoding="utf-8") == "mine"
    Path("made/000006.png").unlink()
    assert convert("run", "out=made")[0] == 0
    assert Path("made/mine.txt").read_text(encoding="utf-8") == "mine"
    assert len(content("made")) == 30


def test_what_cannot_be_pictures_is_a_line_and_leaves_nothing(convert: Any) -> None:
    run("run")
    run("points", channels=2, n=3)
    run("features", metrics={"features": "pixels"}, keep=False)
    run("part").write(run("part").parts[1], torch.zeros(13, 3, 6, 4), np.zeros(13, np.int64), [1] * 13)
    Path("part/shards/000005-000020.npz").unlink()
    before = {path.name for path in Path().iterdir()}
    for typed, said in (
        (["points", "out=made"], "holds samples of shape (2, 6, 4), which are no images: those have 1 or 3 channels"),
        (["points", "out=made.zip"], "which are no images"),
        (["features", "out=made"], "keeps no samples, but their features alone (keep=false)"),
        (["part", "out=made"], "'part' is not complete: 1 of 2 shards are missing or damaged"),
        (["none", "out=made"], "'none' is no folder of samples"),
        (["run", "out=made.tar"], "unknown format '.tar' of 'made.tar'; known: a folder, .zip, .gif"),
        (["run", "out=run"], "'run' holds a run or a model: choose another folder"),
        (["run", "out=points"], "'points' holds a run or a model"),
        (["run", "out=made.gif"], "'run' holds no trajectory: scoresde sample with trajectory=8"),
    ):
        status, line = convert(*typed)
        assert (status, line.count("\n")) == (1, 1), typed
        assert said in line
    assert {path.name for path in Path().iterdir()} == before


def test_what_is_typed_wrong_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for typed, said in (
        (["image", "run"], "unknown format 'image'; did you mean 'images'?"),
        (["images"], "scoresde convert images takes the folder of a run, and out="),
        (["images", "run"], "out must be given"),
        (["images", "run", "edm=in.pkl", "out=made"], "one thing is converted at a time, got edm and images"),
        (["out=made"], "nothing to convert"),
    ):
        assert main(["convert", *typed]) == 2
        assert said in capsys.readouterr().err


def test_a_trajectory_is_kept_where_it_is_asked_for_and_becomes_a_gif(model: str, convert: Any) -> None:
    asked = ["sample", "model=folder", f"model.path={model}", "n=6", "nfe=4", "batch_size=4"]
    assert main([*asked, "out=plain"]) == 0
    assert main([*asked, "trajectory=3", "out=run"]) == 0
    plain, found = shards.load("plain"), shards.load("run")
    assert plain.samples is not None and found.samples is not None
    assert (plain.samples == found.samples).all()  # they are the same images, seen on their way
    assert np.asarray(Image.open("run/trajectories.png").convert("L")).std() > 5
    with Npz("run/trajectory.npz") as arrays:
        images, times, seeds = (arrays[name] for name in ("images", "times", "seeds"))
    assert (images.shape, images.dtype, seeds.tolist()) == ((5, 3, 1, 8, 8), np.uint8, [0, 1, 2])
    assert (np.diff(times) < 0).all() and times[-1] == 0
    last = to_pixels(torch.from_numpy(found.samples[:3]))
    assert (images[-1] == last.numpy()).all()
    assert (images[-2] == images[-1]).all()  # the step to zero noise is a denoise
    assert (images[0] != images[-1]).any()
    for _ in range(2):
        assert convert("run", "out=way.gif") == (0, "way.gif: a trajectory, at 5 times\n")
    with Image.open("way.gif") as gif:
        assert gif.n_frames == 4  # the last two are the same
        gif.seek(3)
        assert (np.asarray(gif.convert("L")) == np.asarray(grid(last, 2))).all()
    Path("run/trajectory.npz").write_bytes(b"damaged")
    assert convert("run", "out=other.gif")[0] == 1
    assert main([*asked, "trajectory=3", "out=run"]) == 0  # which makes it again
    assert convert("run", "out=way.gif")[0] == 0
    assert zipfile.is_zipfile("run/trajectory.npz")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("trajectory=7", "trajectory must be at most the 6 samples made at first, got 7"),
        ("trajectory=-1", "trajectory must be a whole number of at least 0, got -1"),
        ("solver=pf_ode", "pf_ode chooses its own steps, and so has no trajectory"),
    ],
)
def test_a_trajectory_that_there_cannot_be_is_refused(
    typed: str, said: str, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    budget = [] if typed.startswith("solver") else ["nfe=4"]
    assert (
        main(["sample", "model=folder", f"model.path={model}", "n=6", *budget, "trajectory=3", typed, "out=run"]) == 1
    )
    assert said in capsys.readouterr().err
    assert not Path("run").exists()
