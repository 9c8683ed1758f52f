"""Runs of ``scoresde sample`` killed at random moments and started again, held against runs that nobody disturbed.

    python benchmarks/kills.py --kills 20 --aimed 10 --out benchmarks/results/kills.md

Every kill is SIGKILL, at a moment drawn uniformly from the time that the undisturbed run took, from its taking of the
folder to its end; it is a run of its own, in a folder of its own, which the same command then completes. All files of
both folders are compared by SHA-256. Writing takes a small part of the time, so further kills wait, from such a moment
on, until a file is seen being written.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
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
COMMAND = f"scoresde sample n={IMAGES} nfe=2 batch_size=64 shard={SHARD} dtype=bfloat16 threads=1 metrics=true"
FORMATS = ("npz", "png", "zip")


@dataclass(frozen=True)
class Kill:
    """One kill: when, with how many images there, and in the middle of what."""

    form: str
    aimed: bool
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


def writing(folder: Path) -> bool:
    """Whether a file is being written now."""
    for place in (folder / "shards", folder / "images", folder):
        try:
            if any(name.startswith(".") for name in os.listdir(place)):
                return True
        except FileNotFoundError:
            pass
    return False


def killed(process: subprocess.Popen[bytes], folder: Path, moment: float, aimed: bool) -> bool:
    """Kill after so many seconds, or as soon after that as a file is being written; False if it ended before."""
    begin = time.monotonic()
    while process.poll() is None:
        if time.monotonic() - begin >= moment and (not aimed or writing(folder)):
            process.kill()
            break
        if not aimed or time.monotonic() - begin < moment:
            time.sleep(0.001)
    return process.wait() == -signal.SIGKILL


def measure(kills: int, aimed: int, seed: int, home: Path) -> tuple[list[Kill], list[str]]:
    """Undisturbed runs of each format, and then the kills."""
    lines, seconds, whole = [], {}, {}
    for form in FORMATS:
        process, begin = start(home / form, form), time.monotonic()
        finish(process)
        seconds[form], whole[form] = time.monotonic() - begin, summary(home / form)
        lines.append(f"| {form} | {seconds[form]:.1f} | {len(whole[form])} | `{total(whole[form])}` |")
        print(lines[-1], flush=True)
    rng, found = random.Random(seed), []
    while len(found) < kills + aimed:
        form, aim = FORMATS[len(found) % len(FORMATS)], len(found) >= kills
        folder = home / f"kill{len(found)}-{time.monotonic_ns()}"
        process = start(folder, form)
        begin = time.monotonic()
        if not killed(process, folder, rng.uniform(0, seconds[form]), aim):
            continue  # it was quicker this time
        after = time.monotonic() - begin
        images, inside = where(folder)
        finish(start(folder, form))
        found.append(Kill(form, aim, after, images, inside, summary(folder) == whole[form]))
        print(found[-1], flush=True)
    return found, lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="at random moments")
    parser.add_argument("--aimed", type=int, default=10, help="when a file is being written")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, help="write the table here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        kills, lines = measure(arguments.kills, arguments.aimed, arguments.seed, Path(home))
    equal = sum(kill.equal for kill in kills)
    rows = [
        f"| {number} | {kill.form} | {'a write' if kill.aimed else 'chance'} | {kill.seconds:.2f} | {kill.images:,} | "
        f"{kill.inside} | "
        f"{'equal' if kill.equal else 'DIFFERENT'} |"
        for number, kill in enumerate(kills, 1)
    ]
    text = "\n".join(
        [
            f"`python benchmarks/kills.py --kills {arguments.kills} --aimed {arguments.aimed} --seed {arguments.seed}`",
            "",
            f"`{COMMAND}` ({IMAGES // SHARD} shards), {describe(torch.device('cpu')).split(',')[0]}, torch "
            f"{torch.__version__}: killed {len(kills)} times, completed by the same command, and all files equal to "
            f"those of the undisturbed run {equal} times.",
            "",
            "| undisturbed | seconds | files | SHA-256 of the list of all files' |",
            "|---|---:|---:|---|",
            *lines,
            "",
            "| kill | format | moment by | after s | images there | in the middle of | files afterwards |",
            "|---:|---|---|---:|---:|---|---|",
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
