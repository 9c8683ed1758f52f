"""Commands killed at every kind of moment and started again, held against runs that nobody disturbed.

    python benchmarks/robustness/kills.py --out benchmarks/results/kills.md

A run is ``main`` of the command line in a forked child, in which everything that touches the folder is counted: each
write to a file (before it, half-way through, after it), and each replace, fsync, chmod, unlink, mkdir, truncation,
creation, ``writestr``, ``save``, ``savez`` and ``torch.save`` (before and after). An undisturbed run says how many
such events there are; then runs signal themselves at one of them with SIGKILL, SIGTERM or SIGINT. A third of the runs
that resume are killed once more. In the end the same command runs undisturbed, and all files are compared by SHA-256.
Some files of the user's lie in the folder from the beginning.

Kills of the installed command are SIGKILL at a moment drawn uniformly from the time that an undisturbed run takes, from
its taking of the folder to its end.
"""

from __future__ import annotations

import argparse
import builtins
import io
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

import scoresde.bench.run
import scoresde.training.trainer
from benchmarks.robustness import inputs
from benchmarks.robustness.children import Ended, forked, warm
from scoresde.commands.main import main as run_main
from scoresde.files import digest, replacing
from scoresde.runs.hardware import describe
from scoresde.runs.locks import NAME

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
AGAIN = 1 / 3  # of the runs that resume are killed too
OUT, INPUTS = "out", "../inputs"
MINE = {".notes.2026.md": "mine", "thesis.txt": "300 pages", "photos/.backup.1.zip": "mine too"}

_SMALL = ["model=folder", f"model.path={INPUTS}/model", "features=pixels", f"reference={INPUTS}/photos.npz"]
_FEW = ["n=6", "nfe=2", "batch_size=2", "shard=2", "dtype=float32"]
_BENCH = ["n=4", "batch_size=4", "reference_nfe=10", "dtype=float32", "solvers=[ddim]", "nfe=[2,3]"]
_TRAIN = ["epochs=3", "batch_size=16", "warmup=1", "every=1", "network.channels=[8,8]", "network.depth=1"]
WORKS: dict[str, list[str]] = {
    "sample npz": ["sample", *_SMALL, *_FEW, "metrics=true"],
    "sample png": ["sample", *_FEW, "format=png"],
    "sample zip": ["sample", *_SMALL, *_FEW, "metrics=true", "format=zip"],
    "bench": ["bench", *_SMALL, *_BENCH],
    "train": ["train", "data=npz", f"data.path={INPUTS}/few.npz", *_TRAIN],
    "tune": ["tune", "model=folder", f"model.path={INPUTS}/model", "nfe=[2,3]", "n=16"],
    "convert": ["convert", f"edm={INPUTS}/edm.pkl"],
}
# Of all kills, in per cent.
SHARES = {"sample npz": 15, "sample png": 12, "sample zip": 15, "bench": 15, "train": 15, "tune": 14, "convert": 14}
# What shows the seconds that a run took, which the forked runs count by a clock of their own and the installed command
# cannot: such files are compared less their seconds (first line) or not at all (second line).
TIMED = ("results.jsonl", "checkpoint.pt", "model/config.json")
SHOWING = (
    *("results.sha256", "losses.csv", "table.md", "table.csv", "table.tex"),
    *("report.html", "pareto.png", "pareto.svg"),
)


# ---------------------------------------------------------------------------------------------------------------------
# events


class Events:
    """Counts what touches the files of the working folder, in this process from now on; does something at one of them.

    Args:
        stop: called with the name of the event of number ``at``, counted from 1.
        at: 0 for none.
    """

    def __init__(self, stop: Callable[[str], None], at: int = 0):
        self.stop, self.at, self.count = stop, at, 0
        self._lock = threading.Lock()  # pictures are written by several threads
        for owner, names in (
            (os, ("replace", "fsync", "chmod", "ftruncate", "pwrite")),
            (Path, ("unlink", "mkdir")),
            (zipfile.ZipFile, ("writestr",)),
            (np, ("save", "savez", "savez_compressed")),
            (torch, ("save",)),
        ):
            for name in names:
                setattr(owner, name, self._around(name, getattr(owner, name)))
        made = self._around("create", os.open)
        os.open = lambda path, flags, *more, _open=os.open, **options: (  # type: ignore[assignment]
            made if flags & os.O_CREAT else _open
        )(path, flags, *more, **options)
        opened = io.open
        home = os.getcwd()

        def torn(file: Any, mode: str = "r", buffering: int = -1, *text: Any, **options: Any) -> Any:
            writes = any(letter in mode for letter in "wax+")
            if not (writes and isinstance(file, (str, os.PathLike)) and os.path.abspath(file).startswith(home)):
                return opened(file, mode, buffering, *text, **options)
            raw = Torn(file, mode.replace("b", "").replace("t", ""), self.happens)
            buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            return buffered if "b" in mode else io.TextIOWrapper(buffered, *text, **options)

        io.open = builtins.open = torn  # type: ignore[assignment]

    def happens(self, name: str) -> None:
        with self._lock:
            self.count += 1
            now = self.count == self.at
        if now:
            self.stop(name)

    def _around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            self.happens(f"before {name}")
            result = function(*arguments, **options)
            self.happens(f"after {name}")
            return result

        return called


