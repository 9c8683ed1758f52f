"""Hostile and odd inputs of every kind, and what became of each.

    python benchmarks/robustness/attacks.py --out benchmarks/results/attacks.md

Every input runs in a forked child with limits of memory and time, in a folder with files of the user's alone. It is

- refused, if a command ends with the status 1 or 2 and one line on stderr, or a call raises a ValueError, TypeError,
  OSError or ArithmeticError whose message is one line;
- accepted rightly, if it is taken and what comes of it is what it says, wherever there is a right value;
- wrong otherwise: another exception, a crash, no end, a wrong value without a word, a changed file of the user's, or a
  changed state of the process.

Inputs are drawn from a seed; ``KINDS`` makes them one by one, for tests too.
"""

from __future__ import annotations

import argparse
import builtins
import itertools
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFile
from torch._utils import _rebuild_tensor_v2

from benchmarks.robustness import hostile_files, hostile_runs, inputs
from benchmarks.robustness.children import GIGABYTE, Ended, forked, warm
from benchmarks.robustness.hostile import Attack, Kind, RefusedError, WrongError
from scoresde.files import replacing
from scoresde.runs.hardware import describe

KINDS: dict[str, tuple[int, Kind]] = {**hostile_files.KINDS, **hostile_runs.KINDS}  # with their shares
ACCEPTED, REFUSED, WRONG = "accepted rightly", "refused", "wrong"
STATUS = {40: ACCEPTED, 41: REFUSED, 42: WRONG}
SECONDS, MEMORY = 30.0, 3 * GIGABYTE
MINE = {"thesis.txt": "300 pages", ".notes.2026.md": "mine"}
EXPECTED = (ValueError, TypeError, OSError, ArithmeticError)


@dataclass
class Tally:
    """What became of the inputs of a kind, and of which what was wrong."""

    kind: str
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def tried(attack: Attack, home: Path) -> tuple[str, str]:
    """What becomes of one input, and why, where it is wrong; ``home`` is where its folder is made."""
    place = Path(tempfile.mkdtemp(dir=home))
    for name, text in MINE.items():
        (place / name).write_text(text, encoding="utf-8")
    before = set(home.iterdir())
    ended = forked(lambda: _attempt(attack), place, seconds=SECONDS, memory=MEMORY)
    verdict, why = _verdict(ended)
    for name, text in MINE.items():
        path = place / name
        if path.is_symlink() or not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != text:
            verdict, why = WRONG, f"{name}, a file of the user's, has changed"
    if made := set(home.iterdir()) - before:
        verdict, why = WRONG, f"it made {sorted(path.name for path in made)} beside its folder"
    shutil.rmtree(place)
    return verdict, why


def _attempt(attack: Attack) -> int:
    """In the child: the status that says what became of it."""
    before = _state()
    try:
        attack.run()
        status, why = 40, ""
    except RefusedError as refused:
        status, why = 41, str(refused)
    except WrongError as wrong:
        status, why = 42, str(wrong)
    except EXPECTED as error:
        one = str(error).strip() and len(str(error).splitlines()) == 1
        status, why = (41, str(error)) if one else (42, f"the message of {type(error).__name__} is {str(error)!r:.300}")
    except Exception as error:
        status, why = 42, f"{type(error).__name__}: {str(error)!r:.300}"
    if changed := [name for name, value in _state().items() if value != before[name]]:
        status, why = 42, f"the process's {', '.join(changed)} changed"
    sys.stdout.write("\n" + " ".join(why.split()))
    return status


def _state() -> dict[str, Any]:
    """What no input may change in the process."""
    mask = os.umask(0)
    os.umask(mask)
    return {
        "default dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "rebuilding of tensors": (
            _rebuild_tensor_v2.__defaults__,
            _rebuild_tensor_v2.__code__,
        ),
        "numpy errors": np.geterr(),
        "folder": os.getcwd(),
        "umask": mask,
        "environment": dict(os.environ),
        "path": list(sys.path),
        "names": len(vars(builtins)),
        "signals": (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)),
        "images": (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES),
        "recursion": sys.getrecursionlimit(),
    }


def _verdict(ended: Ended) -> tuple[str, str]:
    if ended.late:
        return WRONG, f"no end within {SECONDS:.0f} s"
    if ended.status not in STATUS:
        return WRONG, f"ended with {ended.status}: {ended.err[-200:]!r}"
    return STATUS[ended.status], ended.out.rpartition("\n")[2]


def measure(count: int, seed: int, home: Path, kinds: Sequence[str]) -> Iterator[Tally]:
    """Inputs of each kind by its share of the count; ``home`` is an empty folder."""
    warm()
    good = home / "good"
    inputs.write(good)
    hostile_files.prepare(good)
    hostile_runs.prepare(good)
    before = _listing(good)
    (home / "places").mkdir()
    (home / "places" / "inputs").symlink_to(good)
    total = sum(share for share, _ in KINDS.values())
    for name in kinds:
        share, kind = KINDS[name]
        tally, begin = Tally(name), time.monotonic()
        for attack in itertools.islice(kind(random.Random(f"{seed} {name}"), good), -(-count * share // total)):
            verdict, why = tried(attack, home / "places")
            tally.counts[verdict] += 1
            if verdict == WRONG:
                tally.wrong.append(f"{attack.about}: {why}")
                print(f"  WRONG {name}: {tally.wrong[-1]}", flush=True)
        if _listing(good) != before:
            raise RuntimeError(f"{name} changed the files that all inputs are made from")
        print(f"{name}: {dict(tally.counts)} in {time.monotonic() - begin:.0f} s", flush=True)
        yield tally


def _listing(folder: Path) -> list[tuple[str, int, int]]:
    """Every file with its size and the time of its last change."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]


def lines(tallies: Sequence[Tally]) -> Iterator[str]:
    counts = sum((tally.counts for tally in tallies), Counter[str]())
    yield (
        f"{describe(torch.device('cpu')).split(',')[0]}, torch {torch.__version__}: {counts.total():,} inputs tried, "
        f"{counts[REFUSED]:,} refused in a line, {counts[ACCEPTED]:,} accepted rightly, {counts[WRONG]:,} wrong."
    )
    yield ""
    yield "| kind | tried | refused in a line | accepted rightly | wrong | what is right |"
    yield "|---|---:|---:|---:|---:|---|"
    for tally in tallies:
        right = (KINDS[tally.kind][1].__doc__ or "").strip().partition("\n")[0]
        figures = [tally.counts.total(), *(tally.counts[name] for name in (REFUSED, ACCEPTED, WRONG))]
        yield f"| {tally.kind} | {' | '.join(map(str, figures))} | {right} |"
    yield ""
    for tally in tallies:
        for wrong in tally.wrong:
            yield f"- WRONG, {tally.kind}: {wrong.encode('ascii', 'backslashreplace').decode()}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2400, help="inputs of all kinds, about")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS), help="kinds")
    parser.add_argument("--out", type=Path, help="write the table here")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as home:
        tallies = list(measure(chosen.count, chosen.seed, Path(home), chosen.kinds))
    typed = f"`python benchmarks/robustness/attacks.py --count {chosen.count} --seed {chosen.seed}`"
    text = "\n".join([typed, "", *lines(tallies)]).rstrip() + "\n"
    print(text)
    if chosen.out:
        with replacing(chosen.out) as path:
            path.write_text(text, encoding="utf-8")
    if any(tally.wrong for tally in tallies):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
