"""Folders of results: the user's files stay, runs do not mix, and what is damaged is not taken for whole."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import yaml

from scoresde.bench import run as bench_run
from scoresde.commands.main import main
from scoresde.files import PART, TEMPORARY, replacing
from scoresde.runs import record
from scoresde.runs.locks import NAME, Lock
from scoresde.runs.shards import Shards

Say = Callable[..., tuple[int, str, str]]
SMALL = [
    "model=folder",
    "model.path=model",
    "features=pixels",
    "reference=photos.npz",
]  # 8×8, and what it is read against
SAMPLE = ["sample", *SMALL, "n=4", "nfe=2", "batch_size=4"]
BENCH = ["bench", *SMALL, "n=4", "batch_size=4", "reference_nfe=10", "dtype=float32", "solvers=[ddim]", "nfe=[2]"]
TRAIN = ["train", "data=npz", "epochs=1", "batch_size=16", "warmup=1", "network.channels=[8,16]", "every=1"]
MINE = [".notes.2026.md", ".backup.1.zip", ".settings.20250101.old", ".samples.12345.npz", "thesis.txt"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    """An empty folder, but for a model and images."""
    monkeypatch.chdir(tmp_path)
    Path("model").symlink_to(model)
    photos("photos.npz")


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """The exit status, output and errors of a command."""

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(arguments)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def photos(path: str, seed: int = 0, shape: tuple[int, ...] = (32, 8, 8)) -> None:
    np.savez(path, images=np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def others() -> set[str]:
    """What is there besides."""
    return {path.name for path in Path().iterdir()} - {"model", "photos.npz"}


COMMANDS = {"sample": SAMPLE, "bench": BENCH, "train": [*TRAIN, "data.path=photos.npz"]}


# ---------------------------------------------------------------------------------------------------------------------
# the user's files


@pytest.mark.parametrize("command", ["sample", "bench", "train"])
def test_the_user_s_files_outlive_every_command_and_what_killed_runs_left_does_not(command: str, say: Say) -> None:
    Path("out").mkdir()
    for name in MINE:
        Path("out", name).write_text(name, encoding="utf-8")
    left = [Path("out", f".config.123.{PART}.yaml"), Path("out", f".results.99999.{PART}")]
    for path in left:
        path.write_text("half", encoding="utf-8")
    status, _, err = say(*COMMANDS[command], "out=out")
    assert (status, err) == (0, "")
    assert [Path("out", name).read_text(encoding="utf-8") for name in MINE] == MINE
    assert not any(path.exists() for path in left)


def test_the_names_of_files_being_written_are_this_program_s_alone() -> None:
    assert not any(TEMPORARY.fullmatch(name) for name in MINE)
    with replacing("a.b.npz") as path:
        assert TEMPORARY.fullmatch(path.name)
        assert path.suffix == ".npz"


def test_a_link_is_neither_written_through_nor_replaced(say: Say) -> None:
    Path("thesis.txt").write_text("300 pages", encoding="utf-8")
    Path("out").mkdir()
    Path("out/config.yaml").symlink_to("../thesis.txt")
    status, _, err = say(*SAMPLE, "out=out")
    assert (status, err.count("\n")) == (1, 1)
    assert Path("thesis.txt").read_text(encoding="utf-8") == "300 pages"
    with pytest.raises(ValueError, match="is a link, and a file is to be written there"), replacing("out/config.yaml"):
        pass


def test_a_link_laid_where_a_temporary_file_will_be_is_not_written_through() -> None:
    Path("thesis.txt").write_text("300 pages", encoding="utf-8")
    Path(f".x.{os.getpid()}.{PART}.json").symlink_to("thesis.txt")
    with replacing("x.json") as path:
        path.write_text("new", encoding="utf-8")
    assert Path("thesis.txt").read_text(encoding="utf-8") == "300 pages"
    assert Path("x.json").read_text(encoding="utf-8") == "new"


@pytest.mark.parametrize(
    ("kind", "command"),
    [*((kind, "sample") for kind in ("link", "text", "json", "fifo", "folder")), ("link", "bench"), ("link", "train")],
)
def test_a_lock_that_is_not_ours_is_left_as_it_is(kind: str, command: str, say: Say) -> None:
    Path("out").mkdir()
    lock, thesis = Path("out") / NAME, Path("thesis.txt")
    thesis.write_text("300 pages", encoding="utf-8")
    make = {
        "link": lambda: lock.symlink_to("../thesis.txt"),
        "text": lambda: lock.write_text("my own", encoding="utf-8"),
        "json": lambda: lock.write_text('{"host": "a", "process": 1, "mine": true}', encoding="utf-8"),
        "fifo": lambda: os.mkfifo(lock),
        "folder": lock.mkdir,
    }
    make[kind]()
    before = os.lstat(lock).st_ino
    status, _, err = say(*COMMANDS[command], "out=out")
    assert status == 1
    assert err == f"scoresde: error: '{lock}' is not a lock of this program: move it, or choose another folder\n"
    assert os.lstat(lock).st_ino == before
    assert thesis.read_text(encoding="utf-8") == "300 pages"
    assert [path.name for path in Path("out").iterdir()] == [NAME]


def test_the_lock_of_a_killed_run_stops_nobody(say: Say) -> None:
    Path("out").mkdir()
    (Path("out") / NAME).write_text('{"host": "elsewhere", "process": 1}', encoding="utf-8")
    assert say(*SAMPLE, "out=out")[0] == 0
    (Path("out") / NAME).write_text("", encoding="utf-8")  # killed between its making and its writing
    assert say(*SAMPLE, "out=out")[0] == 0
    assert not (Path("out") / NAME).exists()


# ---------------------------------------------------------------------------------------------------------------------
# out=


@pytest.mark.parametrize(
    "typed", ["null", "1e3", "007", "true", "nan", "-5", "lr=0.1", "run#2", "photos(1)", "Übung", "it's"]
)
def test_a_folder_s_name_is_what_was_typed(typed: str, say: Say) -> None:
    status, _, err = say(*SAMPLE, f"out={typed}")
    assert (status, err) == (0, "")
    assert others() == {typed}


@pytest.mark.parametrize("typed", ["", "''", "[a,b]", "[]", "{a: b}"])
def test_no_folder_or_several_are_refused_and_nothing_is_made(typed: str, say: Say) -> None:
    status, _, err = say(*SAMPLE, f"out={typed}")
    assert status == 2
    assert err.startswith("scoresde: error: out must be the name of one folder, got ")
    assert not others()


# ---------------------------------------------------------------------------------------------------------------------
# one run at a time


@pytest.mark.parametrize("command", ["sample", "bench", "train"])
def test_every_command_has_its_folder_alone(command: str, say: Say) -> None:
    lock = Lock(Path("out"))
    lock.take()
    try:
        status, _, err = say(*COMMANDS[command], "out=out")
    finally:
        lock.drop(remove=True)
    assert status == 1
    assert "another run is under way in 'out'" in err
    assert not list(Path("out").iterdir())


def test_a_folder_s_configuration_is_looked_at_with_the_folder_held(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another run writes just before this one has the lock is seen."""
    assert say(*SAMPLE, "seed=7", "out=other")[0] == 0
    take = Lock.take

    def late(lock: Lock) -> bool:
        shutil.copytree("other", "out")
        return take(lock)

    monkeypatch.setattr(Lock, "take", late)
    status, _, err = say(*SAMPLE, "out=out")
    assert status == 1
    assert "holds results made with other values of seed" in err