class Torn(io.FileIO):
    """A file each of whose writes reaches the system in two halves."""

    def __init__(self, path: Any, mode: str, happens: Callable[[str], None]):
        super().__init__(path, mode)
        self._happens = happens

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        half = len(view) // 2
        self._happens("before write")
        done = super().write(view[:half])
        if done < half:
            return done
        self._happens("in the middle of write")
        done += super().write(view[half:])
        self._happens("after write")
        return done


def clock() -> None:
    """Seconds are counted by the calls, so that runs show equal ones."""
    ticks = iter(range(10**9))
    for module in (scoresde.bench.run, scoresde.training.trainer):
        module.time = SimpleNamespace(perf_counter=lambda: float(next(ticks)))  # type: ignore[attr-defined]


# ---------------------------------------------------------------------------------------------------------------------
# runs


@dataclass(frozen=True)
class Kill:
    """One kill.

    Attributes:
        number: of the signal.
        event: at which, in words.
        fault: what was wrong of how the run ended, of what it said or of the files afterwards; empty if nothing was.
        told: whether it said how to go on.
    """

    work: str
    number: signal.Signals
    event: str
    fault: str
    told: bool = False


@dataclass(frozen=True)
class Whole:
    """An undisturbed run: its files, and how many events it has."""

    files: dict[str, str]
    events: int
    seconds: float


def fresh(home: Path) -> Path:
    """A new working folder, with some files of the user's where results go."""
    place = Path(tempfile.mkdtemp(dir=home))
    for name, text in MINE.items():
        path = place / OUT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return place


def summary(folder: Path) -> dict[str, str]:
    """SHA-256 of every file, hidden ones too."""
    return {str(path.relative_to(folder)): digest(path) for path in sorted(folder.rglob("*")) if not path.is_dir()}


def total(files: Mapping[str, str]) -> str:
    return sha256("".join(f"{value}  {name}\n" for name, value in files.items()).encode()).hexdigest()


def differing(files: Mapping[str, str], whole: Mapping[str, str]) -> str:
    """Names of files that are not the same in both, in words; empty if all are."""
    names = [name for name in sorted({*files, *whole}) if files.get(name) != whole.get(name)]
    return f"{len(names)} files differ: {', '.join(names[:4])}" if names else ""


def undisturbed(work: str, place: Path) -> tuple[Ended, int]:
    """Run in a child; how it ended, and how many events it had."""

    def action() -> int:
        clock()
        events = Events(lambda name: None)
        status = run_main([*WORKS[work], f"out={OUT}"])
        (place / "events").write_text(str(events.count), encoding="utf-8")
        return status

    ended = forked(action, place)
    path = place / "events"
    return ended, int(path.read_text(encoding="utf-8")) if path.exists() else 0


