"""``scoresde sample`` as a job that one can leave alone."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import scoresde
from scoresde import metrics
from scoresde.commands.main import main
from scoresde.data import to_pixels
from scoresde.files import PART
from scoresde.runs import shards
from scoresde.runs.locks import Lock
from scoresde.runs.shards import Shards

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: str) -> Run:
    """Sample in an empty folder, in this process: 40 images in five shards, unless told otherwise."""
    monkeypatch.chdir(tmp_path)
    usual = {"model": "folder", "model.path": model, "nfe": "4", "n": "40", "batch_size": "8", "shard": "8"}

    def call(**changes: str) -> tuple[int, str, str]:
        chosen = {key: value for key, value in {**usual, **changes}.items() if value}
        capsys.readouterr()
        status = main(["sample", *(f"{key}={value}" for key, value in chosen.items())])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def content(folder: str | Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()
    }


def failing(call: int, error: BaseException, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that fails the n-th time it is called."""
    calls = iter(range(1, 1000))

    def wrapped(*arguments: Any, **options: Any) -> Any:
        if next(calls) == call:
            raise error
        return function(*arguments, **options)

    return wrapped


# What is sampled


def test_a_shard_s_images_are_those_of_one_run_over_all_seeds(run: Run, model: str) -> None:
    run(out="here", n="29", seed="100", shard="10")  # rounded up to 16
    names = {path.name for path in Path("here/shards").iterdir()}
    assert names == {f"{name}{suffix}" for name in ("000100-000115", "000116-000128") for suffix in (".npz", ".json")}
    found = shards.load("here")
    expected = scoresde.sample(
        scoresde.models.load(model).model,
        nfe=4,
        shape=(29, 1, 8, 8),
        seeds=range(100, 129),
        cond={"label": torch.arange(29) % 10},
        batch_size=8,
    )
    assert found.samples is not None
    assert (found.samples == expected.samples.numpy()).all()
    assert found.seeds.tolist() == expected.seeds
    assert found.nfe == expected.nfe


def test_seeds_are_given_as_ranges_instead_of_n(run: Run) -> None:
    run(out="all", seed="5", label="3")
    run(out="some", n="", seeds="[7-9,20-24,40]", label="3")
    everything, some = shards.load("all"), shards.load("some")
    assert some.seeds.tolist() == [7, 8, 9, 20, 21, 22, 23, 24, 40]
    assert some.samples is not None
    assert everything.samples is not None
    assert (some.samples == everything.samples[some.seeds.astype(int) - 5]).all()


@pytest.mark.parametrize("form", ["png", "zip"])
def test_pictures_are_the_samples_of_the_npz(run: Run, form: str) -> None:
    run(out="arrays")
    run(out="pictures", format=form)
    arrays, pictures = shards.load("arrays"), shards.load("pictures")
    assert arrays.samples is not None
    pixels = to_pixels(torch.from_numpy(arrays.samples)).numpy()
    assert pictures.samples is not None
    assert (pictures.samples == pixels).all()
    assert (pictures.labels == arrays.labels).all()
    assert Path("pictures/grid.png").read_bytes() == Path("arrays/grid.png").read_bytes()


# Stopped and started again


def arguments(folder: Path, model: str, *more: str) -> list[str]:
    """Sample 64 images in 16 shards."""
    usual = ["sample", "model=folder", f"model.path={model}", "n=64", "nfe=6", "batch_size=4", "shard=4", "threads=1"]
    return [*usual, f"out={folder}", *more]


def until(condition: Callable[[], object], alive: Callable[[], bool]) -> None:
    while not condition():
        assert alive()
        time.sleep(0.001)


