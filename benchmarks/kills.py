"""Runs of ``scoresde sample`` killed at random moments and started again, held against runs that nobody disturbed.

    python benchmarks/kills.py --kills 20 --out benchmarks/results/kills.md

Every kill is SIGKILL, at a moment drawn uniformly from the time that the undisturbed run took from its first word with
the folder to its end; it is a run of its own, in a folder of its own, which the same command then completes. All files
of both folders are compared byte for byte.
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch

from scoresde.files import TEMPORARY, digest, replacing
from scoresde.hardware import describe
from scoresde.locks import NAME

IMAGES, SHARD = 2048, 64
COMMAND = f"scoresde sample n={IMAGES} nfe=3 batch_size=64 shard={SHARD} dtype=bfloat16 threads=1 metrics=true"
FORMATS = ("npz", "png", "zip")


@dataclass(frozen=True)
class Kill:
    """One kill: when, with how many images there, and in the middle of what."""

    form: str
    seconds: float
    images: int
    inside: str
    equal: bool


def start(folder: Path, form: str) -> subprocess.Popen[bytes]:
    """The command in a process of its own, with the folder its own."""
    command = [sys.executable, "-m", *COMMAND.split(), f"format={form}", f"out={folder}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    lock = folder / NAME
    while not (lock.exists() and str(process.pid) in lock.read_text(encoding="utf-8")):
        if process.poll() is not None:
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
        time.sleep(0.001)
    return process


def finish(process: subprocess.Popen[bytes]) -> None:
    if process.wait():
        raise RuntimeError(f"a run that nobody disturbed ended with {process.returncode}")


def summary(folder: Path) -> dict[str, str]:
    """SHA-256 of every file."""
    return {str(path.relative_to(folder)): digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def total(files: dict[str, str]) -> str:
    return sha256("".join(f"{value}  {name}\n" for name, value in files.items()).encode()).hexdigest()


def where(folder: Path) -> tuple[int, str]:
    """Images with a record, and what the killed process was doing, as its traces tell."""
    records = {path.stem for path in folder.glob("shards/*.json") if not path.name.startswith(".")}
    left = [path.name for path in folder.rglob(".*") if TEMPORARY.fullmatch(path.name)]
    seeds = [int(path.stem) for path in folder.glob("images/[0-9]*.png")]
    done = [range(int(first), int(last) + 1) for first, last in (name.split("-") for name in records)]
    loose = [seed for seed in seeds if not any(seed in shard for shard in done)]
    files = {path.name for path in folder.glob("shards/*.npz")} | {path.name for path in folder.glob("shards/*.zip")}
    unrecorded = [name for name in files if re.split(r"\.", name)[0] not in records]
    if left:
        return len(records) * SHARD, f"a file being written ({', '.join(sorted(left)[:2])})"
    if loose or unrecorded:
        return len(records) * SHARD, "a shard being written, between two of its files"
    if len(records) * SHARD == IMAGES:
        return IMAGES, "after the last shard, before the end"
    return len(records) * SHARD, "a shard being computed"


def measure(kills: int, seed: int, home: Path) -> tuple[list[Kill], list[str]]:
    """Undisturbed runs of each format, and then the kills."""
    lines, seconds, whole = [], {}, {}
    for form in FORMATS:
        process, begin = start(home / form, form), time.monotonic()
        finish(process)
        seconds[form], whole[form] = time.monotonic() - begin, summary(home / form)
        lines.append(f"| {form} | {seconds[form]:.1f} | {len(whole[form])} | `{total(whole[form])}` |")
        print(lines[-1], flush=True)
    rng, found = random.Random(seed), []
    while len(found) < kills:
        form = FORMATS[len(found) % len(FORMATS)]
        folder = home / f"kill{len(found)}-{time.monotonic_ns()}"
        moment = rng.uniform(0, seconds[form])
        process = start(folder, form)
        try:
            process.wait(moment)
            continue  # it was quicker this time
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        images, inside = where(folder)
        finish(start(folder, form))
        found.append(Kill(form, moment, images, inside, summary(folder) == whole[form]))
        print(found[-1], flush=True)
    return found, lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, help="write the table here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        kills, lines = measure(arguments.kills, arguments.seed, Path(home))
    equal = sum(kill.equal for kill in kills)
    rows = [
        f"| {number} | {kill.form} | {kill.seconds:.2f} | {kill.images:,} | {kill.inside} | "
        f"{'equal' if kill.equal else 'DIFFERENT'} |"
        for number, kill in enumerate(kills, 1)
    ]
    text = "\n".join(
        [
            f"`python benchmarks/kills.py --kills {arguments.kills} --seed {arguments.seed}`",
            "",
            f"`{COMMAND}` ({IMAGES // SHARD} shards), {describe(torch.device('cpu')).split(',')[0]}, torch "
            f"{torch.__version__}: killed {len(kills)} times, completed by the same command, and all files equal to "
            f"those of the undisturbed run {equal} times.",
            "",
            "| undisturbed | seconds | files | SHA-256 of the list of all files' |",
            "|---|---:|---:|---|",
            *lines,
            "",
            "| kill | format | after s | images there | in the middle of | files afterwards |",
            "|---:|---|---:|---:|---|---|",
            *rows,
            "",
        ]
    )
    print(text)
    if arguments.out:
        with replacing(arguments.out) as path:
            path.write_text(text, encoding="utf-8")
    if equal != len(kills):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