def killed(work: str, place: Path, number: signal.Signals, at: int) -> tuple[Ended, str]:
    """Run in a child that signals itself at an event; how it ended, and at what (empty: it had fewer events)."""

    def stop(name: str) -> None:
        written = os.open(place / "event", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.write(written, name.encode())
        os.close(written)
        os.kill(os.getpid(), number)

    def action() -> int:
        clock()
        Events(stop, at)
        return run_main([*WORKS[work], f"out={OUT}"])

    (place / "event").unlink(missing_ok=True)
    ended = forked(action, place)
    path = place / "event"
    return ended, path.read_text(encoding="utf-8") if path.exists() else ""


def ended_well(number: signal.Signals, ended: Ended) -> str:
    """What was wrong of how a killed run ended; empty if nothing was."""
    if number == signal.SIGINT:
        if ended.status != 130:
            return f"SIGINT ended it with {ended.status}"
        return "" if ended.one_line() and "interrupted" in ended.err else f"SIGINT made it say {ended.err[:300]!r}"
    right = (-number, 143) if number == signal.SIGTERM else (-number,)
    return "" if ended.status in right else f"{number.name} ended it with {ended.status}: {ended.err[:300]!r}"


def completed(work: str, ended: Ended) -> str:
    """What was wrong of a run that was to complete a folder; a converted model that is there is not made again."""
    if ended.status == 0 and not ended.err:
        return ""
    if work == "convert" and ended.status == 1 and ended.one_line() and "holds a model already" in ended.err:
        return ""
    return f"the same command ended with {ended.status}: {ended.err[:300]!r}"


def measure(works: Mapping[str, int], seed: int, home: Path) -> tuple[dict[str, Whole], list[Kill]]:
    """Undisturbed runs, and then so many kills of each work in forked children.

    Args:
        works: kills of each, by the names of :data:`WORKS`.
        seed: of the events.
        home: an empty folder.
    """
    warm()
    inputs.write(home / "inputs")
    rng, wholes, kills = random.Random(seed), dict[str, Whole](), list[Kill]()
    for work, count in works.items():
        place = fresh(home)
        ended, events = undisturbed(work, place)
        if ended.status or ended.err:
            raise RuntimeError(f"{work}: a run that nobody disturbed ended with {ended.status}: {ended.err}")
        wholes[work] = Whole(summary(place / OUT), events, ended.seconds)
        moments = [(number, at) for number in SIGNALS for at in range(1, events + 1)]
        rng.shuffle(moments)
        found, moment = list[Kill](), itertools.cycle(moments)
        while len(found) < count:
            found += _one(work, wholes[work], home, next(moment), rng)
        kills += found
        wrong = sum(bool(kill.fault) for kill in found)
        print(f"{work}: {events} events, {len(found)} kills, {wrong} wrong", flush=True)
    return wholes, kills


def _one(work: str, whole: Whole, home: Path, moment: tuple[signal.Signals, int], rng: random.Random) -> list[Kill]:
    """A run that is killed, perhaps killed when it resumes, and completed."""
    place = fresh(home)
    ended, event = killed(work, place, *moment)
    if not event:  # the last few depend on how threads take turns; nothing was killed then
        _remove(place)
        return []
    ends = [(moment[0], ended, event)]
    if rng.random() < AGAIN:
        second = rng.choice(SIGNALS), rng.randint(1, whole.events)
        ended, event = killed(work, place, *second)
        if event:
            ends.append((second[0], ended, event))
    last, _ = undisturbed(work, place)
    after = completed(work, last) or differing(summary(place / OUT), whole.files)
    kills = [
        Kill(work, number, event, ended_well(number, ended) or after, "goes on" in ended.err)
        for number, ended, event in ends
    ]
    _remove(place)
    return kills


def _remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


# ---------------------------------------------------------------------------------------------------------------------
# the installed command


def start(place: Path, work: str) -> subprocess.Popen[str]:
    """The command in a process of its own, when it has taken the folder."""
    line = [sys.executable, "-m", "scoresde", *WORKS[work], f"out={OUT}"]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    streams: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(line, cwd=place, env=alone, **streams)
    lock = place / OUT / NAME
    while process.poll() is None:
        try:
            if str(process.pid) in lock.read_text(encoding="utf-8"):
                break
        except FileNotFoundError:
            pass
        time.sleep(0.0005)
    return process


def ended(process: subprocess.Popen[str]) -> Ended:
    _, err = process.communicate()
    return Ended(process.returncode, "", err, 0.0)


def installed(count: int, seed: int, home: Path) -> list[Kill]:
    """So many kills of the installed command, of each work in turn; ``home`` has the inputs."""
    rng, wholes, kills = random.Random(seed), dict[str, tuple[dict[str, str], float]](), list[Kill]()
    while len(kills) < count:
        work = list(WORKS)[len(kills) % len(WORKS)]
        if work not in wholes:
            place = fresh(home)
            process, begin = start(place, work), time.monotonic()
            if fault := completed(work, ended(process)):
                raise RuntimeError(f"{work}: {fault}")
            wholes[work] = timeless(place / OUT), time.monotonic() - begin
        whole, seconds = wholes[work]
        place = fresh(home)
        process, moment = start(place, work), rng.uniform(0, seconds)
        time.sleep(moment)
        process.kill()
        if ended(process).status != -signal.SIGKILL:
            continue  # it was quicker this time
        fault = completed(work, ended(start(place, work))) or differing(timeless(place / OUT), whole)
        kills.append(Kill(work, signal.SIGKILL, f"after {moment:.2f} s", fault))
        print(kills[-1], flush=True)
    return kills


def timeless(folder: Path) -> dict[str, str]:
    """SHA-256 of every file less the seconds in it; none of files that show them in words or pictures."""
    files = {name: "" if name in SHOWING else value for name, value in summary(folder).items()}
    for name in TIMED:
        path = folder / name
        if path.exists():
            files[name] = sha256(repr(_less_seconds(_content(path))).encode()).hexdigest()
    return files


def _content(path: Path) -> Any:
    if path.suffix == ".pt":
        return torch.load(path, weights_only=True)
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)


