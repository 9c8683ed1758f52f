"""Samples in a folder, shard by shard."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from scoresde.data import to_pixels
from scoresde.runs import shards
from scoresde.runs.locks import NAME, Lock
from scoresde.runs.progress import Progress
from scoresde.runs.shards import Shards, parse_seeds

SHAPE = (3, 4, 5)
CONFIG: dict[str, Any] = {"seeds": ["7-11", 20], "shard": 4, "format": "npz", "keep": True, "metrics": {}}
Make = Callable[..., Path]


def images(seeds: np.ndarray) -> Tensor:
    """What stands for the samples of seeds."""
    rows = [np.random.default_rng(seed).uniform(-1, 1, SHAPE).astype(np.float32) for seed in seeds.tolist()]
    return torch.from_numpy(np.stack(rows))


def write(folder: Path, order: Callable[[list[Any]], Any] = list, **changes: Any) -> Path:
    """A whole folder of six images in two shards."""
    config = {**CONFIG, **changes}
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    made = Shards.of(folder, config)
    for part in order(made.parts):
        features = np.asarray(part.seeds, np.float32)[:, None] if made.has_features else None
        made.write(part, images(part.seeds), part.seeds % 10, [5] * len(part), features)
    made.finish()
    return folder


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# Seeds


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("0-3", [0, 1, 2, 3]), ("5-5", [5]), (7, [7]), ("7", [7]), (["0-1", "8-9", 12], [0, 1, 8, 9, 12])],
)
def test_seeds_are_written_as_ranges(typed: Any, meant: list[int]) -> None:
    assert parse_seeds(typed).tolist() == meant


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("3-1", "goes up"),
        ("0-9223372036854775808", "2\\*\\*63 - 1 at most"),
        ("0..9", "ranges such as 0-49999"),
        ("-3", "ranges such as 0-49999"),
        (True, "ranges such as 0-49999"),
        ([], "got none"),
        ("0-100000000", "100,000,000 seeds at most, got 100,000,001"),
        (["0-5", "5-9"], "0-5 before 5-9"),
        (["8-9", "0-5"], "8-9 before 0-5"),
    ],
)
def test_other_seeds_are_refused(typed: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_seeds(typed)


# Shards


@pytest.mark.parametrize("form", ["npz", "png", "zip"])
def test_what_was_written_is_loaded_in_the_order_of_the_seeds(tmp_path: Path, form: str) -> None:
    found = shards.load(write(tmp_path, reversed, format=form))
    seeds = np.array([7, 8, 9, 10, 11, 20])
    assert found.samples is not None
    expected = images(seeds) if form == "npz" else to_pixels(images(seeds))
    assert (found.samples == expected.numpy()).all()
    assert found.samples.dtype == expected.numpy().dtype
    assert found.seeds.tolist() == seeds.tolist()
    assert found.labels.tolist() == (seeds % 10).tolist()
    assert found.features is not None
    assert found.features[:, 0].tolist() == seeds.tolist()
    assert found.nfe == 5


def test_one_shard_is_one_file_with_all_arrays(tmp_path: Path) -> None:
    write(tmp_path, shard=8)
    with np.load(tmp_path / "samples.npz", allow_pickle=False) as arrays:
        assert {name: len(arrays[name]) for name in ("samples", "seeds", "labels")} == dict.fromkeys(
            ("samples", "seeds", "labels"), 6
        )
        assert arrays["nfe"] == 5


@pytest.mark.parametrize("form", ["npz", "png", "zip"])
def test_equal_samples_are_equal_bytes_whenever_and_in_whatever_order_they_are_written(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write(tmp_path / "first", format=form)
    monkeypatch.setattr(time, "time", lambda: 1_000_000_000.0)
    assert content(write(tmp_path / "second", reversed, format=form)) == content(first)


def test_a_zip_is_one_file_that_sha256sum_checks(tmp_path: Path) -> None:
    write(tmp_path, format="zip")
    done = subprocess.run(["sha256sum", "--check", "samples.zip.sha256"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "samples.zip: OK\n"
    assert not list((tmp_path / "shards").glob("*.zip"))


@pytest.fixture(scope="module", params=["npz", "png", "zip"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole folder in each format."""
    return write(tmp_path_factory.mktemp(request.param), format=request.param)


@given(data=st.data())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_altered_and_truncated_files_are_found_and_their_shards_made_again(
    written: Path, tmp_path: Path, data: st.DataObject
) -> None:
    whole, folder = content(written), tmp_path / "damaged"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(written, folder)
    name = data.draw(st.sampled_from(sorted(whole.keys() - {"config.yaml"})))
    place = data.draw(st.integers(0, len(whole[name]) - 1))
    changed = bytearray(whole[name])
    if data.draw(st.booleans()):
        changed = changed[:place]
    else:
        changed[place] ^= data.draw(st.integers(1, 255))
    (folder / name).write_bytes(changed)

    with pytest.raises(ValueError, match="is not complete"):
        shards.load(folder)
    again = Shards.of(folder, yaml.safe_load(whole["config.yaml"]))
    for part in again.parts:
        if not again.whole(part):
            features = np.asarray(part.seeds, np.float32)[:, None]
            again.write(part, images(part.seeds), part.seeds % 10, [5] * len(part), features)
    if not again.finished():
        again.finish()
    assert content(folder) == whole


def test_a_record_of_other_seeds_is_not_taken_for_this_shard_s(tmp_path: Path) -> None:
    write(tmp_path, seeds="0-5")
    names = [tmp_path / "shards" / f"{name}.json" for name in ("000000-000003", "000004-000005")]
    names[0].replace(names[1])
    made = Shards.of(tmp_path, {**CONFIG, "seeds": "0-5"})
    assert not any(map(made.whole, made.parts))


def test_features_that_were_not_kept_before_are_missed(tmp_path: Path) -> None:
    write(tmp_path, metrics=False)
    made = Shards.of(tmp_path, CONFIG)
    assert not any(map(made.whole, made.parts))


def test_other_folders_are_no_samples(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no folder of samples"):
        shards.load(tmp_path)


# The lock


def test_two_runs_do_not_share_a_folder_but_the_processes_of_one_do(tmp_path: Path) -> None:
    first, colleague, second = Lock(tmp_path), Lock(tmp_path), Lock(tmp_path)
    assert first.take()
    with pytest.raises(BlockingIOError, match=r"another run is under way in .*: process \d+ on "):
        second.take()
    first.share()
    colleague.share()
    first.drop()
    with pytest.raises(BlockingIOError, match="another run is under way"):
        second.take()
    colleague.drop(remove=True)
    assert second.take()
    second.drop(remove=True)
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from scoresde.runs.locks import Lock; "
    code += "Lock(Path(sys.argv[1])).take(); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(BlockingIOError, match=f"process {process.pid} on"):
            Lock(tmp_path).take()
        process.kill()
    assert (tmp_path / NAME).exists()
    lock = Lock(tmp_path)
    assert lock.take()
    lock.drop()


# Progress


def test_without_a_terminal_a_line_now_and_then_says_how_long_it_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with Progress(50_000, 10_000, lambda: 3_000) as progress:
        for _ in range(40):
            clock[0] += 1
            progress.advance(25)
    # 31 seconds: 31 · 25 here and 3,000 by others on top of what was there.
    assert capsys.readouterr().out == "13,775 of 50,000 images  121.8 images/s  0 h 05 min left\n"