def test_two_benchmarks_in_one_folder_give_every_row_once() -> None:
    command = [sys.executable, "-m", "scoresde", *BENCH, "out=out"]
    both = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    assert sorted(process.returncode for process in both) in ([0, 0], [0, 1]), said
    assert len(Path("out/results.jsonl").read_text(encoding="utf-8").splitlines()) == 1


@pytest.mark.parametrize("command", ["tune", "convert"])
def test_torchrun_is_refused_where_processes_do_not_share_the_work(
    command: str, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, words in (
        ("0", f"scoresde: error: {command} is the work of one process: start it without torchrun\n"),
        ("1", ""),
    ):
        monkeypatch.setenv("RANK", rank)
        assert say(command) == (2, "", words)
    assert not others()


# ---------------------------------------------------------------------------------------------------------------------
# --force


def files(folder: str) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if not path.is_dir()}


@pytest.mark.usefixtures("unplotted")
@pytest.mark.parametrize("command", ["sample", "bench", "train"])
def test_force_begins_anew_as_in_an_empty_folder_and_leaves_the_user_s_files(command: str, say: Say) -> None:
    more = {"sample": ["n=3", "format=png"], "bench": ["nfe=[3]"], "train": []}[command]
    assert say(*COMMANDS[command], "out=out")[0] == 0
    old = files("out")
    mine = {*MINE, "shards/mine.npz", "images/1.png", "converged/mine.npz", "model/tuned.json"}
    for name in mine:
        Path("out", name).parent.mkdir(exist_ok=True)
        Path("out", name).write_text(name, encoding="utf-8")
    changed = [*COMMANDS[command], *more, "seed=5"]
    status, _, err = say(*changed, "out=out")
    assert (status, "made with other values of " in err) == (1, True)
    status, said, err = say(*changed, "out=out", "--force")
    assert (status, err) == (0, "")
    assert f"out: begun anew; {len(old)} files of the run of before are removed" in said
    assert say(*changed, "out=fresh")[0] == 0
    assert files("out") == files("fresh") | mine
    assert all(Path("out", name).read_text(encoding="utf-8") == name for name in mine)
    made = {"sample": "grid.png", "bench": "samples.png", "train": "model/model.safetensors"}[command]
    assert Path("out", made).read_bytes() == Path("fresh", made).read_bytes()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["sample", "--force=1"], "--force takes no value, got '--force=1': write --force, or force=true"),
        (["sample", "--forse"], "unknown flag '--forse'; did you mean '--force'?"),
        (["plan", "--force"], "plan has no --force: choose another folder"),
        (["convert", "images", "model", "--force"], "convert has no --force"),
    ],
)
def test_force_typed_wrong_is_wrong_usage(typed: list[str], said: str, say: Say) -> None:
    status, _, err = say(*typed)
    assert (status, err.count("\n")) == (2, 1)
    assert said in err