def _less_seconds(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.contiguous().numpy().tobytes()
    if isinstance(value, Mapping):
        return {key: _less_seconds(item) for key, item in value.items() if key not in ("seconds", "images_per_second")}
    return [_less_seconds(item) for item in value] if isinstance(value, (list, tuple)) else value


# ---------------------------------------------------------------------------------------------------------------------
# the table


def lines(wholes: Mapping[str, Whole], kills: Sequence[Kill], outside: Sequence[Kill]) -> Iterator[str]:
    good, well = sum(not kill.fault for kill in kills), sum(not kill.fault for kill in outside)
    yield (
        f"{describe(torch.device('cpu')).split(',')[0]}, torch {torch.__version__}. Of {len(kills):,} kills of runs in "
        f"forked children {good:,}, and of {len(outside)} of the installed command {well}, ended as they should, and "
        "left, completed by the same command, the files of the undisturbed run to the byte: no file missing, none "
        "more, the user's own unchanged."
    )
    yield ""
    yield (
        "| work | events | files | SHA-256 of the list of all files' | "
        + " | ".join(
            [*(f"{number.name} at an event" for number in SIGNALS), "SIGKILL, installed", "wrong", "said how to go on"]
        )
        + " |"
    )
    yield "|---|---:|---:|---|---:|---:|---:|---:|---:|---:|"
    for work, whole in wholes.items():
        mine, theirs = ([kill for kill in some if kill.work == work] for some in (kills, outside))
        counts = [sum(kill.number == number for kill in mine) for number in SIGNALS]
        wrong = sum(bool(kill.fault) for kill in (*mine, *theirs))
        figures = [*counts, len(theirs), wrong, f"{sum(kill.told for kill in mine)} of {counts[-1]}"]
        told = " | ".join(map(str, figures))
        yield f"| {work} | {whole.events} | {len(whole.files)} | `{total(whole.files)}` | {told} |"
    yield ""
    for work in wholes:
        yield f"- {work}: `scoresde {' '.join(WORKS[work])}`"
    yield ""
    yield (
        "SIGKILL and SIGTERM must end a run by themselves, SIGINT with the exit status 130 and one line that says that "
        "it was interrupted. The same command must then end with 0 and say nothing on stderr; `convert` may also say "
        "that the model is there already."
    )
    yield ""
    yield (
        "What is compared: in the forked runs every byte of every file; their clock counts its readings, so that rows "
        "and checkpoints hold equal seconds. Of the installed command `results.jsonl`, `checkpoint.pt` and "
        "`model/config.json` are compared less their entries of seconds, and of what shows seconds in words or in a "
        f"picture ({', '.join(SHOWING)}) that it is there; every other file to the byte."
    )
    events = sorted({kill.event for kill in kills})
    yield ""
    yield "| event | " + " | ".join(number.name for number in SIGNALS) + " |"
    yield "|---|" + "---:|" * len(SIGNALS)
    for event in events:
        counts = [sum(kill.event == event and kill.number == number for kill in kills) for number in SIGNALS]
        yield f"| {event} | {' | '.join(map(str, counts))} |"
    yield ""
    for kill in (*kills, *outside):
        if kill.fault:
            yield f"- WRONG: {kill.work}, {kill.number.name}, {kill.event}: {kill.fault}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000, help="in forked children")
    parser.add_argument("--installed", type=int, default=50, help="of the installed command")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, help="write the table here")
    chosen = parser.parse_args(arguments)
    counts = {work: -(-chosen.kills * share // 100) for work, share in SHARES.items()}
    with tempfile.TemporaryDirectory() as home:
        wholes, kills = measure(counts, chosen.seed, Path(home))
        outside = installed(chosen.installed, chosen.seed, Path(home))
    typed = f"`python benchmarks/robustness/kills.py --kills {chosen.kills} --installed {chosen.installed}"
    text = "\n".join([f"{typed} --seed {chosen.seed}`", "", *lines(wholes, kills, outside)]).rstrip() + "\n"
    print(text)
    if chosen.out:
        with replacing(chosen.out) as path:
            path.write_text(text, encoding="utf-8")
    if any(kill.fault for kill in (*kills, *outside)):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