def test_a_run_killed_at_random_moments_ends_with_the_same_bytes(model: str, tmp_path: Path) -> None:
    processes = multiprocessing.get_context("forkserver")  # whose children need not import torch again
    processes.set_forkserver_preload(["scoresde.commands.main", "scoresde.commands.sample"])

    def begin(folder: Path) -> Any:
        process = processes.Process(target=main, args=(arguments(folder, model, "format=png"),))
        process.start()
        lock = folder / "run.lock"
        until(lambda: lock.exists() and str(process.pid) in lock.read_text(encoding="utf-8"), process.is_alive)
        return process

    process, start = begin(tmp_path / "whole"), time.monotonic()
    process.join()
    seconds = time.monotonic() - start
    kills = 0
    for _ in range(6):
        process = begin(tmp_path / "killed")
        time.sleep(random.uniform(0, seconds / 3))
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        if not (tmp_path / "killed" / "run.lock").exists():
            break
    assert kills >= 2
    if (tmp_path / "killed" / "run.lock").exists():
        begin(tmp_path / "killed").join()
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


def test_ctrl_c_in_the_shell_is_one_line_that_says_how_to_go_on(model: str, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    with subprocess.Popen(
        [sys.executable, "-m", "scoresde", *arguments(folder, model)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background, SIGINT is ignored, and children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        until(lambda: len(list(folder.glob("shards/*.json"))) > 1, lambda: process.poll() is None)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    done = 4 * len(list(folder.glob("shards/*.json")))
    assert (process.returncode, out) == (130, "")
    same = f"the same command with out={folder} goes on"
    assert err == f"scoresde: interrupted; {done} of 64 images are written, and {same}\n"
    assert not list(folder.rglob(".*"))


def test_only_what_is_missing_or_damaged_is_made_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run(out="here")
    before = content("here")
    Path("here/shards/000008-000015.npz").write_bytes(b"")
    Path("here/shards/000032-000039.json").unlink()
    Path(f"here/shards/.000032-000039.12345.{PART}.npz").write_bytes(b"left by a killed process")
    asked: list[int] = []
    sample = scoresde.Sampler.sample
    monkeypatch.setattr(scoresde.Sampler, "sample", lambda s, **o: (asked.extend(o["seeds"]), sample(s, **o))[1])
    status, out, _ = run(out="here")
    assert status == 0
    assert "24 of 40 images are there; going on" in out
    assert asked == [*range(8, 16), *range(32, 40)]
    assert content("here") == before
    assert "already in here" in run(out="here")[1]


def test_a_folder_is_one_run_s_at_a_time(run: Run) -> None:
    run(out="here")
    lock = Lock(Path("here"))
    lock.take()
    status, _, err = run(out="here")
    assert (status, err) == (
        1,
        f"scoresde: error: another run is under way in 'here': process {os.getpid()} on {os.uname().nodename}\n",
    )
    lock.drop()


def test_going_on_with_other_versions_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run(out="here")
    Path("here/shards/000008-000015.npz").unlink()
    old = Path("here/versions.json").read_text(encoding="utf-8")
    monkeypatch.setattr(np, "__version__", "9.9")
    assert f"note: begun with numpy {json.loads(old)['numpy']}, now 9.9: what is made now may" in run(out="here")[1]
    assert Path("here/versions.json").read_text(encoding="utf-8") == old


# Where nothing can be written


@pytest.mark.parametrize("place", [1, 2, 3, 7, 8, 9])
def test_a_disk_that_fills_up_anywhere_is_one_line_and_loses_nothing(
    run: Run, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first look at every write; the really full disk is below."""
    full = failing(place, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), os.fsync)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        status, _, err = run(out="here")
    assert status == 1
    assert err.startswith("scoresde: error: no space left on device: here")
    assert "of 40 images are written, and the same command with out=here goes on" in err
    assert not list(Path("here").rglob(".*"))
    assert run(out="here")[0] == 0
    run(out="whole")
    assert content("here") == content("whole")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts a file system of so many kilobytes."""
    with ExitStack() as stack:

        def mount(kilobytes: int) -> Path:
            place = tmp_path / f"disk{kilobytes}"
            place.mkdir()
            command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(place)]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, f"this test mounts a small disk, for which it must be root: {done.stderr}"
            stack.callback(subprocess.run, ["umount", str(place)], check=True)
            return place

        yield mount


@pytest.mark.slow
@pytest.mark.parametrize("form", ["npz", "png", "zip"])
@pytest.mark.parametrize("kilobytes", [4, 12, 20, 24, 28, 40, 60])
def test_a_full_disk_is_one_line_and_loses_nothing(run: Run, disk: Any, form: str, kilobytes: int) -> None:
    many = {"n": "200", "batch_size": "40", "shard": "40", "format": form}
    folder = disk(kilobytes) / "here"
    status, out, err = run(out=str(folder), **many)
    assert (status, out) == (1, "")
    assert err.startswith(f"scoresde: error: no space left on device: {folder}")
    assert err.count("\n") == 1
    assert not list(folder.rglob(".*"))
    written = 40 * len(list(folder.glob("shards/*.json")))
    assert f"; {written} of 200 images are written, and the same command with out={folder} goes on" in err
    before = content(folder)
    subprocess.run(["mount", "-o", "remount,size=10m", str(folder.parent)], check=True)
    status, out, _ = run(out=str(folder), **many)
    assert status == 0
    assert written == 0 or f"{written} of 200 images are there; going on" in out
    after = content(folder)
    passing = {name for name in before if name == "run.lock" or re.fullmatch(r"shards/[\d-]+\.zip", name)}
    assert all(after[name] == before[name] for name in before.keys() - passing)
    run(out="whole", **many)
    assert after == content("whole")


@pytest.mark.slow
def test_a_read_only_folder_is_one_line_and_its_results_can_be_looked_at(run: Run, disk: Any) -> None:
    place = disk(1000)
    run(out=str(place / "whole"))
    run(out=str(place / "part"))
    (place / "part" / "shards" / "000008-000015.json").unlink()
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    before = content(place)
    for name, there in (("new", 0), ("part", 32)):
        status, out, err = run(out=str(place / name))
        assert (status, out) == (1, "")
        assert err.startswith(f"scoresde: error: read-only file system: {place / name}")
        assert f"; {there} of 40 images are written, and the same command with out={place / name} goes on" in err
    assert run(out=str(place / "whole"))[:2] == (
        0,
        f"the results of this configuration are already in {place / 'whole'}\n",
    )
    assert content(place) == before


# Metrics


def test_metrics_are_those_of_the_samples_and_outlive_a_restart(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    digits = {"model": "mnist", "model.path": "", "nfe": "1", "metrics": "true", "label": "data"}
    run(out="here", **digits)
    found = shards.load("here")
    assert found.samples is not None
    fid = metrics.FID.load()
    fid.update(torch.from_numpy(found.samples))
    expected = fid.compute()
    written = json.loads(Path("here/metrics.json").read_text(encoding="utf-8"))
    assert written["metrics"]["fid"]["value"] == pytest.approx(expected.value, rel=1e-9)
    assert (written["samples"], written["feature_space"]) == (40, expected.feature_space)
    assert written["metrics"].keys() == {"fid", "kid", "precision", "recall", "sliced_wasserstein"}
    collector = metrics.Collector(fid.features)
    collector.update(torch.from_numpy(found.samples), range(40))
    figures = collector.figures(metrics.Reference.load(metrics.BUNDLED, fid.features)).metrics
    assert written["metrics"]["kid"]["value"] == pytest.approx(figures["kid"].value, rel=1e-9)
    counts = scoresde.models.load("mnist").card["training"]["class_counts"]
    assert found.labels.tolist() == metrics.class_labels(40, counts).tolist()

    # Without samples, and stopped in between.
    with monkeypatch.context() as patched:
        patched.setattr(Shards, "write", failing(4, KeyboardInterrupt(), Shards.write))
        assert run(out="bare", keep="false", **digits)[0] == 130
    fresh: list[int] = []
    features = metrics.FeatureSpace.features
    monkeypatch.setattr(
        metrics.FeatureSpace, "features", lambda self, images: (fresh.append(len(images)), features(self, images))[1]
    )
    status, out, _ = run(out="bare", keep="false", **digits)
    assert status == 0
    assert f"FID {expected.value:.3f} in {expected.feature_space}, 40 samples" in out
    assert fresh == [8, 8]
    assert json.loads(Path("bare/metrics.json").read_text(encoding="utf-8")) == written
    bare = shards.load("bare")
    assert bare.samples is None
    assert bare.features is not None
    assert (bare.features == found.features).all()
