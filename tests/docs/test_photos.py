"""The page from a folder of photos to a benchmark: its commands run, in small, and print what it shows."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.cbook
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from scoresde import TunedSolver, models
from scoresde.commands import train
from scoresde.commands.main import main
from scoresde.files import digest
from scoresde.metrics import PixelSpace
from scoresde.metrics.spaces import SPACES

PAGE = (Path(__file__).parents[2] / "docs" / "photos.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(sh|text|python)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
REFUSED = re.findall(r"^\| .* \| `(.*)` \| .* \|$", PAGE, re.MULTILINE)
NUMBER = r"-?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?"
CLASSES = ("flower", "portrait", "temple")
EACH = 8
SMALL = {
    "train": ["held_out=6", "batch_size=6", "network.channels=[8,16]", "network.depth=1", "every=3"],
    "sample": ["n=3", "batch_size=3"],
    "bench": ["n=8", "batch_size=8", "reference_nfe=10", "dtype=[float32]"],
    "tune": ["n=16", "batch_size=16"],
}
FEWER = {"epochs": 80, "nfe": 2, "data.size": 4, "reference_size": 4}  # by which to divide


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of three classes in all sizes and modes, with what lies in such folders besides."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    hopper = Image.open(str(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))).convert("RGB")
    whole = [Image.fromarray(load_sample_image("flower.jpg")), hopper, Image.fromarray(load_sample_image("china.jpg"))]
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter, as phones write portraits
    for name, image in zip(CLASSES, whole, strict=True):
        (root / name).mkdir()
        for index in range(EACH):
            width, height = (int(side) for side in rng.integers(20, 60, 2))
            left, top = (int(rng.integers(0, most)) for most in (image.width - width, image.height - height))
            photo, path = image.crop((left, top, left + width, top + height)), root / name / f"{index:03}"
            match index % 5:
                case 0:
                    photo.save(path.with_suffix(".webp"))
                case 1:
                    photo.convert("L").save(path.with_suffix(".jpg"))
                case 2:
                    photo.quantize(32).save(path.with_suffix(".png"), transparency=0)
                case 3:
                    photo.convert("CMYK").save(path.with_suffix(".jpg"))
                case _:
                    photo.rotate(90, expand=True).save(path.with_suffix(".JPG"), format="JPEG", exif=exif)
    (root / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (root / "notes.txt").write_text("where they are from")
    return root


@pytest.fixture
def here(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder around ``photos``."""
    shutil.copytree(photos, tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCORESDE_CACHE", str(tmp_path / "cache"))
    return tmp_path


def in_small(command: str) -> list[str]:
    """The words of a command, with less to do."""
    _, name, *words = shlex.split(command)
    for index, word in enumerate(words):
        key, _, value = word.partition("=")
        for number in re.findall("[0-9]+", value) if key in FEWER else ():
            value = value.replace(number, str(int(number) // FEWER[key]))
        words[index] = f"{key}={value}"
    return [name, *words, *SMALL[name]]


def shown(line: str) -> re.Pattern[str]:
    """What a line of the page stands for: any numbers and space where it has such, and anything for ``…``."""
    parts = re.split(rf"({NUMBER}|…|\s+)", line.strip())
    for index, part in enumerate(parts):
        if index % 2 == 0:
            parts[index] = re.escape(part)
        else:
            parts[index] = ".*" if part == "…" else r"\s+" if part.isspace() else NUMBER
    return re.compile("".join(parts))


def test_the_page_runs_from_photos_to_a_benchmark(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], unplotted: None
) -> None:
    monkeypatch.setitem(SPACES._makers, "efficientnet_lite", lambda device: PixelSpace((3, 8, 8)))
    report, said, runs = train._report, "", 0

    def interrupted(trainer: Any) -> Any:
        monkeypatch.setattr(train, "_report", report)
        raise KeyboardInterrupt

    def run(words: list[str]) -> int:
        nonlocal said
        status = main(words)
        found = capsys.readouterr()
        said += found.out + found.err
        return status

    for kind, block in BLOCKS:
        if kind == "python":
            exec(compile(block, "photos.md", "exec"), {})
            assert f"{3 * EACH} {CLASSES} {[EACH] * 3}" in capsys.readouterr().out
        elif kind == "text":
            printed = [line.strip() for line in said.splitlines()]
            for line in block.splitlines():
                assert any(map(shown(line).fullmatch, printed)), line
        else:
            said = ""
        for command in block.splitlines() if kind == "sh" else ():
            runs, words = runs + 1, in_small(command)
            if runs == 2:
                monkeypatch.setattr(train, "_report", interrupted)
                assert run(words) == 130
            assert run(words) == (1 if runs == 1 else 0), said
            if runs == 2:
                assert run(words) == 0 and "already in runs/photos/model" in said
                assert run([*words, "seed=1"]) == 1 and "other values of seed" in said

    checkpoint = models.load("runs/photos/model")
    assert (checkpoint.shape, checkpoint.class_names) == ((3, 8, 8), CLASSES)
    training = checkpoint.card["training"]
    assert (training["data"]["images"], training["data"]["flip"], training["continued"][0]["epochs"]) == (18, True, 2)
    assert [(here / "runs" / "photos" / name).is_file() for name in ("samples.png", "loss.png")] == [True] * 2
    assert (here / "photos.png").is_file()
    drawn = {name: dict(np.load(f"runs/{name}/samples.npz")) for name in ("flowers", "guided", "quick")}
    assert all(arrays["samples"].shape == (3, 3, 8, 8) for arrays in drawn.values())
    assert drawn["flowers"]["labels"].tolist() == [0] * 3 and drawn["quick"]["labels"].tolist() == [0, 1, 2]
    assert np.abs(drawn["flowers"]["samples"] - drawn["guided"]["samples"]).max() > 1e-3
    tuned = Path("runs/tuned/tuned.json")
    assert list(TunedSolver.load(tuned).members) == [2]
    assert digest(tuned) in Path("runs/quick/config.yaml").read_text(encoding="utf-8")
    rows = {
        name: [json.loads(line) for line in Path(f"runs/{name}/results.jsonl").read_text().splitlines()]
        for name in ("against_photos", "against_itself")
    }
    for name, found in rows.items():
        assert {"auto", "dpmpp_2m", "heun"} <= {row["solver"].partition("(")[0] for row in found}, name
        assert all({"fid", "error"} <= row["metrics"].keys() for row in found)
        assert (here / "runs" / name / "report.html").is_file()
    assert [row["solver"].partition("(")[0] for row in rows["against_itself"]].count("tuned") == 1
    assert len(rows["against_photos"]) == 6 and len(rows["against_itself"]) == 7


@pytest.mark.slow
def test_the_page_runs_from_an_installed_wheel_in_an_empty_folder(installed: Any, here: Path) -> None:
    """As for who has neither the checkout nor its tests, in the feature space that is installed."""
    printed, runs = list[str](), 0
    for kind, block in BLOCKS:
        if kind == "python":
            done = installed.run("python", "-c", block, cwd=here)
            assert done.returncode == 0 and f"{3 * EACH} {CLASSES} {[EACH] * 3}" in done.stdout, done.stderr
        elif kind == "text" and "interrupted" not in block:
            for line in block.splitlines():
                assert any(map(shown(line).fullmatch, printed)), line
        elif kind == "sh":
            printed.clear()
        for command in block.splitlines() if kind == "sh" else ():
            runs += 1
            done = installed.run("scoresde", *in_small(command), cwd=here)
            assert done.returncode == (1 if runs == 1 else 0), done.stderr
            printed += [line.strip() for line in f"{done.stdout}\n{done.stderr}".splitlines()]
    assert runs > 8 and (here / "runs" / "against_itself" / "report.html").is_file()


def deep(photos: Path) -> None:
    Image.fromarray(np.full((30, 40), 40_000, np.uint16)).save(photos / "flower" / "scan.png")


def moving(photos: Path) -> None:
    frames = [Image.new("L", (30, 30), 255 * index) for index in range(2)]
    frames[0].save(photos / "flower" / "loop.gif", save_all=True, append_images=frames[1:])


def torn(photos: Path) -> None:
    content = (photos / "flower" / "001.jpg").read_bytes()
    (photos / "flower" / "torn.jpg").write_bytes(content[: len(content) // 2])


def emptied(photos: Path) -> None:
    shutil.rmtree(photos)
    photos.mkdir()


@pytest.mark.parametrize(
    ("change", "settings"),
    [
        (lambda photos: None, ["data.size=8", "data.channels=3"]),
        (deep, ["data.size=8", "data.crop=true", "data.channels=3"]),
        (moving, ["data.size=8", "data.crop=true", "data.channels=3"]),
        (torn, ["data.size=8", "data.crop=true", "data.channels=3"]),
        (emptied, []),
    ],
    ids=range(5),
)
def test_what_stops_the_command_says_what_the_page_shows(
    change: Callable[[Path], None],
    settings: list[str],
    here: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(here / "photos")
    assert main(["train", "data=folder", "data.path=photos", *settings, "out=out"]) == 1
    assert len(REFUSED) == 5 and not (here / "out").exists()
    line = REFUSED[int(request.node.callspec.id)]
    assert shown(f"scoresde: error: {line}").fullmatch(capsys.readouterr().err.strip())