def test_force_asks_nothing_of_the_run_of_before(say: Say) -> None:
    assert say(*SAMPLE, "out=out")[0] == 0
    assert say("sample", *SMALL, "n=6", "nfe=2", "out=out", "--force")[0] == 0
    assert yaml.safe_load(Path("out/config.yaml").read_text(encoding="utf-8"))["batch_size"] == 6  # not the 4 of then
    assert say("sample", *SMALL, "n=6", "nfe=2", "out=new", "--force")[0] == 0  # a folder where nothing is


def test_force_follows_no_link_and_removes_nothing_where_one_is() -> None:
    shards = Shards(Path("out"), np.arange(2), 2, "npz", False)
    shards.write(shards.parts[0], torch.zeros(2, 1, 4, 4), np.zeros(2, np.int64), [1, 1])
    names = [*shards.files(), "config.yaml"]
    record.write(Path("out"), {"shard": 2}, torch.device("cpu"))
    Path("elsewhere").mkdir()
    for link in ("shards", "shards/000000-000001.json", "samples.npz", "config.yaml"):
        Path("out", link).rename(target := Path("elsewhere", Path(link).name))
        Path("out", link).symlink_to(target.absolute())
        before = files("out"), files("elsewhere")
        with pytest.raises(ValueError, match=f"'out/{link}' is a link, and --force follows none"):
            record.anew(Path("out"), ["shard"], lambda _: names)
        assert (files("out"), files("elsewhere")) == before
        Path("out", link).unlink()
        target.rename(Path("out", link))
    assert record.anew(Path("out"), ["shard"], lambda _: names)
    assert not list(Path("out").iterdir())


