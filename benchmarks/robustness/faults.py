"""All four commands where the system gives out: full disks, read-only ones, no inodes or descriptors left.

    python benchmarks/robustness/faults.py --out benchmarks/results/faults.md

Each run is ``main`` of the command line in a forked child, under a limit that is raised step by step until the command
fits into it. Below, it must end with the status 1 and one line on stderr, and leave no temporary file. Then the limit
is lifted, and the same command must complete the folder: all files are compared by SHA-256 with those of a run without
limits. Small disks are mounted, for which one must be root.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmarks.robustness import inputs
from benchmarks.robustness.children import Ended, forked, warm
from benchmarks.robustness.kills import OUT, WORKS, Whole, clock, completed, differing, killed, summary, undisturbed
from scoresde.commands.main import main
from scoresde.files import TEMPORARY, replacing
from scoresde.runs.hardware import describe

PAGE = 4  # kilobytes that a disk in memory counts in
LIFTED = "size=64m,nr_inodes=10000,rw"
WORDS = {
    "full disk": "no space left on device",
    "no inodes left": "no space left on device",
    "read-only disk": "read-only file system",
    "read-only half-way": "read-only file system",
    "descriptors": "",  # what a library makes of it is in its own words
}


@dataclass
class Outcome:
    """A command under one kind of limit: how often it was refused by it and fitted into it, and what was wrong."""

    work: str
    kind: str
    refused: int = 0
    fitted: int = 0
    wrong: list[str] = field(default_factory=list)


@contextmanager
def disk(place: Path, options: str) -> Iterator[Callable[[str], None]]:
    """A small disk at ``place``; gives a function that mounts it again with other options."""
    place.mkdir(parents=True, exist_ok=True)

    def mount(*more: str) -> None:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", *more, "none", str(place)], capture_output=True, text=True)
        if done.returncode:
            raise PermissionError(f"a small disk is mounted here, for which one must be root: {done.stderr.strip()}")

    mount(options)
    try:
        yield lambda changed: mount(f"remount,{changed}")
    finally:
        subprocess.run(["umount", str(place)], check=True)


def measure(works: Sequence[str], home: Path, steps: int) -> list[Outcome]:
    """Each work under each kind of limit, at about so many sizes of it; ``home`` is an empty folder."""
    warm()
    inputs.write(home / "inputs")
    found = []
    for work in works:
        whole = _whole(work, home)
        for kind in WORDS:
            outcome = Outcome(work, kind)
            for limit in _limits(kind, work, whole, home, steps):
                _try(outcome, limit, whole, home)
            print(outcome, flush=True)
            found.append(outcome)
    return found


def _whole(work: str, home: Path) -> Whole:
    place = _place(home)
    ended, events = undisturbed(work, place)
    if ended.status or ended.err:
        raise RuntimeError(f"{work}: a run without limits ended with {ended.status}: {ended.err}")
    whole = Whole(summary(place / OUT), events, ended.seconds)
    assert whole.files
    return whole


def _place(home: Path) -> Path:
    place = Path(tempfile.mkdtemp(dir=home))
    (place / OUT).mkdir()
    return place


def _limits(kind: str, work: str, whole: Whole, home: Path, steps: int) -> list[int]:
    """From the tightest to what is enough: kilobytes, inodes, descriptors; events before a disk becomes read-only."""
    if kind == "read-only disk":
        return [0]
    if kind == "read-only half-way":
        return [whole.events * part // 4 for part in (1, 2, 3)]
    if kind == "descriptors":
        return list(range(10))
    place = _place(home)
    undisturbed(work, place)
    sizes = [path.stat().st_size for path in (place / OUT).rglob("*") if path.is_file()]
    if kind == "no inodes left":
        return sorted({*range(2, 6), *range(6, len(sizes) + 8, max(1, len(sizes) // steps))})
    pages = sum(-(-size // (PAGE * 1024)) for size in sizes)
    return sorted({PAGE * (1 + (2 * pages + 8) * part // steps) for part in range(steps + 1)})


def _try(outcome: Outcome, limit: int, whole: Whole, home: Path) -> None:
    """Run under the limit and again without it."""
    place, kind = _place(home), outcome.kind
    options = {"full disk": f"size={limit}k", "no inodes left": f"size=64m,nr_inodes={limit}"}
    with disk(place / OUT, options.get(kind, "size=64m")) as mount:
        if kind == "read-only half-way":
            killed(outcome.work, place, signal.SIGKILL, limit)
        if kind.startswith("read-only"):
            mount("ro")
        ended = forked(lambda: _limited(outcome.work, limit if kind == "descriptors" else None), place)
        if ended.status == 0:
            outcome.fitted += 1
        else:
            outcome.refused += 1
        left = [path.name for path in (place / OUT).rglob(".*") if TEMPORARY.fullmatch(path.name)]
        fault = _judged(kind, ended, [] if kind == "read-only half-way" else left)
        mount(LIFTED)
        last, _ = undisturbed(outcome.work, place)
        fault = fault or completed(outcome.work, last) or differing(summary(place / OUT), whole.files)
        if fault:
            outcome.wrong.append(f"{limit}: {fault}")


def _limited(work: str, descriptors: int | None) -> int:
    clock()
    if descriptors is not None:
        last = os.open(os.devnull, os.O_RDONLY)
        while len(os.listdir("/proc/self/fd")) - 1 <= last:  # no number below is free
            last = os.open(os.devnull, os.O_RDONLY)
        resource.setrlimit(resource.RLIMIT_NOFILE, (last + 1 + descriptors, last + 1 + descriptors))
    return main([*WORKS[work], f"out={OUT}"])


def _judged(kind: str, ended: Ended, left: Sequence[str]) -> str:
    """What was wrong of how a run under a limit ended; empty if nothing was."""
    if left:
        return f"it left {left[0]}"
    if ended.status == 0 and not ended.err:
        return ""
    if ended.status == 1 and ended.one_line() and WORDS[kind] in ended.err.lower() and "No such error" not in ended.err:
        return ""
    return f"it ended with {ended.status}: {ended.err[-300:]!r}"


def lines(outcomes: Sequence[Outcome]) -> Iterator[str]:
    runs, wrong = sum(item.refused + item.fitted for item in outcomes), sum(len(item.wrong) for item in outcomes)
    yield (
        f"{describe(torch.device('cpu')).split(',')[0]}, torch {torch.__version__}: {runs} runs under limits, "
        f"{wrong} of them wrong. A number is runs that were refused in one line, in brackets those that fitted; the "
        "same command without the limit then left the files of an undisturbed run, to the byte, every time."
        + (" Except:" if wrong else "")
    )
    yield ""
    for item in outcomes:
        for fault in item.wrong:
            yield f"- WRONG: {item.work}, {item.kind}, {fault}"
    if wrong:
        yield ""
    yield f"| command | {' | '.join(WORDS)} |"
    yield "|---|" + "---:|" * len(WORDS)
    for work in dict.fromkeys(item.work for item in outcomes):
        told = [f"{item.refused} ({item.fitted})" for item in outcomes if item.work == work]
        yield f"| {work} | {' | '.join(told)} |"


def run(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12, help="sizes of disks for each command, about")
    parser.add_argument("--works", nargs="+", choices=list(WORKS), default=list(WORKS), help="commands")
    parser.add_argument("--out", type=Path, help="write the table here")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as home:
        outcomes = measure(chosen.works, Path(home), chosen.steps)
    typed = f"`python benchmarks/robustness/faults.py --steps {chosen.steps}`"
    text = "\n".join([typed, "", *lines(outcomes), ""])
    print(text)
    if chosen.out:
        with replacing(chosen.out) as path:
            path.write_text(text, encoding="utf-8")
    if any(item.wrong for item in outcomes):
        raise SystemExit(1)


if __name__ == "__main__":
    run()