def test_force_removes_nothing_that_is_not_this_command_s(say: Say) -> None:
    assert say("plan", "model=folder", "model.path=model", "nfe=2", "out=out")[0] == 0
    Path("out/grid.png").write_text("mine", encoding="utf-8")
    before = files("out")
    for content in (None, "epochs: 3\n", "shard: 8\n", "mine: true\n", "keep: [\n"):
        if content is not None:
            Path("out/config.yaml").write_text(content, encoding="utf-8")
        status, _, err = say(*SAMPLE, "out=out", "--force")
        assert (status, err.count("\n")) == (1, 1)
        assert "is of no run of this command, and --force removes nothing else" in err or "is damaged" in err
        assert files("out") == before
    Path("out/config.yaml").unlink()
    assert "holds grid.png but no config.yaml" in say(*SAMPLE, "out=out", "--force")[2]
    assert files("out") == before - {"config.yaml"}


def test_force_waits_for_no_other_run_and_for_no_error(say: Say) -> None:
    assert say(*SAMPLE, "out=out")[0] == 0
    before = files("out")
    assert say(*SAMPLE, "label=99", "out=out", "--force")[0] == 1
    assert files("out") == before
    lock = Lock(Path("out"))
    lock.take()
    try:
        status, _, err = say(*SAMPLE, "seed=5", "out=out", "--force")
    finally:
        lock.drop(remove=True)
    assert (status, "another run is under way in 'out'" in err) == (1, True)
    assert files("out") == before


def test_what_torchrun_starts_again_goes_on_though_it_was_forced_once(
    say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert say(*SAMPLE, "out=out")[0] == 0
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert "are already in out" in say(*SAMPLE, "out=out", "--force")[1]


# ---------------------------------------------------------------------------------------------------------------------
# what is damaged


def test_damaged_metrics_are_made_again_to_the_byte(say: Say) -> None:
    command = [*SAMPLE, "metrics=true"]
    for more in (("out=out",), ("seed=9", "out=other")):
        assert say(*command, *more)[0] == 0
    path = Path("out/metrics.json")
    whole, another = path.read_bytes(), Path("other/metrics.json").read_bytes()
    altered = whole.replace(b'"samples": 4', b'"samples": 5')
    for damaged in (whole[: len(whole) // 2], b"", altered, another, None):
        assert damaged != whole
        if damaged is None:
            path.unlink()
        else:
            path.write_bytes(damaged)
        assert say(*command, "out=out")[0] == 0
        assert path.read_bytes() == whole
    assert "already in out" in say(*command, "out=out")[1]


def test_an_archive_that_cannot_be_opened_now_is_not_a_damaged_one(say: Say) -> None:
    command = [*SAMPLE, "format=zip", "out=out"]
    assert say(*command)[0] == 0
    opened = mock.Mock(side_effect=OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
    with (
        mock.patch("scoresde.runs.formats._opened", opened),
        mock.patch("scoresde.runs.shards.Shards.write") as written,
    ):
        status, _, err = say(*command)
        assert (status, err.count("\n")) == (1, 1)
        assert err.startswith("scoresde: error: too many open files: out; 4 of 4 images are written")
        assert not written.called
        opened.side_effect = OSError(errno.EINVAL, os.strerror(errno.EINVAL))  # an altered one leads to nowhere
        say(*command)
        assert written.called


def test_metrics_depend_on_the_samples_alone(say: Say) -> None:
    command = [*SAMPLE, "n=24", "metrics=true"]
    for out, more in (("one", "shard=24"), ("many", "shard=4"), ("bare", "keep=false")):
        assert say(*command, more, f"out={out}")[0] == 0
    one, many, bare = (Path(out, "metrics.json").read_bytes() for out in ("one", "many", "bare"))
    assert one == many == bare


def test_damaged_versions_are_named(say: Say) -> None:
    assert say(*SAMPLE, "out=out")[0] == 0
    for content in ("", "{", "[1]", "null", '{"torch": ', "[" * 100_000):
        Path("out/versions.json").write_text(content, encoding="utf-8")
        status, _, err = say(*SAMPLE, "out=out")
        assert (status, err.count("\n")) == (1, 1)
        assert err.startswith("scoresde: error: 'out/versions.json' is damaged: ")


FOREIGN = ["a: [", "", "- 1", "a: &a [*a]", "[" * 50_000, "x: " + "y" * 2**21, "\x00", "1: 2\nb: 3"]


@pytest.mark.parametrize(
    ("command", "content"),
    [*(("sample", content) for content in FOREIGN), ("bench", FOREIGN[0]), ("train", FOREIGN[0])],
)
def test_a_damaged_or_foreign_configuration_is_refused_in_a_line(command: str, content: str, say: Say) -> None:
    Path("out").mkdir()
    Path("out/config.yaml").write_text(content, encoding="utf-8")
    status, _, err = say(*COMMANDS[command], "out=out")
    assert (status, err.count("\n")) == (1, 1)
    assert "'out" in err
    assert Path("out/config.yaml").read_text(encoding="utf-8") == content


def test_what_is_written_is_counted_truly(say: Say) -> None:
    command = [*SAMPLE, "n=12", "shard=4"]
    assert say(*command, "out=out")[0] == 0
    Path("out/shards/000004-000007.npz").unlink()
    with mock.patch("scoresde.runs.shards.Shards.write", side_effect=KeyboardInterrupt):
        status, _, err = say(*command, "out=out")
    assert (status, err) == (
        130,
        "scoresde: interrupted; 8 of 12 images are written, and the same command with out=out goes on\n",
    )


def test_a_record_that_differs_by_a_blank_is_no_record(say: Say) -> None:
    assert say(*SAMPLE, "out=out")[0] == 0
    path = Path("out/shards/000000-000003.json")
    whole = path.read_bytes()
    path.write_bytes(whole.rstrip())
    assert "already" not in say(*SAMPLE, "out=out")[1]
    assert path.read_bytes() == whole


# ---------------------------------------------------------------------------------------------------------------------
# what stands behind a path


def test_a_reference_that_was_replaced_is_noticed_by_sample_and_bench(say: Say) -> None:
    sample, bench = [*SAMPLE, "metrics=true", "out=samples"], [*BENCH, "out=rows"]
    assert say(*sample)[0] == say(*bench)[0] == 0
    photos("photos.npz", seed=1)
    for command in (sample, bench):
        status, _, err = say(*command)
        assert status == 1
        assert "reference" in err
    assert len(Path("rows/results.jsonl").read_text(encoding="utf-8").splitlines()) == 1


def test_images_that_were_replaced_are_noticed_by_train(say: Say) -> None:
    command = [*TRAIN, "data.path=photos.npz", "out=run"]
    assert say(*command)[0] == 0
    photos("photos.npz", seed=1)
    assert "other content of data" in say(*command)[2]
    Path("run/config.yaml").unlink()
    for name in ("model/config.json", "model/model.safetensors", "samples.png", "loss.png"):
        Path("run", name).unlink()
    status, _, err = say(*command)  # the checkpoint alone knows it too
    assert status == 1
    assert "made with other values of content" in err


def test_a_folder_without_digests_goes_on_and_says_so_once(say: Say) -> None:
    command = [*TRAIN, "data.path=photos.npz", "out=run"]
    assert say(*command)[0] == 0
    config = yaml.safe_load(Path("run/config.yaml").read_text(encoding="utf-8"))
    content = config.pop(record.INPUTS)
    Path("run/config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    Path("run/model/config.json").unlink()
    status, out, _ = say(*command)
    assert status == 0
    assert "note: run does not record the content of data: taken to be what it was begun with" in out
    assert yaml.safe_load(Path("run/config.yaml").read_text(encoding="utf-8"))[record.INPUTS] == content
    assert "note" not in say(*command)[1]


@pytest.mark.parametrize("recorded", [True, False])
def test_a_finished_training_whose_results_are_damaged_makes_them_again(recorded: bool, say: Say) -> None:
    command = [*TRAIN, "data.path=photos.npz", "out=run"]
    assert say(*command)[0] == 0
    sums = Path("run/results.sha256").read_bytes()
    for name in ("model/model.safetensors", "model/config.json", "samples.png", "loss.png", "results.sha256"):
        if not recorded and name == "results.sha256":
            continue
        whole = Path("run", name).read_bytes()
        at = len(whole) // 2
        flipped = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        Path("run", name).write_bytes(flipped if recorded else whole[:at])
        if not recorded:  # as before there were any
            Path("run/results.sha256").unlink()
        assert say(*command)[0] == 0
        assert Path("run", name).read_bytes() == whole
        assert Path("run/results.sha256").read_bytes() == sums
    Path("run/results.sha256").unlink()
    assert "already in run/model" in say(*command)[1]
    assert Path("run/results.sha256").read_bytes() == sums


# ---------------------------------------------------------------------------------------------------------------------
# rows that fail


def rows() -> list[dict]:
    return [json.loads(line) for line in Path("out/results.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_row_that_fails_says_so_the_next_is_measured_and_it_is_tried_again(say: Say) -> None:
    command = [*BENCH[:-2], "solvers=[ddim,heun]", "nfe=[3]", "out=out"]
    sample = bench_run.Sampler.sample

    def fails(sampler, **more):
        if sampler.solver.name == "ddim":
            raise RuntimeError("CUDA error:\nout of\nmemory")
        return sample(sampler, **more)

    with mock.patch.object(bench_run.Sampler, "sample", fails):
        status, out, err = say(*command)
    assert status == 1
    assert (
        "1 of 2 rows failed, and are tried again next time: ddim at 3 float32: RuntimeError: CUDA error: out of" in err
    )
    assert [row.get("failed", row.get("nfe")) for row in rows()] == ["RuntimeError: CUDA error: out of memory", 3]
    assert "heun" in Path("out/table.md").read_text(encoding="utf-8")
    assert "ddim" in Path("out/report.html").read_text(encoding="utf-8")
    assert say(*command)[0] == 0
    assert sorted(row["solver"] for row in rows()) == ["ddim", "heun"]


def test_damaged_caches_and_pictures_are_made_again(say: Say) -> None:
    command = [*BENCH, "out=out"]
    assert say(*command)[0] == 0
    row, table = rows(), Path("out/table.csv").read_text(encoding="utf-8").split(",")
    (picture,) = Path("out/images").iterdir()
    (converged,) = Path("out/converged").iterdir()
    whole = converged.read_bytes()
    picture.write_bytes(picture.read_bytes()[:100])
    converged.write_bytes(b"PK")
    assert say(*command)[0] == 0
    again = rows()
    assert [{**entry, "seconds": 0} for entry in again] == [{**entry, "seconds": 0} for entry in row]
    assert converged.read_bytes() == whole
    assert len(Path("out/table.csv").read_text(encoding="utf-8").split(",")) == len(table)


def test_a_benchmark_without_any_row_is_one_line(say: Say) -> None:
    with mock.patch.object(bench_run.Sampler, "sample", side_effect=RuntimeError("no")):
        status, _, err = say(*BENCH, "out=out")
    assert status == 1
    assert err.startswith("scoresde: error: none of 1 rows could be measured, the first not: ddim at 2 float32: ")
